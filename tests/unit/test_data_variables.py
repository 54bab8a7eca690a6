"""Variables of data/types.bpf.c and kinds.bpf.c: found by name, read from bytes, and the bytes of new values."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ebpf_magic.data import variables
from ebpf_magic.data.btf import Btf, Variable
from ebpf_magic.data.variables import Piece, Place, find, pieces, value
from ebpf_magic.errors import NoSuchNameError, UsageError

DATA = Path(__file__).parent / "data"
TYPES = Btf.from_elf((DATA / "types.bpf.o").read_bytes())
FOUND = variables.declared(TYPES)
SPECS = TYPES.map_specs()


def place(name: str) -> Place:
    return find(FOUND, name, "set")


def of_layout(name: str) -> Place:
    """A variable at byte 16 of .bss, of the type of a map's value."""
    layout = SPECS[name].value
    assert layout is not None
    return Place(Variable("it", ".bss", 16, layout, False, False), None)


def refused(where: Place, new: Any) -> str:
    with pytest.raises(UsageError) as caught:
        pieces(where, new, "set variable it")
    return str(caught.value)


def test_variables_of_all_sections_by_name() -> None:
    assert {name: each.section for name, each in FOUND.items()} == {
        "counters": ".bss", "server": ".data", "custom": ".data.mine", "limit": ".rodata", "folded": ".rodata"
    }  # fmt: skip
    kinds = variables.declared(Btf.from_elf((DATA / "kinds.bpf.o").read_bytes()))
    assert set(kinds) == {"zeroed", "first_global", "second_global", "hidden", "limit"}


def test_names_that_are_not_there() -> None:
    with pytest.raises(
        NoSuchNameError, match=r"set: no such variable \(near: limit\)\nIts variables: counters, server"
    ):
        place("limti")
    with pytest.raises(NoSuchNameError, match=r"set: no such field \(near: .*counters\[10\]"):
        place("counters[100]")
    assert place("counters[7]").column == FOUND["counters"].layout.columns[7]


def test_values_are_numbers_texts_and_series() -> None:
    assert value(place("limit"), struct.pack("<I", 7)) == 7
    assert value(place("server"), bytes([10, 0, 0, 1])) == "10.0.0.1"
    counters = value(place("counters"), struct.pack("<100Q", *range(100)))
    assert isinstance(counters, pd.Series)
    assert (counters.dtype, counters[99], list(counters.index)) == (np.uint64, 99, list(range(100)))
    assert value(place("counters[3]"), struct.pack("<100Q", *range(100))) == 3
    row = value(of_layout("with_bits"), bytes([7]) + bytes(23))
    assert (row["three"], row["flag"], row["level"]) == (7, False, "LOW")
    assert type(row["three"]) is int and type(row["flag"]) is bool


def test_bytes_of_new_values() -> None:
    assert pieces(place("limit"), 7, "set") == [Piece(".rodata", 0, struct.pack("<I", 7))]
    assert pieces(place("limit"), "0x10", "set") == [Piece(".rodata", 0, struct.pack("<I", 16))]
    assert pieces(place("server"), "10.0.0.1", "set") == [Piece(".data", 0, bytes([10, 0, 0, 1]))]
    assert pieces(place("counters[3]"), np.uint64(9), "set") == [Piece(".bss", 24, struct.pack("<Q", 9))]
    assert pieces(place("counters"), {3: 1, "[5]": 2}, "set") == [
        Piece(".bss", 24, struct.pack("<Q", 1)), Piece(".bss", 40, struct.pack("<Q", 2))
    ]  # fmt: skip
    assert pieces(place("counters"), range(100), "set") == [Piece(".bss", 0, struct.pack("<100Q", *range(100)))]


def test_fields_of_a_struct_alone_and_all() -> None:
    where = of_layout("network")
    (dport,) = pieces(where, {"dport": 80}, "set")
    at = where.variable.layout.dtype.fields["dport"][1]
    assert dport == Piece(".bss", 16 + at, struct.pack(">H", 80))
    whole = value(where, bytes(120))
    (piece,) = pieces(where, whole, "set")
    assert (piece.offset, len(piece.data)) == (16, 120)


@given(st.binary(min_size=24, max_size=24))
def test_a_struct_of_bit_fields_goes_as_a_whole(raw: bytes) -> None:
    where = of_layout("with_bits")
    (piece,) = pieces(where, value(where, raw), "set")
    assert value(where, piece.data).tolist() == value(where, raw).tolist()


def test_one_member_of_a_union_is_a_whole_value() -> None:
    (piece,) = pieces(of_layout("with_union"), {"tag": 1, "as.real": 0.5, "one_way": 2}, "set")
    assert piece == Piece(".bss", 16, struct.pack("<IfI", 1, 0.5, 2))


@pytest.mark.parametrize(
    ("where", "new", "why"),
    [
        (place("limit"), -1, "set variable it: -1 is not from 0 to 4294967295"),
        (place("limit"), 1 << 32, "4294967296 is not from 0 to 4294967295"),
        (place("limit"), "many", "many is not an integer"),
        (place("limit"), [1], "[1] is not an integer"),
        (place("limit"), None, "there is no value"),
        (place("server"), "10.0.0", "'10.0.0' is not an IPv4 address"),
        (place("counters"), [1], "it has 100 values, not 1"),
        (place("counters"), 5, "5 is not a mapping of its fields\nIt has: [0], [1]"),
        (of_layout("with_bits"), {"thre": 1}, "it has no field 'thre' (near: three)"),
        (of_layout("with_bits"), {"three": 1}, "a bit field has no bytes of its own\nGive all fields"),
        (of_layout("network"), {"dport": 1, "sport": 65536}, "set variable it: sport: 65536 is not from 0 to 65535"),
    ],
)
def test_values_that_do_not_fit(where: Place, new: Any, why: str) -> None:
    assert why in refused(where, new)


def test_what_variables_begin_with() -> None:
    assert variables.initial(TYPES, {"limit": "4", "counters[1]": 2}) == [
        Piece(".rodata", 0, struct.pack("<I", 4)), Piece(".bss", 8, struct.pack("<Q", 2))
    ]  # fmt: skip
    with pytest.raises(
        UsageError, match=r"set variable folded\[1\]: it is const, and so its value is in the code already"
    ):
        variables.initial(TYPES, {"folded[1]": 5})
    with pytest.raises(NoSuchNameError, match=r"set variable limt: no such variable \(near: limit\)"):
        variables.initial(TYPES, {"limt": 5})


@pytest.mark.parametrize(("text", "expected"), [("true", 1), ("False", 0), ("1", 1)])
def test_words_for_a_flag(text: str, expected: int) -> None:
    layout = TYPES.layout(next(i for i in range(1, len(TYPES)) if TYPES.type(i).name == "_Bool"))
    assert layout is not None
    where = Place(Variable("it", ".bss", 0, layout, False, False), None)
    assert pieces(where, text, "set") == [Piece(".bss", 0, bytes([expected]))]
    assert "maybe is not an integer" in refused(where, "maybe")
