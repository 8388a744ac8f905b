"""Bytes that each kernel gave when it was first released: a faster kernel may not change one of them.

`MEMRISTORE_REGENERATE=1 pytest tests/kernels/test_golden_streams.py` writes the file anew. That is a change of the
file format: everything that users stored reads back differently. Say so in the change log.
"""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

import pytest

from memristore import _core
from oracle.cases import CASES, Case

FILE = Path(__file__).parent.parent / "golden" / "streams.json"
SCHEMA = {"schema": "memristore-golden-streams", "version": 1}
#: (first, items)
SPANS = [(5, 1000), (2**40 + 17, 257)]


def digests(case: Case) -> dict[str, str]:
    """One SHA-256 per span, over the bytes of all outputs in order."""
    found = {}
    for first, items in SPANS:
        digest = hashlib.sha256()
        for output in case.run(first, items, 1):
            digest.update(output.tobytes())
        found[f"first={first} items={items}"] = digest.hexdigest()
    return found


@pytest.fixture(scope="module")
def golden() -> dict[str, dict[str, str]]:
    if os.environ.get("MEMRISTORE_REGENERATE") == "1":
        document = {**SCHEMA, "sha256": {name: digests(case) for name, case in CASES.items()}}
        FILE.write_text(json.dumps(document, indent=1, sort_keys=True) + "\n")
    document = json.loads(FILE.read_text())
    assert {key: document[key] for key in SCHEMA} == SCHEMA
    streams: dict[str, dict[str, str]] = document["sha256"]
    return streams


@pytest.mark.parametrize("case", CASES.values(), ids=list(CASES))
def test_bytes_are_those_of_the_first_release(case: Case, golden: dict[str, dict[str, str]], isa: str) -> None:
    assert digests(case) == golden[case.name], f"{case.name} gives other bits on {isa}"


def test_every_stream_is_tested(golden: dict[str, dict[str, str]]) -> None:
    assert sorted(golden) == sorted(CASES)
    assert _core.isa() in _core.isa_available()
