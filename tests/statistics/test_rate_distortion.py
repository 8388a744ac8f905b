"""How far the rate-distortion compressor is from Shannon's bound, everything counted.

n = 2**20 values of a fixed draw; statistic: 6.02 dB times (bits per value - R(D)) at the wanted ratio, less the excess
of the ratio reached. The ratio of n Gaussian (Laplacian) values to that of their law differs by 0.006 (0.010) dB, one
standard deviation; thresholds lie 0.05 dB or more above what is measured, five of these or more: the false-alarm rate
is below 1e-6 for another draw. A loss of 0.12 dB, 0.02 bit per value, is caught.
"""

from __future__ import annotations

import numpy as np
import pytest

from memristore.compress.rate_distortion import RateDistortion
from memristore.streams import AnalogStream, Payload
from memristore.transform import Context

N = 2**20
#: Bits of a memoryless Laplacian source (Blahut's algorithm, IEEE Trans. Inf. Theory 18(4), 1972) at ratios in dB.
LAPLACE = {3.01: 0.415, 6.02: 0.903, 10.0: 1.561, 13.0: 2.058, 17.0: 2.720}
GAUSS = {6.0206 * bits: float(bits) for bits in (0.5, 1, 2, 3, 4, 6)}
CASES = [
    *(("gauss", sdr, bits, 8, 0.55) for sdr, bits in GAUSS.items()),
    *(("laplace", sdr, bits, 8, 0.57) for sdr, bits in LAPLACE.items()),
    *(("gauss", sdr, GAUSS[sdr], 32, 0.42) for sdr in (6.0206, 24.0824)),
    *(("laplace", sdr, LAPLACE[sdr], 32, 0.42) for sdr in (10.0, 17.0)),
    ("gauss", 12.0412, 2.0, 64, 0.37),
]


@pytest.mark.parametrize(("law", "sdr", "bound", "states", "most"), CASES)
def test_gap_to_the_rate_distortion_function(law: str, sdr: float, bound: float, states: int, most: float) -> None:
    draw = np.random.default_rng(20)
    values = (draw.normal(size=N) if law == "gauss" else draw.laplace(size=N)).astype(np.float32)
    part, context = RateDistortion(sdr=sdr, states=states), Context({"w": values.shape})
    coded = part.encode(Payload([AnalogStream("w", values)]), context)
    back = part.decode(coded, context).analog("w").values
    reached = 10 * np.log10(values.var(dtype=np.float64) / np.mean((values.astype(np.float64) - back) ** 2))
    bits = sum(len(stream) for stream in coded.bit_streams()) / N
    assert sdr <= reached <= sdr + 0.05
    assert 6.0206 * (bits - bound) - (reached - sdr) < most
