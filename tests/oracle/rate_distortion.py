"""Blahut's algorithm as it is written down: a matrix, no tricks."""

from __future__ import annotations

import numpy as np


def blahut_point(points, masses, reproductions, slope, rounds=3000):
    """Mean squared error and nats at a slope -dR/dD, of values with `masses` at `points`."""
    errors = np.square(points[:, None] - reproductions)
    kernel = np.exp(-slope * errors)
    q = np.full(reproductions.size, 1 / reproductions.size)
    for _ in range(rounds):
        q = q * ((masses / (kernel @ q)) @ kernel)
    channel = kernel * q / (kernel @ q)[:, None]
    joint = masses[:, None] * channel
    some = joint > 1e-300
    nats = np.sum(joint[some] * np.log((channel / np.maximum(masses @ channel, 1e-300))[some]))
    return float((joint * errors).sum()), float(nats)
