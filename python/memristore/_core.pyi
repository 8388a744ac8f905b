"""Compiled kernels. Thin by design: no defaults but ``threads``, no copies, no state.

Every array must be C-contiguous and of exactly the dtype named; anything else raises ``TypeError``. Cells are named
by their absolute index (``first + position``), draws by (key, cell, purpose, event): results never depend on
``threads``, on how a range is cut, or on the instruction set. ``threads=0`` means all that OpenMP offers.
"""

from typing import Final

import numpy as np
import numpy.typing as npt

F32 = npt.NDArray[np.float32]
F64 = npt.NDArray[np.float64]
I8 = npt.NDArray[np.int8]
I32 = npt.NDArray[np.int32]
U8 = npt.NDArray[np.uint8]
U16 = npt.NDArray[np.uint16]
U32 = npt.NDArray[np.uint32]
U64 = npt.NDArray[np.uint64]

CONDUCTANCE: Final[int]
LOG_RESISTANCE: Final[int]
ZERO: Final[int]
POLY: Final[int]
POLY_LOG: Final[int]
EXP_LOG: Final[int]
TABLE: Final[int]
MAX_COEFFICIENTS: Final[int]
MAX_KNOTS: Final[int]
MAX_PULSES: Final[int]
MIX_MAX_TAPS: Final[int]
TRELLIS_BLOCK: Final[int]
TRELLIS_MAX_LEVEL: Final[int]
LOG_FLOOR: Final[float]
PURPOSES: Final[dict[str, int]]

class Curve:
    def __init__(self, form: int, a: F32, b: F32, lo: float, hi: float, x0: float, inv_step: float) -> None: ...
    def __call__(self, x: F32) -> F32: ...

class Device:
    def __init__(
        self,
        *,
        domain: int,
        read_relative: bool,
        state_lo: float,
        inv_range: float,
        clip_lo: float,
        clip_hi: float,
        p_stuck_lo: float,
        p_stuck_hi: float,
        stuck_lo: float,
        stuck_hi: float,
        response: Curve,
        write_std: Curve,
        cell_std: Curve,
        drift_mean: Curve,
        drift_std: Curve,
        relax_std: Curve,
        read_std: Curve,
        relax_mean: Curve,
    ) -> None: ...

class ReadTime:
    def __init__(self, *, log2_age: float, relax_mean: float, relax_scale: float, read_scale: float) -> None: ...

class Ldpc:
    def __init__(self, z: int, columns: int, row_start: U32, column: U16, shift: U16) -> None: ...
    def encode(self, data: U8, data_bits: int, check: U8, threads: int = 0) -> None: ...
    def decode(
        self, llr: I8, data_bits: int, iterations: int, attempts: int, data: U8, status: I32, threads: int = 0
    ) -> None: ...

class Pulse:
    def __init__(
        self,
        *,
        start: float,
        step: float,
        spread: float,
        noise: float,
        verify_std: float,
        band: float,
        log2_delay: float,
        max_pulses: int,
    ) -> None: ...

class BchCode:
    def __init__(self, m: int, t: int) -> None: ...
    def check_bits(self) -> int: ...

def isa() -> str: ...
def isa_available() -> list[str]: ...
def set_isa(name: str) -> None: ...
def max_threads() -> int: ...
def philox(key: int, purpose: int, event: int, first_block: int, out: U32) -> None: ...
def normals(key: int, purpose: int, event: int, first: int, out: F32, threads: int = 0) -> None: ...
def program(device: Device, key: int, event: int, first: int, x: F32, out: F32, threads: int = 0) -> None: ...
def program_and_verify(
    device: Device,
    pulse: Pulse,
    key: int,
    event: int,
    first: int,
    x: F32,
    out: F32,
    pulses: U16,
    failed: U8,
    threads: int = 0,
) -> None: ...
def drift(
    device: Device, time: ReadTime, key: int, first: int, programmed: F32, out: F32, threads: int = 0
) -> None: ...
def relax(
    device: Device, time: ReadTime, key: int, first: int, programmed: F32, state: F32, out: F32, threads: int = 0
) -> None: ...
def read(
    device: Device,
    time: ReadTime,
    key: int,
    purpose: int,
    event: int,
    first: int,
    programmed: F32,
    state: F32,
    out: F32,
    threads: int = 0,
) -> None: ...
def faults(device: Device, key: int, first: int, out: U8, threads: int = 0) -> None: ...
def age_and_read(
    device: Device,
    time: ReadTime,
    key: int,
    purpose: int,
    event: int,
    first: int,
    programmed: F32,
    out: F32,
    threads: int = 0,
) -> None: ...
def age_read_decode(
    device: Device,
    time: ReadTime,
    key: int,
    purpose: int,
    event: int,
    first: int,
    programmed: F32,
    table: F32,
    x0: float,
    inv_step: float,
    extrapolate: bool,
    out: F32,
    threads: int = 0,
) -> None: ...
def program_age_read(
    device: Device,
    time: ReadTime,
    key: int,
    write_event: int,
    purpose: int,
    read_event: int,
    first: int,
    x: F32,
    out: F32,
    threads: int = 0,
) -> None: ...
def store_levels(
    device: Device,
    pulse: Pulse | None,
    time: ReadTime,
    key: int,
    write_event: int,
    purpose: int,
    read_event: int,
    first: int,
    plane_stride: int,
    planes: int,
    words: U8,
    word_bits: int,
    targets: F32,
    level_of: U8,
    cells: int,
    start: float,
    inv_step: float,
    cell_bin: U8,
    bins: int,
    pair_bins: int,
    label: U8,
    llr: I8,
    soft: bool,
    out: U8 | I8,
    threads: int = 0,
) -> int: ...
def level_errors(
    key: int,
    event: int,
    first: int,
    bits: int,
    level_of: U8,
    up: F32,
    down: F32,
    symbols: U8,
    out: U8,
    threads: int = 0,
) -> None: ...
def affine(values: F32, scale: float, offset: float, lo: float, hi: float, out: F32, threads: int = 0) -> None: ...
def lookup(
    values: F32, table: F32, x0: float, inv_step: float, extrapolate: bool, out: F32, threads: int = 0
) -> None: ...
def lookup_plane(row: F32, column: F32, table: F32, columns: int, out: F32, threads: int = 0) -> None: ...
def nearest_points(first: F32, second: F32, x: F32, y: F32, offset: F32, out: U16, threads: int = 0) -> None: ...
def split_sign(values: F32, magnitude: F32, signs: U8, threads: int = 0) -> None: ...
def join_sign(magnitude: F32, signs: U8, out: F32, threads: int = 0) -> None: ...
def partition(values: F32, threshold: float, small: F32, large: F32, flags: U8) -> int: ...
def count_bits(bits: U8, n: int) -> int: ...
def merge(flags: U8, small: F32, large: F32, out: F32) -> None: ...
def best_window(
    sample: F32,
    low: float,
    high: float,
    count: float,
    clip: float,
    clip_cost: float,
    symmetric: bool,
    inverse_variance: F64,
    density: F64,
    step: float,
) -> tuple[float, float, float]: ...
def shape_masses(powers: F64, scales: F64, out: F64, rows: int) -> None: ...
def extremes(values: F32, threads: int = 0) -> tuple[float, float, bool]: ...
def differential(values: F32, positive: F32, negative: F32, threads: int = 0) -> None: ...
def secded_encode(words: U64, check: U8, threads: int = 0) -> None: ...
def secded_decode(words: U64, check: U8, status: U8, threads: int = 0) -> None: ...
def bch_check_bits(m: int, t: int) -> int: ...
def bch_encode(code: BchCode, data_bits: int, data: U8, check: U8, threads: int = 0) -> None: ...
def bch_decode(code: BchCode, data_bits: int, data: U8, check: U8, status: I32, threads: int = 0) -> None: ...
def bch_syndromes(code: BchCode, data_bits: int, data: U8, check: U8, out: U16, threads: int = 0) -> None: ...
def mix_encode(
    levels: I32, mask: U8, columns: int, taps: int, width: int, states: int, first: int = 0, state: int = 0
) -> tuple[bytes, int]: ...
def mix_decode(
    data: U8, levels: I32, mask: U8, columns: int, taps: int, width: int, states: int, first: int = 0, state: int = 0
) -> int: ...
def trellis_search(
    values: F32,
    states: int,
    inverse_step: float,
    limit: int,
    costs: F32,
    classes: U8,
    shifts: F32,
    levels: I32,
    threads: int = 0,
) -> None: ...
def trellis_count(levels: I32, states: int, limit: int, group: U8, groups: int, memory: U32, counts: U32) -> None: ...
def trellis_split(
    levels: I32,
    states: int,
    limit: int,
    group: U8,
    groups: int,
    memory: U32,
    counts: U32,
    symbols: I32,
    escapes: I32,
) -> int: ...
def trellis_join(
    symbols: I32,
    states: int,
    limit: int,
    group: U8,
    groups: int,
    memory: U32,
    counts: U32,
    escapes: I32,
    levels: I32,
) -> None: ...
def trellis_classes(points: F32, memory: U32, classes: U8, threads: int = 0) -> None: ...
def trellis_points(levels: I32, states: int, shifts: F32, out: F32, threads: int = 0, state: int = 0) -> None: ...
