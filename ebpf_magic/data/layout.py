"""A BTF type as a NumPy dtype, and the columns a DataFrame shows of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import product
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np

from ebpf_magic.data import kinds
from ebpf_magic.data.elf import BtfError
from ebpf_magic.errors import UnsupportedError

if TYPE_CHECKING:
    from ebpf_magic.data.btf import Btf, Member, Type

_MAX_ELEMENTS = 64  # a longer array is one column of bytes
_MAX_FIELDS = 4096
_MAX_DEPTH = 32
_MAX_SIZE_BYTES = 1 << 30


@dataclass(frozen=True)
class Column:
    """One column a value becomes.

    Attributes
    ----------
    name : str
        The field's name, dotted where structs nest; empty for a value that is no struct.
    path : str
        The field of the dtype that holds it; empty when the value has no fields.
    kind : str
        "int", "pointer", "bool", "float", "char" (text), "enum", "bytes", or "unsupported".
    unit : str, optional
        The unit of its numbers.
    enum : mapping, optional
        An enum's names by value.
    detail : str
        What an unsupported column is, in the words of an error message.
    """

    name: str
    path: str
    kind: str
    unit: str | None = None
    enum: Mapping[int, str] | None = None
    detail: str = ""


@dataclass(frozen=True)
class Layout:
    """How a value lies in memory (`dtype`, as large as the BTF type) and the columns it becomes."""

    dtype: np.dtype[Any]
    columns: tuple[Column, ...]

    def check(self, name: str, side: str) -> None:
        """Raise UnsupportedError when a column of the map `name` cannot be shown; `side` is "key" or "value"."""
        for column in self.columns:
            if column.kind == "unsupported":
                raise UnsupportedError(
                    f"show map {name}",
                    f"{label(column, side) if column.name else 'its ' + side} is {column.detail}",
                    "ebpf_magic has no column for that yet",
                )


def label(column: Column, side: str) -> str:
    """Return the name of a column in a frame: a value that is no struct is named "key" or "value"."""
    return side + column.name if not column.name or column.name.startswith("[") else column.name


def bytes_layout(size_bytes: int) -> Layout:
    """Return the layout of a value of which only the size is known."""
    return Layout(np.dtype(f"V{size_bytes}"), (Column("", "", "bytes"),))


def layout_of(btf: Btf, type_id: int) -> Layout:
    """Return the layout of a BTF type; what has no column yet becomes one of kind "unsupported"."""
    return _Builder(btf).build(type_id)


class _TooManyFieldsError(Exception):
    """A type has more fields than a frame should have columns."""


class _Builder:
    """Walks one type and collects its columns, each with its place in memory."""

    def __init__(self, btf: Btf) -> None:
        self._btf = btf
        self._columns: list[Column] = []
        self._formats: list[str] = []
        self._offsets: list[int] = []
        self._visits = 0
        self._size_bytes = 0

    def build(self, type_id: int) -> Layout:
        self._size_bytes = size = self._size(type_id)
        if not 0 < size <= _MAX_SIZE_BYTES:
            return _unsupported(1, f"a type of {size} bytes")
        try:
            self._add(type_id, "", 0, 0)
        except _TooManyFieldsError:
            return _unsupported(size, f"a struct of more than {_MAX_FIELDS:,} fields")
        names = [column.path for column in self._columns]
        if names == [""]:
            return Layout(np.dtype(self._formats[0]), tuple(self._columns))
        if len(set(names)) != len(names):
            raise BtfError("a struct uses a name twice")
        fields: Any = {"names": names, "formats": self._formats, "offsets": self._offsets, "itemsize": size}
        return Layout(np.dtype(fields), tuple(self._columns))

    def _put(self, name: str, offset: int, code: str, size: int, kind: str, **more: Any) -> None:
        if offset + size > self._size_bytes:
            raise BtfError("a member lies outside its struct")
        self._columns.append(Column(name, name, kind, **more))
        self._formats.append(f"{code}{size}")
        self._offsets.append(offset)

    def _add(self, type_id: int, name: str, offset: int, depth: int) -> None:
        self._visits += 1
        if self._visits > _MAX_FIELDS:
            raise _TooManyFieldsError
        if depth > _MAX_DEPTH:
            raise BtfError(f"its types nest deeper than {_MAX_DEPTH}")
        found = self._btf.resolve(type_id)
        if found.kind == kinds.STRUCT:
            self._add_struct(found, name, offset, depth)
        elif found.kind == kinds.ARRAY:
            self._add_array(type_id, name, offset, depth)
        elif found.kind == kinds.INT:
            self._add_int(found, name, offset)
        elif found.kind in (kinds.ENUM, kinds.ENUM64) and found.ref in _SIZES:
            names = self._btf.enumerators(found)
            self._put(name, offset, "<i" if found.flag else "<u", found.ref, "enum", enum=names)
        elif found.kind == kinds.FLOAT and found.ref in (4, 8):
            self._put(name, offset, "<f", found.ref, "float")
        elif found.kind == kinds.PTR:
            self._put(name, offset, "<u", 8, "pointer")
        else:
            self._put(name, offset, "V", self._size(type_id), "unsupported", detail=_describe(found))

    def _add_struct(self, found: Type, name: str, offset: int, depth: int) -> None:
        for member in self._btf.members(found):
            at = offset + member.offset_bits // 8
            is_bits = self._is_bit_field(member)
            inner = self._btf.resolve(member.type_id)
            own = member.name
            if not own and (is_bits or inner.kind != kinds.STRUCT):
                if is_bits:
                    continue  # unnamed bits are padding
                own = f"(unnamed at byte {at})"
            full = f"{name}.{own}" if name and own else name or own
            if is_bits:
                self._put(full, at, "V", 0, "unsupported", detail="a bit field")
            else:
                self._add(member.type_id, full, at, depth + 1)

    def _is_bit_field(self, member: Member) -> bool:
        if member.bits or member.offset_bits % 8:
            return True
        found = self._btf.resolve(member.type_id)
        return found.kind == kinds.INT and self._btf.integer(found)[1] != 8 * found.ref

    def _add_array(self, type_id: int, name: str, offset: int, depth: int) -> None:
        element, lengths = self._dimensions(type_id)
        # Plain char is text; only its name tells it from `signed char` and `unsigned char`, which are numbers.
        is_text = self._btf.resolve(element)[:2] == (kinds.INT, "char")
        size = lengths.pop() if is_text else self._size(element)
        count = prod(lengths)
        if count * size == 0:
            return
        if count > _MAX_ELEMENTS:
            self._put(name, offset, "V", count * size, "bytes")
            return
        for number, place in enumerate(product(*map(range, lengths))):
            full = name + "".join(f"[{i}]" for i in place)
            if is_text:
                self._put(full, offset + number * size, "S", size, "char")
            else:
                self._add(element, full, offset + number * size, depth + 1)

    def _add_int(self, found: Type, name: str, offset: int) -> None:
        size = found.ref
        encoding, bits = self._btf.integer(found)
        if size not in _SIZES or bits != 8 * size:
            detail = _describe(found) if bits == 8 * size else "a bit field"
            self._put(name, offset, "V", size, "unsupported", detail=detail)
        elif encoding & _BOOL and size == 1:
            self._put(name, offset, "u", 1, "bool")
        else:
            self._put(name, offset, "<i" if encoding & _SIGNED else "<u", size, "int")

    def _dimensions(self, type_id: int) -> tuple[int, list[int]]:
        """Return the element type of an array of arrays, and the length of each dimension."""
        lengths: list[int] = []
        found = self._btf.resolve(type_id)
        while found.kind == kinds.ARRAY:
            type_id, length = self._btf.array(found)
            lengths.append(length)
            if len(lengths) > _MAX_DEPTH:
                raise BtfError(f"its types nest deeper than {_MAX_DEPTH}")
            found = self._btf.resolve(type_id)
        return type_id, lengths

    def _size(self, type_id: int) -> int:
        element, lengths = self._dimensions(type_id)
        found = self._btf.resolve(element)
        size = 8 if found.kind == kinds.PTR else found.ref if found.kind in _NOUNS else 0
        return size * prod(lengths)


_SIZES = (1, 2, 4, 8)
_SIGNED, _BOOL = 1, 4  # an integer's encoding, BTF_INT_*
_NOUNS = {
    kinds.INT: "integer",
    kinds.STRUCT: "struct",
    kinds.UNION: "union",
    kinds.ENUM: "enum",
    kinds.ENUM64: "enum",
    kinds.FLOAT: "float",
}


def _describe(found: Type) -> str:
    """Name a type that has no column, as an error message says it."""
    noun = _NOUNS.get(found.kind, "type without a value")
    if found.kind in (kinds.INT, kinds.FLOAT):
        return f"a {8 * found.ref}-bit {noun}"
    return f"a {noun} ({found.name})" if found.name else f"a {noun}"


def _unsupported(size: int, detail: str) -> Layout:
    return Layout(np.dtype(f"V{size}"), (Column("", "", "unsupported", detail=detail),))
