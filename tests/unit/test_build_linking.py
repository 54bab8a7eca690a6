"""Several cells as one object, without linking any. The object is that of test_build_verifier."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from ebpf_magic.build import Built, Source, check_resolved, linking
from ebpf_magic.data.elf import Elf

RAW = (Path(__file__).parent / "data" / "rejected.bpf.o").read_bytes()
BUILT = Built(RAW, Source.parse("int helper(int x);\n"), False, "plain", 0, "")
CELLS = {"main": BUILT, "library": BUILT}


def test_instructions_lie_one_cell_behind_the_other() -> None:
    parts = tuple(CELLS.items())
    length = len(Elf(RAW).data("raw_tp/sys_enter") or b"") // 8
    found = [linking.part_of(parts, "raw_tp/sys_enter", insn) for insn in (0, length - 1, length, 2 * length)]
    assert [part and part[0] for part in found] == ["main", "main", "library", None]
    assert linking.part_of(parts, "no such section", 0) is None
    assert linking.part_of((), ".text", 0) is None


@pytest.mark.parametrize(
    ("code", "log", "text"),
    [
        (
            1,
            "libbpf: conflicting non-weak symbol #7 (helper) definition in '1-library'\n",
            "link main with library: helper is defined twice, in main and in library\nRename one of them",
        ),
        (
            1,
            "libbpf: conflicting non-weak symbol #9 (counts__missed) definition in '1-library'\n",
            "counts is defined twice, in main and in library",
        ),
        (
            1,
            "libbpf: global 'helper': incompatible int '(null)' size 8 and 4\n",
            "the cells do not agree on what helper is: incompatible int size 8 and 4",
        ),
        (1, "libbpf: ELF sections x are incompatible\nmore\n", "libbpf's linker says: ELF sections x are incompatible"),
        (1, "", "libbpf's linker says: nothing"),
        (-11, "", "libbpf's linker itself crashed"),
    ],
)
def test_what_the_linker_says(code: int, log: str, text: str) -> None:
    error = linking._refused(CELLS, code, log)
    assert text in str(error)
    assert error.log == log


def test_an_object_of_its_own_is_resolved() -> None:
    check_resolved(BUILT, "main")
    check_resolved(replace(BUILT, parts=tuple(CELLS.items())), "main")
