"""What iterators write: the types of their rows out of a real object (data/rows.bpf.c), rows and lines as frames."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from ebpf_magic.data.btf import Btf
from ebpf_magic.data.rows import line_frame, row_frame, row_types
from ebpf_magic.errors import IteratorError, UnsupportedError

OBJECT = (Path(__file__).parent / "data" / "rows.bpf.o").read_bytes()
PROGRAMS = ["tasks", "twice", "two_types", "plain", "text", "by_call", "inlined"]


@pytest.fixture(scope="module")
def btf() -> Btf:
    return Btf.from_elf(OBJECT)


def test_a_program_has_the_type_of_its_own_rows(btf: Btf) -> None:
    own = row_types(btf, ["tasks", "twice", "plain"])
    assert [column.name for column in own["tasks"].columns] == ["pid", "state", "comm"]
    assert own["twice"] == own["tasks"]
    assert own["plain"].dtype == "u8"


def test_one_without_rows_of_its_own_has_those_of_what_it_calls(btf: Btf) -> None:
    others = [name for name in PROGRAMS if name not in ("by_call", "inlined", "text")]
    # Only what is asked for may be ambiguous; `give` and `put` write the same type.
    shared = row_types(_without(btf, others), ["by_call", "inlined", "text"])
    assert [column.name for column in shared["by_call"].columns] == ["value"]
    assert shared["inlined"] == shared["by_call"]
    assert "text" not in shared


def _without(btf: Btf, programs: list[str]) -> Btf:
    """The same types, but for what some programs write."""
    made = Btf.from_elf(OBJECT)
    left = [(name, type_id) for name, type_id in btf.pointers(".em.rows") if name.partition(".")[0] not in programs]
    made.pointers = lambda section: left  # type: ignore[method-assign]
    return made


def test_two_types_in_one_program_are_refused(btf: Btf) -> None:
    with pytest.raises(UnsupportedError, match=r"two_types: it may write rows of several types: pair_t, u64"):
        row_types(btf, PROGRAMS)


def test_rows_become_columns(btf: Btf) -> None:
    raw = b"".join(struct.pack("<Ii8s", pid, pid % 3, b"task%d" % pid) for pid in range(4))
    frame = row_frame("tasks", row_types(btf, ["tasks"])["tasks"], bytearray(raw))
    assert frame["pid"].tolist() == [0, 1, 2, 3]
    assert frame["state"].tolist() == ["RUNNING", "SLEEPING", "2", "RUNNING"]
    assert frame["comm"].tolist() == ["task0", "task1", "task2", "task3"]
    frame.loc[0, "pid"] = 9  # it is the reader's own


def test_rows_of_a_plain_number_are_called_value(btf: Btf) -> None:
    frame = row_frame("plain", row_types(btf, ["plain"])["plain"], struct.pack("<3Q", 1, 2, 1 << 63))
    assert frame["value"].tolist() == [1, 2, 1 << 63]


def test_no_rows_are_an_empty_frame_with_its_columns(btf: Btf) -> None:
    frame = row_frame("tasks", row_types(btf, ["tasks"])["tasks"], b"")
    assert frame.empty
    assert frame.columns.tolist() == ["pid", "state", "comm"]


def test_half_a_row_is_an_error(btf: Btf) -> None:
    with pytest.raises(IteratorError, match="17 bytes are no whole number of rows of 16 bytes"):
        row_frame("tasks", row_types(btf, ["tasks"])["tasks"], bytes(17))


@pytest.mark.parametrize(
    ("text", "lines"), [("", []), ("a\n", ["a"]), ("a\n\nb", ["a", "", "b"]), ("\n", [""]), ("a\rb\n", ["a\rb"])]
)
def test_lines(text: str, lines: list[str]) -> None:
    frame = line_frame(text)
    assert frame["line"].tolist() == lines
    assert frame["line"].dtype == "str"
