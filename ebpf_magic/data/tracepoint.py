"""A tracepoint's record, from tracefs' own description of it, as a C struct."""

from __future__ import annotations

import re
from typing import NamedTuple

_FIELD = re.compile(
    r"^\s*field:(?P<what>[^;]{1,200});\s*offset:(?P<at>\d+);\s*size:(?P<size>\d+);\s*signed:(?P<signed>\d);", re.M
)
_ARRAY = re.compile(r"(?P<type>.*?)\s*\b(?P<name>\w+)\[(?P<length>[^\]]*)\]$")
_PLAIN = re.compile(r"(?P<type>.*?)\s*\b(?P<name>\w+)$")
_NOT_TYPE = re.compile(r"[^\w *]")
_INTEGERS = {(size, signed): f"{'su'[not signed]}{8 * size}" for size in (1, 2, 4, 8) for signed in (False, True)}


class Field(NamedTuple):
    """A field of the record: its name, the kernel's word for its type, where it lies, and whether it has a sign.

    `length` is the number of elements of an array, 0 for one that is none; `dynamic`, whether the record only says
    where the data is.
    """

    name: str
    type: str
    offset: int
    size: int
    signed: bool
    length: int
    dynamic: bool


def fields(text: str) -> list[Field]:
    """Read the fields out of a tracepoint's ``format``, in the order of their places."""
    found = []
    for match in _FIELD.finditer(text):
        what = match["what"].strip()
        offset, size, signed = int(match["at"]), int(match["size"]), match["signed"] == "1"
        dynamic = what.startswith(("__data_loc ", "__rel_loc "))
        array = _ARRAY.fullmatch(what)
        parts = array or _PLAIN.fullmatch(what)
        if parts is None or not size:
            continue
        kind = _NOT_TYPE.sub("", parts["type"].removeprefix("__data_loc ").removeprefix("__rel_loc ")).strip()
        name = parts["name"]
        if dynamic:  # "__data_loc char[] name"
            name = what.rpartition(" ")[2]
            kind = _NOT_TYPE.sub("", what.split(" ", 1)[1].rpartition(" ")[0].replace("[]", "")).strip()
        length = int(array["length"]) if array and array["length"].isdigit() and not dynamic else 0
        if array and not length and not dynamic:  # its length is a name of the kernel's: by its size
            length = size
        found.append(Field(re.sub(r"\W", "_", name), kind, offset, size, signed, length, dynamic))
    return sorted(found, key=lambda field: field.offset)


def struct(name: str, record: list[Field]) -> str:
    """Write the record as a C struct whose members lie where the fields do."""
    lines, end = [], 0
    for field in record:
        if field.offset < end:
            continue  # a second name for the same place
        text, align = _member(field)
        if field.offset > -(-end // align) * align:
            lines.append(f"\tchar _{end}[{field.offset - end}];")
        lines.append(f"\t{text}")
        end = field.offset + field.size
    return "\n".join([f"struct {name} {{", *lines, "};"])


def numbers(record: list[Field]) -> list[Field]:
    """Return the fields that are plain numbers, without those that every record has."""
    return [field for field in record if _is_number(field) and not field.name.startswith(("common_", "__"))]


def arguments(record: list[Field]) -> list[str]:
    """Return the arguments of a system call in C, from the record of its entry."""
    return [
        f"{field.type}{'' if field.type.endswith('*') else ' '}{field.name}"
        for field in record
        if not field.name.startswith("common_") and not field.name.startswith("__")
    ]


def _is_number(field: Field) -> bool:
    if field.length or field.dynamic or "*" in field.type:
        return False
    return (field.size, field.signed) in _INTEGERS and field.offset % field.size == 0


def _member(field: Field) -> tuple[str, int]:
    """Write a member, and say how it is aligned."""
    if field.dynamic:
        return f"u32 {field.name}; /* {field.type}[]: offset in the low 16 bits, length in the high */", 4
    each = field.size // field.length if field.length else field.size
    known = _INTEGERS.get((each, field.signed))
    if known is None or field.offset % each or each * (field.length or 1) != field.size:
        return f"char {field.name}[{field.size}]; /* {field.type} */", 1
    if field.length:
        kind = "char" if field.type.endswith("char") and each == 1 else known
        return f"{kind} {field.name}[{field.length}];", each
    return f"{known} {field.name}; /* {field.type} */", each
