"""What a recipe will do before a cell is written, and which recipe to take."""

from __future__ import annotations

from memristore.prediction.result import Part, Prediction
from memristore.prediction.sampling import predict

__all__ = ["Part", "Prediction", "predict"]
