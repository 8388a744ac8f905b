"""Neural networks in noisy analog memory cells: how few cells hold a network, on a device, for a time."""

from __future__ import annotations

import importlib
from importlib import metadata
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from memristore import devices, rng
    from memristore.allocate import PerLayer
    from memristore.array import CellArray, OneShot, ProgramAndVerify
    from memristore.codes import Repetition, Residual, Secded, Uncoded
    from memristore.compress import Identity, Prune, Quantize, Raw
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
    from memristore.mapping import Differential, Linear
    from memristore.protect import AdaptiveRange, Sign, Sparsity
    from memristore.reference_cells import ReferenceCells
    from memristore.spec import StorageSpec
    from memristore.storage import PreparedModel, prepare, store
    from memristore.stored import StoredModel

# Names are looked up on first use, so that `import memristore` and the command line start without torch.
_HOMES: Final[dict[str, str]] = {
    "AdaptiveRange": "protect",
    "CellArray": "array",
    "Comparison": "evaluate",
    "DataError": "errors",
    "Device": "devices",
    "DeviceError": "errors",
    "Differential": "mapping",
    "Evaluation": "evaluate",
    "FileError": "errors",
    "Identity": "compress",
    "Ledger": "ledger",
    "Linear": "mapping",
    "MemristoreError": "errors",
    "OneShot": "array",
    "PerLayer": "allocate",
    "PreparedModel": "storage",
    "ProgramAndVerify": "array",
    "Prune": "compress",
    "Quantize": "compress",
    "Raw": "compress",
    "ReferenceCells": "reference_cells",
    "Repetition": "codes",
    "Residual": "codes",
    "Secded": "codes",
    "Sign": "protect",
    "Sparsity": "protect",
    "SpecError": "errors",
    "StorageSpec": "spec",
    "StoredModel": "stored",
    "TensorError": "errors",
    "Uncoded": "codes",
    "evaluate": "evaluate",
    "prepare": "storage",
    "store": "storage",
}

__version__: Final = metadata.version("memristore")

__all__ = [
    "AdaptiveRange",
    "CellArray",
    "Comparison",
    "DataError",
    "Device",
    "DeviceError",
    "Differential",
    "Evaluation",
    "FileError",
    "Identity",
    "Ledger",
    "Linear",
    "MemristoreError",
    "OneShot",
    "PerLayer",
    "PreparedModel",
    "ProgramAndVerify",
    "Prune",
    "Quantize",
    "Raw",
    "ReferenceCells",
    "Repetition",
    "Residual",
    "Secded",
    "Sign",
    "Sparsity",
    "SpecError",
    "StorageSpec",
    "StoredModel",
    "TensorError",
    "Uncoded",
    "devices",
    "evaluate",
    "prepare",
    "rng",
    "store",
]


def __getattr__(name: str) -> Any:
    if name in ("devices", "rng"):
        return importlib.import_module(f"memristore.{name}")
    if name in _HOMES:
        return getattr(importlib.import_module(f"memristore.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'memristore' has no attribute {name!r}")
