"""Neural networks in noisy analog memory cells: how few cells hold a network, on a device, for a time."""

from __future__ import annotations

import importlib
from importlib import metadata
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from memristore import devices, rng, train
    from memristore.allocate import PerLayer, Sensitive
    from memristore.array import CellArray, OneShot, ProgramAndVerify
    from memristore.channel import BitChannel
    from memristore.codes import Bch, Densest, InPlace, Ldpc, Repetition, Residual, Secded, Uncoded
    from memristore.compress import Identity, Prune, Quantize, RateDistortion, Raw, Uniform, ZeroSpace
    from memristore.devices import Device
    from memristore.errors import (
        DataError,
        DeviceError,
        FileError,
        MemristoreError,
        SpecError,
        TensorError,
    )
    from memristore.evaluate import Comparison, Evaluation, evaluate
    from memristore.ledger import Ledger
    from memristore.mapping import Companded, Differential, Levels, Linear
    from memristore.protect import AdaptiveRange, Entropy, Sign, Sparsity
    from memristore.reference_cells import ReferenceCells
    from memristore.sizing import BitFormat, sized_for
    from memristore.spec import StorageSpec
    from memristore.storage import PreparedModel, prepare, store
    from memristore.stored import StoredModel
    from memristore.train import Distill, distill, elastic, robust_finetune

# Names are looked up on first use, so that `import memristore` and the command line start without torch.
_HOMES: Final[dict[str, str]] = {
    "AdaptiveRange": "protect",
    "Bch": "codes",
    "BitChannel": "channel",
    "BitFormat": "sizing",
    "CellArray": "array",
    "Companded": "mapping",
    "Comparison": "evaluate",
    "DataError": "errors",
    "Densest": "codes",
    "Device": "devices",
    "DeviceError": "errors",
    "Differential": "mapping",
    "Distill": "train",
    "Entropy": "protect",
    "Evaluation": "evaluate",
    "FileError": "errors",
    "Identity": "compress",
    "InPlace": "codes",
    "Ldpc": "codes",
    "Ledger": "ledger",
    "Levels": "mapping",
    "Linear": "mapping",
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
    "Residual": "codes",
    "Secded": "codes",
    "Sensitive": "allocate",
    "Sign": "protect",
    "Sparsity": "protect",
    "SpecError": "errors",
    "StorageSpec": "spec",
    "StoredModel": "stored",
    "TensorError": "errors",
    "Uncoded": "codes",
    "Uniform": "compress",
    "ZeroSpace": "compress",
    "distill": "train",
    "elastic": "train",
    "evaluate": "evaluate",
    "prepare": "storage",
    "robust_finetune": "train",
    "sized_for": "sizing",
    "store": "storage",
}

__version__: Final = metadata.version("memristore")

__all__ = [
    "AdaptiveRange",
    "Bch",
    "BitChannel",
    "BitFormat",
    "CellArray",
    "Companded",
    "Comparison",
    "DataError",
    "Densest",
    "Device",
    "DeviceError",
    "Differential",
    "Distill",
    "Entropy",
    "Evaluation",
    "FileError",
    "Identity",
    "InPlace",
    "Ldpc",
    "Ledger",
    "Levels",
    "Linear",
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
    "Residual",
    "Secded",
    "Sensitive",
    "Sign",
    "Sparsity",
    "SpecError",
    "StorageSpec",
    "StoredModel",
    "TensorError",
    "Uncoded",
    "Uniform",
    "ZeroSpace",
    "devices",
    "distill",
    "elastic",
    "evaluate",
    "prepare",
    "rng",
    "robust_finetune",
    "sized_for",
    "store",
    "train",
]


def __getattr__(name: str) -> Any:
    if name in ("devices", "rng", "train"):
        return importlib.import_module(f"memristore.{name}")
    if name in _HOMES:
        return getattr(importlib.import_module(f"memristore.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'memristore' has no attribute {name!r}")
