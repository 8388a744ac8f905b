"""Every error that memristore raises on purpose. Each says what was wrong, where, and what to do."""

from __future__ import annotations


class MemristoreError(Exception):
    """Base class: catch this to catch all of them."""


class SpecError(MemristoreError, ValueError):
    """A storage recipe or one of its parts is not valid (unknown key, value out of range, impossible combination)."""


class TensorError(MemristoreError, ValueError):
    """A tensor cannot be stored or restored; the message names it."""


class DeviceError(MemristoreError, ValueError):
    """A device is unknown or its data file is not valid."""


class FileError(MemristoreError, ValueError):
    """A file is damaged, truncated, of a foreign kind or of a version that this release does not read."""


class DataError(MemristoreError, ValueError):
    """A data set is missing or malformed; the message says what to put where."""


class SweepError(MemristoreError, RuntimeError):
    """Not all points of a sweep have a result; those that have are kept."""
