"""A differentiable stand-in for storing a network, ageing its cells and reading it back."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Final, cast

import numpy as np
import torch
from torch import nn

from memristore import rng
from memristore.config import check_number
from memristore.errors import SpecError, TensorError
from memristore.spec import StorageSpec
from memristore.stored import decode_tensor
from memristore.streams import AnalogStream, Payload
from memristore.torch_io import StateDict
from memristore.train.cells import as_tensor
from memristore.train.plan import Plan, Planes, make_plan
from memristore.units import Time, parse_time

GRADIENTS: Final = ("pathwise", "straight-through")


class Surrogate:
    """Draws networks as they would come back from cells, in torch; made by :func:`channel`.

    Each call stands for an array of its own, programmed and read once. Windows, range flags, masks and decoding tables
    are those that the product chooses (`memristore.prepare` and its writer), made again from the current weights every
    `refresh` calls; signs are taken from the weights at each call. Between refreshes weights that leave their window
    come back from its edge.
    """

    def __init__(
        self, spec: StorageSpec, *, at: Time | None = None, seed: int = 0, refresh: int = 100,
        gradient: str = "pathwise", threads: int = 0,
    ) -> None:  # fmt: skip
        if not isinstance(spec, StorageSpec):
            raise SpecError(
                f"expected a StorageSpec, not {type(spec).__name__}; a dict goes through StorageSpec.from_dict"
            )
        check_number("channel", "refresh", refresh, 1, 10**9, integer=True)
        if gradient not in GRADIENTS:
            raise SpecError(f"channel: gradient must be one of {', '.join(GRADIENTS)}, not {gradient!r}")
        self.spec = spec
        self.at = spec.retention_seconds if at is None else parse_time(at)
        self.seed = seed
        self.every = refresh
        self.gradient = gradient
        self.threads = threads
        self._key = rng.key(seed, "surrogate")
        self._generators: dict[torch.device, torch.Generator] = {}
        self._plans = 0
        self._calls = 0
        self._wiring: _Wiring | None = None

    def refresh(self) -> None:
        """Choose windows, flags, masks and tables anew at the next call."""
        self._wiring = None

    def __call__(self, source: nn.Module | StateDict, *, strength: float = 1.0) -> dict[str, torch.Tensor]:
        """Draw the network as one array would give it back.

        Parameters
        ----------
        source : Module or state_dict
            Its floating parameters may need gradients. A module's buffers are not looked at.
        strength : float
            Share of the error that is let through, in [0, 1]: 0 gives the weights as they are.

        Returns
        -------
        dict of str to Tensor
            The tensors that cells keep, by name, in their dtypes, for ``torch.func.functional_call``. Tensors that are
            kept exactly (buffers, ``spec.exact``) are not among them.

        Raises
        ------
        SpecError
            If the strength is out of range.
        TensorError
            If a tensor cannot be stored, or lies on another device than the others.
        """
        check_number("channel", "strength", strength, 0, 1)
        tensors = _tensors(source)
        if self._wiring is None or self._calls >= self.every or not self._wiring.fits(tensors):
            plan_key = rng.key(self.seed, "surrogate", "plan", self._plans)
            self._wiring = _Wiring(_planned(source), self, plan_key, tensors)
            self._plans, self._calls = self._plans + 1, 0
        self._calls += 1
        device = self._wiring.device
        with torch.autocast(device.type, enabled=False):
            return self._wiring.draw(tensors, strength, self._generator(device), self.gradient)

    def _generator(self, device: torch.device) -> torch.Generator:
        if device not in self._generators:
            self._generators[device] = torch.Generator(device).manual_seed(self._key >> 1)
        return self._generators[device]

    def state_dict(self) -> dict[str, Any]:
        """State of the noise, for checkpoints; continuing from it starts with a refresh."""
        states = {str(device): generator.get_state() for device, generator in self._generators.items()}
        return {"plans": self._plans, "generators": states}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from :meth:`state_dict`."""
        self._plans = int(state["plans"])
        for name, value in state["generators"].items():
            self._generator(torch.device(name)).set_state(value.cpu())
        self.refresh()


def channel(
    spec: StorageSpec, *, at: Time | None = None, seed: int = 0, refresh: int = 100, gradient: str = "pathwise",
    threads: int = 0,
) -> Surrogate:  # fmt: skip
    """Return a differentiable surrogate of write, age, read and decode for networks stored with a recipe.

    Parameters
    ----------
    spec : StorageSpec
        Any recipe. Where each weight becomes one analog value (whatever the protections), cells are simulated in torch
        with the device's own curves and the recipe's code, mapper, decoder and reference cells. Tensors that a
        compressor turns into something else (codes, factors) come back with the error that the compressor, and cells
        where factors are analog, give them; gradients pass straight through. Bits are taken to come back right.
    at : float or str, optional
        Age of the cells when they are read; by default the retention time.
    seed : int
        The same seed and the same calls give the same draws on the same kind of machine.
    refresh : int
        Calls between two choices of windows, flags, masks and tables.
    gradient : {"pathwise", "straight-through"}
        ``"pathwise"``: noise is reparametrised and gradients pass through write, drift, read and decoding table; only
        what is discrete (signs, flags, window edges, pulses, compression) is passed straight through.
        ``"straight-through"``: the gradient of the whole chain is that of the identity.
    threads : int
        Threads for compiled kernels; 0 means all. torch has its own setting.

    Returns
    -------
    Surrogate
        Call it with a module or state_dict.

    Raises
    ------
    SpecError
        If an argument is not valid.

    Examples
    --------
    >>> import torch, memristore as ms
    >>> from memristore.train import channel
    >>> model = torch.nn.Linear(64, 10)
    >>> noisy = channel(ms.StorageSpec(protect=(ms.Sign(),)), at="1 year", seed=0)
    >>> loss = torch.func.functional_call(model, noisy(model), torch.ones(1, 64)).square().sum()
    >>> loss.backward()
    >>> bool(model.weight.grad.isfinite().all())
    True
    """
    return Surrogate(spec, at=at, seed=seed, refresh=refresh, gradient=gradient, threads=threads)


def _tensors(source: nn.Module | StateDict) -> dict[str, torch.Tensor]:
    if isinstance(source, nn.Module):
        return dict(source.named_parameters(remove_duplicate=False))
    return dict(source)


def _planned(source: nn.Module | StateDict) -> nn.Module | StateDict:
    return source if isinstance(source, nn.Module) else {name: tensor.detach() for name, tensor in source.items()}


class _Wiring:
    """A plan on a torch device: index tensors between weights and analog values."""

    def __init__(
        self, source: nn.Module | StateDict, owner: Surrogate, key: int, tensors: dict[str, torch.Tensor]
    ) -> None:
        devices = {t.device for t in tensors.values()}
        if len(devices) > 1:
            raise TensorError(
                f"channel: the network lies on {', '.join(sorted(map(str, devices)))}; move it to one device"
            )
        self.device = next(iter(devices), torch.device("cpu"))
        self.spec, self.at = owner.spec, owner.at
        self.shapes = {name: tuple(t.shape) for name, t in tensors.items()}
        self.plan = plan = make_plan(source, owner.spec, key, owner.at, self.device, owner.threads)
        self.names = [r.entry.name for r in plan.found]
        self.sizes = [r.entry.size for r in plan.found]
        self.aliases = self._find_aliases(plan)
        self._wire(plan, tensors)

    def fits(self, tensors: dict[str, torch.Tensor]) -> bool:
        """Whether the wiring is for tensors of these names and shapes, on this device."""
        return self.shapes == {name: tuple(t.shape) for name, t in tensors.items()} and all(
            t.device == self.device for t in tensors.values()
        )

    def _find_aliases(self, plan: Plan) -> dict[str, str]:
        analog = {e.base: e.name for e in plan.prepared.entries if e.kind == "analog"}
        return {e.name: analog[e.base] for e in plan.prepared.entries if e.kind == "alias" and e.base in analog}

    def _wire(self, plan: Plan, tensors: dict[str, torch.Tensor]) -> None:
        none = np.zeros(0, np.int64)
        position = np.concatenate([none, *(r.position for r in plan.found)])
        values = np.concatenate([none.astype(np.float32), *(s.values for s in plan.streams)])
        weight = np.full(values.size, -1, np.int64)
        kept = np.flatnonzero(position >= 0)
        # Backwards, so that the first of several weights that share a value stands for it.
        weight[position[kept[::-1]]] = kept[::-1]
        self.free = as_tensor(np.flatnonzero(weight < 0), self.device)
        signed = np.repeat([r.signed for r in plan.found], self.sizes).astype(np.bool_)
        self.position, self.kept = as_tensor(position.clip(min=0), self.device), as_tensor(position >= 0, self.device)
        self.weight = as_tensor(weight.clip(min=0), self.device)
        self.signed = as_tensor(signed, self.device)
        clean = [plan.clean[name].reshape(-1).float() for name in self.names]
        self.clean = (torch.cat(clean) if clean else torch.zeros(0)).to(self.device)
        # What compression did to values before they met cells; exact zeros everywhere without it.
        with torch.no_grad():
            flat = self._flat(tensors)
            given = (flat * self._signs(flat))[self.weight] if flat.numel() else flat.new_zeros(values.size)
            change = as_tensor(values, self.device) - given
            change[change.abs() <= 1e-6 * given.abs()] = 0.0
        self.change = change if bool(change.any()) else None

    def _flat(self, tensors: dict[str, torch.Tensor]) -> torch.Tensor:
        parts = [tensors[name].reshape(-1).float() for name in self.names]
        return torch.cat(parts) if parts else torch.zeros(0, device=self.device)

    def _signs(self, flat: torch.Tensor) -> torch.Tensor:
        return torch.where(self.signed & (flat.detach() < 0), -1.0, 1.0)

    def draw(
        self, tensors: dict[str, torch.Tensor], strength: float, generator: torch.Generator, gradient: str
    ) -> dict[str, torch.Tensor]:
        """Store and read back once."""
        through = gradient == "straight-through"
        flat = self._flat(tensors)
        signs = self._signs(flat)
        with torch.set_grad_enabled(torch.is_grad_enabled() and not through):
            values = (flat * signs)[self.weight] if flat.numel() else flat.new_zeros(self.weight.numel())
            values = values if self.change is None else values + self.change
            decoded = self._decode(values, generator)
            noisy = signs * decoded[self.position] if decoded.numel() else flat
        exact = flat + (self.clean - flat).detach()
        out = torch.where(self.kept, flat + (noisy - flat).detach() if through else noisy, exact)
        if strength != 1.0:
            out = flat + strength * (out - flat)
        found = dict(zip(self.names, out.split(self.sizes), strict=True)) if self.names else {}
        found = {name: part.reshape(tensors[name].shape).to(tensors[name].dtype) for name, part in found.items()}
        found |= self._others(tensors, decoded, strength)
        known = {name for name in tensors if name in found or name in self.aliases}
        return {name: found[self.aliases.get(name, name)] for name in tensors if name in known}

    def _decode(self, values: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """Write, age, read and decode analog values."""
        believed = self.plan.believed
        chosen = int(torch.randint(len(believed), (), generator=generator, device=generator.device))
        done, start = [], 0
        for group in self.plan.groups:
            planes: Any = Planes(group, self.at, believed[chosen], generator)
            stop = start + group.row.numel()
            group.code.encode(cast(Any, values[start:stop]), planes)
            done.append(cast(torch.Tensor, group.code.decode(planes)))
            start = stop
        return torch.cat(done) if done else values

    def _others(
        self, tensors: dict[str, torch.Tensor], decoded: torch.Tensor, strength: float
    ) -> dict[str, torch.Tensor]:
        """Tensors that compression turned into something else: its decoder, straight through."""
        if not self.plan.others:
            return {}
        back = {e.name: self.plan.clean[e.name] for e in self.plan.others}
        if self.free.numel():
            back = self._decompressed(decoded.detach().cpu().numpy())
        out = {}
        for name, value in back.items():
            weights = tensors[name]
            error = value.to(weights.device, weights.dtype) - weights.detach()
            out[name] = weights + (strength * error if math.isfinite(strength) else error)
        return out

    def _decompressed(self, decoded: np.ndarray) -> dict[str, torch.Tensor]:
        starts = np.cumsum([0, *(len(s) for s in self.plan.streams)])
        noisy = {
            s.name: AnalogStream(s.name, decoded[start : start + len(s)])
            for s, start in zip(self.plan.streams, starts[:-1], strict=True)
        }
        streams = [noisy.get(s.name, s) for s in self.plan.prepared.payload]
        state = decode_tensor(self.plan.prepared.entries, Payload(streams), self.spec)
        return {e.name: state[e.name] for e in self.plan.others}
