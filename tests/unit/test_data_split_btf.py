"""A module's types, which go on from the kernel's: ids, strings and words count on."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ebpf_magic import cell_texts
from ebpf_magic.data import c_types, kinds
from ebpf_magic.data.btf import Btf, BtfError


class Writer:
    """Writes BTF; with the length of another's strings, split BTF that goes on from it."""

    def __init__(self, first_string: int = 0) -> None:
        self.types = b""
        self.strings = b"" if first_string else b"\0"
        self._first_string = first_string

    def name(self, text: str) -> int:
        at = self._first_string + len(self.strings)
        self.strings += text.encode() + b"\0"
        return at

    def add(self, kind: int, name: int, ref: int, *more: int, vlen: int = 0) -> None:
        self.types += struct.pack(f"<III{len(more)}I", name, kind << 24 | vlen, ref, *more)

    def raw(self) -> bytes:
        head = struct.pack("<HBBIIIII", 0xEB9F, 1, 0, 24, 0, len(self.types), len(self.types), len(self.strings))
        return head + self.types + self.strings


def kernel() -> Writer:
    made = Writer()
    made.add(kinds.INT, made.name("int"), 4, 1 << 24 | 32)  # 1
    made.add(kinds.STRUCT, made.name("file"), 4, made.name("f_mode"), 1, 0, vlen=1)  # 2
    return made


def module() -> Writer:
    made = Writer(len(kernel().strings))
    made.add(kinds.PTR, 0, 2)  # 3: struct file *
    # 4: its second member's name is the kernel's string "f_mode"
    made.add(
        kinds.STRUCT, made.name("driver"), 16, made.name("file"), 3, 0, kernel().strings.index(b"f_mode"), 1, 64, vlen=2
    )
    made.add(kinds.PTR, 0, 4)  # 5: struct driver *
    made.add(kinds.ENUM, made.name("state"), 4, made.name("IDLE"), 0, made.name("BUSY"), 1, vlen=2)  # 6
    made.add(kinds.FUNC_PROTO, 0, 1, made.name("driver"), 5, made.name("state"), 6, made.name("count"), 1, vlen=3)  # 7
    made.add(kinds.FUNC, made.name("drive"), 7)  # 8
    made.add(kinds.DECL_TAG, made.name("bpf_kfunc"), 8, 0xFFFFFFFF)  # 9
    return made


@pytest.fixture
def types() -> Btf:
    return Btf(module().raw(), base=Btf(kernel().raw()))


def test_names_are_the_module_s_own(types: Btf) -> None:
    assert len(types) == 10
    assert types.names(kinds.STRUCT) == {"driver": 4}
    assert types.names(kinds.INT) == {}
    assert types.tags == {8: ["bpf_kfunc"]}
    assert [types.adds(type_id) for type_id in (0, 1, 2, 3, 9)] == [False, False, False, True, True]


def test_types_of_both_are_read(types: Btf) -> None:
    assert c_types.definition(types, 4) == "struct driver {\n\tstruct file *file;\n\tint f_mode;\n};"
    assert c_types.definition(types, 2) == "struct file {\n\tint f_mode;\n};"
    assert c_types.definition(types, 6) == "enum state {\n\tIDLE = 0,\n\tBUSY = 1,\n};"
    assert types.enumerators(types.type(6)) == {0: "IDLE", 1: "BUSY"}
    assert types.integer(types.type(1)) == (1, 0, 32)
    proto = types.type(7)
    assert c_types.prototype(types, proto, "drive") == "int drive(struct driver *driver, enum state state, int count)"
    with pytest.raises(BtfError, match="no type 10"):
        types.type(10)


def test_a_cell_on_it_needs_no_type_that_vmlinux_h_lacks(types: Btf) -> None:
    cell = cell_texts.of_function(types, "drive", types.type(7), "fentry/drive")
    assert cell.source.startswith("struct driver;\n\n")
    assert "int BPF_PROG(on_drive, struct driver *driver, u64 state, int count)" in cell.source
    read = cell_texts.of_struct(types, "struct", "driver", 4, ("driven", [("driver", 5)], 0)).source
    assert "struct driver {\n\tint f_mode;\n} __attribute__((preserve_access_index));" in read
    assert "COUNT(hits, driver->f_mode);" in read


@given(st.data())
def test_damage_is_one_error(data: st.DataObject) -> None:
    raw = bytearray(module().raw())
    for _ in range(data.draw(st.integers(1, 4))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    try:
        types = Btf(bytes(raw), base=Btf(kernel().raw()))
        for type_id in range(len(types)):
            c_types.declaration(types, type_id, "name")
            types.members(types.type(type_id)) if types.type(type_id).kind == kinds.STRUCT else None
        for kind in range(1, 20):
            types.names(kind)
        assert types.tags is not None
    except BtfError:
        return
