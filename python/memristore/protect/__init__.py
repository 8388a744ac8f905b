"""Protections: payload-to-payload transforms that move what matters into the right stream."""

from __future__ import annotations

from typing import Final

from memristore.protect.adaptive_range import AdaptiveRange
from memristore.protect.entropy import Entropy
from memristore.protect.hybrid import Hybrid
from memristore.protect.sign import Sign
from memristore.protect.sparsity import Sparsity
from memristore.registry import Registry
from memristore.transform import Protection

#: Every protection by name.
protections: Final[Registry[Protection]] = Registry("memristore.protect", Protection)

__all__ = ["AdaptiveRange", "Entropy", "Hybrid", "Protection", "Sign", "Sparsity", "protections"]
