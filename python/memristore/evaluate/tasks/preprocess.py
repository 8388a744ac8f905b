"""From an image file to the pixels that a network was trained on."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt

from memristore.config import check_number
from memristore.errors import DataError, FileError, SpecError

if TYPE_CHECKING:
    from PIL import Image

U8 = npt.NDArray[np.uint8]

_WAYS: Final = ("nearest", "bilinear", "bicubic", "lanczos")
#: Shorter side of an image relative to the crop, where nothing else is said: 256 to 224 pixels.
_SHORT: Final = 256 / 224


@dataclass(frozen=True, kw_only=True)
class Preprocess:
    """Resize, crop the centre, then ``(pixel * scale - mean) / std`` of each channel.

    Parameters
    ----------
    size : int
        Side of the square that the network sees, pixels.
    resize : int, optional
        Shorter side before cropping. By default images whose shorter side is more than 8/7 of `size` (256 for 224) are
        resized to that, and smaller ones are cropped as they are; without a crop the whole image becomes the square.
    crop : bool
        Crop the centre; else the whole image is resized to the square, whatever its shape.
    interpolation : {"nearest", "bilinear", "bicubic", "lanczos"}
        As Pillow does it, with antialiasing.
    scale : float
        Factor of the bytes.
    mean, std : tuple of float
        Of each channel, or one number for all, after scaling.

    Raises
    ------
    SpecError
        If a number or word is not valid.
    """

    size: int = 224
    resize: int | None = None
    crop: bool = True
    interpolation: str = "bilinear"
    scale: float = 1 / 255
    mean: tuple[float, ...] = (0.485, 0.456, 0.406)
    std: tuple[float, ...] = (0.229, 0.224, 0.225)

    def __post_init__(self) -> None:
        check_number("Preprocess", "size", self.size, 1, 4096, integer=True)
        if self.resize is not None:
            check_number("Preprocess", "resize", self.resize, 1, 8192, integer=True)
        check_number("Preprocess", "scale", self.scale, 0, 1e6, open_low=True)
        if self.interpolation not in _WAYS:
            raise SpecError(f"Preprocess: interpolation is one of {', '.join(_WAYS)}, not {self.interpolation!r}")
        for name, values in (("mean", self.mean), ("std", self.std)):
            if len(values) not in (1, 3) or not np.all(np.isfinite(values)):
                raise SpecError(f"Preprocess: {name} is one finite number, or one for each of 3 channels, not {values}")
        if min(self.std) <= 0:
            raise SpecError(f"Preprocess: std must be positive, not {self.std}")

    @property
    def normalise(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Offset and factor of each channel of bytes, as `Images` takes them."""
        mean, std = (values * 3 if len(values) == 1 else values for values in (self.mean, self.std))
        return tuple(m / self.scale for m in mean), tuple(self.scale / s for s in std)

    def pixels(self, image: Image.Image, where: str = "the image") -> U8:
        """Return the bytes, shape (3, size, size).

        Raises
        ------
        DataError
            If the image is smaller than the crop.
        """
        image = image.convert("RGB")
        if not self.crop:
            image = self._resized(image, (self.size, self.size))
        else:
            short = min(image.size)
            usual = round(self.size * _SHORT)
            wanted = self.resize or (usual if short > usual else short)
            if wanted != short:
                image = self._resized(image, tuple(max(wanted, round(n * wanted / short)) for n in image.size))
            if min(image.size) < self.size:
                raise DataError(
                    f"{where}: {image.size[0]}x{image.size[1]} pixels, less than the crop of {self.size}; give "
                    f"Preprocess(resize=...) to enlarge it"
                )
            left, top = ((n - self.size) // 2 for n in image.size)
            image = image.crop((left, top, left + self.size, top + self.size))
        found: U8 = np.ascontiguousarray(np.asarray(image, np.uint8).transpose(2, 0, 1))
        return found

    def _resized(self, image: Image.Image, size: tuple[int, ...]) -> Image.Image:
        from PIL import Image as Pillow

        return image.resize((size[0], size[1]), getattr(Pillow.Resampling, self.interpolation.upper()))

    @classmethod
    def from_dict(cls, given: Mapping[str, Any], where: str = "preprocess") -> Preprocess:
        """Read a description: ``center_crop`` or ``resize_to`` (pixels), ``scale``, ``mean``, ``std``.

        Further keys that are understood: ``resize_short``, ``interpolation``, and ``input_size``, ``channel_order`` and
        ``layout`` where they say what is done anyway.

        Raises
        ------
        FileError
            If a key is unknown or its value is not valid.
        """
        known = {"center_crop", "resize_to", "resize_short", "interpolation", "scale", "mean", "std", "input_size"}
        if unknown := set(given) - known - {"channel_order", "layout"}:
            raise FileError(f"{where}: unknown key {sorted(unknown)[0]!r}; there are {', '.join(sorted(known))}")
        if given.get("channel_order", "RGB") != "RGB" or given.get("layout", "NCHW") != "NCHW":
            raise FileError(f"{where}: channel_order must be RGB and layout NCHW")
        try:
            size = given.get("center_crop") or given.get("resize_to") or given["input_size"]
            words: dict[str, Any] = {name: given[name] for name in ("interpolation", "scale") if name in given}
            words |= {name: tuple(float(v) for v in given[name]) for name in ("mean", "std") if name in given}
            crop = "resize_to" not in given
            return cls(size=size, resize=given.get("resize_short"), crop=crop, **words)
        except (KeyError, TypeError, ValueError) as error:
            raise FileError(f"{where}: lacks or garbles something ({error!r})") from error


def read_description(weights: Path) -> dict[str, Any]:
    """Read the JSON file beside a file of weights (``NAME.json`` beside ``NAME.safetensors``); empty without one.

    Raises
    ------
    FileError
        If it is there and holds no JSON object.
    """
    path = weights.parent / f"{weights.name.split('.safetensors')[0].removesuffix('.pth').removesuffix('.pt')}.json"
    if not path.is_file():
        return {}
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise FileError(f"{path}: cannot be read as JSON ({error})") from error
    if not isinstance(found, dict):
        raise FileError(f"{path}: a description of weights is a JSON object, not {type(found).__name__}")
    return found
