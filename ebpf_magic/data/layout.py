"""A BTF type as a NumPy dtype, and the columns a DataFrame shows of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from difflib import get_close_matches
from itertools import product
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ebpf_magic.data import forms, kinds, wide
from ebpf_magic.data.elf import BtfError
from ebpf_magic.data.forms import FORMS
from ebpf_magic.data.wide import Bits
from ebpf_magic.errors import NoSuchNameError, UsageError

if TYPE_CHECKING:
    from ebpf_magic.data.btf import Btf, Member, Type

Array = npt.NDArray[Any]

MAX_ELEMENTS = 64
"""A longer array is one column of bytes, unless more are asked for."""
MAX_FIELDS = 4096
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
        "int", "pointer", "bool", "float", "char" (text), "enum", or "bytes".
    unit : str, optional
        The unit of its numbers.
    enum : mapping, optional
        Names by value: an enum's, or the cgroups' paths by their ids.
    show : str
        The form people read it in, one of `forms.FORMS`; empty for the plain one.
    bits : Bits, optional
        Where in the bytes of the field an integer lies that NumPy has no dtype for.
    unions : tuple of (str, str)
        The unions it lies in, outermost first: each union's name, and which of its members.
    """

    name: str
    path: str
    kind: str
    unit: str | None = None
    enum: Mapping[int, str] | None = None
    show: str = ""
    bits: Bits | None = None
    unions: tuple[tuple[str, str], ...] = ()

    @property
    def is_number(self) -> bool:
        """Whether its values can be added up."""
        return self.kind in ("int", "float", "bool") and not self.show


@dataclass(frozen=True)
class Layout:
    """How a value lies in memory (`dtype`, as large as the BTF type) and the columns it becomes."""

    dtype: np.dtype[Any]
    columns: tuple[Column, ...]

    def take(self, rows: Array, column: Column) -> Array:
        """Return a column's values of rows of this dtype: numbers in the machine's byte order, else raw bytes."""
        raw: Array = rows[column.path] if column.path else rows
        if column.bits is not None:
            return wide.take(raw, column.bits)
        native = self.dtype_of(column)
        if raw.dtype == native:
            return raw
        with np.errstate(invalid="ignore"):  # of a signalling NaN among half floats
            return raw.astype(native)

    def put(self, rows: Array, column: Column, values: Array) -> None:
        """Write a column's values, as `take` gives them, into contiguous rows of this dtype."""
        if column.bits is not None:
            fields = self.dtype.fields
            at = fields[column.path][1] if fields else 0
            wide.put(rows.view(np.uint8).reshape(len(rows), self.dtype.itemsize), at, values, column.bits)
        else:
            target = rows[column.path] if column.path else rows
            target[...] = values

    def dtype_of(self, column: Column) -> np.dtype[Any]:
        """Return the dtype of what `take` gives."""
        if column.bits is not None:
            return column.bits.dtype
        raw = self.dtype[column.path] if column.path else self.dtype
        # pandas has no index of half floats.
        return np.dtype(np.float32) if raw == np.float16 else raw.newbyteorder("=")

    @property
    def has_cgroups(self) -> bool:
        """Whether it has a column of cgroup ids, which are shown by their paths."""
        return any(column.show == "cgroup" for column in self.columns)

    def with_cgroups(self, paths: Mapping[int, str]) -> Layout:
        """Return the same layout with the cgroups' paths by their ids."""
        columns = (replace(each, enum=paths) if each.show == "cgroup" else each for each in self.columns)
        return replace(self, columns=tuple(columns))

    def attrs(self, side: str) -> dict[str, dict[str, Any]]:
        """Return what a frame's ``attrs`` say: ``unions`` (name to columns) and ``shown`` (column to form)."""
        unions: dict[str, list[str]] = {}
        for column in self.columns:
            for union, _ in column.unions:
                unions.setdefault(union or side, []).append(label(column, side))
        shown = {label(column, side): column.show for column in self.columns if column.show}
        return {key: found for key, found in (("unions", unions), ("shown", shown)) if found}


def label(column: Column, side: str) -> str:
    """Return the name of a column in a frame: a value that is no struct is named "key" or "value"."""
    return side + column.name if not column.name or column.name.startswith("[") else column.name


def bytes_layout(size_bytes: int) -> Layout:
    """Return the layout of a value of which only the size is known."""
    return Layout(np.dtype(f"V{size_bytes}"), (Column("", "", "bytes"),))


def layout_of(
    btf: Btf, type_id: int, shows: Mapping[str, str] | None = None, max_elements: int = MAX_ELEMENTS
) -> Layout | None:
    """Return the layout of a BTF type.

    Parameters
    ----------
    btf : Btf
        The types.
    type_id : int
        The type.
    shows : mapping, optional
        Column name -> the form it is to be shown in; "" is the value itself.
    max_elements : int
        A longer array is one column of bytes.

    Returns
    -------
    Layout or None
        None for what has no size: void, a function, a struct that is only declared. What has more fields than a frame
        should have columns is bytes.
    """
    return _Builder(btf, shows or {}, max_elements).build(type_id)


class _TooManyFieldsError(Exception):
    """A type has more fields than a frame should have columns."""


class _Builder:
    """Walks one type and collects its columns, each with its place in memory."""

    def __init__(self, btf: Btf, shows: Mapping[str, str], max_elements: int) -> None:
        self._btf = btf
        self._shows = shows
        self._max_elements = max_elements
        self._columns: list[Column] = []
        self._formats: list[str] = []
        self._offsets: list[int] = []
        self._visits = 0
        self._size_bytes = 0
        self._unions: tuple[tuple[str, str], ...] = ()
        self._named = True

    def build(self, type_id: int) -> Layout | None:
        self._size_bytes = size = self._size(type_id)
        if not 0 < size <= _MAX_SIZE_BYTES:
            return None
        try:
            self._add(type_id, "", 0, 0, self._shows.get("", ""))
        except _TooManyFieldsError:
            return bytes_layout(size)
        names = [column.path for column in self._columns]
        if not names:  # nothing but padding, such as struct bpf_timer
            return bytes_layout(size)
        if names == [""]:
            return Layout(np.dtype(self._formats[0]), tuple(self._columns))
        if len(set(names)) != len(names):
            raise BtfError("a struct uses a name twice")
        fields: Any = {"names": names, "formats": self._formats, "offsets": self._offsets, "itemsize": size}
        return Layout(np.dtype(fields), tuple(self._columns))

    def _put(self, name: str, offset: int, code: str, size: int, kind: str, **more: Any) -> None:
        if offset + size > self._size_bytes:
            raise BtfError("a member lies outside its struct")
        self._columns.append(Column(name, name, kind, unions=self._unions, **more))
        self._formats.append(f"{code}{size}")
        self._offsets.append(offset)

    def _add(self, type_id: int, name: str, offset: int, depth: int, show: str = "") -> None:
        self._visits += 1
        if self._visits > MAX_FIELDS:
            raise _TooManyFieldsError
        if depth > _MAX_DEPTH:
            raise BtfError(f"its types nest deeper than {_MAX_DEPTH}")
        found = self._btf.resolve(type_id)
        form = self._form(type_id, found, name, show)
        if form and FORMS[form].order == "bytes":
            self._put(name, offset, "V", self._size(type_id), "bytes", show=form)
        elif found.kind == kinds.STRUCT:
            self._add_struct(found, name, offset, depth)
        elif found.kind == kinds.UNION:
            self._add_union(found, name, offset, depth)
        elif found.kind == kinds.ARRAY:
            # A form that fits the elements and not the whole is theirs.
            self._add_array(type_id, name, offset, depth, show)
        elif found.kind == kinds.INT:
            self._add_int(found, name, offset, form)
        elif found.kind in (kinds.ENUM, kinds.ENUM64) and found.ref in _SIZES:
            names = self._btf.enumerators(found)
            self._put(name, offset, "<i" if found.flag else "<u", found.ref, "enum", enum=names)
        elif found.kind == kinds.FLOAT and found.ref in (2, 4, 8):
            self._put(name, offset, "<f", found.ref, "float")
        elif found.kind == kinds.PTR:
            self._put(name, offset, "<u", 8, "pointer", show="hex")
        elif size := self._size(type_id):  # a long double: BTF does not say which of its formats
            self._put(name, offset, "V", size, "bytes")

    def _form(self, type_id: int, found: Type, name: str, show: str) -> str:
        """Return the form of a declaration: what a tag asks for, else what the names say; "" for the plain one."""
        typedefs, tagged = self._btf.typedefs(type_id)
        size = self._size(type_id)
        wanted = show or tagged
        if not wanted:
            return forms.of_names(typedefs, found.name, name.rpartition(".")[2], size)
        what = f"show {name or 'a value'} as {wanted!r}"
        if wanted not in FORMS:
            hint = f"There are: {', '.join(FORMS)}."
            raise NoSuchNameError(what, "no such form", hint, near=get_close_matches(wanted, FORMS))
        form = FORMS[wanted]
        element = self._dimensions(type_id)[0] if found.kind == kinds.ARRAY else type_id
        if form.order != "bytes" and self._btf.resolve(element).kind != kinds.INT:
            raise UsageError(what, "that is for an integer")
        if size not in form.sizes:
            if found.kind == kinds.ARRAY and self._size(element) in form.sizes:
                return ""
            raise UsageError(what, f"that takes {' or '.join(map(str, form.sizes))} bytes, it has {size}")
        return wanted

    def _add_struct(self, found: Type, name: str, offset: int, depth: int) -> None:
        for index, member in enumerate(self._btf.members(found)):
            self._add_member(found, index, member, name, offset, depth)

    def _add_union(self, found: Type, name: str, offset: int, depth: int) -> None:
        """Add each member, all at the same place, marked as one of the union's."""
        outside = self._unions
        # An unnamed one has only its place to be told from others by.
        union = name if not depth or self._named else f"{name}.(union at byte {offset})".removeprefix(".")
        for index, member in enumerate(self._btf.members(found)):
            self._unions = (*outside, (union, member.name or f"#{index}"))
            self._add_member(found, index, member, name, offset, depth)
        self._unions = outside

    def _add_member(self, of: Type, index: int, member: Member, name: str, offset: int, depth: int) -> None:
        full = f"{name}.{member.name}" if name and member.name else name or member.name
        inner = self._btf.resolve(member.type_id)
        encoding, shift, count = self._btf.integer(inner) if inner.kind == kinds.INT else (0, 0, 8 * inner.ref)
        first = member.offset_bits + shift
        if member.bits or first % 8 or (inner.kind == kinds.INT and count != 8 * inner.ref):
            if member.name:  # unnamed bits are padding
                self._add_bits(inner, full, 8 * offset + first, member.bits or count, encoding)
        elif member.name or inner.kind in (kinds.STRUCT, kinds.UNION):
            named, self._named = self._named, bool(member.name)
            show = self._shows.get(full, "") or self._btf.member_shows.get((of.at, index), "")
            self._add(member.type_id, full, offset + member.offset_bits // 8, depth + 1, show)
            self._named = named

    def _add_bits(self, found: Type, name: str, first: int, count: int, encoding: int) -> None:
        """Add a bit field; BTF has those of integers and enums."""
        if found.kind not in (kinds.INT, kinds.ENUM, kinds.ENUM64) or found.ref not in (*_SIZES, 16):
            raise BtfError(f"bit field {name} is of a type that has no bits")
        if not 0 < count <= 8 * found.ref:
            raise BtfError(f"bit field {name} of {count} bits does not fit its type")
        is_enum = found.kind != kinds.INT
        is_signed = found.flag if is_enum else bool(encoding & _SIGNED)
        bits = Bits(first % 8, count, is_signed, found.ref)
        kind = "enum" if is_enum else "bool" if encoding & _BOOL else "int"
        names = self._btf.enumerators(found) if is_enum else None
        self._visits += 1
        self._put(name, first // 8, "V", bits.touched_bytes, kind, bits=bits, enum=names)

    def _add_array(self, type_id: int, name: str, offset: int, depth: int, show: str) -> None:
        element, lengths = self._dimensions(type_id)
        # Plain char is text; only its name tells it from `signed char` and `unsigned char`, which are numbers.
        is_text = self._btf.resolve(element)[:2] == (kinds.INT, "char")
        size = lengths.pop() if is_text else self._size(element)
        count = prod(lengths)
        if count * size == 0:
            return
        if count > self._max_elements:
            self._put(name, offset, "V", count * size, "bytes")
            return
        for number, place in enumerate(product(*map(range, lengths))):
            full = name + "".join(f"[{i}]" for i in place)
            if is_text:
                self._put(full, offset + number * size, "S", size, "char")
            else:
                self._add(element, full, offset + number * size, depth + 1, show)

    def _add_int(self, found: Type, name: str, offset: int, form: str) -> None:
        size = found.ref
        encoding, shift, count = self._btf.integer(found)
        if shift or count != 8 * size:
            self._add_bits(found, name, 8 * offset + shift, count, encoding)
        elif encoding & _BOOL and size in _SIZES:
            self._put(name, offset, "<u", size, "bool")
        elif size in _SIZES:
            order = FORMS[form].order if form else "<"
            self._put(name, offset, order + ("i" if encoding & _SIGNED else "u"), size, "int", show=form)
        elif size == 16:
            self._put(name, offset, "V", size, "int", bits=Bits(0, 128, bool(encoding & _SIGNED), size))
        else:
            self._put(name, offset, "V", size, "bytes")

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
        size = 8 if found.kind == kinds.PTR else found.ref if found.kind in _SIZED else 0
        return size * prod(lengths)


_SIZES = (1, 2, 4, 8)
_SIGNED, _BOOL = 1, 4  # an integer's encoding, BTF_INT_*
_SIZED = frozenset((kinds.INT, kinds.STRUCT, kinds.UNION, kinds.ENUM, kinds.ENUM64, kinds.FLOAT))
