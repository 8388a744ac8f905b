"""Neural networks in noisy analog memory cells: how few cells hold a network, on a device, for a time."""

from __future__ import annotations

import importlib
from importlib import metadata
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from memristore import devices, rng
    from memristore.allocate import PerLayer, Sensitive
    from memristore.array import CellArray, OneShot, ProgramAndVerify
    from memristore.channel import BitChannel
    from memristore.codes import Bch, Densest, InPlace, Ldpc, Repetition, Residual, Secded, Uncoded
    from memristore.compress import (
        BitStack,
        ErrorBounded,
        Identity,
        LowRank,
        Prune,
        Quantize,
        RateDistortion,
        Raw,
        TensorRing,
        Uniform,
        Unify,
        ZeroSpace,
        compress_array,
        decompress_array,
        shorten_array,
    )
    from memristore.devices import Device
    from memristore.errors import (
        DataError,
        DeviceError,
        FileError,
        MemristoreError,
        SpecError,
        TensorError,
    )
    from memristore.evaluate import Comparison, Evaluation, compression_report, evaluate
    from memristore.ledger import Ledger
    from memristore.mapping import Companded, Differential, Levels, Linear
    from memristore.protect import AdaptiveRange, Entropy, Sign, Sparsity
    from memristore.reference_cells import ReferenceCells
    from memristore.replay import Replay
    from memristore.sizing import BitFormat, sized_for
    from memristore.spec import StorageSpec
    from memristore.storage import PreparedModel, prepare, store
    from memristore.stored import StoredModel

# Names are looked up on first use, so that `import memristore` and the command line start without torch.
_HOMES: Final[dict[str, str]] = {
    "AdaptiveRange": "protect",
    "Bch": "codes",
    "BitChannel": "channel",
    "BitFormat": "sizing",
    "BitStack": "compress",
    "CellArray": "array",
    "Companded": "mapping",
    "Comparison": "evaluate",
    "DataError": "errors",
    "Densest": "codes",
    "Device": "devices",
    "DeviceError": "errors",
    "Differential": "mapping",
    "Entropy": "protect",
    "ErrorBounded": "compress",
    "Evaluation": "evaluate",
    "FileError": "errors",
    "Identity": "compress",
    "InPlace": "codes",
    "Ldpc": "codes",
    "Ledger": "ledger",
    "Levels": "mapping",
    "Linear": "mapping",
    "LowRank": "compress",
    "MemristoreError": "errors",
    "OneShot": "array",
    "PerLayer": "allocate",
    "PreparedModel": "storage",
    "ProgramAndVerify": "array",
    "Prune": "compress",
    "Quantize": "compress",
    "RateDistortion": "compress",
    "Raw": "compress",
    "ReferenceCells": "reference_cells",
    "Repetition": "codes",
    "Replay": "replay",
    "Residual": "codes",
    "Secded": "codes",
    "Sensitive": "allocate",
    "Sign": "protect",
    "Sparsity": "protect",
    "SpecError": "errors",
    "StorageSpec": "spec",
    "StoredModel": "stored",
    "TensorError": "errors",
    "TensorRing": "compress",
    "Uncoded": "codes",
    "Uniform": "compress",
    "Unify": "compress",
    "ZeroSpace": "compress",
    "compress_array": "compress",
    "compression_report": "evaluate",
    "decompress_array": "compress",
    "evaluate": "evaluate",
    "prepare": "storage",
    "shorten_array": "compress",
    "sized_for": "sizing",
    "store": "storage",
}

__version__: Final = metadata.version("memristore")

__all__ = [
    "AdaptiveRange",
    "Bch",
    "BitChannel",
    "BitFormat",
    "BitStack",
    "CellArray",
    "Companded",
    "Comparison",
    "DataError",
    "Densest",
    "Device",
    "DeviceError",
    "Differential",
    "Entropy",
    "ErrorBounded",
    "Evaluation",
    "FileError",
    "Identity",
    "InPlace",
    "Ldpc",
    "Ledger",
    "Levels",
    "Linear",
    "LowRank",
    "MemristoreError",
    "OneShot",
    "PerLayer",
    "PreparedModel",
    "ProgramAndVerify",
    "Prune",
    "Quantize",
    "RateDistortion",
    "Raw",
    "ReferenceCells",
    "Repetition",
    "Replay",
    "Residual",
    "Secded",
    "Sensitive",
    "Sign",
    "Sparsity",
    "SpecError",
    "StorageSpec",
    "StoredModel",
    "TensorError",
    "TensorRing",
    "Uncoded",
    "Uniform",
    "Unify",
    "ZeroSpace",
    "compress_array",
    "compression_report",
    "decompress_array",
    "devices",
    "evaluate",
    "prepare",
    "rng",
    "shorten_array",
    "sized_for",
    "store",
]


def __getattr__(name: str) -> Any:
    if name in ("devices", "rng"):
        return importlib.import_module(f"memristore.{name}")
    if name in _HOMES:
        return getattr(importlib.import_module(f"memristore.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'memristore' has no attribute {name!r}")
