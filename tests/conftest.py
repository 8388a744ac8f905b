"""Fixtures that every test may ask for: thread counts and instruction sets; and what the run was on."""

from __future__ import annotations

import platform
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version

import pytest

from memristore import _core


@pytest.fixture(params=[1, 2], ids=["1-thread", "2-threads"])
def threads(request: pytest.FixtureRequest) -> int:
    """Thread count to hand to a kernel."""
    return int(request.param)


@pytest.fixture(params=_core.isa_available(), ids=lambda name: f"isa-{name}")
def isa(request: pytest.FixtureRequest) -> Iterator[str]:
    """Each instruction set that this machine runs, selected for the test and put back after it."""
    before = _core.isa()
    _core.set_isa(request.param)
    yield str(request.param)
    _core.set_isa(before)


def installed(name: str) -> str:
    """Name and version of a package; a checkout may be tested in place, without being installed."""
    try:
        return f"{name} {version(name)}"
    except PackageNotFoundError:
        return f"{name} (not installed)"


def pytest_report_header() -> list[str]:
    """Say what was tested: versions, machine, instruction sets, threads."""
    packages = ", ".join(installed(name) for name in ("memristore", "torch", "numpy", "scipy"))
    return [
        f"versions: {packages}, python {platform.python_version()}, {platform.machine()}",
        f"kernels: isa {_core.isa()} of {', '.join(_core.isa_available())}; up to {_core.max_threads()} threads",
    ]
