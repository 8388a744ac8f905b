"""Commands on devices: list them, and make one of measurements."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from memristore.cli import app
from memristore.cli.options import Json
from memristore.cli.output import Output, ensure_folder, ensure_picture
from memristore.errors import DataError

if TYPE_CHECKING:
    from memristore.devices import Device


@app.command("devices")
def list_devices(
    name: Annotated[str | None, typer.Argument(help="One device, in detail; default: all.")] = None,
    json: Json = None,
) -> None:
    """List the devices: what noise they have and how far their numbers can be trusted."""
    from rich.table import Table

    from memristore import devices

    output = Output(json)
    found = [devices.get(key) for key in ([name] if name else devices.names())]
    if not found:
        raise DataError("no devices are installed; install memristore again")
    rows = [_row(device) for device in found]
    table = Table()
    for heading in ("device", "states", "active", "data until", "numbers", "source"):
        table.add_column(heading, no_wrap=heading == "device", overflow="fold")
    for row in rows:
        active = [stage for stage, text in row["stages"].items() if text != "none"]
        states = f"{row['domain']}, {row['unit']}"
        # A variant has the source of its device, which stands above it.
        source = row["citation"] if "/" not in row["name"] else ""
        table.add_row(row["name"], states, ", ".join(active) or "no noise", row["data_until"], row["mark"], source)
    if name:
        _describe(rows[0], output)
    else:
        output.show(table)
    output.document("memristore.devices", 1, {"devices": rows})


def _row(device: Device) -> dict[str, Any]:
    """Everything that is told of one device."""
    from memristore.units import format_time

    until = "no data on time"
    if device.time_data:
        until = "law" if device.data_until is None else format_time(device.data_until)
    return {
        "name": device.name,
        "title": device.title,
        "technology": device.technology,
        "domain": device.domain,
        "unit": device.unit,
        "stages": device.stages(),
        "data_until": until,
        "devices_per_cell": device.devices_per_cell,
        "temperature": "activation energies recalled, unverified" if device.activation else "none",
        "facts": {fact.what: str(fact) for fact in device.facts},
        "mark": device.mark,
        "citation": device.citation,
        "notes": device.notes,
    }


def _describe(row: dict[str, Any], output: Output) -> None:
    """Print one device, a line for each thing known about it."""
    lines = {"states": f"{row['domain']}, {row['unit']}", **row["stages"], "data until": row["data_until"]}
    if row["devices_per_cell"] > 1:
        lines["devices per cell"] = str(row["devices_per_cell"])
    lines |= {"temperature": row["temperature"], "numbers": f"{row['mark']}: {row['citation']}"}
    lines |= {what.replace("_", " "): text for what, text in row["facts"].items()}
    width = max(map(len, lines))
    output.line(f"{row['name']}: {row['title']}")
    for what, text in lines.items():
        output.line(f"{what.ljust(width)}  {text}")
    if row["notes"]:
        output.line(row["notes"])


@app.command("measure")
def measure(
    table: Annotated[Path, typer.Argument(help="CSV: write parameter, read value[, cell][, time], with a heading.")],
    out: Annotated[
        Path | None, typer.Option("--out", metavar="FILE", help="Write the device file (.toml), for --device.")
    ] = None,
    plot: Annotated[
        Path | None, typer.Option("--plot", metavar="FILE", help="Write a picture of the fit (.png, .pdf, .svg).")
    ] = None,
    name: Annotated[str | None, typer.Option(help="Name of the device; default: the table's.")] = None,
    technology: Annotated[str, typer.Option(help="PCM, RRAM, ...")] = "unknown",
    write: Annotated[str | None, typer.Option(help="Column of the write parameter; default: the first.")] = None,
    read: Annotated[str | None, typer.Option(help="Column of the read value; default: the next.")] = None,
    cell: Annotated[str | None, typer.Option(help="Column that names the cell; default: 'cell' or 'device'.")] = None,
    time: Annotated[str | None, typer.Option(help="Column of seconds since the write; default: 'time'.")] = None,
    domain: Annotated[
        str | None, typer.Option(help="conductance or log-resistance; default: by the column's unit.")
    ] = None,
    json: Json = None,
) -> None:
    """Make a device of measurements: means, spreads of writes and cells, drift, monotone branch."""
    from memristore.devices.measurements import fit_measurements
    from memristore.limits import capacity

    output = Output(json)
    if out is not None:
        ensure_folder(out)
    ensure_picture(plot)
    fit = fit_measurements(
        table, name=name, technology=technology, write=write, read=read, cell=cell, time=time, domain=domain
    )
    bits = capacity(fit.device, 0.0).bits
    found = fit.to_dict()
    output.line(f"{fit.device.name}: {len(found['levels'])} levels, {fit.device.samples} reads and more at each")
    output.line(f"capacity over all levels: {bits:.2f} bits per cell, just written")
    output.line(f"monotone from {found['branch'][0]:g} to {found['branch'][1]:g}: what linear maps use")
    for note in fit.notes:
        output.line(note)
    if out is not None:
        fit.device.save(str(out))
        output.line(f"wrote {out}")
    if plot is not None:
        from memristore.evaluate.device_plots import measured
        from memristore.evaluate.plots import save

        save(measured(fit), plot)
        output.line(f"wrote {plot}")
    output.document(
        "memristore.measure", 1, {**found, "capacity_bits": bits, "file": None if out is None else str(out)}
    )
