"""BTF of a real object against the C it was made from (data/kinds.bpf.c), and damaged BTF."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ebpf_magic.data.btf import Btf, BtfError
from ebpf_magic.data.elf import Elf
from ebpf_magic.data.layout import Layout
from ebpf_magic.errors import EbpfMagicError

DATA = Path(__file__).parent / "data"
OBJECT = (DATA / "kinds.bpf.o").read_bytes()
SOURCE = (DATA / "kinds.bpf.c").read_text().splitlines()
SECTIONS = (".maps", ".data", ".bss", ".rodata", "license", "tracepoint/first", "tracepoint/both", "no/such")


@pytest.fixture(scope="module")
def btf() -> Btf:
    return Btf.from_elf(OBJECT)


def columns(layout: Layout | None) -> list[tuple[str, str]]:
    assert layout is not None
    return [(column.name, column.kind) for column in layout.columns]


def test_every_map_is_found_with_its_type_and_size(btf: Btf) -> None:
    specs = btf.map_specs()
    assert len(specs) == 19
    assert all(name == spec.name for name, spec in specs.items())
    assert (specs["plain"].type_id, specs["plain"].max_entries) == (1, 1024)
    assert (specs["ring"].type_id, specs["ring"].max_entries) == (27, 4096)
    assert (specs["per_cpu"].type_id, specs["per_cpu"].max_entries) == (5, 8)


def test_kind_and_unit_come_from_declaration_tags(btf: Btf) -> None:
    specs = btf.map_specs()
    assert (specs["plain"].kind, specs["plain"].unit) == ("", "")
    assert (specs["latency"].kind, specs["latency"].unit) == ("hist", "ns")
    assert (specs["latency_by_who"].kind, specs["latency_by_who"].unit) == ("hist_by", "us")
    assert (specs["latency_by_pid"].kind, specs["latency_by_pid"].unit) == ("hist_by", "")


def test_plain_types(btf: Btf) -> None:
    specs = btf.map_specs()
    assert specs["plain"].key.dtype == np.dtype("<u4")
    assert specs["plain"].value.dtype == np.dtype("<u8")
    assert columns(specs["plain"].key) == [("", "int")]
    assert specs["names"].key.dtype == np.dtype("S16")
    assert columns(specs["names"].key) == [("", "char")]
    assert specs["names"].value.dtype == np.dtype("<i8")
    assert specs["padding"].value.dtype == np.dtype("u1")
    assert columns(specs["vectors"].value) == [(f"[{i}]", "int") for i in range(4)]


def test_sizes_without_types_are_bytes(btf: Btf) -> None:
    spec = btf.map_specs()["sizes"]
    assert (spec.key.dtype.itemsize, spec.value.dtype.itemsize) == (6, 10)
    assert columns(spec.key) == columns(spec.value) == [("", "bytes")]
    ring = btf.map_specs()["ring"]
    assert ring.key is None and ring.value is None


def test_a_struct_of_everything(btf: Btf) -> None:
    layout = btf.map_specs()["all_kinds"].value
    expected = {  # what C's alignment makes of struct everything
        "a_u8": ("u1", 0, "int"), "a_s8": ("i1", 1, "int"), "a_u16": ("<u2", 2, "int"), "a_s16": ("<i2", 4, "int"),
        "a_u32": ("<u4", 8, "int"), "a_s32": ("<i4", 12, "int"), "a_u64": ("<u8", 16, "int"),
        "a_s64": ("<i8", 24, "int"),
        "flag": ("u1", 32, "bool"), "letter": ("i1", 33, "int"), "state": ("<u4", 36, "enum"),
        "wide": ("<u8", 40, "enum"),
        "in.low": ("<u2", 48, "int"), "in.high": ("<i2", 50, "int"), "anon_a": ("<u4", 52, "int"),
        "one_way": ("<u4", 56, "int"),
        "numbers[0]": ("<u4", 60, "int"), "numbers[1]": ("<u4", 64, "int"), "numbers[2]": ("<u4", 68, "int"),
        "grid[0][0]": ("u1", 72, "int"), "grid[0][1]": ("u1", 73, "int"), "grid[1][0]": ("u1", 74, "int"),
        "grid[1][1]": ("u1", 75, "int"), "names[0]": ("S8", 76, "char"), "names[1]": ("S8", 84, "char"),
        "many[0].low": ("<u2", 92, "int"), "many[0].high": ("<i2", 94, "int"),
        "many[1].low": ("<u2", 96, "int"), "many[1].high": ("<i2", 98, "int"),
        "long_array": ("V520", 104, "bytes"), "single": ("<f4", 624, "float"), "twice": ("<f8", 632, "float"),
        "pointer": ("<u8", 640, "pointer"),
    }  # fmt: skip
    assert layout.dtype.itemsize == 648
    found = {
        column.name: (layout.dtype.fields[column.path][0], layout.dtype.fields[column.path][1], column.kind)
        for column in layout.columns
    }
    assert found == {name: (np.dtype(form), at, kind) for name, (form, at, kind) in expected.items()}
    state = next(column for column in layout.columns if column.name == "state")
    assert state.enum == {0: "RUNNING", 1: "SLEEPING", 4: "STOPPED", 0xFFFFFFFF: "ZOMBIE"}


def test_packed_and_padded_structs(btf: Btf) -> None:
    specs = btf.map_specs()
    tight = specs["packed"].value.dtype
    assert (tight.itemsize, [tight.fields[name][1] for name in tight.names]) == (11, [0, 1, 9])
    padded = specs["padding"].key.dtype
    assert (padded.itemsize, [padded.fields[name][1] for name in padded.names]) == (16, [0, 8])


def test_variables_lie_where_the_symbol_table_says(btf: Btf) -> None:
    data = btf.variables(".data")
    assert [(each.name, each.offset, each.layout.dtype.itemsize, each.is_static) for each in data] == [
        ("first_global", 0, 8, False), ("second_global", 8, 4, False), ("hidden", 12, 4, True)
    ]  # fmt: skip
    assert [(each.name, each.layout.dtype.itemsize) for each in btf.variables(".bss")] == [("zeroed", 32)]
    assert [(each.name, each.is_folded) for each in btf.variables(".rodata")] == [("limit", False)]
    assert btf.variables(".no_such") == []


@pytest.mark.parametrize("section", ["tracepoint/first", "tracepoint/both"])
def test_line_info_quotes_the_source(btf: Btf, section: str) -> None:
    lines = btf.line_info(section)
    assert len(lines) >= 8
    assert [line.insn for line in lines] == sorted({line.insn for line in lines})
    for line in lines:
        assert line.file == "./kinds.bpf.c"
        if line.line:  # 0: the compiler could not say
            assert line.text == SOURCE[line.line - 1]
            assert 1 <= line.column <= len(line.text)


def test_line_info_of_the_second_program_counts_from_the_section(btf: Btf) -> None:
    second = SOURCE.index("    zeroed[1] += 1;") + 1
    size_of_first = Elf(OBJECT).symbols["on_other"].value // 8
    assert size_of_first > 0
    assert min(line.insn for line in btf.line_info("tracepoint/both") if line.line == second) > size_of_first
    assert btf.line_info("no/such") == []


def test_references_resolve_through_typedefs(btf: Btf) -> None:
    variable = next(btf.type(i) for i in range(1, len(btf)) if btf.type(i).name == "state_t")
    assert btf.resolve(variable.ref).name == "state"
    assert btf.type(0).name == "void"
    with pytest.raises(BtfError, match="there is no type"):
        btf.type(len(btf))


def test_the_error_is_a_value_error_and_ours() -> None:
    with pytest.raises(ValueError, match="not a little-endian ELF64 file") as caught:
        Btf.from_elf(b"")
    assert isinstance(caught.value, EbpfMagicError)
    with pytest.raises(BtfError, match="cut short"):
        Btf(b"")
    with pytest.raises(BtfError, match="begins with 000000"):
        Btf(bytes(24))


def test_an_object_without_btf_says_so() -> None:
    header = Elf(OBJECT)
    assert header.data(".no_such") is None
    with pytest.raises(BtfError, match="clang makes it with -g"):
        Btf.from_elf(OBJECT.replace(b".BTF\0", b".XTF\0"))


def use(raw: bytes) -> None:
    """Do everything that reads an object."""
    btf = Btf.from_elf(raw)
    for spec in btf.map_specs().values():
        for layout in (spec.key, spec.value):
            if layout is not None:
                assert all(not column.path or column.path in layout.dtype.names for column in layout.columns)
    for section in SECTIONS:
        btf.variables(section)
        btf.line_info(section)
    for type_id in range(len(btf)):
        btf.layout(type_id)


def accept_only_btf_errors(raw: bytes) -> None:
    try:
        use(raw)
    except BtfError as error:
        assert str(error)


@given(st.binary(max_size=400))
def test_random_bytes(raw: bytes) -> None:
    accept_only_btf_errors(raw)
    for prefix in (b"\x7fELF\x02\x01", b"\x9f\xeb\x01\x00"):
        accept_only_btf_errors(prefix + raw)
    try:
        btf = Btf(b"\x9f\xeb\x01\x00" + raw, b"\x9f\xeb\x01\x00" + raw)
        btf.map_specs()
        btf.line_info("x")
    except BtfError as error:
        assert str(error)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, len(OBJECT)))
def test_truncated_objects(size: int) -> None:
    accept_only_btf_errors(OBJECT[:size])


@settings(max_examples=250, deadline=None)
@given(st.data())
def test_mutated_objects(data: st.DataObject) -> None:
    raw = bytearray(OBJECT)
    sections = {section.name: section for section in Elf(OBJECT).sections}
    for _ in range(data.draw(st.integers(1, 6))):
        section = sections[data.draw(st.sampled_from((".BTF", ".BTF", ".BTF.ext", ".symtab")))]
        at = section.offset + data.draw(st.integers(0, section.size - 4))
        at -= at % 4
        raw[at : at + 4] = data.draw(
            st.one_of(st.binary(min_size=4, max_size=4), st.integers(0, 200).map(lambda n: n.to_bytes(4, "little")))
        )
    accept_only_btf_errors(bytes(raw))


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_mutated_headers(data: st.DataObject) -> None:
    raw = bytearray(OBJECT)
    first_section_header = int.from_bytes(OBJECT[40:48], "little")
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.one_of(st.integers(0, 63), st.integers(first_section_header, len(raw) - 1)))
        raw[at] = data.draw(st.integers(0, 255))
    accept_only_btf_errors(bytes(raw))


def btf_of(types: list[int], strings: bytes = b"\0a\0") -> Btf:
    body = np.array(types, "<u4").tobytes()
    header = np.array([0x0001EB9F, 24, 0, len(body), len(body), len(strings)], "<u4").tobytes()
    return Btf(header + body + strings)


def test_endless_references_end() -> None:
    typedef = 8 << 24
    loop = btf_of([1, typedef, 2, 1, typedef, 1])
    with pytest.raises(BtfError, match="without an end"):
        loop.layout(1)


def test_a_struct_in_itself_ends() -> None:
    struct = (4 << 24) | 1
    with pytest.raises(BtfError, match="nest deeper"):
        btf_of([1, struct, 8, 1, 1, 0]).layout(1)


def test_an_array_of_itself_ends() -> None:
    with pytest.raises(BtfError, match="nest deeper"):
        btf_of([0, 3 << 24, 0, 1, 1, 2]).layout(1)


def test_structs_that_double_are_not_unfolded() -> None:
    """Thirty structs, each of two of the next: 2**30 fields; the layout is bytes and is not built."""
    strings = b"\0a\0b\0"
    types: list[int] = []
    for number in range(1, 31):
        types += [1, (4 << 24) | 2, 1 << 20, 1, number + 1, 0, 3, number + 1, 0]
    types += [1, 1 << 24, 1, 8]
    (column,) = btf_of(types, strings).layout(1).columns
    assert (column.name, column.kind) == ("", "bytes")


def test_an_enum_of_each_size_and_sign() -> None:
    enum, enum64, signed = 6 << 24, 19 << 24, 1 << 31
    small = btf_of([1, enum | signed | 1, 1, 1, 0xFFFFFFFF]).layout(1)
    assert (small.dtype, dict(small.columns[0].enum)) == (np.dtype("i1"), {-1: "a"})
    large = btf_of([1, enum64 | 1, 8, 1, 5, 7]).layout(1)
    assert (large.dtype, dict(large.columns[0].enum)) == (np.dtype("<u8"), {(7 << 32) | 5: "a"})
    negative = btf_of([1, enum64 | signed | 1, 8, 1, 0xFFFFFFFE, 0xFFFFFFFF]).layout(1)
    assert (negative.dtype, dict(negative.columns[0].enum)) == (np.dtype("<i8"), {-2: "a"})
