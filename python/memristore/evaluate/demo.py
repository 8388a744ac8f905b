"""The demonstration: one trained network, ten ways to keep it on phase-change memory, judged side by side."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from memristore import rng
from memristore.allocate import PerLayer
from memristore.codes import Densest, Repetition, Residual
from memristore.compress import Prune, Quantize, Raw
from memristore.errors import FileError
from memristore.evaluate import tasks
from memristore.evaluate.comparison import Comparison
from memristore.evaluate.monte_carlo import evaluate
from memristore.evaluate.result import Evaluation
from memristore.evaluate.schemes import NAIVE, Scheme, digital_best
from memristore.mapping import Linear
from memristore.protect import AdaptiveRange, Entropy, Sign, Sparsity
from memristore.spec import StorageSpec
from memristore.storage import prepare
from memristore.units import format_time, parse_time

SCHEMA: Final = "memristore.demo"
VERSION: Final = 1
TIMES: Final = ("0", "1 day", "1 year", "10 years")
SPARSITY: Final = 0.9

RESIDUAL: Final = "+ residual 2"
PRUNED: Final = "pruned 90 %"
FP32: Final = "fp32 digital"
INT8: Final = "int8 digital"
BEST: Final = "digital-best, pruned"


def schemes(device: str = "pcm-ibm-90nm") -> list[Scheme]:
    """Return the rows of the demonstration on a device.

    The naive row maps the extreme weights to the ends of the cell's range and inverts the mean response; all others
    use the defaults: a fitted window and MMSE decoding. Bits lie on multi-level cells in the densest code that lasts.
    `run_demo` adds the strongest digital rival of the pruned row.
    """
    signed, ranged = (Sign(),), (Sign(), AdaptiveRange())
    bits = Densest()
    specs = {
        NAIVE: StorageSpec(device=device, bits=bits, mapper=Linear(clip=None), decoder="inverse"),
        "+ sign protection": StorageSpec(device=device, bits=bits, protect=signed),
        "+ adaptive range": StorageSpec(device=device, bits=bits, protect=ranged),
        "+ repetition 3": StorageSpec(device=device, bits=bits, protect=ranged, code=Repetition(planes=3)),
        RESIDUAL: StorageSpec(device=device, bits=bits, protect=ranged, code=Residual(planes=2)),
        PRUNED: StorageSpec(
            device=device, bits=bits, compress=(Prune(sparsity=SPARSITY),), protect=(Sparsity(), *ranged, Entropy())
        ),
        "per-layer redundancy": StorageSpec(
            device=device, bits=bits, protect=ranged, code=Repetition(planes=1), allocation=PerLayer(mean=2)
        ),
        FP32: StorageSpec(device=device, bits=bits, compress=(Raw(dtype="float32"),)),
        INT8: StorageSpec(device=device, bits=bits, compress=(Quantize(bits=8, axis="channel"),)),
    }
    return [Scheme(name=name, spec=spec, pruned=name == PRUNED) for name, spec in specs.items()]


@dataclass(frozen=True, kw_only=True)
class Demo:
    """What the demonstration found.

    Parameters
    ----------
    task, description, device : str
        What was stored, and on what.
    comparison : Comparison
        All rows.
    """

    task: str
    description: str
    device: str
    comparison: Comparison

    def conclusions(self) -> list[str]:
        """Say in plain sentences what the numbers mean; computed from the rows."""
        rows = self.comparison
        last = rows.times[-1]
        when = max((time for time in rows.times if time <= parse_time("1 year")), default=last)
        return [_robust(rows, when), _saving(rows, when), _cheapest(rows, last)]

    def to_dict(self) -> dict[str, Any]:
        """The document that ``memristore demo`` writes."""
        document = self.comparison.to_dict() | {"schema": SCHEMA, "version": VERSION}
        about = {"task": self.task, "description": self.description, "device": self.device}
        return {**document, **about, "conclusions": self.conclusions()}

    def to_json(self) -> str:
        """Return the document as text."""
        return json.dumps(self.to_dict(), indent=2, allow_nan=False) + "\n"

    def plot(self, path: str | os.PathLike[str]) -> None:
        """Draw accuracy against cells per weight and save the picture."""
        self.comparison.plot(path)


def _points(row: Evaluation, at: float) -> float:
    """Accuracy lost against the original network, percentage points."""
    return 100 * (row.clean - row.at(at).mean)


def _percent(value: float) -> str:
    return f"{100 * value:.1f} %"


def _lost(points: float) -> str:
    return "loses nothing" if points < 0.05 else f"loses {points:.1f} points"


def _after(seconds: float) -> str:
    return "read at once" if seconds == 0 else f"after {format_time(seconds)}"


def _robust(rows: Comparison, at: float) -> str:
    naive, robust = rows[NAIVE], rows[RESIDUAL]
    return (
        f"Written the naive way, the network falls from {_percent(naive.clean)} to {_percent(naive.at(at).mean)} "
        f"{_after(at)} at {naive.cells_per_weight:.1f} cells per weight; with sign protection, adaptive range and "
        f"residual coding it {_lost(_points(robust, at))} at {robust.cells_per_weight:.1f}."
    )


def _saving(rows: Comparison, at: float) -> str:
    pruned, fp32 = rows[PRUNED], rows[FP32]
    return (
        f"Pruned by {100 * SPARSITY:.0f} % and protected it needs {pruned.cells_per_weight:.2f} cells per weight, "
        f"{fp32.cells_per_weight / pruned.cells_per_weight:.0f} times fewer than fp32 on the same cells, and "
        f"{_lost(_points(pruned, at))} {_after(at)} (pruning alone {_lost(100 * (pruned.clean - pruned.compressed))})."
    )


def _cheapest(rows: Comparison, at: float) -> str:
    good = [row for row in rows if _points(row, at) <= 1.0]
    if not good:
        return f"No scheme stays within 1 point of the original network {_after(at)}."
    best = min(good, key=lambda row: row.cells_per_weight)
    times = ", ".join(
        f"{rows[other].cells_per_weight / best.cells_per_weight:.1f} times fewer than {other}"
        for other in (FP32, INT8, BEST)
        if other != best.scheme
    )
    return (
        f"The fewest cells that stay within 1 point of the original network {_after(at)}: "
        f"{best.scheme.removeprefix('+ ')}, {best.cells_per_weight:.2f} cells per weight, {times}."
    )


def run_demo(
    task: str = "digits",
    data_dir: str | os.PathLike[str] | None = None,
    device: str = "pcm-ibm-90nm",
    trials: int = 10,
    seed: int = 0,
    cache_dir: str | os.PathLike[str] | None = None,
    progress: bool = True,
    report: Callable[[str], None] = lambda line: None,
) -> Demo:
    """Train or load the network, store it in every way, age it, read it back.

    Parameters
    ----------
    task : str
        ``"digits"`` or ``"mnist"``.
    data_dir : path, optional
        Folder of the data, for MNIST.
    device : str
        A device by name.
    trials : int
        Independently programmed arrays per scheme.
    seed : int
        Names the arrays; the network is always the same.
    cache_dir : path, optional
        Where trained networks are kept.
    progress : bool
        Show bars on standard error if that is a terminal.
    report : callable
        Is told, line by line, what is being done.

    Returns
    -------
    Demo
    """
    rows_wanted = schemes(device)
    times = [parse_time(time) for time in TIMES]
    report(f"training or loading the network of {task}")
    data = tasks.get(task).load(data_dir, cache_dir, progress=progress)
    clean = data.metric(data.model)
    report(f"{data.description}: {_percent(clean)} right; pruning a copy by {100 * SPARSITY:.0f} %")
    pruned = tasks.pruned_model(data, SPARSITY, progress=progress)
    report(f"storing it on {device} in {len(rows_wanted) + 1} ways, {trials} times each")
    rows = []
    for index, scheme in enumerate(rows_wanted):
        model = pruned if scheme.pruned else data.model
        # The same array for every scheme would tie their results together.
        prepared = prepare(model, scheme.spec)
        if scheme.name == PRUNED:
            (rival,) = digital_best(scheme, prepared, "1 year", seed=rng.key(seed, "demo", "rival"))
            rows_wanted.append(dataclasses.replace(rival, name=BEST))
        stored = prepared.program(seed=rng.key(seed, "demo", index))
        rows.append(
            evaluate(
                stored,
                model,
                data.metric,
                at=times,
                trials=trials,
                scheme=scheme.name,
                clean=clean,
                prepared=prepared,
                progress=progress,
            )
        )
    noun = "trial" if trials == 1 else "trials"
    title = f"{data.description}, stored on {device}, {trials} {noun}"
    return Demo(task=task, description=data.description, device=device, comparison=Comparison(rows, title))


def demo_folder(out: str | os.PathLike[str]) -> Path:
    """Make the folder for the results unless it exists; `FileError` if that fails."""
    folder = Path(out)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise FileError(f"{folder}: cannot be made a folder for the results ({error})") from error
    return folder


def write_demo(
    demo: Demo, out: str | os.PathLike[str], json_path: str | os.PathLike[str] | None
) -> tuple[Path, Path | None]:
    """Write the picture and the document.

    Parameters
    ----------
    demo : Demo
        What was found.
    out : path
        Folder for ``memristore-demo.png`` and ``memristore-demo.json``; made if it does not exist.
    json_path : path, optional
        Write the document here instead; ``"-"`` writes none.

    Returns
    -------
    (Path, Path or None)
        Picture and document.

    Raises
    ------
    FileError
        If they cannot be written.
    """
    folder = demo_folder(out)
    picture = folder / "memristore-demo.png"
    demo.plot(picture)
    if json_path is not None and os.fspath(json_path) == "-":
        return picture, None
    document = folder / "memristore-demo.json" if json_path is None else Path(json_path)
    try:
        document.write_text(demo.to_json(), encoding="utf-8")
    except OSError as error:
        raise FileError(f"{document}: cannot be written ({error})") from error
    return picture, document
