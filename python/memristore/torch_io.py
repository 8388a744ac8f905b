"""Between torch and streams: which tensors a network has, which may be noisy, and how they are put back together."""

from __future__ import annotations

import fnmatch
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import torch

from memristore import _core
from memristore.errors import SpecError, TensorError
from memristore.masks import fit
from memristore.planes import LARGE
from memristore.spec import StorageSpec
from memristore.streams import AnalogStream, BitStream, Payload
from memristore.transform import SEPARATOR

#: Buffers that a bare state_dict is recognised by; a module tells its buffers itself.
BUFFER_SUFFIXES: Final = ("running_mean", "running_var", "num_batches_tracked")

StateDict = Mapping[str, torch.Tensor]


@dataclass(frozen=True)
class Entry:
    """One tensor of a network.

    Parameters
    ----------
    name, shape, dtype : str, tuple, str
        As in the state_dict; dtype without the ``torch.`` prefix.
    kind : {"analog", "exact", "alias"}
        How it is kept.
    base : str
        Name of its stream: the tensor's name with ``%`` and the separator escaped. An alias has the base of the tensor
        whose memory it shares.
    parameter : bool
        Whether it counts as a weight (parameters do, and batch-norm statistics; integer counters do not).
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    kind: str
    base: str
    parameter: bool

    @property
    def size(self) -> int:
        """Number of elements."""
        return int(np.prod(self.shape, dtype=np.int64))


def check_entries(entries: Sequence[Entry], kept: Collection[str]) -> None:
    """Raise `ValueError` unless tensors have their own names, possible shapes and types, and streams that are kept."""
    for entry in entries:
        if entry.base not in kept:
            raise ValueError(f"nothing is kept of tensor {entry.name!r}")
        dtype = getattr(torch, entry.dtype, None)
        if not isinstance(dtype, torch.dtype):
            raise ValueError(f"tensor {entry.name!r} is of type {entry.dtype!r}, which torch does not know")
        if entry.kind == "analog" and not dtype.is_floating_point:
            raise ValueError(f"tensor {entry.name!r} is kept in analog cells, but of type {entry.dtype!r}")
        if min(entry.shape, default=0) < 0:
            raise ValueError(f"tensor {entry.name!r} has the shape {entry.shape}")
    if len({entry.name for entry in entries}) < len(entries):
        raise ValueError("two tensors have one name")


def escape(name: str) -> str:
    """Return a tensor name as a stream name: never empty, never with a separator."""
    return name.replace("%", "%25").replace(SEPARATOR, "%2F") or "%"


def unescape(base: str) -> str:
    """Undo :func:`escape`."""
    return "" if base == "%" else base.replace("%2F", SEPARATOR).replace("%25", "%")


def base_of(stream: str) -> str:
    """Return the tensor stream that a (part) stream belongs to."""
    return stream.split(SEPARATOR, 1)[0]


def tensors_of(source: torch.nn.Module | StateDict) -> tuple[dict[str, torch.Tensor], set[str] | None]:
    """Tensors of a network by name, checked, and the names of a module's buffers (None for a bare state_dict)."""
    tensors, buffers = _tensors(source)
    return {name: _check(name, tensor) for name, tensor in tensors.items()}, buffers


def _tensors(source: torch.nn.Module | StateDict) -> tuple[dict[str, torch.Tensor], set[str] | None]:
    if isinstance(source, torch.nn.Module):
        # keep_vars: the parameter itself, so that tied parameters are seen as one.
        return dict(source.state_dict(keep_vars=True)), {
            name for name, _ in source.named_buffers(remove_duplicate=False)
        }
    if not isinstance(source, Mapping):
        raise TensorError(f"expected a torch module or a state_dict, not {type(source).__name__}")
    return dict(source), None


def _check(name: str, tensor: Any) -> torch.Tensor:
    if not isinstance(name, str) or not isinstance(tensor, torch.Tensor):
        raise TensorError(f"{name!r}: a state_dict maps names to tensors; found {type(tensor).__name__}")
    if torch.nn.parameter.is_lazy(tensor):
        raise TensorError(f"{name}: is not initialised yet; run the model once before storing it")
    if tensor.is_meta:
        raise TensorError(f"{name}: is on the meta device and has no values; materialise the model first")
    if tensor.layout != torch.strided or tensor.is_quantized:
        raise TensorError(
            f"{name}: only dense, unquantised tensors can be stored; convert it with to_dense() or dequantize()"
        )
    return tensor


def identity_of(tensor: torch.Tensor) -> tuple[Any, ...]:
    """Return what is equal for tensors that share all of their memory."""
    return (
        tensor.device,
        tensor.untyped_storage().data_ptr(),
        tensor.storage_offset(),
        tensor.shape,
        tensor.stride(),
        tensor.dtype,
    )


def to_values(name: str, tensor: torch.Tensor, threads: int = 0) -> npt.NDArray[np.float32]:
    """Return a floating tensor's values, shape (n,), float32; raises `TensorError` where one is not finite."""
    # A detached copy only where dtype, device or layout demand it; values are read, never written.
    flat = tensor.detach().to("cpu", torch.float32).contiguous().reshape(-1)
    values: npt.NDArray[np.float32] = flat.numpy()
    if values.size and not _core.extremes(values, threads)[2]:
        bad = np.flatnonzero(~np.isfinite(values))
        source = tensor.detach().reshape(-1)[int(bad[0])].item()
        raise TensorError(
            f"{name}: {bad.size} of {values.size} values are not finite as float32 (first: {source} at "
            f"{int(bad[0])}); repair the network, or keep this tensor exact with StorageSpec(exact=...)"
        )
    return values


def _to_bits(base: str, tensor: torch.Tensor) -> BitStream:
    flat = tensor.detach().to("cpu").resolve_conj().resolve_neg().contiguous().reshape(-1)
    raw = flat.view(torch.uint8).numpy() if flat.numel() else np.zeros(0, np.uint8)
    return BitStream(base, raw.copy(), raw.size * 8, "exact")


def flatten(source: torch.nn.Module | StateDict, spec: StorageSpec, threads: int = 0) -> tuple[list[Entry], Payload]:
    """Turn a network into a catalogue and a payload of one stream per distinct tensor.

    Parameters
    ----------
    source : Module or state_dict
        Left untouched. Floating parameters become analog streams; buffers, integers, truth values, complex tensors and
        tensors named by ``spec.exact`` become exact bits. Tensors that share all of their memory are stored once.
    spec : StorageSpec
    threads : int
        Threads for kernels; 0 means all.

    Returns
    -------
    list of Entry, Payload

    Raises
    ------
    TensorError
        If a tensor is not dense, has no values, or holds NaN or infinity.
    """
    tensors, buffers = tensors_of(source)
    entries: list[Entry] = []
    streams: list[AnalogStream | BitStream] = []
    seen: dict[tuple[Any, ...], Entry] = {}
    identities = {n: identity_of(t) for n, t in tensors.items()}
    for pattern in spec.exact:
        if not any(fnmatch.fnmatchcase(n, pattern) for n in tensors):
            raise SpecError(f"spec: exact={pattern!r} matches no tensor; there are {', '.join(tensors)}")
    for name, tensor in tensors.items():
        dtype = str(tensor.dtype).removeprefix("torch.")
        floating = tensor.dtype.is_floating_point
        identity = identities[name]
        if tensor.numel() and identity in seen:
            first = seen[identity]
            entries.append(Entry(name, tuple(tensor.shape), dtype, "alias", first.base, False))
            continue
        buffer = name in buffers if buffers is not None else name.split(".")[-1] in BUFFER_SUFFIXES
        shared = [n for n, t in identities.items() if tensor.numel() and t == identity]
        analog = floating and not buffer and not any(spec.is_exact(n) for n in (name, *shared))
        weight = floating or tensor.dtype.is_complex
        entry = Entry(name, tuple(tensor.shape), dtype, "analog" if analog else "exact", escape(name), weight)
        entries.append(entry)
        seen[identity] = entry
        if analog:
            streams.append(AnalogStream(entry.base, to_values(name, tensor, threads if tensor.numel() > LARGE else 1)))
        else:
            streams.append(_to_bits(entry.base, tensor))
    return entries, Payload(streams)


def rebuild(entry: Entry, payload: Payload) -> torch.Tensor:
    """Turn the stream of one tensor back into a tensor of its dtype and shape.

    Raises
    ------
    TensorError
        If the payload does not hold it, or another number of values.
    """
    dtype: torch.dtype = getattr(torch, entry.dtype)
    stream = payload.streams.get(entry.base)
    if stream is None:
        raise TensorError(f"{entry.name}: the streams that were read do not decode to it by the recipe")
    if isinstance(stream, BitStream):
        raw = torch.from_numpy(fit(stream.data, entry.size * dtype.itemsize).copy())
        return (raw.view(dtype) if raw.numel() else torch.empty(0, dtype=dtype)).reshape(entry.shape)
    if len(stream) != entry.size:
        raise TensorError(f"{entry.name}: {len(stream)} values were read for a tensor of shape {entry.shape}")
    tensor = torch.from_numpy(stream.values).reshape(entry.shape)
    return tensor.to(dtype) if dtype in (torch.float32, torch.float64) else _narrow(tensor, dtype)


def _narrow(tensor: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    # A noisy value may leave a narrow dtype's range; the nearest finite one is what is meant.
    limits = torch.finfo(dtype)
    return tensor.clamp(limits.min, limits.max).to(dtype)
