"""What a sweep is: networks, recipes, devices, read times and seeds, from Python or from one TOML file."""

from __future__ import annotations

import dataclasses
import json
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from memristore.devices import Device
from memristore.errors import FileError, SpecError
from memristore.evaluate.schemes import BEST, digital_schemes
from memristore.spec import StorageSpec
from memristore.sweep.tables import device_of, digest, known, listed, placed, recipes_of, table_of
from memristore.units import Time, parse_time

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

SCHEMA: Final = "memristore.sweep"
VERSION: Final = 1
#: What a recipe is to the report: something to try, a digital number format, or the digital rival of an analog recipe.
RECIPE, BASELINE, RIVAL = "recipe", "baseline", "rival"


@dataclass(frozen=True, kw_only=True)
class SweepModel:
    """A network of a sweep, named so that any process on any machine can make it.

    Parameters
    ----------
    task : str, optional
        A task of the library (`memristore.evaluate.tasks`): its trained network, its test images, its accuracy.
    data : str, optional
        Folder of the task's data. It does not decide results, so it may differ from run to run.
    weights : str, optional
        File of weights. With a task they replace those of its network; alone they are judged by their
        signal-to-distortion ratio.
    images : int, optional
        Judge by the first so many test images only.
    factory : str, optional
        ``"module:function"`` that returns ``(network, metric)``, for networks of your own; must be importable wherever
        the sweep runs.
    arguments : dict
        Keyword arguments of the factory: plain values.

    Raises
    ------
    SpecError
        If it is not said what the network is, or said twice.
    """

    task: str | None = None
    data: str | None = None
    weights: str | None = None
    images: int | None = None
    factory: str | None = None
    arguments: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("task", "data", "weights", "factory"):
            value = getattr(self, name)
            if isinstance(value, os.PathLike):
                object.__setattr__(self, name, os.fspath(value))
            elif value is not None and not isinstance(value, str):
                raise SpecError(f"sweep model: {name} must be text, not {value!r}")
        if self.factory is None and self.task is None and self.weights is None:
            raise SpecError("sweep model: give a task, a file of weights or a factory")
        if self.factory is not None and (self.task is not None or self.weights is not None):
            raise SpecError("sweep model: a factory makes the whole network; leave out task and weights")
        if self.factory is not None and self.factory.count(":") != 1:
            raise SpecError(f"sweep model: a factory is written 'module:function', not {self.factory!r}")
        if self.images is not None and (isinstance(self.images, bool) or not isinstance(self.images, int)):
            raise SpecError(f"sweep model: images must be an integer, not {self.images!r}")
        if self.images is not None and (self.images < 1 or self.task is None):
            raise SpecError("sweep model: images must be at least 1, and needs a task")
        if not isinstance(self.arguments, Mapping):
            raise SpecError(f"sweep model: arguments must be a table, not {self.arguments!r}")

    def to_dict(self) -> dict[str, Any]:
        """Plain values; what was not given is left out."""
        found = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        return {name: value for name, value in found.items() if value not in (None, {})}

    @classmethod
    def from_dict(cls, data: object, where: str = "sweep model") -> SweepModel:
        """Build from :meth:`to_dict`'s form; an unknown key raises `SpecError`."""
        return cls(**known(data, {f.name for f in dataclasses.fields(cls)}, where))

    def identity(self) -> dict[str, Any]:
        """What decides results: not where files lie. That a file holds the same weights is checked as results come."""
        found = {name: value for name, value in self.to_dict().items() if name != "data"}
        return found if self.weights is None else found | {"weights": Path(self.weights).name}


@dataclass(frozen=True, kw_only=True)
class SweepRecipe:
    """One network, stored in one way on one device: what the seeds and times of a sweep repeat.

    Parameters
    ----------
    model, scheme : str
        Names of network and recipe.
    source : SweepModel
        The network.
    spec : StorageSpec
        The recipe on its device. For a rival: the analog recipe whose distortion it is to match.
    kind : {"recipe", "baseline", "rival"}
    """

    model: str
    scheme: str
    source: SweepModel
    spec: StorageSpec
    kind: str = RECIPE

    @property
    def device(self) -> str:
        """Name of the device."""
        return self.spec.cell.name

    @property
    def key(self) -> str:
        """SHA-256 of everything that decides its results, as 32 hexadecimal digits; names are not in it."""
        return digest({"model": self.source.identity(), "spec": self.spec.to_dict(full_device=True), "kind": self.kind})


@dataclass(frozen=True, kw_only=True)
class Sweep:
    """Networks x recipes x devices x times x seeds.

    Parameters
    ----------
    models : mapping of str to SweepModel
        Networks, by name.
    specs : mapping of str to StorageSpec
        Recipes, by name.
    devices : sequence of Device or str
        Each recipe is tried on each of them. Empty: on the device that it names itself.
    times : sequence of times
        Read times.
    seeds : int or sequence of int
        Names of the arrays; a number n stands for 0 ... n - 1.
    baselines : sequence of str
        What recipes are measured against, per network and device, each in its densest form: ``"fp32"``, ``"fp16"``,
        ``"bf16"``, ``"int8"``, ``"int4"``, ``"int8 zero-space"``, and ``"digital-best"``, which gives each recipe the
        strongest digital rival of its own distortion.
    retention : time
        Age that baselines are sized for, and recipes from a file that do not say.
    name : str
        Heading.

    Raises
    ------
    SpecError
        If something is missing or of the wrong kind.

    Examples
    --------
    >>> from memristore import Sign, StorageSpec, Sweep, SweepModel
    >>> sweep = Sweep(
    ...     models={"digits": SweepModel(task="digits")},
    ...     specs={"sign": StorageSpec(protect=(Sign(),))},
    ...     devices=["pcm-ibm-90nm"],
    ...     times=["1 day", "1 year"],
    ...     seeds=10,
    ... )
    >>> len(sweep)
    60
    """

    models: Mapping[str, SweepModel]
    specs: Mapping[str, StorageSpec]
    times: Sequence[Time]
    devices: Sequence[Device | str] = ()
    seeds: int | Sequence[int] = 10
    baselines: Sequence[str] = ("fp32", "int8")
    retention: Time = "10 years"
    name: str = "sweep"

    def __post_init__(self) -> None:
        for label, kind in (("models", SweepModel), ("specs", StorageSpec)):
            given = getattr(self, label)
            if not isinstance(given, Mapping) or not given:
                raise SpecError(f"sweep: {label} must be a table of at least one, not {given!r}")
            for name, value in given.items():
                if not isinstance(name, str) or not name or not isinstance(value, kind):
                    raise SpecError(f"sweep: {label} {name!r} must be a {kind.__name__}, not {value!r}")
            object.__setattr__(self, label, dict(given))
        for label in ("times", "devices", "baselines"):
            given = getattr(self, label)
            if isinstance(given, (str, int, float, Device)):
                given = (given,)
            if not isinstance(given, Sequence):
                raise SpecError(f"sweep: {label} must be a list, not {given!r}")
            object.__setattr__(self, label, tuple(dict.fromkeys(given)))
        if not self.times:
            raise SpecError("sweep: give at least one read time, for example times = ['1 day', '1 year']")
        object.__setattr__(self, "seeds", _seeds(self.seeds))
        if not isinstance(self.name, str):
            raise SpecError(f"sweep: name must be text, not {self.name!r}")
        parse_time(self.retention)
        digital_schemes("ideal", self.retention, [name for name in self.baselines if name != BEST])
        seen: dict[str, str] = {}
        for recipe in self.recipes():
            label = f"{recipe.scheme!r} of {recipe.model!r} on {recipe.device!r}"
            if recipe.key in seen:
                raise SpecError(f"sweep: {label} and {seen[recipe.key]} are the same; leave one out")
            seen[recipe.key] = label

    @property
    def seconds(self) -> tuple[float, ...]:
        """Read times, seconds, each once, ascending."""
        return tuple(sorted({parse_time(time) for time in self.times}))

    @property
    def arrays(self) -> tuple[int, ...]:
        """Seeds, each once, in the order given."""
        return _seeds(self.seeds)

    def __len__(self) -> int:
        return sum(1 for _ in self.recipes()) * len(self.arrays) * len(self.seconds)

    def recipes(self) -> Iterator[SweepRecipe]:
        """Every network in every way on every device, baselines after what they are measured against."""
        for model, source in self.models.items():
            for device in self.devices or (None,):
                found = [
                    SweepRecipe(model=model, scheme=name, source=source, spec=_on(spec, device))
                    for name, spec in self.specs.items()
                ]
                yield from found
                for cell in {recipe.device: recipe.spec.cell for recipe in found}.values():
                    yield from self._formats(model, source, cell)
                if BEST in self.baselines:
                    for recipe in found:
                        name = f"{BEST} for {recipe.scheme}"
                        yield dataclasses.replace(recipe, scheme=name, kind=RIVAL)

    def _formats(self, model: str, source: SweepModel, device: Device) -> Iterator[SweepRecipe]:
        """Digital number formats in their densest form: as many levels as hold the most."""
        for name in self.baselines:
            if name != BEST:
                (scheme,) = digital_schemes(device, self.retention, [name], [2])
                spec = dataclasses.replace(scheme.spec, levels=None)
                yield SweepRecipe(model=model, scheme=name, source=source, spec=spec, kind=BASELINE)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, devices that are not built in spelled out."""
        return {
            "schema": SCHEMA,
            "version": VERSION,
            "name": self.name,
            "models": {name: model.to_dict() for name, model in self.models.items()},
            "specs": {name: spec.to_dict() for name, spec in self.specs.items()},
            "devices": [d.to_dict() if isinstance(d, Device) else d for d in self.devices],
            "times": list(self.times),
            "seeds": list(self.arrays),
            "baselines": list(self.baselines),
            "retention": self.retention,
        }

    @classmethod
    def from_dict(cls, data: object, folder: str | os.PathLike[str] | None = None) -> Sweep:
        """Build from :meth:`to_dict`'s form, or from what a TOML file holds (see docs/sweeps.md).

        Parameters
        ----------
        data : dict
        folder : path, optional
            Where paths of files start.

        Raises
        ------
        SpecError
            If something is missing, unknown or of the wrong kind.
        FileError
            If a recipe's own file cannot be read.
        """
        given = known(data, {f.name for f in dataclasses.fields(cls)} | {"schema", "version"}, "sweep")
        if given.pop("schema", SCHEMA) != SCHEMA or given.pop("version", VERSION) != VERSION:
            raise SpecError(f"not a sweep that this release reads (schema {SCHEMA!r}, version {VERSION})")
        for name in ("models", "specs", "times"):
            if name not in given:
                raise SpecError(f"sweep: {name} is missing; see docs/sweeps.md for a whole file")
        base = None if folder is None else Path(folder)
        retention = given.get("retention", "10 years")
        given["models"] = {
            name: SweepModel.from_dict(placed(model, base), f"models.{name}")
            for name, model in table_of(given["models"], "models").items()
        }
        given["specs"] = dict(
            named
            for name, spec in table_of(given["specs"], "specs").items()
            for named in recipes_of(name, spec, retention, base)
        )
        given["devices"] = [device_of(device, base) for device in listed(given.get("devices", []))]
        return cls(**given)

    @classmethod
    def from_file(cls, path: str | os.PathLike[str]) -> Sweep:
        """Read a TOML file, or the same as JSON (``.json``); paths in it start at its folder.

        Raises
        ------
        FileError
            If the file cannot be read as TOML.
        SpecError
            If it is no sweep; the message says where.
        """
        path = Path(path)
        try:
            text = path.read_text(encoding="utf-8")
            found = json.loads(text) if path.suffix == ".json" else tomllib.loads(text)
        except (OSError, UnicodeDecodeError) as error:
            raise FileError(f"{path}: cannot be read ({error})") from error
        except (tomllib.TOMLDecodeError, json.JSONDecodeError) as error:
            raise FileError(f"{path}: not valid {path.suffix[1:].upper() or 'TOML'} ({error})") from error
        try:
            return cls.from_dict({"name": path.stem, **table_of(found, "sweep")}, path.parent)
        except SpecError as error:
            raise SpecError(f"{path}: {error}") from error


def _seeds(given: object) -> tuple[int, ...]:
    seeds = range(given) if isinstance(given, int) and not isinstance(given, bool) else given
    if not isinstance(seeds, (Sequence, range)) or isinstance(seeds, str) or not seeds:
        raise SpecError(f"sweep: seeds must be a number of arrays or a list of seeds, not {given!r}")
    for seed in seeds:
        if isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed < 2**63:
            raise SpecError(f"sweep: a seed is an integer in [0, 2**63), not {seed!r}")
    return tuple(dict.fromkeys(seeds))


def _on(spec: StorageSpec, device: Device | str | None) -> StorageSpec:
    return spec if device is None else dataclasses.replace(spec, device=device)
