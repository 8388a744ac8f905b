"""A portrait of one programmed array, small enough to keep beside its results: ledger, cells, levels, limit."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt

from memristore.array import read_cells, write_cells
from memristore.devices.grid import unpack_state
from memristore.evaluate.fit_result import limit_cells
from memristore.ledger import Ledger
from memristore.rng import key as make_key
from memristore.torch_io import base_of, unescape

if TYPE_CHECKING:
    import torch
    from torch import nn

    from memristore.mapping import LevelDesign
    from memristore.planes import CellBlock
    from memristore.spec import StorageSpec
    from memristore.storage import PreparedModel
    from memristore.stored import StoredModel

F32 = npt.NDArray[np.float32]

#: Cells that stand for all, and the sides of the square that they are shown in.
_SIDE: Final = 64
_CELLS: Final = _SIDE * _SIDE
_BINS: Final = 96
#: Bands of analog cells by programmed state; levels are bands of their own.
_BANDS: Final = 4
_QUANTILES: Final = (0.05, 0.5, 0.95)
#: Most rows of a ledger that are kept one by one; the smallest tensors beyond them are summed.
_ROWS: Final = 60


def portrait(
    stored: StoredModel,
    prepared: PreparedModel,
    model: nn.Module | dict[str, torch.Tensor],
    last: float,
    threads: int = 0,
) -> dict[str, Any]:
    """Describe one array in plain values.

    Parameters
    ----------
    stored : StoredModel
        The array.
    prepared : PreparedModel
        What it was programmed from.
    model : Module or state_dict
        The original network.
    last : float
        Last read time, seconds: cells are shown until then.
    threads : int
        Threads for kernels; 0 means all.

    Returns
    -------
    dict
        ``stages`` (words), ``cells_by_kind``, ``cells_by_tensor``, ``limit_cells`` (cells per weight that Shannon's
        rate asks for the errors of this recipe after `last`, or None), ``analog`` and ``levels`` (samples of cells,
        each or None).
    """
    ledger = stored.ledger()
    limit = limit_cells(prepared, model, last, seed=stored.seed, threads=threads)
    return {
        "stages": stored.spec.stages(),
        "cells_by_kind": ledger.by_kind(),
        "cells_by_tensor": _by_tensor(ledger),
        "parity": [row.note for row in ledger if row.kind == "parity"],
        "limit_cells": limit if limit > 0 else None,
        "analog": _analog(stored, last, threads),
        "levels": _levels(stored, last, threads) if stored.bits.cells else None,
    }


def _by_tensor(ledger: Ledger) -> list[dict[str, Any]]:
    """Cells of each tensor by kind, in the order of the network; the smallest ones together where there are many."""
    found: dict[str, dict[str, int]] = {}
    for row in ledger:
        kinds = found.setdefault(row.tensor, {})
        kinds[row.kind] = kinds.get(row.kind, 0) + row.cells
    rows = [{"tensor": name, "cells": kinds} for name, kinds in found.items()]
    if len(rows) <= _ROWS:
        return rows
    floor = sorted((sum(kinds.values()) for kinds in found.values()), reverse=True)[_ROWS - 1]
    kept = [row for row in rows if sum(found[str(row["tensor"])].values()) >= floor][:_ROWS]
    names = {row["tensor"] for row in kept}
    rest: dict[str, int] = {}
    for name, kinds in found.items():
        for kind, cells in kinds.items() if name not in names else ():
            rest[kind] = rest.get(kind, 0) + cells
    return [*kept, {"tensor": f"{len(rows) - len(kept)} smaller tensors", "cells": rest}]


def _ages(last: float) -> list[float]:
    """At once, then about two reads in each decade from one second to the last."""
    if last <= 1.0:
        return sorted({0.0, last})
    steps = max(3, round(2 * np.log10(last)) + 1)
    return [0.0, *(float(at) for at in np.geomspace(1.0, last, steps))]


def _analog(stored: StoredModel, last: float, threads: int) -> dict[str, Any] | None:
    """Cells of the first plane of the largest analog stream."""
    blocks = {name: s.block for name, s in stored.streams.items() if s.block.states}
    if not blocks:
        return None
    name = max(blocks, key=lambda n: blocks[n].n)
    block: CellBlock = blocks[name]
    state = block.states[0][:_CELLS]
    start = unpack_state(stored.spec.cell, state)

    def read(at: float) -> F32:
        return read_cells(stored.spec.cell, stored.key, block.address(0), state, at, threads=threads)

    edges = np.quantile(start, np.linspace(0, 1, _BANDS + 1)[1:-1])
    band = np.searchsorted(edges, start).astype(np.int64)
    found = _sample(stored.spec, start, band, _BANDS, [(at, read(at)) for at in _ages(last)])
    return {"of": unescape(base_of(name)), "cells": int(block.n), **found, **_map(stored.spec, start, read(last), last)}


def _levels(stored: StoredModel, last: float, threads: int) -> dict[str, Any]:
    """Cells at the levels that hold most of this array's bits: equally many at each, of the same device."""
    design: LevelDesign = stored.bits.areas[0].design
    count = len(design.targets)
    band = np.arange(_CELLS) % count
    key = make_key(stored.seed, "portrait")
    spec = stored.spec
    state = write_cells(spec.cell, spec.write, key, 0, design.targets[band], threads=threads).state
    reads = [(at, read_cells(spec.cell, key, 0, state, at, threads=threads)) for at in _ages(last)]
    found = _sample(spec, state, band, count, reads)
    return {"of": stored.bits.format.describe(), "cells": int(stored.bits.cells), **found}


def _sample(
    spec: StorageSpec, start: F32, band: npt.NDArray[np.int64], bands: int, reads: list[tuple[float, F32]]
) -> dict[str, Any]:
    """Histograms by band at the first and last age, and quantiles of each band over time."""
    everything = np.concatenate([start, *(read for _, read in reads)])
    low, high = (float(q) for q in np.quantile(everything, (0.002, 0.998)))
    pad = 0.04 * (high - low) or 0.5
    edges = np.linspace(low - pad, high + pad, _BINS + 1)
    ends = [("as programmed", start), (reads[-1][0], reads[-1][1])]
    return {
        "unit": spec.cell.unit,
        "sampled": len(start),
        "edges": [float(edge) for edge in edges],
        "histograms": [
            {"at": at, "counts": [np.histogram(np.clip(x[band == b], *edges[[0, -1]]), edges)[0].tolist()
                                  for b in range(bands)]}
            for at, x in ends
        ],
        "drift": {
            "ages": [at for at, _ in reads],
            "quantiles": [
                [[float(q) for q in np.quantile(read[band == b], _QUANTILES)] for _, read in reads]
                for b in range(bands)
                if (band == b).any()
            ],
        },
    }  # fmt: skip


def _map(spec: StorageSpec, start: F32, end: F32, last: float) -> dict[str, Any]:
    """The sample as squares of cells, as programmed and as read at the end, in 256 steps of one scale."""
    side = min(_SIDE, int(np.sqrt(len(start))))
    shown = [x[: side * side] for x in (start, end)]
    both = np.concatenate(shown)
    low, high = (float(q) for q in np.quantile(both, (0.005, 0.995)))
    codes = [np.clip((x - low) / ((high - low) or 1.0) * 255, 0, 255).round().astype(np.uint8) for x in shown]
    return {
        "map": {
            "side": side,
            "low": low,
            "high": high,
            "last": last,
            "codes": [base64.b64encode(code.tobytes()).decode() for code in codes],
        }
    }
