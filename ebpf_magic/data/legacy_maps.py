"""Maps declared the old way, as libbpf 1.0 and later no longer reads them, written anew as it does.

Before BTF a map was a struct of numbers in the section `maps`: type, key_size, value_size, max_entries, map_flags, and
behind them what each loader liked. Rust's aya still writes that (with id and pinning at the end), and so do old C
objects. Here such an object gets a section `.maps` and the BTF that describes it, where every number is an array's
length; its map symbols then stand in the new section, so that relocations need no change.

Source: libbpf 1.0's release notes; aya-ebpf's `bpf_map_def`; Documentation/bpf/btf.rst of the kernel.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

from ebpf_magic.data.btf import words_of
from ebpf_magic.data.elf import BtfError, string
from ebpf_magic.data.kinds import ARRAY, DATASEC, INT, PTR, STRUCT, VAR

_EHDR = struct.Struct("<16sHHIQQQIHHHHHH")
_SHDR = struct.Struct("<IIQQQQIIQQ")
_SYM = struct.Struct("<IBBHQQ")
_BTF = struct.Struct("<HBBIIIII")
_SECTION = "maps"
_MOVED = b".maps\0.BTF\0.legacy.maps\0"
_PROGBITS, _SYMTAB, _STT_SECTION = 1, 2, 3
_WRITE_ALLOC = 3
_WORDS = ("type", "key_size", "value_size", "max_entries", "map_flags")
_AYA_BYTES = 28  # the five, id, pinning
_POINTER_BYTES = 8
_GLOBAL = 1  # BTF_VAR_GLOBAL_ALLOCATED
_MAX_MAPS = 4096

EMPTY_BTF = _BTF.pack(0xEB9F, 1, 0, _BTF.size, 0, 0, 0, 1) + b"\0"


class _Map(NamedTuple):
    """A map's declaration: its name, its numbers by name, and its symbol (table's section, position in the file)."""

    name: str
    numbers: dict[str, int]
    at: int


def modernised(raw: bytes) -> bytes:
    """Return the object with its old map declarations written as libbpf takes them; one without any as it is.

    Parameters
    ----------
    raw : bytes
        An ELF64 little-endian object.

    Raises
    ------
    BtfError
        When it is damaged, or its maps are declared in no way that is known.
    """
    if len(raw) < _EHDR.size:
        raise BtfError("it is cut short")
    header = list(_EHDR.unpack_from(raw))
    start, count, names_at = header[6], header[12], header[13]
    if start + count * _SHDR.size > len(raw) or names_at >= max(count, 1):
        raise BtfError("its section headers lie outside the file")
    sections = [list(_SHDR.unpack_from(raw, start + index * _SHDR.size)) for index in range(count)]
    names = _bytes(raw, sections[names_at]) if count else b""
    titles = [string(names, section[0]) for section in sections]
    if _SECTION not in titles:
        return raw
    old = titles.index(_SECTION)
    maps = _declared(raw, sections, old)
    out = bytearray(raw)
    stride = _POINTER_BYTES * (len(_WORDS) + 1)
    for number, item in enumerate(maps):
        name, info, other, _, _, _ = _SYM.unpack_from(raw, item.at)
        _SYM.pack_into(out, item.at, name, info, other, count, number * stride, stride)

    moved = len(names)  # where the new names begin in the new string table
    sections[old][0] = moved + _MOVED.index(b".legacy")
    at = _append(out, bytes(len(maps) * stride))
    sections.append([moved, _PROGBITS, _WRITE_ALLOC, 0, at, len(maps) * stride, 0, 0, 8, 0])
    btf_index = titles.index(".BTF") if ".BTF" in titles else None
    btf = _with_maps(_bytes(raw, sections[btf_index]) if btf_index is not None else EMPTY_BTF, maps, stride)
    at = _append(out, btf)
    if btf_index is None:
        sections.append([moved + _MOVED.index(b".BTF"), _PROGBITS, 0, 0, at, len(btf), 0, 0, 4, 0])
    else:
        sections[btf_index][4:6] = [at, len(btf)]
    at = _append(out, names + _MOVED)
    sections[names_at][4:6] = [at, len(names) + len(_MOVED)]
    header[6] = _append(out, b"".join(_SHDR.pack(*section) for section in sections))
    header[12] = len(sections)
    _EHDR.pack_into(out, 0, *header)
    return bytes(out)


def _declared(raw: bytes, sections: list[list[int]], old: int) -> list[_Map]:
    """Read the declarations: a symbol each, in the order in which they lie."""
    data = _bytes(raw, sections[old])
    found: list[tuple[int, str, int]] = []
    for section in sections:
        if section[1] != _SYMTAB:
            continue
        if section[6] >= len(sections):
            raise BtfError("the symbol table has no names")
        strings = _bytes(raw, sections[section[6]])
        for at in range(section[4], section[4] + len(_bytes(raw, section)) // _SYM.size * _SYM.size, _SYM.size):
            name, info, _, index, value, _ = _SYM.unpack_from(raw, at)
            if index == old and name and info & 15 != _STT_SECTION:
                found.append((value, string(strings, name), at))
    if not found or len(found) > _MAX_MAPS:
        raise BtfError(f"its section {_SECTION} has {len(found)} named maps")
    found.sort()
    ends = [value for value, _, _ in found[1:]] + [len(data)]
    return [_Map(name, _numbers(name, data[value:end]), at) for (value, name, at), end in zip(found, ends, strict=True)]


def _numbers(name: str, definition: bytes) -> dict[str, int]:
    if len(definition) < 4 * len(_WORDS):
        raise BtfError(f"map {name} is declared by {len(definition)} bytes, at least {4 * len(_WORDS)} are needed")
    words = struct.unpack_from(f"<{len(definition) // 4}I", definition)
    numbers = dict(zip(_WORDS, words, strict=False))
    # Others put other things behind the five: what iproute2 calls pinning means a folder of its own.
    numbers["pinning"] = words[6] if len(definition) == _AYA_BYTES else 0
    return numbers


def _with_maps(raw: bytes, maps: list[_Map], stride: int) -> bytes:
    """Add the maps' types to an object's BTF; where that names the old section, it names the new one instead."""
    if len(raw) < _BTF.size:
        raise BtfError("it is cut short")
    magic, version, flags, header, type_at, type_size, string_at, string_size = _BTF.unpack_from(raw)
    types = bytearray(raw[header + type_at : header + type_at + type_size])
    strings = bytearray(raw[header + string_at : header + string_at + string_size])
    if magic != 0xEB9F or version != 1 or len(types) != type_size or len(strings) != string_size:
        raise BtfError("its types (BTF) are damaged")
    writer = _Writer(types, strings)
    variables = [writer.map(item) for item in maps]
    entries = b"".join(struct.pack("<III", each, number * stride, stride) for number, each in enumerate(variables))
    place = writer.old_section
    if place is None:
        writer.add(".maps", DATASEC, len(maps), len(maps) * stride, entries)
    elif len(entries) == place[1]:
        at = place[0]
        struct.pack_into("<I", types, at, writer.text(".maps"))
        struct.pack_into("<I", types, at + 8, len(maps) * stride)
        types[at + 12 : at + 12 + len(entries)] = entries
    else:
        raise BtfError("its types (BTF) and its symbols disagree about the maps")
    head = _BTF.pack(magic, version, flags, _BTF.size, 0, len(types), len(types), len(strings))
    return head + bytes(types) + bytes(strings)


class _Writer:
    """Types added behind those there are."""

    def __init__(self, types: bytearray, strings: bytearray) -> None:
        self._types = types
        self._strings = strings
        self._next, self.old_section = _walk(bytes(types), bytes(strings))
        self._int = self.add("int", INT, 0, 4, struct.pack("<I", 1 << 24 | 32))

    def text(self, text: str) -> int:
        """Add a string; its offset."""
        at = len(self._strings)
        self._strings += text.encode() + b"\0"
        return at

    def add(self, name: str, kind: int, vlen: int, ref: int, more: bytes = b"") -> int:
        """Add a type; its id."""
        self._types += struct.pack("<III", self.text(name) if name else 0, kind << 24 | vlen, ref) + more
        self._next += 1
        return self._next - 1

    def map(self, item: _Map) -> int:
        """Add a map's declaration; the id of its variable."""
        members = b""
        used = [(name, number) for name, number in item.numbers.items() if number or name == "type"]
        for place, (name, number) in enumerate(used):
            array = self.add("", ARRAY, 0, 0, struct.pack("<III", self._int, self._int, number))
            pointer = self.add("", PTR, 0, array)
            members += struct.pack("<III", self.text(name), pointer, place * 8 * _POINTER_BYTES)
        definition = self.add("", STRUCT, len(used), len(used) * _POINTER_BYTES, members)
        return self.add(item.name, VAR, 0, definition, struct.pack("<I", _GLOBAL))


def _walk(types: bytes, strings: bytes) -> tuple[int, tuple[int, int] | None]:
    """Count the types; also the place of the data section `maps`, and the bytes of its list of variables."""
    at, number, found = 0, 1, None
    while at + 12 <= len(types):
        name, info = struct.unpack_from("<II", types, at)
        kind, vlen = info >> 24 & 31, info & 0xFFFF
        size = 4 * words_of(kind, vlen)
        if kind == DATASEC and string(strings, name) == _SECTION:
            found = (at, size - 12)
        at += size
        number += 1
    if at != len(types):
        raise BtfError("its last type is cut short")
    return number, found


def _bytes(raw: bytes, section: list[int]) -> bytes:
    offset, size = section[4], section[5]
    if offset + size > len(raw):
        raise BtfError("a section lies outside the file")
    return raw[offset : offset + size]


def _append(out: bytearray, data: bytes) -> int:
    """Put data at the end, aligned to 8 bytes; where it begins."""
    out += bytes(-len(out) % 8)
    at = len(out)
    out += data
    return at
