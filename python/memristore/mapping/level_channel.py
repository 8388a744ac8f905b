"""What a decoder makes of reads of levels at one age: hard decisions, log-likelihood ratios, and how good they are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from memristore.channel import BitChannel
from memristore.mapping.level_reads import Reads

F64 = npt.NDArray[np.float64]
I8 = npt.NDArray[np.int8]
U8 = npt.NDArray[np.uint8]

#: Steps of a log-likelihood ratio to one nat.
LLR_STEPS: Final[int] = 8
LLR_MOST: Final[int] = 127
#: Coarse bins of each cell of a pair: tables over pairs of bins stay in a processor's first cache.
PAIR_BINS: Final[int] = 64


@dataclass(frozen=True, eq=False)
class LevelChannel:
    """Decisions on groups of cells at one age, and what they are worth. A group is one cell or two.

    Parameters
    ----------
    start, inv_step : float
        Bin of a read: (read - start) * inv_step, rounded down, clipped to [0, bins - 1].
    level : ndarray, shape (bins,), uint8
        Most likely level of a cell.
    cell_bin : ndarray, shape (bins,), uint8, or None
        Pairs: the coarse bin of each bin. An index of the tables below is then
        ``PAIR_BINS * cell_bin[first cell] + cell_bin[second cell]``; for single cells it is the bin.
    label : ndarray, shape (indices,), uint8
        Most likely label of a group.
    llr : ndarray, shape (indices, bits), int8
        round(LLR_STEPS ln(P(0) / P(1))) of each label bit, clipped to +-LLR_MOST.
    raw_error, noise_error : float
        Mean probability that a label bit of a hard decision is wrong, with and without stuck cells.
    information : float
        Mean mutual information of a label bit and its ratio as it stands in `llr`, bits.
    transitions : ndarray, shape (count, count)
        P(level decided | level written), row = written.
    mutual_information : float
        Of the level of one cell, all equally frequent, and its read (or mean read): bits.
    """

    start: float
    inv_step: float
    level: U8
    cell_bin: U8 | None
    label: U8
    llr: I8
    raw_error: float
    noise_error: float
    information: float
    transitions: F64
    mutual_information: float

    @property
    def bit_channel(self) -> BitChannel:
        """What a bit code sees."""
        return BitChannel(self.raw_error, self.information)


def bit_count(values: npt.NDArray[np.integer]) -> npt.NDArray[np.int64]:
    """Ones of small numbers, any shape."""
    table = np.array([i.bit_count() for i in range(256)])
    return np.asarray(table[values])


def plogp(p: F64) -> F64:
    """P log2 P, 0 where P is 0."""
    return np.asarray(p * np.log2(np.where(p > 0, p, 1.0)))


def uniform_information(masses: F64) -> float:
    """Mutual information, bits, of a uniform choice among rows, shape (n, bins), and the bin."""
    mean = masses.mean(axis=0)
    return float((plogp(masses).sum(axis=1)).mean() - plogp(mean).sum())


def _filled(likelihood: F64) -> F64:
    """Copy the nearest column that holds anything into columns of zeros, where every likelihood has underflowed."""
    some = np.flatnonzero(likelihood.max(axis=0) > 0)
    where = np.arange(likelihood.shape[1])
    after = np.minimum(np.searchsorted(some, where), some.size - 1)
    before = np.maximum(after - 1, 0)
    nearer = np.abs(some[before] - where) < np.abs(some[after] - where)
    return likelihood[:, some[np.where(nearer, before, after)]]


def _coarse_bins(likelihood: F64, level: U8) -> U8:
    """Join bins, shape (count, bins), into at most PAIR_BINS whose posteriors differ little; decisions stay apart."""
    posterior = likelihood / likelihood.sum(axis=0)
    log_odds = np.log(np.maximum(posterior, 1e-12)) - np.log(np.maximum(1.0 - posterior, 1e-12))
    path = np.abs(np.diff(np.tanh(log_odds / 6.0), axis=1)).sum(axis=0)
    cuts = np.flatnonzero(np.diff(level.astype(np.int64)) != 0)
    along = np.concatenate([[0.0], np.cumsum(path)])
    share = along / max(float(along[-1]), 1e-300) * (PAIR_BINS - cuts.size)
    steps = np.minimum(share.astype(np.int64), PAIR_BINS - cuts.size - 1)
    steps[1:] += np.cumsum(np.diff(level.astype(np.int64)) != 0)
    # Numbers run without gaps.
    return np.unique(steps, return_inverse=True)[1].astype(np.uint8)


def _ratios(likelihood: F64, bits: int) -> I8:
    """Log-likelihood ratios of the bits of labels, given the likelihood of each label, shape (labels, indices)."""
    label = np.arange(2**bits)
    out = np.empty((likelihood.shape[1], bits), dtype=np.int8)
    for i in range(bits):
        one = (label >> i & 1).astype(bool)
        zero_sum, one_sum = likelihood[~one].sum(axis=0), likelihood[one].sum(axis=0)
        with np.errstate(divide="ignore", invalid="ignore"):
            ratio = np.log(zero_sum) - np.log(one_sum)
        ratio = np.where(zero_sum + one_sum > 0, ratio, 0.0)
        out[:, i] = np.clip(np.rint(LLR_STEPS * ratio), -LLR_MOST, LLR_MOST).astype(np.int8)
    return out


def _ratio_information(joint: F64, llr: I8) -> float:
    """Mean mutual information of a bit and its ratio. joint: P(index | label), shape (labels, indices)."""
    labels, bits = joint.shape[0], llr.shape[1]
    seen = np.zeros((2, 2 * LLR_MOST + 1))
    for i in range(bits):
        one = (np.arange(labels) >> i & 1).astype(bool)
        value = llr[:, i].astype(np.int64) + LLR_MOST
        for bit, rows in ((0, ~one), (1, one)):
            seen[bit] += np.bincount(value, joint[rows].sum(axis=0), seen.shape[1]) / (labels * bits)
    return float(1.0 + plogp(seen).sum() - plogp(seen.sum(axis=0)).sum())


def _label_errors(joint: F64, decided: U8, bits: int) -> float:
    """Mean share of wrong bits. joint: P(index | label), shape (labels, indices); only positive terms are added."""
    wrong = bit_count(np.arange(joint.shape[0])[:, None] ^ decided)
    return float((joint * wrong).sum() / (joint.shape[0] * bits))


def level_channel(reads: Reads, targets: F64, level_of: U8) -> LevelChannel:
    """Tabulate decisions on reads.

    Parameters
    ----------
    reads : Reads
        Distribution of reads at the age that the decoder believes in.
    targets : ndarray, shape (count,)
        Of the levels.
    level_of : ndarray, shape (2**bits, cells), uint8
        Level of each cell, by label.

    Returns
    -------
    LevelChannel
    """
    masses, clean = reads.masses(targets), reads.masses(targets, stuck=False)
    edges = reads.edges
    # Where the simulated sample shows nothing, levels stay possible.
    likelihood = _filled(masses + reads.unseen * masses.mean(axis=0))
    level = np.argmax(likelihood, axis=0).astype(np.uint8)
    decided = np.eye(targets.size)[level]
    bits = level_of.shape[0].bit_length() - 1
    cell_bin = None
    if level_of.shape[1] == 1:
        joints = [part[level_of[:, 0]] for part in (likelihood, masses, clean)]
    else:
        cell_bin = _coarse_bins(likelihood, level)
        coarse = np.eye(PAIR_BINS)[cell_bin]
        joints = []
        for part in (likelihood, masses, clean):
            binned = np.einsum("lb,bc->lc", part, coarse)
            joints.append((binned[level_of[:, 0], :, None] * binned[level_of[:, 1], None, :]).reshape(2**bits, -1))
    label = np.argmax(joints[0], axis=0).astype(np.uint8)
    llr = _ratios(joints[0], bits)
    return LevelChannel(
        start=float(edges[0]),
        inv_step=float((edges.size - 1) / (edges[-1] - edges[0])),
        level=level,
        cell_bin=cell_bin,
        label=label,
        llr=llr,
        raw_error=min(0.5, _label_errors(joints[1], label, bits) + reads.unseen),
        noise_error=min(0.5, _label_errors(joints[2], label, bits) + reads.unseen),
        information=max(0.0, _ratio_information(joints[1], llr)),
        transitions=np.einsum("lb,bm->lm", masses, decided),
        mutual_information=uniform_information(masses),
    )
