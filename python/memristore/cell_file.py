"""One file for a stored model: safetensors, with a versioned JSON header and a checksum of all.

Layout (version 3). The metadata entry ``memristore`` is a JSON document: ``schema`` "memristore.cells", ``version``,
``library`` (release that wrote it), ``sha256`` (of the rest of the header and of all arrays, by name), ``spec``,
``seed``, ``entries`` (the tensors), ``streams`` (address, size, code, pulses and failures of each analog stream),
``references``, ``bits`` and ``in_place`` (regions of the bit streams, levels and code). Arrays: ``references/0``,
``bits/i`` and ``in_place/i`` (uint8: coded words of the format's group number i, one to a row), and for stream number i
and plane p ``states/i/p`` (float32, or uint16 on the grid of `memristore.devices.grid.state_grid`) and,
where kept, ``targets/i/p``, ``pulses/i/p``, ``failed/i/p``.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import tempfile
from importlib import metadata
from operator import index
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from memristore.bit_cells import FIRST_CELL, FIRST_IN_PLACE, BitCells, Region
from memristore.codes import codes
from memristore.errors import FileError, MemristoreError
from memristore.ledger import planes_stream
from memristore.planes import CellBlock
from memristore.sizing import BitFormat
from memristore.spec import StorageSpec
from memristore.stored import REFERENCE_START, StoredModel, StreamCells
from memristore.torch_io import Entry, base_of, check_entries

SCHEMA: Final = "memristore.cells"
VERSION: Final = 3
_KEY: Final = "memristore"
_BITS: Final = {"bits": FIRST_CELL, "in_place": FIRST_IN_PLACE}
_STATES: Final = {2: np.uint16, 4: np.float32}
#: What a header raises whose checksum is right and whose contents are not.
_UNFIT: Final = (
    LookupError, TypeError, ValueError, ArithmeticError, AttributeError, RecursionError, MemristoreError,
)  # fmt: skip
_TRACE: Final = {"targets": np.float32, "pulses": np.uint16, "failed": np.uint8}

Arrays = dict[str, npt.NDArray[Any]]


def save(model: StoredModel, path: str | os.PathLike[str]) -> None:
    """Write a stored model; the file appears whole or not at all.

    Raises
    ------
    FileError
        If the file cannot be written.
    """
    arrays: Arrays = {}
    for what in _BITS:
        for i, area in enumerate(getattr(model, what).areas):
            arrays[f"{what}/{i}"] = area.rows
    for p, state in enumerate(model.references.states):
        arrays[f"references/{p}"] = state
    for i, stream in enumerate(model.streams.values()):
        for p, state in enumerate(stream.block.states):
            arrays[f"states/{i}/{p}"] = state
        for what in _TRACE:
            for p, kept in enumerate(getattr(stream.block, what)):
                arrays[f"{what}/{i}/{p}"] = kept
    header = _header(model)
    header["sha256"] = _checksum(header, arrays)
    target = Path(path)
    try:
        handle, name = tempfile.mkstemp(dir=target.parent, prefix=target.name, suffix=".part")
        os.close(handle)
        try:
            save_file(arrays, name, metadata={_KEY: json.dumps(header)})
            mask = os.umask(0)
            os.umask(mask)
            os.chmod(name, 0o666 & ~mask)  # mkstemp makes files that only their owner reads
            os.replace(name, target)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise
    except OSError as error:
        raise FileError(f"cannot write {target}: {error}") from None


def _header(model: StoredModel) -> dict[str, Any]:
    return {
        "schema": SCHEMA,
        "version": VERSION,
        "library": metadata.version("memristore"),
        # In full: the states are worth what the numbers were that they were programmed with.
        "spec": model.spec.to_dict(full_device=True),
        "seed": model.seed,
        "entries": [dataclasses.asdict(e) for e in model.entries],
        "streams": {
            name: {
                "first": s.block.first,
                "n": s.block.n,
                "values": s.block.values,
                "planes": len(s.block.states),
                "cell_bytes": s.block.states[0].itemsize if s.block.states else 4,
                "code": s.code.to_dict(),
                "pulses": s.pulses_total,
                "failed": s.failed_total,
                "trace": [what for what in _TRACE if getattr(s.block, what)],
            }
            for name, s in model.streams.items()
        },
        "references": {
            "first": model.references.first,
            "n": model.references.n,
            "planes": len(model.references.states),
        },
        **{
            what: {
                "regions": [dataclasses.asdict(r) for r in getattr(model, what).regions.values()],
                "format": getattr(model, what).format.to_dict(),
            }
            for what in _BITS
        },
    }


def _checksum(header: dict[str, Any], arrays: Arrays) -> str:
    digest = hashlib.sha256(json.dumps({k: v for k, v in header.items() if k != "sha256"}, sort_keys=True).encode())
    for name in sorted(arrays):
        array = np.ascontiguousarray(arrays[name])
        digest.update(f"{name}:{array.dtype.str}:{array.shape}".encode())
        digest.update(array.view(np.uint8).data)
    return digest.hexdigest()


def load(path: str | os.PathLike[str]) -> StoredModel:
    """Read a stored model.

    Raises
    ------
    FileError
        If the file is missing, damaged, truncated, of another kind, or of a version that this release does not read.
    """
    where = Path(path)
    if not where.is_file():
        raise FileError(f"{where}: no such file")
    try:
        with safe_open(str(where), framework="numpy") as file:
            text = (file.metadata() or {}).get(_KEY)
            if text is None:
                raise FileError(
                    f"{where}: a safetensors file, but not one of stored cells; use memristore.store to make one"
                )
            arrays: Arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, ValueError, TypeError) as error:
        if isinstance(error, FileError):
            raise
        raise FileError(f"{where}: not a safetensors file, or damaged or truncated: {error}") from None
    try:
        header = json.loads(text)
    except json.JSONDecodeError as error:
        raise FileError(f"{where}: the header is damaged at character {error.pos}: {error.msg}") from None
    except RecursionError:
        raise FileError(f"{where}: the header is damaged: it is nested too deeply") from None
    if not isinstance(header, dict) or header.get("schema") != SCHEMA:
        raise FileError(f"{where}: the header is not that of stored cells")
    if (version := header.get("version")) != VERSION:
        other = "an older" if isinstance(version, int) and version < VERSION else "a newer"
        raise FileError(f"{where}: format version {version!r}; this release reads {VERSION}; use {other} memristore")
    if header.get("sha256") != _checksum(header, arrays):
        raise FileError(f"{where}: header or cells do not match their checksum; the file is damaged")
    try:
        return _rebuild(header, arrays)
    except _UNFIT as error:
        raise FileError(
            f"{where}: the header and the cells do not fit together ({type(error).__name__}: {error})"
        ) from None


def _rebuild(header: dict[str, Any], arrays: Arrays) -> StoredModel:
    spec = StorageSpec.from_dict(header["spec"])
    entries = [Entry(**{**e, "shape": tuple(int(n) for n in e["shape"])}) for e in header["entries"]]
    streams: dict[str, StreamCells] = {}
    for i, (name, s) in enumerate(header["streams"].items()):
        states = _planes(arrays, f"states/{i}", s, _STATES[s["cell_bytes"]])
        block = CellBlock(int(s["first"]), int(s["n"]), states, values=int(s.get("values", s["n"])))
        for what in s["trace"]:
            getattr(block, what).extend(_planes(arrays, f"{what}/{i}", s, _TRACE[what]))
        streams[name] = StreamCells(block, codes.from_dict(s["code"]), int(s["pulses"]), int(s["failed"]))
    r = header["references"]
    references = CellBlock(int(r["first"]), int(r["n"]), _planes(arrays, "references", r, np.float32))
    bits = {what: _bits(header[what], arrays, what, spec) for what in _BITS}
    model = StoredModel(spec, int(header["seed"]), entries, references, streams, **bits)
    _check_names(model)
    return model


def _check_names(model: StoredModel) -> None:
    """Raise `ValueError` unless each tensor has streams, and streams their planes and references.

    Which parts of a tensor the recipe needs is seen when it is read.
    """
    regions = {*model.bits.regions, *model.in_place.regions}
    check_entries(model.entries, {base_of(name) for name in (*model.streams, *regions)})
    needed = [planes_stream(name) for name in model.streams]
    if model.references.states:
        needed.append(REFERENCE_START)
    if lacking := [name for name in needed if name not in regions]:
        raise ValueError(f"bit stream {lacking[0]!r} is missing")


def _bits(header: dict[str, Any], arrays: Arrays, what: str, spec: StorageSpec) -> BitCells:
    regions = {
        r["name"]: Region(**{**r, "byte": index(r["byte"]), "length": index(r["length"])}) for r in header["regions"]
    }
    found = BitFormat.from_dict(header["format"])
    layout = found.layout(8 * sum(region.bytes for region in regions.values()))
    words = [arrays[f"{what}/{i}"] for i in range(len(layout))]
    bits = BitCells(regions, words, found, spec.level_design, _BITS[what])
    if any(region.byte + region.bytes > bits.data_bytes or region.byte < 0 for region in regions.values()):
        raise ValueError("a bit stream lies beyond the coded words")
    return bits


def _planes(arrays: Arrays, prefix: str, block: dict[str, Any], dtype: Any) -> list[npt.NDArray[Any]]:
    found = [arrays[f"{prefix}/{p}"] for p in range(int(block["planes"]))]
    for plane in found:
        if plane.dtype != dtype or plane.shape != (int(block["n"]),):
            raise ValueError(
                f"{prefix}: expected {block['n']} cells of {np.dtype(dtype)}, found {plane.shape} of {plane.dtype}"
            )
    return found
