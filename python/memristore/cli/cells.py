"""Commands on cells: store, info, read."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from memristore.cli import app
from memristore.cli.options import Data, Json, Seed, Stored
from memristore.cli.output import Output, ensure_folder
from memristore.errors import FileError, SpecError

if TYPE_CHECKING:
    from memristore.spec import StorageSpec
    from memristore.stored import StoredModel


def _write_kind(name: str) -> Any:
    from memristore.array import WRITES

    if name not in WRITES:
        raise SpecError(f"no way to write is called {name!r}; there are {', '.join(WRITES)}")
    return WRITES[name]


def _spec_from_words(words: dict[str, str | None]) -> StorageSpec:
    """Build a recipe from the options that were given; the others take their defaults."""
    from memristore.allocate import allocators
    from memristore.cli.words import part, parts
    from memristore.codes import bit_codes, codes
    from memristore.compress import compressors
    from memristore.mapping import Levels, mappers
    from memristore.protect import protections
    from memristore.reference_cells import ReferenceCells
    from memristore.spec import StorageSpec

    def compensation(text: str) -> Any:
        if text in ("auto", "none"):
            return None if text == "none" else text
        if not text.isdigit():
            raise SpecError(f"compensation is auto, none or a number of reference cells, not {text!r}")
        return ReferenceCells(count=int(text))

    def levels(text: str) -> Any:
        return None if text == "auto" else part(f"levels:{text}", lambda _: Levels)

    readers: dict[str, Any] = {
        "compress": lambda text: parts(text, compressors.__getitem__),
        "protect": lambda text: parts(text, protections.__getitem__),
        "code": lambda text: part(text, codes.__getitem__),
        "mapper": lambda text: part(text, mappers.__getitem__),
        "write": lambda text: part(text, _write_kind),
        "bits": lambda text: part(text, bit_codes.__getitem__),
        "levels": levels,
        "allocation": lambda text: part(text, allocators.__getitem__),
        "compensation": compensation,
    }
    given: dict[str, Any] = {name: text for name, text in words.items() if text is not None}
    given = {name: readers[name](text) if name in readers else text for name, text in given.items()}
    return StorageSpec(**given)


def summary(stored: StoredModel, path: Path) -> dict[str, Any]:
    """What every document about a stored network says first."""
    ledger = stored.ledger()
    return {
        "file": str(path),
        "seed": stored.seed,
        "spec": stored.spec.to_dict(),
        "weights": stored.weights,
        "cells": ledger.total,
        "cells_per_weight": stored.cells_per_weight,
        "cells_by_kind": ledger.by_kind(),
    }


@app.command()
def store(
    model: Annotated[
        str, typer.Argument(metavar="MODEL", help="Weights (.safetensors, .pt), or a task: cifar10, digits, mnist.")
    ],
    out: Annotated[Path, typer.Option("--out", "-o", metavar="FILE", help="Where to write the programmed cells.")],
    spec: Annotated[
        Path | None,
        typer.Option("--spec", metavar="FILE", help="A recipe as JSON, instead of the options below."),
    ] = None,
    device: Annotated[str | None, typer.Option(help="Device, or a device file (.toml).")] = None,
    compress: Annotated[str | None, typer.Option(help="For example prune:0.9,quantize:8")] = None,
    protect: Annotated[str | None, typer.Option(help="For example sparsity,sign,adaptive-range")] = None,
    code: Annotated[str | None, typer.Option(help="uncoded, repetition:3, residual:2")] = None,
    mapper: Annotated[str | None, typer.Option(help="linear, linear:clip=none, differential")] = None,
    decoder: Annotated[str | None, typer.Option(help="mmse or inverse")] = None,
    bits: Annotated[str | None, typer.Option(help="Code of bits: bch, ldpc, secded, densest, bch:t=11")] = None,
    levels: Annotated[str | None, typer.Option(help="Levels of cells that hold bits: auto, 2, 3, 4, 6, 8, 16")] = None,
    write: Annotated[str | None, typer.Option(help="one-shot, program-and-verify:max_pulses=20")] = None,
    allocation: Annotated[str | None, typer.Option(help="For example per-layer:2")] = None,
    compensation: Annotated[str | None, typer.Option(help="auto, none, or a number of cells")] = None,
    retention: Annotated[str | None, typer.Option(help="Age that codes are sized for: '10 years'")] = None,
    first_read: Annotated[str | None, typer.Option(help="Age of the first read that matters; default: the end")] = None,
    seed: Seed = 0,
    data: Data = None,
    json: Json = None,
) -> None:
    """Store a network in cells and write them to a file."""
    words = {
        "device": device,
        "compress": compress,
        "protect": protect,
        "code": code,
        "mapper": mapper,
        "decoder": decoder,
        "bits": bits,
        "levels": levels,
        "write": write,
        "allocation": allocation,
        "compensation": compensation,
        "retention": retention,
        "first_read": first_read,
    }
    recipe = _recipe(spec, words)
    ensure_folder(out)
    from memristore.evaluate.weights import find_weights
    from memristore.storage import store as store_model

    output = Output(json)
    stored = store_model(find_weights(model, data), recipe, seed=seed)
    stored.save(out)
    output.line(stored.info())
    output.line(f"wrote {out}")
    output.document("memristore.store", 1, summary(stored, out))


def _recipe(spec: Path | None, words: dict[str, str | None]) -> StorageSpec:
    """Take the recipe from its file or from the options, not from both."""
    if spec is None:
        return _spec_from_words(words)
    from memristore.cli.words import spec_dict
    from memristore.spec import StorageSpec

    if mixed := [f"--{name}" for name, text in words.items() if text is not None]:
        raise SpecError(f"--spec and {', '.join(mixed)} exclude each other; change the file instead")
    return StorageSpec.from_dict(spec_dict(spec))


@app.command()
def info(file: Stored, json: Json = None) -> None:
    """Say what a file of cells holds, which noise is active, and where the cells went."""
    from memristore.stored import StoredModel

    output = Output(json)
    stored = StoredModel.open(file)
    output.line(stored.info())
    output.line("")
    output.line(str(stored.ledger()))
    more = {"stages": stored.spec.stages(), "ledger": stored.ledger().to_dicts()}
    output.document("memristore.info", 1, summary(stored, file) | more)


@app.command()
def read(
    file: Stored,
    out: Annotated[
        Path, typer.Option("--out", "-o", metavar="FILE", help="Where to write the weights (.safetensors).")
    ],
    at: Annotated[str, typer.Option(help="Time since programming: seconds, '1 hour', '10 years'.")] = "0",
    event: Annotated[int, typer.Option(min=0, help="Which read: the same event gives the same noise.")] = 0,
    json: Json = None,
) -> None:
    """Read a network back from its cells, aged, and write its weights."""
    from memristore.evaluate.weights import write_weights
    from memristore.stored import StoredModel
    from memristore.units import format_time

    output = Output(json)
    if out.suffix != ".safetensors":
        raise FileError(f"{out}: weights are written as safetensors; let the name end in .safetensors")
    ensure_folder(out)
    stored = StoredModel.open(file)
    found = stored.read(at=at, event=event)
    write_weights(found.state_dict, out)
    report = found.report
    output.line(
        f"read {len(found.state_dict)} tensors after {format_time(report.at_seconds)}, event {event}: "
        f"{report.bits_raw_errors} wrong bits, {report.words_corrected} words corrected, {report.words_failed} lost"
    )
    if report.beyond_retention:
        output.line(f"that is beyond what the bits are sized for, {format_time(stored.spec.retention_seconds)}")
    output.line(f"wrote {out}")
    document = {
        "file": str(file),
        "out": str(out),
        "beyond_retention": report.beyond_retention,
        "at_seconds": report.at_seconds,
        "believed_seconds": report.believed_seconds,
        "event": event,
        "bits_raw_errors": report.bits_raw_errors,
        "words_corrected": report.words_corrected,
        "words_failed": report.words_failed,
        "tensors": sorted(found.state_dict),
    }
    output.document("memristore.read", 1, document)
