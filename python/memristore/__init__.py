"""Neural networks in noisy analog memory cells: how few cells hold a network, on a device, for a time."""

from __future__ import annotations

import importlib
from importlib import metadata
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from memristore import devices, rng, train
    from memristore.allocate import PerLayer, Sensitive
    from memristore.array import BestOf, CellArray, OneShot, ProgramAndVerify
    from memristore.channel import BitChannel
    from memristore.codes import Bch, Densest, InPlace, Ldpc, Repetition, Residual, Secded, ShannonKotelnikov, Uncoded
    from memristore.compress import (
        BitStack,
        Codebook,
        Constant,
        ErrorBounded,
        Identity,
        LowRank,
        Prune,
        Quantize,
        RateDistortion,
        Raw,
        SuRP,
        TensorRing,
        Uniform,
        Unify,
        ZeroSpace,
        compress_array,
        decompress_array,
        shorten_array,
    )
    from memristore.devices import Device
    from memristore.devices.imports import from_aihwkit, from_crosssim
    from memristore.devices.measurements import fit_measurements
    from memristore.errors import (
        DataError,
        DeviceError,
        FileError,
        MemristoreError,
        SpecError,
        SweepError,
        TensorError,
    )
    from memristore.evaluate import Comparison, Evaluation, compression_report, evaluate
    from memristore.evaluate.attribution import attribute
    from memristore.evaluate.fit import fit
    from memristore.evaluate.fit_finetune import Finetune
    from memristore.evaluate.fit_result import FitResult
    from memristore.evaluate.weights import read_weights
    from memristore.ledger import Ledger
    from memristore.mapping import Companded, Differential, Levels, Linear
    from memristore.prediction import Choice, Prediction, auto, predict
    from memristore.protect import AdaptiveRange, Entropy, Hybrid, Sign, Sparsity
    from memristore.reference_cells import ReferenceCells
    from memristore.replay import Replay
    from memristore.report import write_report
    from memristore.sizing import BitFormat, sized_for
    from memristore.spec import StorageSpec
    from memristore.storage import PreparedModel, prepare, store
    from memristore.stored import StoredModel
    from memristore.sweep import RayExecutor, Sweep, SweepModel, SweepResults, run_sweep
    from memristore.train import Distill, distill, elastic, robust_finetune

# Names are looked up on first use, so that `import memristore` and the command line start without torch.
_HOMES: Final[dict[str, str]] = {
    "AdaptiveRange": "protect",
    "Bch": "codes",
    "BestOf": "array",
    "BitChannel": "channel",
    "BitFormat": "sizing",
    "BitStack": "compress",
    "CellArray": "array",
    "Choice": "prediction",
    "Codebook": "compress",
    "Companded": "mapping",
    "Comparison": "evaluate",
    "Constant": "compress",
    "DataError": "errors",
    "Densest": "codes",
    "Device": "devices",
    "DeviceError": "errors",
    "Differential": "mapping",
    "Distill": "train",
    "Entropy": "protect",
    "ErrorBounded": "compress",
    "Evaluation": "evaluate",
    "FileError": "errors",
    "Finetune": "evaluate.fit_finetune",
    "FitResult": "evaluate.fit_result",
    "Hybrid": "protect",
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
    "Prediction": "prediction",
    "PreparedModel": "storage",
    "ProgramAndVerify": "array",
    "Prune": "compress",
    "Quantize": "compress",
    "RateDistortion": "compress",
    "Raw": "compress",
    "RayExecutor": "sweep",
    "ReferenceCells": "reference_cells",
    "Repetition": "codes",
    "Replay": "replay",
    "Residual": "codes",
    "Secded": "codes",
    "Sensitive": "allocate",
    "ShannonKotelnikov": "codes",
    "Sign": "protect",
    "Sparsity": "protect",
    "SpecError": "errors",
    "StorageSpec": "spec",
    "StoredModel": "stored",
    "SuRP": "compress",
    "Sweep": "sweep",
    "SweepError": "errors",
    "SweepModel": "sweep",
    "SweepResults": "sweep",
    "TensorError": "errors",
    "TensorRing": "compress",
    "Uncoded": "codes",
    "Uniform": "compress",
    "Unify": "compress",
    "ZeroSpace": "compress",
    "attribute": "evaluate.attribution",
    "auto": "prediction",
    "compress_array": "compress",
    "compression_report": "evaluate",
    "decompress_array": "compress",
    "distill": "train",
    "elastic": "train",
    "evaluate": "evaluate",
    "fit": "evaluate.fit",
    "fit_measurements": "devices.measurements",
    "from_aihwkit": "devices.imports",
    "from_crosssim": "devices.imports",
    "predict": "prediction",
    "prepare": "storage",
    "read_weights": "evaluate.weights",
    "robust_finetune": "train",
    "run_sweep": "sweep",
    "shorten_array": "compress",
    "sized_for": "sizing",
    "store": "storage",
    "write_report": "report",
}

__version__: Final = metadata.version("memristore")

__all__ = [
    "AdaptiveRange",
    "Bch",
    "BestOf",
    "BitChannel",
    "BitFormat",
    "BitStack",
    "CellArray",
    "Choice",
    "Codebook",
    "Companded",
    "Comparison",
    "Constant",
    "DataError",
    "Densest",
    "Device",
    "DeviceError",
    "Differential",
    "Distill",
    "Entropy",
    "ErrorBounded",
    "Evaluation",
    "FileError",
    "Finetune",
    "FitResult",
    "Hybrid",
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
    "Prediction",
    "PreparedModel",
    "ProgramAndVerify",
    "Prune",
    "Quantize",
    "RateDistortion",
    "Raw",
    "RayExecutor",
    "ReferenceCells",
    "Repetition",
    "Replay",
    "Residual",
    "Secded",
    "Sensitive",
    "ShannonKotelnikov",
    "Sign",
    "Sparsity",
    "SpecError",
    "StorageSpec",
    "StoredModel",
    "SuRP",
    "Sweep",
    "SweepError",
    "SweepModel",
    "SweepResults",
    "TensorError",
    "TensorRing",
    "Uncoded",
    "Uniform",
    "Unify",
    "ZeroSpace",
    "attribute",
    "auto",
    "compress_array",
    "compression_report",
    "decompress_array",
    "devices",
    "distill",
    "elastic",
    "evaluate",
    "fit",
    "fit_measurements",
    "from_aihwkit",
    "from_crosssim",
    "predict",
    "prepare",
    "read_weights",
    "rng",
    "robust_finetune",
    "run_sweep",
    "shorten_array",
    "sized_for",
    "store",
    "train",
    "write_report",
]


def __getattr__(name: str) -> Any:
    if name in ("devices", "rng", "train"):
        return importlib.import_module(f"memristore.{name}")
    if name in _HOMES:
        return getattr(importlib.import_module(f"memristore.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'memristore' has no attribute {name!r}")
