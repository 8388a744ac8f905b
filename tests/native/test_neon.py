"""One hash per kernel, whatever the instruction set: on this machine, and for NEON under an emulator.

`kernel_hashes.cpp` is compiled with the kernels for this machine and run on every level that it has. Where Debian's
cross compiler and QEMU's user mode are installed, it is also compiled for AArch64 and must print the same.
"""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from collections import defaultdict
from pathlib import Path

import pytest

from memristore import _core

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
KERNELS = ROOT / "csrc" / "kernels"
CROSS_COMPILER, EMULATOR = "aarch64-linux-gnu-g++", "qemu-aarch64"

#: As in CMakeLists.txt; warnings are the build's business.
FLAGS = ["-std=c++20", "-ffp-contract=off", "-fno-math-errno", "-fno-trapping-math", "-w"]
INCLUDE = [f"-I{ROOT / 'csrc' / 'include'}", f"-I{ROOT / 'csrc'}"]
X86_64 = {
    "avx2": ["-mavx2", "-mfma"],
    "avx512": ["-mavx512f", "-mavx512dq", "-mavx512bw", "-mavx512vl", "-mavx2", "-mfma"],
}
AARCH64: dict[str, list[str]] = {"neon": []}
#: Files of csrc/kernels with the flags that each needs of its own.
LEVELS = {"x86_64": X86_64, "amd64": X86_64, "aarch64": AARCH64, "arm64": AARCH64}

Hashes = dict[str, dict[str, str]]


def call(*command: str | Path) -> str:
    """Output of a command; what it said where it fails."""
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, f"{' '.join(map(str, command))}\n{done.stdout}{done.stderr}"
    return done.stdout


def build(compiler: str, folder: Path, levels: dict[str, list[str]], *flags: str) -> Path:
    """The program with the kernels of some levels, baseline included."""
    sources = {KERNELS / f"{level}.cpp": extra for level, extra in levels.items()}
    every_level = ("scalar", "bits", "levels_store", "ldpc", "mixing", "dispatch")
    sources |= {KERNELS / f"{name}.cpp": [] for name in every_level}
    sources[HERE / "kernel_hashes.cpp"] = []
    objects = []
    for source, extra in sources.items():
        objects.append(folder / f"{source.stem}.o")
        call(compiler, *FLAGS, *INCLUDE, *flags, *extra, "-c", source, "-o", objects[-1])
    program = folder / "kernel_hashes"
    call(compiler, *flags, *objects, "-o", program)
    return program


def hashes(output: str) -> Hashes:
    """Level -> kernel -> hash."""
    found: Hashes = defaultdict(dict)
    for line in output.splitlines():
        level, kernel, value = line.split()
        found[level][kernel] = value
    return dict(found)


@pytest.fixture(scope="module")
def compiler() -> str:
    wanted = os.environ.get("CXX", "c++")
    found = shutil.which(wanted)
    if found is None:
        pytest.skip(f"no C++ compiler {wanted!r}: install one (Debian: apt-get install g++), or name it in CXX")
    return found


@pytest.fixture(scope="module")
def native(compiler: str, tmp_path_factory: pytest.TempPathFactory) -> Hashes:
    """What this machine prints. Compiled in a hurry: the package's own build is tested through Python."""
    levels = LEVELS.get(platform.machine().lower(), {})
    return hashes(call(build(compiler, tmp_path_factory.mktemp("native"), levels, "-O1")))


def test_levels_of_this_machine_agree(native: Hashes) -> None:
    assert list(native) == _core.isa_available()
    for level, found in native.items():
        assert found == native["scalar"], f"{level} gives other bits than scalar"


def test_neon_agrees(native: Hashes, tmp_path: Path) -> None:
    cross, emulator = shutil.which(CROSS_COMPILER), shutil.which(EMULATOR)
    if cross is None or emulator is None:
        pytest.skip("to check NEON: apt-get install g++-aarch64-linux-gnu qemu-user")
    found = hashes(call(emulator, build(cross, tmp_path, AARCH64, "-O3", "-static")))
    assert list(found) == ["neon", "scalar"]
    for level in found:
        assert found[level] == native["scalar"], f"{level} of AArch64 gives other bits than this machine"


def test_emulated_multiply_add_is_exact(compiler: str, tmp_path: Path) -> None:
    program = tmp_path / "fma_emulation"
    call(compiler, *FLAGS, *INCLUDE, "-O2", HERE / "fma_emulation.cpp", "-o", program)
    assert int(call(program, "2000000")) > 2_000_000
