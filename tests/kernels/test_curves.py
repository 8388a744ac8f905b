"""The kernels of curves through planes against numpy, bit for bit."""

from __future__ import annotations

import numpy as np
import pytest

from memristore import _core


def plane(row, column, table):
    r = np.clip(np.where(row > 0, row, 0).astype(np.int64), 0, table.shape[0] - 2)
    c = np.clip(np.where(column > 0, column, 0).astype(np.int64), 0, table.shape[1] - 2)
    p, q = row - r.astype(np.float32), column - c.astype(np.float32)
    near = table[r, c] + q * (table[r, c + 1] - table[r, c])
    far = table[r + 1, c] + q * (table[r + 1, c + 1] - table[r + 1, c])
    return near + p * (far - near)


@pytest.mark.parametrize(("rows", "columns"), [(2, 2), (3, 17), (90, 61)])
def test_lookup_plane(rows, columns):
    rng = np.random.default_rng(rows)
    table = rng.standard_normal((rows, columns)).astype(np.float32)
    row = rng.uniform(-1, rows + 1, 5000).astype(np.float32)
    column = rng.uniform(-1, columns + 1, 5000).astype(np.float32)
    row[:4], column[:4] = (0, rows - 1, 1e9, -1e9), (columns - 1, 0, 0.5, 0.5)
    for threads in (1, 2):
        out = np.empty_like(row)
        _core.lookup_plane(row, column, table.reshape(-1), columns, out, threads)
        assert np.array_equal(out, plane(row, column, table))


@pytest.mark.parametrize("points", [8, 64, 400])
def test_nearest_points(points):
    rng = np.random.default_rng(points)
    x, y, offset = rng.standard_normal((3, points)).astype(np.float32)
    # Ties go to the first.
    x[points // 2 :], y[points // 2 :], offset[points // 2 :] = (v[: points // 2] for v in (x, y, offset))
    a, b = rng.standard_normal((2, 3001)).astype(np.float32)
    cost = offset - (a[:, None] * x + b[:, None] * y)
    for threads in (1, 2):
        out = np.empty(a.size, np.uint16)
        _core.nearest_points(a, b, x, y, offset, out, threads)
        assert np.array_equal(out, np.argmin(cost, axis=1))


def test_arguments():
    v, table, out = np.zeros(3, np.float32), np.zeros(6, np.float32), np.empty(3, np.float32)
    for columns in (0, 1, 4, 6):
        with pytest.raises(ValueError, match="table"):
            _core.lookup_plane(v, v, table, columns, out)
    with pytest.raises(ValueError, match="column"):
        _core.lookup_plane(v, v[:2].copy(), table, 3, out)
    points = np.zeros(7, np.float32)
    with pytest.raises(ValueError, match="points"):
        _core.nearest_points(v, v, points, points, points, np.empty(3, np.uint16))
