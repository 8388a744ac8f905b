"""What a recipe will do before a cell is written, and which recipe to take."""

from __future__ import annotations

from memristore.prediction.automatic import Candidate, Choice, auto
from memristore.prediction.result import Part, Prediction
from memristore.prediction.sampling import predict

__all__ = ["Candidate", "Choice", "Part", "Prediction", "auto", "predict"]
