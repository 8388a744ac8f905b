"""The storage recipe: frozen, versioned, to and from a plain dict."""

from __future__ import annotations

import dataclasses
import fnmatch
from dataclasses import dataclass
from typing import Any, Final

from memristore import devices
from memristore.allocate import Allocator, allocators
from memristore.array import WRITES, OneShot, Write
from memristore.codes import AnalogCode, Bch, BitCode, Uncoded, bit_codes, codes
from memristore.compress import compressors
from memristore.config import check_number
from memristore.devices import Device, device_from_dict
from memristore.errors import DeviceError, SpecError
from memristore.mapping import LevelDesign, Levels, Linear, Mapper, mappers
from memristore.protect import protections
from memristore.reference_cells import ReferenceCells
from memristore.sizing import BLOCK_ERROR, BitFormat, describe_code, sized_for
from memristore.transform import Compressor, Protection
from memristore.units import Time, format_time, parse_time

SCHEMA: Final = "memristore.spec"
VERSION: Final = 1
DECODERS: Final = ("mmse", "inverse")
#: Ages that stand for all from the first read to the last.
_AGES: Final = 5


@dataclass(frozen=True, kw_only=True)
class StorageSpec:
    """How a network is stored.

    Parameters
    ----------
    device : Device or str
        A device, its name, or the path of a device file.
    compress : tuple of Compressor
        Source coding, in order.
    protect : tuple of Protection
        Moves what matters into the right stream, in order.
    code : AnalogCode
        Redundancy of analog streams.
    mapper : Mapper
        Symbols to targets of cells.
    decoder : {"mmse", "inverse"}
        Posterior mean of each value, or the inverse of the mean response.
    bits : BitCode
        Code of bit streams. What is left open (``Bch()`` has no ``t``) is settled so that bits take the fewest cells.
    levels : Levels, optional
        Levels of the cells that hold bits; by default as many as hold the most net bits per cell.
    block_error : float
        Largest probability that a block of bits comes back wrong, per read at the end of the retention time.
    write : Write
        One-shot or program-and-verify.
    compensation : ReferenceCells, None or "auto"
        ``"auto"``: reference cells where the device drifts.
    allocation : Allocator, optional
        Planes for each tensor; needs a code with planes.
    retention : float or str
        Age for which windows, thresholds and the bit code are sized.
    first_read : float or str, optional
        Age of the first read that matters, where reads before the end count too: windows, curves, thresholds and the
        layout of planes are then chosen for the least error from then until the end of the retention time, on average
        over its logarithm (of times, and of errors). Bits stay sized for the worst.
    exact : tuple of str
        Patterns (``fnmatch``) of tensors to keep as exact bits although they could be analog.

    Raises
    ------
    SpecError
        If a part is of the wrong kind or parts do not go together.

    Examples
    --------
    >>> from memristore import AdaptiveRange, Residual, Sign, StorageSpec
    >>> spec = StorageSpec(device="pcm-ibm-90nm", protect=(Sign(), AdaptiveRange()), code=Residual(planes=2))
    >>> StorageSpec.from_dict(spec.to_dict()) == spec
    True
    """

    device: Device | str = "pcm-ibm-90nm"
    compress: tuple[Compressor, ...] = ()
    protect: tuple[Protection, ...] = ()
    code: AnalogCode = dataclasses.field(default_factory=Uncoded)
    mapper: Mapper = dataclasses.field(default_factory=Linear)
    decoder: str = "mmse"
    bits: BitCode = dataclasses.field(default_factory=Bch)
    levels: Levels | None = None
    block_error: float = BLOCK_ERROR
    write: Write = dataclasses.field(default_factory=OneShot)
    compensation: ReferenceCells | str | None = "auto"
    allocation: Allocator | None = None
    retention: Time = "10 years"
    first_read: Time | None = None
    exact: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if isinstance(self.device, str):
            object.__setattr__(self, "device", devices.get(self.device))
        kinds: tuple[tuple[str, type], ...] = (
            ("device", Device),
            ("code", AnalogCode),
            ("mapper", Mapper),
            ("bits", BitCode),
            ("write", Write),
        )
        for field, kind in kinds:
            if not isinstance(getattr(self, field), kind):
                raise SpecError(f"spec: {field} must be a {kind.__name__}, not {getattr(self, field)!r}")
        for field, kind in (("compress", Compressor), ("protect", Protection), ("exact", str)):
            value = getattr(self, field)
            if isinstance(value, list):
                value = tuple(value)
                object.__setattr__(self, field, value)
            if not isinstance(value, tuple) or not all(isinstance(v, kind) for v in value):
                raise SpecError(f"spec: {field} must be a tuple of {kind.__name__}, not {value!r}")
        if self.levels is not None and not isinstance(self.levels, Levels):
            raise SpecError(f"spec: levels must be Levels or None, not {self.levels!r}")
        check_number("spec", "block_error", self.block_error, 0, 1)
        if self.decoder not in DECODERS:
            raise SpecError(f"spec: decoder must be one of {', '.join(DECODERS)}, not {self.decoder!r}")
        if self.compensation not in ("auto", None) and not isinstance(self.compensation, ReferenceCells):
            raise SpecError(f"spec: compensation must be ReferenceCells, None or 'auto', not {self.compensation!r}")
        if self.allocation is not None:
            if not isinstance(self.allocation, Allocator):
                raise SpecError(f"spec: allocation must be an Allocator or None, not {self.allocation!r}")
            self.code.with_planes(1)
        if self.first_read is not None and parse_time(self.first_read) > parse_time(self.retention):
            raise SpecError(
                f"spec: the first read ({self.first_read}) is later than the retention time, {self.retention}"
            )
        parse_time(self.retention)
        # Fails early where a device lacks what the write needs.
        self.write.describe(self.cell)

    @property
    def cell(self) -> Device:
        """The device as an object."""
        if isinstance(self.device, str):
            raise SpecError("spec: the device was not resolved")
        return self.device

    @property
    def references(self) -> ReferenceCells | None:
        """Reference cells in force, after ``"auto"``."""
        if isinstance(self.compensation, ReferenceCells):
            return self.compensation
        return ReferenceCells() if self.compensation == "auto" and self.cell.drifts else None

    @property
    def retention_seconds(self) -> float:
        """Retention time, seconds."""
        return parse_time(self.retention)

    @property
    def judged_at(self) -> tuple[float, ...]:
        """Ages at which windows and thresholds are judged, seconds: the end, or several from the first read on."""
        if self.first_read is None:
            return (self.retention_seconds,)
        t0, ends = self.cell.drift_t0, (parse_time(self.first_read), self.retention_seconds)
        # Evenly spaced on the scale on which cells age.
        start, stop = (self.cell.log2_age(at) for at in ends)
        between = [start + (stop - start) * k / (_AGES - 1) for k in range(1, _AGES - 1)]
        return (ends[0], *(t0 * (2.0**octave - 1.0) for octave in between), ends[1])

    def bit_format(self, payload_bits: int | None = None, code: BitCode | None = None) -> BitFormat:
        """Return levels and code for the bit streams, `payload_bits` of them if that is known; by default in `bits`."""
        return sized_for(
            self.bits if code is None else code,
            self.cell,
            self.retention,
            block_error=self.block_error,
            levels=self.levels,
            write=self.write,
            payload_bits=payload_bits,
        )

    def level_design(self, found: BitFormat) -> LevelDesign:
        """Return the cells' levels of a format, on this recipe's device."""
        return found.levels.design(self.cell, self.write, self.retention_seconds, found.copies)

    def is_exact(self, tensor: str) -> bool:
        """Whether a tensor is to be kept as exact bits by name."""
        return any(fnmatch.fnmatchcase(tensor, pattern) for pattern in self.exact)

    def to_dict(self, *, full_device: bool = False) -> dict[str, Any]:
        """Return a plain dict; built-in devices by name unless `full_device`, others in full."""
        device: str | dict[str, Any] = self.cell.to_dict()
        try:
            if not full_device and devices.get(self.cell.name) == self.cell:
                device = self.cell.name
        except DeviceError:
            pass
        references = self.compensation.to_dict() if isinstance(self.compensation, ReferenceCells) else self.compensation
        return {
            "schema": SCHEMA,
            "version": VERSION,
            "device": device,
            "compress": [c.to_dict() for c in self.compress],
            "protect": [p.to_dict() for p in self.protect],
            "code": self.code.to_dict(),
            "mapper": self.mapper.to_dict(),
            "decoder": self.decoder,
            "bits": self.bits.to_dict(),
            "levels": None if self.levels is None else self.levels.to_dict(),
            "block_error": self.block_error,
            "write": self.write.to_dict(),
            "compensation": references,
            "allocation": None if self.allocation is None else self.allocation.to_dict(),
            "retention": self.retention,
            "first_read": self.first_read,
            "exact": list(self.exact),
        }

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> StorageSpec:
        """Build from :meth:`to_dict`'s form; missing parts take their defaults, unknown keys raise `SpecError`."""
        if not isinstance(data, dict):
            raise SpecError(f"a spec is a dict, not {data!r}")
        given = dict(data)
        if given.pop("schema", SCHEMA) != SCHEMA or given.pop("version", VERSION) != VERSION:
            raise SpecError(f"not a spec that this release reads (schema {SCHEMA!r}, version {VERSION})")
        known = {f.name for f in dataclasses.fields(cls)}
        if unknown := sorted(set(given) - known):
            raise SpecError(f"spec: unknown key {', '.join(map(repr, unknown))}; keys are {', '.join(sorted(known))}")
        if isinstance(given.get("device"), dict):
            given["device"] = device_from_dict(given["device"], "spec: device")
        readers: dict[str, Any] = {
            "compress": lambda v: tuple(compressors.from_dict(c) for c in v),
            "protect": lambda v: tuple(protections.from_dict(p) for p in v),
            "code": codes.from_dict,
            "mapper": mappers.from_dict,
            "bits": bit_codes.from_dict,
            "levels": lambda v: None if v is None else Levels.from_dict(v),
            "write": _write_from_dict,
            "compensation": lambda v: ReferenceCells.from_dict(v) if isinstance(v, dict) else v,
            "allocation": lambda v: None if v is None else allocators.from_dict(v),
            "exact": tuple,
        }
        return cls(**{k: readers[k](v) if k in readers else v for k, v in given.items()})

    def stages(self) -> dict[str, str]:
        """Which stages are active, in words, so that nobody wonders which noise was on."""
        parts = {
            "device": f"{self.cell.name} ({self.cell.mark})",
            "compress": ", ".join(c.name for c in self.compress) or "none",
            "protect": ", ".join(p.name for p in self.protect) or "none",
            "code": _brief(self.code),
            "mapper": _brief(self.mapper),
            "allocation": "uniform" if self.allocation is None else _brief(self.allocation),
            "write": self.write.describe(self.cell),
        }
        parts |= {k: v for k, v in self.cell.stages().items() if k != "write noise"}
        references = self.references
        parts["compensation"] = "none" if references is None else f"{references.count} reference cells"
        parts["decoder"] = self.decoder
        levels = "levels as sized" if self.levels is None else f"{self.levels.count}-level cells"
        parts["bits"] = f"{describe_code(self.bits)}, {levels}, block error {self.block_error:g}"
        since = "" if self.first_read is None else f"reads from {format_time(parse_time(self.first_read))} to "
        parts["sized for"] = since + format_time(self.retention_seconds)
        return parts

    def __repr__(self) -> str:
        lines = [f"  {name}: {text}" for name, text in self.stages().items()]
        return "StorageSpec(\n" + "\n".join(lines) + "\n)"


def _brief(part: Any) -> str:
    fields = ", ".join(f"{f.name}={getattr(part, f.name)}" for f in dataclasses.fields(part) if f.repr)
    return f"{part.name}({fields})" if fields else str(part.name)


def _write_from_dict(data: dict[str, Any]) -> Write:
    kind = data.get("type") if isinstance(data, dict) else None
    if kind not in WRITES:
        raise SpecError(f"no write is called {kind!r}; there are {', '.join(WRITES)}")
    return WRITES[kind].from_dict(data)
