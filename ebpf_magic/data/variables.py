"""Global variables: bytes of a data section as Python values, and back."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn

import numpy as np
import pandas as pd

from ebpf_magic.data import levels
from ebpf_magic.data.cells import Rows
from ebpf_magic.data.encode import missing, pack
from ebpf_magic.data.forms import FORMS
from ebpf_magic.data.layout import Column, Layout, bytes_layout
from ebpf_magic.data.spec import Variable
from ebpf_magic.errors import NoSuchNameError, UsageError

if TYPE_CHECKING:
    from ebpf_magic.data.btf import Btf

KCONFIG = ".kconfig"  # what a cell declares extern and __kconfig: the kernel's settings, and its version
_SECTION = re.compile(r"\.(data|bss|rodata|kconfig)(\.|$)")
_OURS = ".data.em"  # the counters of the short macros
_FORMAT = re.compile(r"(^|\.)____fmt")  # the texts of bpf_printk
_ELEMENT = re.compile(r"\[(\d+)\]")
_WORDS = {"true": 1, "false": 0, "1": 1, "0": 0}


class Place(NamedTuple):
    """A variable, or one field of it; `column` is None for the whole."""

    variable: Variable
    column: Column | None


class Piece(NamedTuple):
    """Bytes for a place in a data section."""

    section: str
    offset: int
    data: bytes


def declared(btf: Btf) -> dict[str, Variable]:
    """Return the cell's variables by name; of two statics of one name, the later one's says where it lies."""
    found: dict[str, Variable] = {}
    sections = {name for name in btf.data_sections if _SECTION.match(name)}
    if not sections:
        return _by_symbols(btf)
    for section in sorted(sections - {_OURS}):
        for variable in btf.variables(section):
            if not _FORMAT.search(variable.name):
                name = variable.name if variable.name not in found else f"{variable.name}@{section}+{variable.offset}"
                found[name] = variable
    return found


def _by_symbols(btf: Btf) -> dict[str, Variable]:
    """Return the variables of an object whose BTF has none, as those of Rust: by size, as bytes."""
    symbols = btf.elf.symbols if btf.elf else {}
    return {
        name: Variable(name, symbol.section, symbol.value, bytes_layout(symbol.size), False, False)
        for name, symbol in symbols.items()
        if symbol.size and _SECTION.match(symbol.section)
    }


def find(variables: Mapping[str, Variable], name: str, what: str) -> Place:
    """Return the variable of that name, or the field: ``limit``, ``conn.pid``, ``counts[3]``.

    Raises
    ------
    NoSuchNameError
        With the near names.
    """
    if name in variables:
        return Place(variables[name], None)
    for known, variable in variables.items():
        if name.startswith((f"{known}.", f"{known}[")):
            fields = {field_name(known, column): column for column in variable.layout.columns}
            if name in fields:
                return Place(variable, fields[name])
            hint = f"{known} has: {', '.join(list(fields)[:20])}."
            raise NoSuchNameError(what, "no such field", hint, near=get_close_matches(name, fields))
    hint = f"Its variables: {', '.join(variables) or 'none'}."
    raise NoSuchNameError(what, "no such variable", hint, near=get_close_matches(name, variables))


def field_name(variable: str, column: Column) -> str:
    """Return how a field of a variable is called: ``conn.pid``, ``counts[3]``; a plain one's is the variable's name."""
    separator = "." if column.name and not column.name.startswith("[") else ""
    return f"{variable}{separator}{column.name}"


def cells(layout: Layout, raw: bytes) -> list[Any]:
    """Return the values of a variable's columns as Python has them: numbers, texts, bytes."""
    rows = np.frombuffer(raw, layout.dtype, 1)
    found = [levels.values(column, layout.take(rows, column))[0] for column in layout.columns]
    return [value.item() if isinstance(value, np.generic) else value for value in found]


def value(place: Place, raw: bytes) -> Any:
    """Return a variable as Python has it: a number or a text, of a struct or an array a Series.

    Parameters
    ----------
    place : Place
        Which variable, or which field of it.
    raw : bytes
        The whole variable.
    """
    layout = place.variable.layout
    found = cells(layout, raw)
    if place.column is not None:
        return found[layout.columns.index(place.column)]
    names = [column.name for column in layout.columns]
    if names == [""]:
        return found[0]
    places = [_ELEMENT.fullmatch(name) for name in names]
    if all(places):
        plain = layout.columns[0].kind in ("int", "float", "bool") and isinstance(found[0], (int, float))
        dtype = layout.dtype_of(layout.columns[0]) if plain and layout.columns[0].kind != "bool" else None
        return pd.Series(found, dtype=dtype, name=place.variable.name)
    return pd.Series(found, index=names, dtype=object, name=place.variable.name)


def pieces(place: Place, new: Any, what: str) -> list[Piece]:
    """Return the bytes that give a variable a new value: of a struct or an array those of the given fields alone.

    Parameters
    ----------
    place : Place
        Which variable, or which field of it.
    new
        A number or a text (also a number's); of a struct a mapping or a Series, of an array also a sequence.
    what : str
        What is being done, for error messages.

    Raises
    ------
    UsageError
        When the value is of another kind or out of range.
    """
    variable, layout = place.variable, place.variable.layout
    given = {place.column.name: new} if place.column is not None else _by_column(layout, new, what)
    columns = {column.name: column for column in layout.columns}
    parts = {
        name: (
            _One(f"{what}: {name}" if name and len(given) > 1 else what, name, pd.Index([0])),
            _series(columns[name], one),
        )
        for name, one in given.items()
    }
    packed = pack(layout, parts, 1).tobytes()
    if not missing(layout, set(given)):
        return [Piece(variable.section, variable.offset, packed)]
    found = []
    for name in given:
        bits = columns[name].bits
        if bits is not None and (bits.shift or bits.width % 8):
            raise UsageError(what, "a bit field has no bytes of its own", "Give all fields of the struct at once.")
        assert layout.dtype.fields is not None
        inner, at = layout.dtype.fields[columns[name].path][:2]
        found.append(Piece(variable.section, variable.offset + at, packed[at : at + inner.itemsize]))
    return found


def initial(btf: Btf, values: Mapping[str, Any]) -> list[Piece]:
    """Return the bytes that variables begin with, for `values` by name.

    Raises
    ------
    NoSuchNameError, UsageError
        No such variable, a value that does not fit it, or one that the compiler has put into the code.
    """
    variables = declared(btf)
    found = []
    for name, new in values.items():
        what = f"set variable {name}"
        place = find(variables, name, what)
        if place.variable.section == KCONFIG:
            raise UsageError(what, "it is a setting of the kernel, which the kernel alone has")
        if place.variable.is_folded:
            raise UsageError(
                what,
                "it is const, and so its value is in the code already",
                "Declare it `const volatile`: then it is read.",
            )
        found += pieces(place, new, what)
    return found


class _One(Rows):
    """The place of a single value: messages name no row."""

    __slots__ = ()

    def refuse(self, row: int, why: str) -> NoReturn:
        raise UsageError(self.what, why)


def _by_column(layout: Layout, new: Any, what: str) -> dict[str, Any]:
    """Return the fields that a value for the whole names, by their columns."""
    names = [column.name for column in layout.columns]
    if names == [""]:
        return {"": new}
    if isinstance(new, pd.Series):
        new = new.to_dict()
    elif isinstance(new, (Sequence, np.ndarray)) and not isinstance(new, (str, bytes)):
        if len(new) != len(names):
            raise UsageError(what, f"it has {len(names)} values, not {len(new)}")
        new = dict(zip(names, new, strict=True))
    if not isinstance(new, Mapping) or not new:
        raise UsageError(what, f"{new!r} is not a mapping of its fields", f"It has: {', '.join(names[:20])}.")
    given = {f"[{name}]" if isinstance(name, (int, np.integer)) else str(name): one for name, one in new.items()}
    for name in given:
        if name not in names:
            hint = f"It has: {', '.join(names[:20])}."
            raise NoSuchNameError(what, f"it has no field {name!r}", hint, near=get_close_matches(name, names))
    return given


def _series(column: Column, new: Any) -> pd.Series[Any]:
    """Return one value as a column; the text of a number, as a command line has it, as that number."""
    has_own_texts = bool(column.show and FORMS[column.show].parse)
    if isinstance(new, str) and not has_own_texts and column.kind in ("int", "float", "bool", "bytes"):
        new = _from_text(column.kind, new)
    found = np.empty(1, object)
    found[0] = new if not isinstance(new, (list, dict, set, np.ndarray)) else repr(new)
    return pd.Series(found)


def _from_text(kind: str, text: str) -> Any:
    """Return what a text says; the text itself when it says nothing of that kind, for the message that refuses it."""
    try:
        if kind == "bool":
            return _WORDS.get(text.lower(), text)
        return bytes.fromhex(text) if kind == "bytes" else float(text) if kind == "float" else int(text, 0)
    except ValueError:
        return text
