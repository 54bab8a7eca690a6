"""What the agent itself reads in ELF files: instructions of a BPF object, function symbols of a program or library."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import NamedTuple

_HEADER = struct.Struct("<16sHHIQQQIHHHHHH")
_SECTION = struct.Struct("<IIQQQQIIQQ")
_SYMBOL = struct.Struct("<IBBHQQ")
_INSN = struct.Struct("<BBhi")
_REL = struct.Struct("<QQ")
_NOTE = struct.Struct("<III")
_USDT = b"stapsdt\0"
_SHT_SYMTAB, _SHT_NOBITS, _SHT_REL, _SHT_DYNSYM = 2, 8, 9, 11
_SHF_EXECINSTR = 4
_STT_FUNC, _STT_GNU_IFUNC = 2, 10
_CALL = 0x85  # BPF_JMP | BPF_CALL
_MAX_SECTIONS = 1 << 16


class DamagedElf(Exception):
    """The file is not a little-endian ELF64, or it points outside of itself."""


class Section(NamedTuple):
    """One section: its name, and where its bytes are."""

    name: str
    type: int
    flags: int
    offset: int
    size: int
    link: int
    address: int


def sections(data: memoryview) -> list[Section]:
    """Sections of an ELF file."""
    if len(data) < _HEADER.size or bytes(data[:6]) != b"\x7fELF\x02\x01":
        raise DamagedElf("not a little-endian 64-bit ELF file")
    header = _HEADER.unpack_from(data)
    start, entry, count, names_index = header[6], header[11], header[12], header[13]
    if count > _MAX_SECTIONS or (count and (entry != _SECTION.size or start + count * entry > len(data))):
        raise DamagedElf("the section table lies outside of the file")
    raw = [_SECTION.unpack_from(data, start + index * entry) for index in range(count)]
    if count and names_index >= count:
        raise DamagedElf("the section names are missing")
    for _, kind, _, _, offset, size, *_ in raw:
        if kind != _SHT_NOBITS and offset + size > len(data):
            raise DamagedElf("a section lies outside of the file")
    names = raw[names_index] if count else None
    table = bytes(data[names[4] : names[4] + names[5]]) if names else b""
    return [
        Section(_text(table, name), kind, flags, offset, 0 if kind == _SHT_NOBITS else size, link, address)
        for name, kind, flags, address, offset, size, link, *_ in raw
    ]


class Calls(NamedTuple):
    """What a BPF object calls: helpers by number, each with one section that does; names it takes from elsewhere."""

    helpers: dict[int, str]
    undefined: set[str]


def calls(data: memoryview) -> Calls:
    """Find what any executable section of a BPF object calls; what it takes from elsewhere are kfuncs, among others."""
    table = sections(data)
    return Calls(_helper_calls(data, table), {name for name, _, index, _ in _symbols(data, table) if not index})


def _helper_calls(data: memoryview, table: list[Section]) -> dict[int, str]:
    found: dict[int, str] = {}
    for section in table:
        if section.flags & _SHF_EXECINSTR:
            code = data[section.offset : section.offset + section.size // _INSN.size * _INSN.size]
            opcodes = bytes(code[:: _INSN.size])
            at = opcodes.find(_CALL)
            while at >= 0:
                _, registers, _, immediate = _INSN.unpack_from(code, at * _INSN.size)
                if registers >> 4 == 0:  # src_reg 0: a helper; 1: a subprogram; 2: a kfunc
                    found.setdefault(immediate, section.name)
                at = opcodes.find(_CALL, at + 1)
    return found


def named_in(data: memoryview, name: str) -> set[str]:
    """Names that a section refers to, such as the functions in the tables of .struct_ops."""
    found, table = set(), sections(data)
    for section in table:
        if section.type == _SHT_REL and section.name == f".rel{name}" and section.link < len(table):
            symbols = table[section.link]
            strings = table[symbols.link] if symbols.link < len(table) else symbols
            texts = bytes(data[strings.offset : strings.offset + strings.size])
            entries = data[section.offset : section.offset + section.size // _REL.size * _REL.size]
            for _, about in _REL.iter_unpack(entries):
                at = (about >> 32) * _SYMBOL.size
                if at + _SYMBOL.size <= symbols.size:
                    found.add(_text(texts, _SYMBOL.unpack_from(data, symbols.offset + at)[0]))
    return found


def function_names(data: memoryview) -> set[str]:
    """Functions a program or library defines."""
    return {
        name for name, kind, index, _ in _symbols(data, sections(data)) if index and kind in (_STT_FUNC, _STT_GNU_IFUNC)
    }


def function_offsets(data: memoryview) -> dict[str, int]:
    """Functions a program or library defines, and where in the file each begins."""
    table = sections(data)
    return {
        name: value - table[index].address + table[index].offset
        for name, kind, index, value in _symbols(data, table)
        if kind == _STT_FUNC and 0 < index < len(table) and table[index].size
    }


def usdt_probes(data: memoryview) -> set[tuple[str, str, str]]:
    """Give provider, name and arguments of the USDT probes of a program or library: SystemTap's notes, version 3."""
    found = set()
    for section in sections(data):
        if section.name == ".note.stapsdt":
            notes, at = bytes(data[section.offset : section.offset + section.size]), 0
            while at + _NOTE.size <= len(notes):
                owner_size, size, _ = _NOTE.unpack_from(notes, at)
                at += _NOTE.size
                begin = at + (owner_size + 3) // 4 * 4
                if notes[at : at + owner_size] == _USDT and size > 24:  # three addresses, then three texts
                    texts = [*notes[begin + 24 : begin + size].split(b"\0"), b"", b"", b""]
                    provider, name, arguments = (text.decode(errors="replace") for text in texts[:3])
                    found.add((provider, name, arguments))
                at = begin + (size + 3) // 4 * 4
    return found


def _symbols(data: memoryview, found: list[Section]) -> Iterator[tuple[str, int, int, int]]:
    """Name, type, section (0: not defined here) and value of every symbol."""
    for section in found:
        if section.type in (_SHT_SYMTAB, _SHT_DYNSYM) and section.link < len(found):
            strings = found[section.link]
            table = bytes(data[strings.offset : strings.offset + strings.size])
            code = data[section.offset : section.offset + section.size // _SYMBOL.size * _SYMBOL.size]
            for name, info, _, index, value, _ in _SYMBOL.iter_unpack(code):
                if name:
                    yield _text(table, name), info & 15, index, value


def _text(table: bytes, offset: int) -> str:
    end = table.find(b"\0", offset)
    return table[offset : end if end >= 0 else len(table)].decode(errors="replace")
