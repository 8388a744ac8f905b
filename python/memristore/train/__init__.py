"""Training through the channel: differentiable storage, robust fine-tuning, distillation, the choice of a size."""

from __future__ import annotations

from memristore.compress.prune import prune_and_finetune
from memristore.train.family import Chosen, Member, elastic
from memristore.train.loop import Trained
from memristore.train.quantized import GridQuantizer, quantized_finetune
from memristore.train.robust import Distill, distill, robust_finetune
from memristore.train.surrogate import Surrogate, channel

__all__ = [
    "Chosen",
    "Distill",
    "GridQuantizer",
    "Member",
    "Surrogate",
    "Trained",
    "channel",
    "distill",
    "elastic",
    "prune_and_finetune",
    "quantized_finetune",
    "robust_finetune",
]
