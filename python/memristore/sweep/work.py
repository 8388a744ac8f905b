"""What a worker does: program one array, read it at its times, judge each read. Plain values go in and come out."""

from __future__ import annotations

import copy
import dataclasses
import functools
import hashlib
import importlib
import json
import math
import threading
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import torch
from torch import nn

from memristore import _core, rng
from memristore.errors import MemristoreError, SpecError, TensorError
from memristore.evaluate.monte_carlo import package_version
from memristore.evaluate.result import EXACT
from memristore.evaluate.schemes import Scheme, digital_best
from memristore.evaluate.sdr import Sdr
from memristore.spec import StorageSpec
from memristore.storage import PreparedModel, prepare
from memristore.sweep.plan import RIVAL, SweepModel
from memristore.sweep.portrait import portrait
from memristore.sweep.tables import canonical, digest
from memristore.units import format_time

if TYPE_CHECKING:
    from memristore.stored import StoredModel

#: Networks and prepared recipes that a worker keeps: neighbouring arrays need the same ones.
_NETWORKS: Final = 2
_RECIPES: Final = 2
#: Workers may be threads of one process, and must not all load the same network at once.
_LOCK = threading.RLock()


@dataclass(frozen=True, eq=False)
class _Network:
    """A network, its metric, and what it is worth before any cell."""

    model: nn.Module | dict[str, torch.Tensor]
    metric: Callable[[Any], float]
    clean: float
    digest: str
    description: str

    @property
    def state(self) -> Mapping[str, torch.Tensor]:
        """Its tensors by name."""
        return self.model.state_dict() if isinstance(self.model, nn.Module) else self.model

    def about(self) -> dict[str, Any]:
        """What results need to know of it."""
        metric = self.metric
        return {
            "network": self.digest,
            "description": self.description,
            "clean": self.clean,
            "metric": {
                "name": str(getattr(metric, "name", None) or getattr(metric, "__name__", "metric")),
                "unit": str(getattr(metric, "unit", "")),
                "higher_is_better": bool(getattr(metric, "higher_is_better", True)),
            },
        }

    def judge(self, state: Mapping[str, torch.Tensor]) -> float:
        """Metric of a copy with these weights; the network itself is shared and stays as it is."""
        subject: Any = state
        if isinstance(self.model, nn.Module):
            subject = copy.deepcopy(self.model)
            try:
                subject.load_state_dict(state, strict=True)
            except RuntimeError as error:
                raise TensorError(f"sweep: the stored network does not fit its module: {error}") from error
        return _finite(self.metric, subject)


@dataclass(frozen=True, eq=False)
class _Recipe:
    """A recipe after compression, ready to be programmed."""

    network: _Network
    prepared: PreparedModel
    compressed: float


def _finite(metric: Callable[[Any], float], subject: Any) -> float:
    value = float(metric(subject))
    if not math.isfinite(value):
        raise SpecError(f"sweep: the metric returned {value}; it must be a finite number for every read")
    return value


def _weights_digest(state: Mapping[str, torch.Tensor]) -> str:
    """SHA-256 over names, types, shapes and values, 32 hexadecimal digits."""
    found = hashlib.sha256()
    for name, tensor in state.items():
        values = tensor.detach().cpu().contiguous()
        found.update(f"{name} {values.dtype} {tuple(values.shape)}".encode())
        found.update(values.reshape(-1).view(torch.uint8).numpy().tobytes())
    return found.hexdigest()[:32]


def _made(source: SweepModel) -> tuple[Any, Callable[[Any], float], str]:
    """Network, metric and description of a source."""
    from memristore.evaluate import tasks
    from memristore.evaluate.weights import read_weights

    if source.factory is not None:
        module, name = source.factory.split(":")
        try:
            make = getattr(importlib.import_module(module), name)
        except (ImportError, AttributeError) as error:
            raise SpecError(
                f"sweep: the factory {source.factory!r} cannot be imported by a worker ({error})"
            ) from error
        model, metric = make(**source.arguments)
        return model, metric, f"network of {source.factory}"
    if source.task is None:
        state = read_weights(str(source.weights))
        return state, Sdr(state), f"weights of {source.identity()['weights']}"
    loaded = tasks.get(source.task).load(source.data, progress=False)
    if source.weights is not None:
        try:
            loaded.model.load_state_dict(read_weights(source.weights))
        except RuntimeError as error:
            raise TensorError(f"{source.weights}: does not fit the network of {source.task}: {error}") from error
    if source.images is None:
        return loaded.model, loaded.metric, loaded.description
    if not isinstance(loaded.test, tasks.Images):
        raise SpecError(f"sweep: the test images of {source.task} are not in memory; leave out images")
    test = tasks.Images(loaded.test.images[: source.images], loaded.test.labels[: source.images])
    return loaded.model, tasks.Accuracy(test), f"{loaded.description}, judged by the first {len(test)}"


@functools.lru_cache(maxsize=_NETWORKS)
def _network(source: str) -> _Network:
    model, metric, description = _made(SweepModel.from_dict(json.loads(source)))
    if isinstance(model, nn.Module):
        model = model.eval()
    state = model.state_dict() if isinstance(model, nn.Module) else model
    return _Network(model, metric, _finite(metric, model), _weights_digest(state), description)


def _prepared(network: _Network, spec: StorageSpec, threads: int) -> _Recipe:
    prepared = prepare(network.model, spec, threads=threads)
    return _Recipe(network, prepared, network.judge(prepared.decode_clean()))


@functools.lru_cache(maxsize=_RECIPES)
def _recipe(source: str, spec: str, kind: str, threads: int) -> _Recipe:
    network, recipe = _network(source), StorageSpec.from_dict(json.loads(spec))
    if kind == RIVAL:
        (rival,) = digital_best(
            Scheme(name=kind, spec=recipe), prepare(network.model, recipe, threads=threads), recipe.retention
        )
        recipe = rival.spec
    return _prepared(network, recipe, threads)


def load_network(source: dict[str, Any]) -> str:
    """Load a network once, so that missing data are known before the work starts; returns its description.

    A task's network is trained here where it is not kept yet, and not by all workers at the same time.
    """
    with _LOCK:
        return _network(canonical(source)).description


def read_event(seconds: float) -> int:
    """Number of the read at a time: of its own for each time, whatever other times a sweep has."""
    return rng.key(0, "sweep", "read", repr(float(seconds))) % 2**32


def run_array(work: dict[str, Any]) -> dict[str, Any]:
    """Program an array and judge its reads.

    Parameters
    ----------
    work : dict
        ``source`` (`SweepModel.to_dict`), ``spec`` (`StorageSpec.to_dict`), ``kind``, ``seed``, ``times`` (seconds),
        ``threads``, ``portrait`` (whether to describe the array for the report).

    Returns
    -------
    dict
        ``about``: network and recipe; ``results``: one dict per time; ``portrait`` if it was asked for. Or ``error``
        and ``traceback``: what failed here would fail anywhere, and must not stop the others.
    """
    try:
        torch.set_num_threads(max(1, int(work["threads"])))  # sums of floats depend on it
        return _run(work)
    except MemristoreError as error:
        return {"error": str(error), "traceback": ""}
    except Exception as error:
        return {"error": f"{type(error).__name__}: {error}", "traceback": traceback.format_exc()}


def _run(work: dict[str, Any]) -> dict[str, Any]:
    threads = int(work["threads"])
    with _LOCK:
        recipe = _recipe(canonical(work["source"]), canonical(work["spec"]), work["kind"], threads)
    # One seed gives every recipe an array of its own: the same cells under all would tie their results together.
    seed = rng.key(work["seed"], "sweep", digest([work["kind"], work["spec"]]))
    stored = recipe.prepared.program(seed=seed, trace=False, threads=threads)
    results = [_judged(stored, recipe, at, threads) for at in work["times"]]
    about = recipe.network.about() | {
        "compressed": recipe.compressed,
        "net_bits_per_cell": stored.bits.format.net_bits_per_cell,
        "spec": stored.spec.to_dict(),
        "memristore": package_version(),
        "isa": _core.isa(),
        "torch": str(torch.__version__),
    }
    found: dict[str, Any] = {"about": about, "results": results}
    if work["portrait"]:
        found["portrait"] = portrait(stored, recipe.prepared, recipe.network.model, max(work["times"]), threads)
    return found


def _judged(stored: StoredModel, recipe: _Recipe, at: float, threads: int) -> dict[str, Any]:
    start = time.perf_counter()
    read = stored.read(at=at, event=read_event(at), threads=threads)
    try:
        value = recipe.network.judge(read.state_dict)
    except SpecError as error:
        raise SpecError(f"{error} (read after {format_time(at)})") from error
    layers = _layers(recipe.network.state, read.state_dict)
    counts = dataclasses.asdict(read.report.bits)
    return {
        "at_seconds": at,
        "value": value,
        "cells": stored.ledger().total,
        "weights": stored.weights,
        "bits_raw_errors": counts["raw_errors"],
        "words_corrected": counts["corrected"],
        "words_failed": counts["failed"],
        "believed_seconds": float(read.report.believed_seconds),
        "layers": layers,
        "seconds": time.perf_counter() - start,
    }


def _layers(original: Mapping[str, torch.Tensor], found: Mapping[str, torch.Tensor]) -> dict[str, float]:
    """Signal-to-distortion ratio of each tensor of two or more dimensions, dB, against the original network."""
    out = {}
    for name, tensor in original.items():
        if tensor.dim() < 2 or not tensor.is_floating_point():
            continue
        values, read = tensor.detach().cpu().double(), found[name].double()
        power = float((values - values.mean()).square().sum())
        error = float((read - values).square().sum())
        if power > 0 and math.isfinite(error):
            out[name] = min(EXACT, 10 * math.log10(power / error)) if error > 0 else EXACT
    return out
