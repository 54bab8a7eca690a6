"""The collection: a program for each attach kind and each map kind, proved by work whose answer is known."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import rights

import ebpf_magic as em

_SPEC = importlib.util.spec_from_file_location("collection", Path(__file__).parents[1] / "collection" / "__main__.py")
assert _SPEC and _SPEC.loader
collection = importlib.util.module_from_spec(_SPEC)
sys.modules["collection"] = collection
_SPEC.loader.exec_module(collection)

pytestmark = [pytest.mark.live, pytest.mark.any_host]
CASES = [
    pytest.param(case, marks=pytest.mark.needs(*case.needs) if case.needs else (), id=case.name)
    for case in collection.cases()
]


@pytest.fixture(autouse=True)
def stop_all() -> Iterator[None]:
    yield
    em.stop_all()


@pytest.mark.parametrize("case", CASES)
def test_each_program_gives_the_exact_answer(case: collection.Case) -> None:
    assert case.run(rights.host_name())
