"""Factors: products in a fixed order, leading components near the best, and the same bits whatever BLAS does."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest

from memristore.compress import factors

_RNG = np.random.default_rng(10)

PROGRAM = """
import hashlib, numpy as np
from memristore.compress import BitStack, LowRank, TensorRing, compress_array
a = np.random.default_rng(0).normal(size=(96, 40, 3, 3)).astype(np.float32)
stacks = BitStack(blocks=3), BitStack(blocks=2, rank=16, factors="float16")
parts = *stacks, LowRank(ratio=0.5), TensorRing(rank=3, sweeps=3)
print([hashlib.sha256(compress_array(a, part)).hexdigest() for part in parts])
"""


def test_what_is_encoded_does_not_depend_on_threads_or_kernels_of_blas() -> None:
    found = set()
    for settings in ({"OPENBLAS_NUM_THREADS": "1"}, {"OPENBLAS_NUM_THREADS": "2"}, {"OPENBLAS_CORETYPE": "Haswell"}):
        run = subprocess.run(
            [sys.executable, "-c", PROGRAM], env=os.environ | settings, capture_output=True, text=True, check=True
        )
        found.add(run.stdout)
    assert len(found) == 1


@pytest.mark.parametrize("shape", [(7, 5), (300, 40), (40, 300), (1, 9)])
def test_products(shape: tuple[int, int]) -> None:
    left, right = (_RNG.normal(size=(4, n)).astype(np.float32) for n in shape)
    expected = left.T.astype(float) @ right.astype(float)
    np.testing.assert_allclose(factors.product(left, right, shape), expected, rtol=1e-12, atol=1e-12)
    left[0, 0] = np.nan
    assert np.isfinite(factors.product(left, right, shape)).all()


@pytest.mark.parametrize("shape", [(120, 200), (200, 120)])
def test_leading_components_are_near_the_best(shape: tuple[int, int]) -> None:
    # Noise has no gaps between its singular values, which is the worst case for subspace iteration.
    matrix = _RNG.normal(size=shape)
    tail = np.square(np.linalg.svd(matrix, compute_uv=False))
    np.testing.assert_allclose(factors.energies(matrix), tail, rtol=1e-10)
    for found, slack in ((factors.components(matrix, 6), 1e-6), (factors.leading(matrix, 6), 0.01)):
        left = np.square(matrix - found[0].T.astype(float) @ found[1]).sum()
        assert tail[6:].sum() * (1 - 1e-9) <= left <= tail[6:].sum() * (1 + slack)


@pytest.mark.parametrize("scale", [1e-45, 1e-20, 1.0, 1e20, 3e38])
def test_scales_from_denormal_to_huge(scale: float) -> None:
    values = (scale * _RNG.uniform(-1, 1, 50)).astype(np.float32)
    back = factors.from_halves(factors.to_halves(values), values.size)
    top = float(np.abs(values).max())
    assert np.abs(back.astype(float) - values).max() <= top * 2.0**-11
    grid = factors.on_grid(values.astype(np.float64))
    assert np.abs(grid.astype(float) - values).max() <= max(top * 2.0**-20, 1.5e-45)


@pytest.mark.parametrize("way", [factors.ROWS, factors.SEPARABLE])
def test_matrices_and_back(way: int) -> None:
    for shape in ((6, 4, 3, 5), (3, 2, 2, 3, 2)):
        values = _RNG.normal(size=shape).astype(np.float32).reshape(-1)
        matrix = factors.to_matrix(values, shape, way)
        assert matrix.shape == factors.matrix_shape(shape, way)
        np.testing.assert_array_equal(factors.from_matrix(matrix, shape, way), values)
    assert factors.matrix_shape((8, 1, 3, 3), factors.SEPARABLE) is None
    assert factors.matrix_shape((5,)) is None
    assert factors.matrix_shape((0, 3)) is None
