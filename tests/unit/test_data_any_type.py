"""Any type that BTF can describe, nested at random: what is shown of any bytes is written back and shows again."""

from __future__ import annotations

import struct

import pandas as pd
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from ebpf_magic.data import kinds
from ebpf_magic.data.btf import Btf, MapSpec
from ebpf_magic.data.layout import bytes_layout
from ebpf_magic.data.maps import encode, map_frame


class Types:
    """BTF in the making: each method adds a type and returns its id and its size in bytes."""

    def __init__(self) -> None:
        self._body = b""
        self._strings = b"\0"
        self._count = 0

    def add(self, kind: int, name: str = "", vlen: int = 0, ref: int = 0, flag: bool = False, *more: int) -> int:
        words = self._name(name), flag << 31 | kind << 24 | vlen, ref, *more
        self._body += struct.pack(f"<{len(words)}I", *words)
        self._count += 1
        return self._count

    def compound(self, kind: int, members: list[tuple[str, int, int, int]], size: int) -> tuple[int, int]:
        """Add a struct or union; a member is its name, its type, its first bit, and its bits (0: no bit field)."""
        words = [word for name, type_id, at, bits in members for word in (self._name(name), type_id, bits << 24 | at)]
        return self.add(kind, "", len(members), size, True, *words), size

    def btf(self) -> Btf:
        header = struct.pack("<HBBIIIII", 0xEB9F, 1, 0, 24, 0, len(self._body), len(self._body), len(self._strings))
        return Btf(header + self._body + self._strings)

    def _name(self, name: str) -> int:
        at = len(self._strings) if name else 0
        self._strings += name.encode() + b"\0" if name else b""
        return at


@st.composite
def leaves(draw: st.DrawFn, types: Types) -> tuple[int, int]:
    kind = draw(st.sampled_from(["int", "int", "bool", "float", "enum", "enum64", "pointer", "text"]))
    if kind == "int":
        size, signed = draw(st.sampled_from([1, 2, 4, 8, 16])), draw(st.booleans())
        return types.add(kinds.INT, f"int{size}", 0, size, False, signed << 24 | 8 * size), size
    if kind == "bool":
        return types.add(kinds.INT, "_Bool", 0, 1, False, 4 << 24 | 8), 1
    if kind == "float":
        size = draw(st.sampled_from([2, 4, 8, 16]))
        return types.add(kinds.FLOAT, f"float{size}", 0, size), size
    if kind == "enum":
        names = [types._name("ONE"), 1, types._name("TWO"), 2]
        return types.add(kinds.ENUM, "few", 2, 4, draw(st.booleans()), *names), 4
    if kind == "enum64":
        return types.add(kinds.ENUM64, "wide", 1, 8, draw(st.booleans()), types._name("BIG"), 0, 0x80000000), 8
    if kind == "pointer":
        return types.add(kinds.PTR), 8
    char = types.add(kinds.INT, "char", 0, 1, False, 1 << 24 | 8)
    length = draw(st.integers(1, 12))
    return types.add(kinds.ARRAY, "", 0, 0, False, char, char, length), length


@st.composite
def nested(draw: st.DrawFn, types: Types, depth: int = 0) -> tuple[int, int]:
    kind = draw(st.sampled_from(["leaf", "leaf", "array", "typedef", "struct", "union"])) if depth < 3 else "leaf"
    if kind == "leaf":
        return draw(leaves(types))
    if kind == "array":
        element, size = draw(nested(types, depth + 1))
        length = draw(st.integers(1, 3))
        return types.add(kinds.ARRAY, "", 0, 0, False, element, element, length), size * length
    if kind == "typedef":
        inner, size = draw(nested(types, depth + 1))
        return types.add(kinds.TYPEDEF, "named_t", 0, types.add(kinds.CONST, "", 0, inner)), size
    members: list[tuple[str, int, int, int]] = []
    first = end = 0
    for number in range(draw(st.integers(1, 3))):
        if draw(st.integers(0, 3)):
            member, size = draw(nested(types, depth + 1))
            first = -(-first // 8) * 8
            members.append((f"m{number}", member, first, 0))
            width = 8 * size
        else:
            size = draw(st.sampled_from([1, 2, 4, 8, 16]))
            width = draw(st.integers(1, 8 * size))
            whole = types.add(kinds.INT, "bits", 0, size, False, draw(st.booleans()) << 24 | 8 * size)
            members.append((f"b{number}", whole, first, width))
        end = max(end, first + width)
        if kind == "struct":
            first += width + draw(st.integers(0, 9))
    return types.compound(kinds.STRUCT if kind == "struct" else kinds.UNION, members, -(-end // 8))


@pytest.mark.parametrize("raw", [b"\0\1", b"\0\xff", b"\0a", b"a\0", b"a\x7f", b"\xff\xff", b"\0\0"])
@pytest.mark.parametrize("text_first", [True, False])
def test_a_number_beside_a_text_that_ends_before_it(raw: bytes, text_first: bool) -> None:
    types = Types()
    char = types.add(kinds.INT, "char", 0, 1, False, 1 << 24 | 8)
    members = [types.add(kinds.ARRAY, "", 0, 0, False, char, char, 2), types.add(kinds.FLOAT, "float2", 0, 2)]
    if not text_first:
        members.reverse()
    type_id, _ = types.compound(kinds.UNION, [(f"m{n}", member, 0, 0) for n, member in enumerate(members)], 2)
    spec = MapSpec("any", key=bytes_layout(4), value=types.btf().layout(type_id))
    frame = map_frame(spec, "hash", bytes(4), raw, 1, 2)
    again = encode(spec, "hash", frame, 2)[1]
    pd.testing.assert_frame_equal(map_frame(spec, "hash", bytes(4), again, 1, 2), frame)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(st.data())
def test_any_bytes_of_any_type(data: st.DataObject) -> None:
    types = Types()
    type_id, size = data.draw(nested(types))
    layout = types.btf().layout(type_id)
    assert layout is not None and layout.dtype.itemsize == size
    # Of a flag only whether it is 0 is shown, which the few bits of another member of its union need not tell.
    assume(not any(column.kind == "bool" and column.unions for column in layout.columns))
    count = data.draw(st.integers(0, 4))
    raw = data.draw(st.binary(min_size=size * count, max_size=size * count))
    keys = struct.pack(f"<{count}I", *range(count))
    spec = MapSpec("any", key=bytes_layout(4), value=layout)
    frame = map_frame(spec, "hash", keys, raw, count, 2)
    assert len(frame.columns) == len(layout.columns)
    again_keys, again, number = encode(spec, "hash", frame, 2)
    assert (again_keys, number, len(again)) == (keys, count, len(raw))
    shown = map_frame(spec, "hash", keys, again, count, 2)
    pd.testing.assert_frame_equal(shown, frame)
    assert encode(spec, "hash", shown, 2)[1] == again
    if {column.kind for column in layout.columns} <= {"int", "enum", "bytes", "pointer"}:
        all_ones = encode(spec, "hash", map_frame(spec, "hash", keys, b"\xff" * len(raw), count, 2), 2)[1]
        assert again == bytes(one & mask for one, mask in zip(raw, all_ones, strict=True))
    as_key = MapSpec("any", key=layout, value=bytes_layout(4))
    index = map_frame(as_key, "hash", again, keys, count, 2).index
    assert index.nlevels == len(layout.columns)
