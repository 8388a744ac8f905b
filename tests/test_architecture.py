"""The architecture checks on this repository, and proof that each of them can fail."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable
from pathlib import Path
from types import FunctionType, ModuleType

import pytest

import architecture
import memristore
from memristore.config import Configurable
from memristore.errors import SpecError
from memristore.registry import Registry

ROOT = Path(__file__).resolve().parents[1]
Check = Callable[[Path], list[str]]
CHECKS: dict[str, Check] = {
    name.removeprefix("check_"): check for name, check in vars(architecture).items() if name.startswith("check_")
}


@pytest.mark.parametrize("check", CHECKS.values(), ids=CHECKS)
def test_this_repository_keeps_the_rules(check: Check) -> None:
    wrong = check(ROOT)
    assert not wrong, "\n" + "\n".join(wrong)


def test_registry_keys_are_file_names() -> None:
    packages = [info.name for info in pkgutil.iter_modules(memristore.__path__) if info.ispkg]
    modules = [importlib.import_module(f"memristore.{name}") for name in packages]
    registries = {id(item): item for module in modules for item in vars(module).values() if isinstance(item, Registry)}
    assert registries
    for registry in registries.values():
        names = registry.names()
        assert names, f"{registry.package} is empty"
        for name in names:
            assert registry[name].__module__.rpartition(".")[2] == name.replace("-", "_")


def undocumented(module: ModuleType) -> list[str]:
    """Public functions, classes and methods of a module without a docstring, be it inherited."""
    missing = []
    for name, item in vars(module).items():
        if name.startswith("_") or getattr(item, "__module__", "") != module.__name__ or not hasattr(item, "__name__"):
            continue
        missing += [] if item.__doc__ else [name]
        for method, body in vars(item).items() if isinstance(item, type) else ():
            known = any(getattr(getattr(base, method, None), "__doc__", None) for base in item.__mro__)
            defined = isinstance(body, FunctionType | classmethod | staticmethod) and body.__name__ == method
            if defined and not known and not method.startswith("_"):
                missing.append(f"{name}.{method}")
    return [f"{module.__name__}: {name} has no docstring" for name in missing]


def test_public_names_are_documented() -> None:
    names = [info.name for info in pkgutil.walk_packages(memristore.__path__, "memristore.")]
    modules = [importlib.import_module(name) for name in names if not name.endswith((".__main__", "._core"))]
    assert modules
    missing = [line for module in modules for line in undocumented(module)]
    assert not missing, "\n".join(missing)


def test_a_missing_docstring_is_seen() -> None:
    module = ModuleType("some_module")
    methods = "    def f(self): {}\n    def _g(self): ...\n"
    exec(f"class A:\n    'A.'\n{methods.format(repr('F.'))}", module.__dict__)
    exec(f"class B(A):\n    'B.'\n{methods.format('...')}    def h(self): ...", module.__dict__)
    assert undocumented(module) == ["some_module: B.h has no docstring"]


PACKAGE = "python/memristore/"
LONG_PYTHON = "def f():\n" + "    x = 1\n" * 60
LONG_CPP = "namespace a {\nvoid f(int b) {\n" + "  b += 1;\n" * 59 + "}\n}\n"
MODULE_CPP = "PYBIND11_MODULE(_core, m) {\n  register_maps(m);\n}\n"
MAPS_CPP = 'namespace {\nint f() { return 1; }\n}\nvoid register_maps(py::module_& m) {\n  m.def("f", &f);\n}\n'
PYPROJECT = '[project]\nversion = "3.1.4"\n'

# (check, files, what the one violation says); None: the tree is fine.
TREES: dict[str, tuple[str, dict[str, str], str | None]] = {
    "stage may use base": ("arrows", {"codes/a.py": "from memristore import _core, streams"}, None),
    "store may use stages": ("arrows", {"storage.py": "from memristore.codes.a import A\nimport torch"}, None),
    "codes to compress": (
        "arrows",
        {"codes/a.py": "from memristore.compress import x"},
        "codes must not import compress",
    ),
    "codes to devices": ("arrows", {"codes/a.py": "import memristore.devices"}, "codes must not import devices"),
    "mapping to codes": ("arrows", {"mapping/a.py": "from ..codes import x"}, "mapping must not import codes"),
    "devices to array": ("arrows", {"devices/__init__.py": "from ..array import x"}, "devices must not import array"),
    "base to the core": ("arrows", {"units.py": "from memristore import _core"}, "units must not import _core"),
    "stage to store": (
        "arrows",
        {"protect/a.py": "def f():\n    from ..stored import x"},
        "protect must not import stored",
    ),
    "anything to cli": ("arrows", {"evaluate/a.py": "from memristore import cli"}, "evaluate must not import cli"),
    "base to streams": (
        "arrows",
        {"registry.py": "from memristore.streams import x"},
        "registry must not import streams",
    ),
    "around the drawing": ("arrows", {"array.py": "import memristore as ms"}, "array must not import __init__"),
    "a name of the front": ("arrows", {"array.py": "from memristore import Linear"}, "array must not import __init__"),
    "a room not drawn": ("arrows", {"extras/a.py": ""}, "'extras' is not on the drawing"),
    "torch in a code": ("arrows", {"codes/a.py": "from torch import nn"}, "codes must not import torch"),
    "torch by safetensors": ("arrows", {"cell_file.py": "from safetensors.torch import x"}, "must not import torch"),
    "assert": ("asserts", {"array.py": "def f(x):\n    assert x"}, "array.py:2: assert is never validation"),
    "rng may draw": ("randomness", {"rng.py": "import numpy as np\nnp.random.SeedSequence"}, None),
    "numpy.random": ("randomness", {"array.py": "import numpy as xp\nx = xp.random.rand()"}, "array.py:2: randomness"),
    "numpy.random by name": ("randomness", {"array.py": "from numpy import random"}, "array.py:1: randomness"),
    "random": ("randomness", {"array.py": "import random"}, "array.py:1: randomness"),
    "a grab bag": ("names", {"codes/_utils.py": ""}, "_utils.py: name it after what it does"),
    "a grab-bag folder": ("names", {"../../csrc/common/a.hpp": ""}, "csrc/common: name it"),
    "a grab-bag function": ("names", {"array.py": "def helper(): ..."}, "array.py:1: helper: name it"),
    "a long file": ("lengths", {"array.py": "x = 1\n" * 401}, "array.py: 401 lines, over 400"),
    "a long function": ("lengths", {"array.py": LONG_PYTHON}, "array.py:f: 61 lines, over 60"),
    "a long docstring": ("lengths", {"array.py": 'def f():\n    """A.' + "\n" * 60 + '    """\n    return 1'}, None),
    "a long C++ function": ("lengths", {"../../csrc/a.cpp": LONG_CPP}, "csrc/a.cpp:f: 61 lines, over 60"),
    "a kernel with polynomials": ("kernels", {"../../csrc/kernels/a.cpp": "y = log2(x); // std::log(x)"}, None),
    "a kernel with libm": (
        "kernels",
        {"../../csrc/kernels/a.cpp": "y = std::exp(x);"},
        "a.cpp:1: a libm transcendental",
    ),
    "a kernel with C libm": (
        "kernels",
        {"../../csrc/kernels/a.cpp": "\ny = sinf(x);"},
        "a.cpp:2: a libm transcendental",
    ),
    "a kernel with rand": ("kernels", {"../../csrc/kernels/a.cpp": "std::rand();"}, "a random generator in a kernel"),
    "a kernel with Python": ("kernels", {"../../csrc/kernels/a.hpp": "#include <Python.h>"}, "Python in a kernel"),
    "a header with bindings": (
        "kernels",
        {"../../csrc/include/a.hpp": '#include "bindings/b.hpp"'},
        "a binding in a kernel",
    ),
    "threads unnamed": ("kernels", {"../../csrc/a.hpp": "#pragma omp parallel for schedule(static)\n"}, "thread count"),
    "fast-math": ("kernels", {"../../CMakeLists.txt": "# no -Ofast\nadd(-ffast-math)"}, "CMakeLists.txt: -ffast-math"),
    "a bound room": ("bindings", {"module.cpp": MODULE_CPP, "maps.cpp": MAPS_CPP}, None),
    "a room not listed": ("bindings", {"module.cpp": "", "maps.cpp": MAPS_CPP}, "does not list register_maps"),
    "a room without a door": ("bindings", {"module.cpp": MODULE_CPP, "maps.cpp": ""}, "must define register_maps"),
    "a body in the contents": ("bindings", {"module.cpp": "void f() {}\n" + MODULE_CPP}, "a table of contents"),
    "a lambda in the contents": (
        "bindings",
        {"module.cpp": MODULE_CPP.replace("(m)", "([] {})")},
        "a table of contents",
    ),
    "two release the GIL": (
        "bindings",
        {"a.hpp": "py::gil_scoped_release a;", "b.hpp": "py::gil_scoped_release b;"},
        "released in a.hpp, b.hpp",
    ),
    "a version": ("version", {"../../CHANGELOG.md": "## 3.1.4"}, None),
    "a version without entry": ("version", {"../../CHANGELOG.md": "since 3.1.4\n## 3.1"}, "no heading 3.1.4"),
    "a second version": ("version", {"../../CHANGELOG.md": "## 3.1.4", "a.py": 'v = "3.1.4"'}, "repeats the version"),
    "a device key": ("keys", {"devices/a.toml": 'name = "a"'}, None),
    "a wrong device key": ("keys", {"devices/a.toml": 'name = "b"'}, "the device calls itself 'b'"),
}


@pytest.mark.parametrize("tree", TREES.values(), ids=TREES)
def test_checks_on_small_trees(tmp_path: Path, tree: tuple[str, dict[str, str], str | None]) -> None:
    check, files, message = tree
    home = "csrc/bindings/" if check == "bindings" else PACKAGE
    for name, text in {"../../pyproject.toml": PYPROJECT, **files}.items():
        path = (tmp_path / home / name).resolve()
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    wrong = CHECKS[check](tmp_path)
    if message is None:
        assert wrong == []
    else:
        assert len(wrong) == 1
        assert message in wrong[0]


def test_a_part_whose_name_is_not_its_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "parts_of_a_tree"
    package.mkdir()
    (package / "__init__.py").touch()
    head = "from memristore.config import Configurable\n\nclass A(Configurable):\n    name = "
    (package / "run_length.py").write_text(f"{head}'run-length'\n", encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    assert Registry(package.name, Configurable).names() == ["run-length"]
    (package / "rle.py").write_text(f"{head}'run-length'\n", encoding="utf-8")
    importlib.invalidate_caches()
    with pytest.raises(SpecError, match="run-length"):
        Registry(package.name, Configurable).names()


def test_exemptions_must_be_needed(tmp_path: Path) -> None:
    path = tmp_path / PACKAGE / "array.py"
    path.parent.mkdir(parents=True)
    path.write_text("x = 1\n" * 401, encoding="utf-8")
    name = PACKAGE + "array.py"
    assert architecture.check_lengths(tmp_path, {name: "a table"}) == []
    path.write_text("x = 1\n", encoding="utf-8")
    assert architecture.check_lengths(tmp_path, {name: "a table"}) == [f"{name}: needs no exemption any more"]
