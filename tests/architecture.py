"""The drawing in CONTRIBUTING.md, enforced: who may import whom, what may stand where, how long things may be.

Each check takes the root of a tree and returns one line per violation. test_architecture.py runs them on this
repository, where they must find nothing, and on small trees that break a rule on purpose.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

MAX_FILE, MAX_FUNCTION = 400, 60
GRAB_BAGS = {"util", "utils", "misc", "common", "helper", "helpers"}

# A long file ("csrc/kernels/x.cpp") or function ("python/memristore/x.py:name") with the reason why it stays whole.
EXEMPT: dict[str, str] = {}

# Who may import whom. A room is a file or a folder of python/memristore; base rooms may be imported by anyone.
BASE = {
    "errors": set(),
    "units": {"errors"},
    "config": {"errors"},
    "rng": {"errors"},
    "channel": set(),
    "registry": {"errors", "config"},
    "streams": {"errors", "config"},
    "transform": {"errors", "config", "streams"},
    "masks": {"errors", "config", "streams", "transform"},
    # Entropy-coded blocks: bit streams (protect) and error-bounded tensors (compress) are written the same way.
    "symbol_blocks": {"masks"},
    # Curves are evaluated by the kernels' own evaluator, so that Python and C++ see one number.
    "devices": {"errors", "config", "units", "registry", "_core"},
}
STAGES = {"compress", "protect", "codes", "mapping", "allocate", "array"}
STORE = {"spec", "planes", "joint_planes", "menu", "storage", "stored", "ledger", "cell_file", "torch_io"}
CELLS = {"reference_cells", "sizing", "bit_cells"}
_BELOW_STORE = set(BASE) | {"_core"} | STAGES | CELLS
_BELOW_EVALUATE = _BELOW_STORE | STORE
ARROWS: dict[str, set[str]] = {
    **BASE,
    **{stage: set(BASE) | {"_core"} for stage in STAGES},
    "codes": set(BASE) - {"devices"} | {"_core"},
    "reference_cells": set(BASE) | {"_core", "array"},
    # Levels are designed for a way to write, and simulate what it leaves behind.
    "mapping": set(BASE) | {"_core", "array"},
    "sizing": set(BASE) | {"array", "codes", "mapping"},
    "bit_cells": set(BASE) | {"codes", "mapping", "sizing"},
    "limits": set(BASE) | {"_core", "array", "mapping"},
    **dict.fromkeys(STORE, _BELOW_EVALUATE),
    "prediction": _BELOW_EVALUATE | {"limits"},
    "train": _BELOW_EVALUATE,
    "replay": _BELOW_EVALUATE,
    "evaluate": _BELOW_EVALUATE | {"train", "limits", "prediction"},
    "sweep": _BELOW_EVALUATE | {"evaluate"},
    "report": set(BASE) | {"evaluate", "sweep"},
    "__init__": _BELOW_EVALUATE | {"train", "limits", "prediction", "evaluate", "replay", "sweep", "report"},
    "cli": _BELOW_EVALUATE | {"train", "limits", "prediction", "evaluate", "sweep", "report", "__init__"},
    "__main__": {"cli"},
}
TORCH_ROOMS = {"compress", "allocate", "train", "evaluate", "prediction", "replay", "storage", "stored", "sweep"}
TORCH_ROOMS |= {"torch_io"}

# libm's transcendental functions give other bits on other machines; kernels have polynomials of their own.
_FUNCTIONS = (
    "exp|exp2|exp10|expm1|log|log2|log10|log1p|sin|cos|tan|sincos|sinh|cosh|tanh|pow|cbrt|erf|erfc|tgamma|lgamma"
)
FORBIDDEN_IN_KERNELS = {
    "a libm transcendental": (
        rf"(?:(?<![\w>])::|\bstd::|\b__builtin_)(?:{_FUNCTIONS})[fl]?\s*\(|\b(?:{_FUNCTIONS})f\s*\("
    ),
    "a random generator": r"\b(?:rand|srand|rand_r|drand48|mt19937\w*|random_device|minstd_rand0?)\b|<random>",
    "Python": r"pybind11|Python\.h|\bPy_\w+|\bpy::",
    "a binding": r'#\s*include\s*[<"][^>"]*bindings/',
}


def python_files(root: Path, *folders: str) -> Iterator[tuple[str, ast.Module]]:
    for folder in folders:
        for path in sorted((root / folder).rglob("*.py")):
            yield path.relative_to(root).as_posix(), ast.parse(path.read_text(encoding="utf-8"))


def cpp_files(root: Path, folder: str = "csrc") -> Iterator[tuple[str, str]]:
    """Names and texts of C++ files, comments and literals blanked, lines kept."""
    tokens = re.compile(r'//[^\n]*|/\*.*?\*/|(#\s*include[^\n]*)|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])\'', re.S)
    for path in sorted((root / folder).rglob("*.[ch]pp")):
        text = path.read_text(encoding="utf-8")
        yield path.relative_to(root).as_posix(), tokens.sub(lambda m: m[1] or re.sub(r"[^\n]", " ", m[0]), text)


def room_of(path: str) -> str:
    return Path(path).relative_to("python/memristore").parts[0].removesuffix(".py")


def imported(path: str, tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Line and absolute dotted name of everything that a file imports, in whichever block."""
    package = Path(path).relative_to("python").parts[:-1]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            start = package[: len(package) - node.level + 1] if node.level else ()
            origin = ".".join([*start, *([node.module] if node.module else [])])
            yield from ((node.lineno, f"{origin}.{alias.name}") for alias in node.names)


def check_arrows(root: Path) -> list[str]:
    wrong = []
    for path, tree in python_files(root, "python/memristore"):
        room = room_of(path)
        if room not in ARROWS:
            wrong.append(f"{path}: the room {room!r} is not on the drawing; draw it in ARROWS and in CONTRIBUTING.md")
            continue
        for line, name in imported(path, tree):
            parts = name.split(".")
            if parts[0] in {"torch", "torchvision"} or parts[:2] == ["safetensors", "torch"]:
                if room not in TORCH_ROOMS:
                    wrong.append(f"{path}:{line}: {room} must not import torch")
            elif parts[0] == "memristore":
                target = parts[1] if len(parts) > 1 else "__init__"
                if target not in ARROWS and target != "_core":
                    target = "__init__"
                if target != room and target not in ARROWS[room]:
                    wrong.append(f"{path}:{line}: {room} must not import {target} ({name})")
    return wrong


def check_randomness(root: Path) -> list[str]:
    """Randomness enters through rng.py and nowhere else."""
    wrong = []
    for path, tree in python_files(root, "python/memristore"):
        if room_of(path) == "rng":
            continue
        names = list(imported(path, tree))
        lines = [line for line, name in names if name.startswith("numpy.random") or name.split(".")[0] == "random"]
        numpy = {
            a.asname or a.name
            for n in ast.walk(tree)
            if isinstance(n, ast.Import)
            for a in n.names
            if a.name == "numpy"
        }
        lines += [
            node.lineno
            for node in ast.walk(tree)
            if isinstance(node, ast.Attribute)
            and node.attr == "random"
            and isinstance(node.value, ast.Name)
            and node.value.id in numpy
        ]
        wrong += [f"{path}:{line}: randomness enters only through rng.py" for line in lines]
    return wrong


def check_asserts(root: Path) -> list[str]:
    return [
        f"{path}:{node.lineno}: assert is never validation; raise one of memristore.errors"
        for path, tree in python_files(root, "python/memristore")
        for node in ast.walk(tree)
        if isinstance(node, ast.Assert)
    ]


def check_names(root: Path) -> list[str]:
    """No grab bags, whatever they are: folders, files, functions, classes."""
    wrong = []
    folders = [root / name for name in ("python", "csrc", "tests", "bench") if (root / name).is_dir()]
    for entry in sorted(p for folder in folders for p in folder.rglob("*")):
        if entry.name.split(".")[0].strip("_").lower() in GRAB_BAGS:
            wrong.append(f"{entry.relative_to(root).as_posix()}: name it after what it does")
    for path, tree in python_files(root, "python", "tests", "bench"):
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef | ast.ClassDef) and node.name.strip("_").lower() in GRAB_BAGS:
                wrong.append(f"{path}:{node.lineno}: {node.name}: name it after what it does")
    return wrong


def python_lengths(root: Path) -> Iterator[tuple[str, int]]:
    """Functions with their lines; a docstring does not count."""
    for path, tree in python_files(root, "python", "tests", "bench"):
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.end_lineno is not None:
                doc = node.body[0] if ast.get_docstring(node) is not None else None
                doc_lines = doc.end_lineno - doc.lineno + 1 if doc is not None and doc.end_lineno is not None else 0
                yield f"{path}:{node.name}", node.end_lineno - node.lineno + 1 - doc_lines


def cpp_functions(text: str) -> Iterator[tuple[str, int]]:
    """Heads and lengths of the functions of a blanked C++ text; nested blocks belong to their function."""
    text = re.sub(r"^[ \t]*#(?:[^\n]*\\\n)*[^\n]*", lambda m: re.sub(r"[^\n]", " ", m[0]), text, flags=re.M)
    scope = re.compile(r"(?:template\s*<.*>\s*)?(?:inline\s+)?(?:namespace|struct|class|union|enum|extern)\b", re.S)
    open_blocks: list[tuple[str, str, int]] = []
    head_start = 0
    for match in re.finditer(r"[{};]", text):
        inside = any(kind != "scope" for kind, _, _ in open_blocks)
        if match[0] == "{":
            head = text[head_start : match.start()].strip()
            kind = "block" if inside else "scope" if scope.match(head) else "function" if "(" in head else "block"
            first = head_start + len(text[head_start : match.start()]) - len(text[head_start : match.start()].lstrip())
            open_blocks.append((kind, " ".join(head.split()), first))
        elif match[0] == "}" and open_blocks:
            kind, head, first = open_blocks.pop()
            if kind == "function":
                yield head, text.count("\n", first, match.end()) + 1
        head_start = match.end()


def check_lengths(root: Path, exempt: dict[str, str] = EXEMPT) -> list[str]:
    lengths: dict[str, tuple[int, int]] = {}
    for folder in ("python", "csrc", "tests", "bench"):
        for source in sorted((root / folder).rglob("*")):
            if source.suffix in {".py", ".pyi", ".cpp", ".hpp"}:
                count = len(source.read_text(encoding="utf-8").splitlines())
                lengths[source.relative_to(root).as_posix()] = (count, MAX_FILE)
    functions = [*python_lengths(root)]
    for path, text in cpp_files(root):
        functions += [(f"{path}:{head.split('(')[0].split()[-1]}", n) for head, n in cpp_functions(text)]
    for name, count in functions:
        lengths[name] = (max(count, lengths.get(name, (0, 0))[0]), MAX_FUNCTION)
    over = {name: pair for name, pair in lengths.items() if pair[0] > pair[1]}
    wrong = [f"{name}: {n} lines, over {limit}" for name, (n, limit) in over.items() if name not in exempt]
    return wrong + [f"{name}: needs no exemption any more" for name in exempt if name not in over]


def check_kernels(root: Path) -> list[str]:
    """The core knows neither Python nor bindings, and computes the same bits everywhere."""
    wrong = []
    for path, text in [*cpp_files(root, "csrc/kernels"), *cpp_files(root, "csrc/include")]:
        for what, pattern in FORBIDDEN_IN_KERNELS.items():
            wrong += [
                f"{path}:{text.count(chr(10), 0, m.start()) + 1}: {what} in a kernel"
                for m in re.finditer(pattern, text)
            ]
    for path, text in cpp_files(root):
        for match in re.finditer(r"#\s*pragma\s+omp\s+parallel\b[^\n]*", text):
            if "num_threads(" not in match[0] or (" for" in match[0] and "schedule(" not in match[0]):
                wrong.append(f"{path}: an omp pragma names its thread count and its schedule")
    cmake = root / "CMakeLists.txt"
    rules = re.sub(r"#[^\n]*", "", cmake.read_text(encoding="utf-8")) if cmake.exists() else ""
    wrong += [f"CMakeLists.txt: {flag}" for flag in ("-ffast-math", "-Ofast", "-march=native") if flag in rules]
    return wrong


def check_bindings(root: Path) -> list[str]:
    """One file per room, each with one door; module.cpp is a table of contents; one place frees the GIL."""
    files = {Path(path).name: text for path, text in cpp_files(root, "csrc/bindings")}
    module = files.get("module.cpp", "")
    wrong = []
    for name, text in files.items():
        stem = name.split(".")[0]
        doors = [head for head, _ in cpp_functions(text) if re.match(r"void register_\w+\(", head)]
        if name.endswith(".cpp") and name != "module.cpp":
            if [head.split("(")[0] for head in doors] != [f"void register_{stem}"]:
                wrong.append(f"csrc/bindings/{name}: must define register_{stem} and no other register function")
            if f"register_{stem}(" not in module:
                wrong.append(f"csrc/bindings/module.cpp: does not list register_{stem}")
    heads = [head for head, _ in cpp_functions(module)]
    if any(not head.startswith("PYBIND11_MODULE(") for head in heads) or re.search(
        r"\.def\w*\(|\[[&=\s]*\]\s*[({]", module
    ):
        wrong.append("csrc/bindings/module.cpp: is a table of contents; bodies belong into a room's file")
    free = sorted(name for name, text in files.items() if "gil_scoped_release" in text)
    if len(free) > 1:
        wrong.append(f"csrc/bindings: the GIL is released in {', '.join(free)}; one file does that")
    return wrong


def check_version(root: Path) -> list[str]:
    """pyproject.toml is the only place of the version; the changelog has an entry for it."""
    version = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
    changelog = (root / "CHANGELOG.md").read_text(encoding="utf-8") if (root / "CHANGELOG.md").exists() else ""
    wrong = (
        [] if re.search(rf"^##.*\b{re.escape(version)}\b", changelog, re.M) else [f"CHANGELOG.md: no heading {version}"]
    )
    for path, tree in python_files(root, "python"):
        if any(isinstance(node, ast.Constant) and node.value == version for node in ast.walk(tree)):
            wrong.append(f"{path}: repeats the version; read it with importlib.metadata")
    return wrong


def check_keys(root: Path) -> list[str]:
    """File name = registry key. (Parts written in Python: the registry itself refuses; see test_architecture.py.)"""
    wrong = []
    for device in sorted((root / "python/memristore/devices").rglob("*.toml")):
        key = tomllib.loads(device.read_text(encoding="utf-8")).get("name")
        if key != device.stem:
            wrong.append(f"{device.relative_to(root).as_posix()}: the device calls itself {key!r}")
    return wrong
