"""No compression: every value goes to the cells as it is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from memristore.streams import Payload
from memristore.transform import Compressor, Context


@dataclass(frozen=True, kw_only=True)
class Identity(Compressor):
    """Pass everything unchanged."""

    name: ClassVar[str] = "identity"
    source: ClassVar[str] = "none"

    def encode(self, payload: Payload, context: Context) -> Payload:
        """Return the payload."""
        return payload

    def decode(self, payload: Payload, context: Context) -> Payload:
        """Return the payload."""
        return payload
