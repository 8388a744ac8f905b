"""What the documentation shows is run: the README's Python and the examples in docstrings."""

from __future__ import annotations

import doctest
import importlib
import re
from pathlib import Path

import pytest

README = Path(__file__).parents[2] / "README.md"
MODULES = ["array", "spec", "storage"]


def test_the_readme_example_runs(capsys):
    blocks = re.findall(r"```python\n(.*?)```", README.read_text("utf-8"), re.DOTALL)
    assert blocks
    names: dict[str, object] = {}
    for block in blocks:
        exec(compile(block, str(README), "exec"), names)
    assert "cells per weight" in capsys.readouterr().out
    assert names["weights"]["0.weight"].shape == (300, 784)


@pytest.mark.parametrize("name", MODULES)
def test_examples_in_docstrings_run(name):
    result = doctest.testmod(importlib.import_module(f"memristore.{name}"))
    assert result.attempted > 0
    assert result.failed == 0
