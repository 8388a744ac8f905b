"""Coded words on cells with a few levels against their definition: labels, addresses, decisions, averaging."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from memristore import _core
from memristore.mapping.level_labels import GROUPS, labels
from oracle import bridge, cases, cells, level_cells, philox, samples

BINS, PAIR_BINS = 200, 16


def design(count: int, scale: float) -> tuple[level_cells.Groups, level_cells.Decision, np.ndarray, np.ndarray]:
    """Levels at uneven targets, and tables of arbitrary but fixed content."""
    rng = np.random.default_rng(count)
    cells_of, bits = GROUPS[count]
    targets = np.sort(rng.random(count)).astype(np.float32)
    indices = BINS if cells_of == 1 else PAIR_BINS**2
    decision = level_cells.Decision(
        start=-0.1 * scale,
        inv_step=BINS / (1.3 * scale),
        bins=BINS,
        pair_bins=PAIR_BINS,
        cell_bin=np.sort(rng.integers(0, PAIR_BINS, BINS)).astype(np.uint8),
        label=rng.integers(0, 2**bits, indices).astype(np.uint8),
        llr=rng.integers(-127, 128, indices * bits).astype(np.int8),
    )
    return level_cells.Groups(bits, cells_of, 0), decision, targets, labels(count, "gray")


def words_of(bits: int, superblocks: int, n: int) -> np.ndarray:
    rng = np.random.default_rng(n)
    return np.packbits(rng.integers(0, 2, (superblocks * bits, n), dtype=np.uint8), axis=1, bitorder="little")


def store(
    name: str, count: int, n: int, superblocks: int, *, soft: bool, planes: int = 1, first: int = 5, threads: int = 1,
    pulse: Any = None, define: bool = True,
) -> tuple[np.ndarray, int, level_cells.StoredLevels | None]:  # fmt: skip
    group = cases.DEVICE_CASES[name]
    form, decision, targets, level_of = design(count, samples.SCALES[name])
    form = level_cells.Groups(form.bits, form.cells, n)
    words = words_of(form.bits, superblocks, n)
    out = np.full((words.shape[0], n), 99, np.int8) if soft else np.full(words.shape, 0xAA, np.uint8)
    none = np.zeros(0, np.uint8)
    errors = _core.store_levels(
        bridge.device(group.device), pulse, bridge.time(group.time), cases.KEY, cases.EVENT, philox.READ,
        cases.READ_EVENT, first, cases.STRIDE, planes, words.ravel(), n, targets, level_of.ravel(), form.cells,
        decision.start, decision.inv_step, none if form.cells == 1 else decision.cell_bin, BINS, PAIR_BINS,
        decision.label, decision.llr, soft, out.reshape(-1), threads,
    )  # fmt: skip
    if not define:
        return out, errors, None
    oracle = level_cells.store_levels(
        group.device, group.time, cases.KEY, cases.EVENT, philox.READ, cases.READ_EVENT, first, cases.STRIDE, planes,
        words, targets, level_of.ravel(), form, decision,
    )  # fmt: skip
    return out, errors, oracle


@pytest.mark.parametrize("count", GROUPS)
@pytest.mark.parametrize(("n", "superblocks"), [(1, 1), (72, 9), (77, 40), (2049, 2)])
@pytest.mark.parametrize("name", ["ibm", "busy-resistance"])
def test_store_levels_matches_its_definition(name: str, n: int, superblocks: int, count: int) -> None:
    """Decisions may differ only where a mean read lies at the edge of a bin: fewer than 1 in 2000 groups."""
    for planes in (1, 3):
        hard, errors, oracle = store(name, count, n, superblocks, soft=False, planes=planes)
        soft, same, _ = store(name, count, n, superblocks, soft=True, planes=planes, define=False)
        assert oracle is not None
        assert errors == same
        few = 1 + n * superblocks * GROUPS[count][1] // 2000 * 2
        assert np.count_nonzero(hard != oracle.hard) <= few
        assert np.count_nonzero(soft != oracle.soft) <= 2 * few
        assert abs(errors - oracle.errors) <= 8 * few


@pytest.mark.parametrize("count", GROUPS)
@pytest.mark.parametrize("soft", [False, True])
def test_every_instruction_set_and_thread_count_gives_the_same_bits(count: int, soft: bool) -> None:
    before = _core.isa()
    pulse = bridge.pulse(cells.Pulse(step=0.6, band=0.3, max_pulses=9))
    seen = []
    try:
        for isa in _core.isa_available():
            _core.set_isa(isa)
            for threads in (1, 2) if isa == before else (2,):
                for how in (None, pulse):
                    out, errors, _ = store(
                        "ibm", count, 1001, 70, soft=soft, planes=2, threads=threads, pulse=how, define=False
                    )
                    seen.append((how is None, out.tobytes(), errors))
    finally:
        _core.set_isa(before)
    assert len(set(seen)) == 2


def test_program_and_verify_is_its_parts_in_turn() -> None:
    group, n, count = cases.DEVICE_CASES["ibm"], 640, 4
    form, decision, targets, level_of = design(count, 25.0)
    form = level_cells.Groups(form.bits, 1, n)
    words = words_of(2, 6, n)
    pulse = bridge.pulse(cells.Pulse(step=0.6, band=0.3, max_pulses=9))
    device, time = bridge.device(group.device), bridge.time(group.time)
    x = targets[level_of[form.labels(words), 0]].astype(np.float32).ravel()
    state, read = cases.blank(x.size), cases.blank(x.size)
    _core.program_and_verify(
        device, pulse, cases.KEY, 2, 9, x, state, cases.blank(x.size, np.uint16), cases.blank(x.size, np.uint8)
    )
    _core.age_and_read(device, time, cases.KEY, philox.READ, 3, 9, state, read)
    wanted = level_cells.decide(form, decision, read.astype(np.float64), words)
    out = np.empty_like(words)
    errors = _core.store_levels(
        device, pulse, time, cases.KEY, 2, philox.READ, 3, 9, 0, 1, words.ravel(), n, targets, level_of.ravel(), 1,
        decision.start, decision.inv_step, np.zeros(0, np.uint8), BINS, 1, decision.label, decision.llr, False,
        out.reshape(-1),
    )  # fmt: skip
    np.testing.assert_array_equal(out, wanted.hard)
    assert errors == wanted.errors


def test_labels_and_words_are_inverse() -> None:
    for bits in range(1, 6):
        form = level_cells.Groups(bits, 1, 21)
        words = words_of(bits, 3, 21)
        np.testing.assert_array_equal(form.words(form.labels(words)), words)


def test_a_bad_cell_costs_each_word_one_bit() -> None:
    """Groups of a superblock each hold one bit of every word, and every word sees all label bits alike."""
    form = level_cells.Groups(3, 1, 9)
    labels_of = form.labels(np.zeros((3, 2), np.uint8))
    labels_of[0, 4] = 7
    changed = np.unpackbits(form.words(labels_of), axis=1, bitorder="little")[:, :9]
    assert changed.sum(axis=1).tolist() == [1, 1, 1]
    labels_of[:] = 1
    assert np.unpackbits(form.words(labels_of), axis=1, bitorder="little").sum(axis=1).tolist() == [3, 3, 3]


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"planes": 0}, "planes"),
        ({"n": 0}, "word_bits"),
        ({"cells": 3}, "cells"),
        ({"targets": np.zeros(17, np.float32)}, "targets"),
        ({"level_of": np.array([0, 1, 2, 4], np.uint8)}, "level_of"),
        ({"level_of": np.zeros(3, np.uint8)}, "level_of"),
        ({"level_of": np.zeros(64, np.uint8)}, "level_of"),
        ({"label": np.full(8, 4, np.uint8)}, "label"),
        ({"llr": np.zeros(15, np.int8)}, "llr"),
        ({"bins": 0}, "bins"),
        ({"cell_bin": np.zeros(8, np.uint8)}, "cell_bin"),
        ({"words": np.zeros(3, np.uint8)}, "words"),
        ({"first": 2**63}, "first"),
        ({"stride": 2**62, "planes": 3}, "stride"),
        ({"threads": -1}, "threads"),
        ({"soft": True}, "out"),
    ],
)
def test_what_is_refused(change: dict[str, Any], match: str) -> None:
    given: dict[str, Any] = {
        "planes": 1, "words": np.zeros(4, np.uint8), "n": 16, "targets": np.zeros(4, np.float32),
        "level_of": np.arange(4, dtype=np.uint8), "cells": 1, "cell_bin": np.zeros(0, np.uint8), "bins": 8,
        "label": np.zeros(8, np.uint8), "llr": np.zeros(16, np.int8), "soft": False, "first": 0, "stride": 64,
        "threads": 1,
    } | change  # fmt: skip
    device, time = bridge.device(samples.ideal()), bridge.time(cells.ReadTime())
    with pytest.raises((ValueError, TypeError), match=match):
        _core.store_levels(
            device, None, time, 1, 0, 5, 0, given["first"], given["stride"], given["planes"], given["words"],
            given["n"], given["targets"], given["level_of"], given["cells"], 0.0, 1.0, given["cell_bin"],
            given["bins"], 1, given["label"], given["llr"], given["soft"], np.zeros(4, np.uint8), given["threads"],
        )  # fmt: skip
