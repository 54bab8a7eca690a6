"""The sections and symbols of a little-endian ELF64 file, read without trusting it."""

from __future__ import annotations

import struct
from functools import cached_property
from typing import NamedTuple

from ebpf_magic.errors import EbpfMagicError

_HEADER = struct.Struct("<16sHHIQQQIHHHHHH")
_SECTION = struct.Struct("<IIQQQQIIQQ")
_SYMBOL = struct.Struct("<IBBHQQ")
_SYMTAB = 2
_NOBITS = 8


class BtfError(EbpfMagicError, ValueError):
    """An object or its BTF is damaged, or is not what it should be."""

    def __init__(self, why: str) -> None:
        super().__init__("read the object's types (BTF)", why)


class Section(NamedTuple):
    """One section header: what `Elf` needs of it."""

    name: str
    kind: int
    offset: int
    size: int
    link: int


class Symbol(NamedTuple):
    """A symbol that is defined in a section; `value` is its offset there, in bytes."""

    section: str
    value: int
    size: int


class Elf:
    """Sections and symbols of an ELF64 little-endian object.

    Parameters
    ----------
    raw : bytes
        The whole file.

    Raises
    ------
    BtfError
        When it is not such a file, or a header points outside it.
    """

    def __init__(self, raw: bytes) -> None:
        if len(raw) < _HEADER.size or raw[:6] != b"\x7fELF\x02\x01":
            raise BtfError("not a little-endian ELF64 file")
        self._raw = raw
        header = _HEADER.unpack_from(raw)
        offset, entry_size, count, names_at = header[6], header[11], header[12], header[13]
        if count and (entry_size != _SECTION.size or offset + count * entry_size > len(raw)):
            raise BtfError("its section headers lie outside the file")
        headers = [_SECTION.unpack_from(raw, offset + i * entry_size) for i in range(count)]
        names = b""
        if names_at < count:
            names = self._cut(headers[names_at][4], headers[names_at][5])
        self.sections = [
            Section(string(names, name), kind, at, size, link) for name, kind, _, _, at, size, link, _, _, _ in headers
        ]

    def _cut(self, offset: int, size: int) -> bytes:
        if offset + size > len(self._raw):
            raise BtfError("a section lies outside the file")
        return self._raw[offset : offset + size]

    def section(self, name: str) -> Section | None:
        """Return the first section of that name that has bytes, None when there is none."""
        return next((section for section in self.sections if section.name == name and section.kind != _NOBITS), None)

    def data(self, name: str) -> bytes | None:
        """Return the bytes of the first section of that name, None when there is none."""
        section = self.section(name)
        return self._cut(section.offset, section.size) if section else None

    @cached_property
    def symbols(self) -> dict[str, Symbol]:
        """Symbols with a name that are defined in a section, by name."""
        found: dict[str, Symbol] = {}
        for section in self.sections:
            if section.kind != _SYMTAB:
                continue
            if section.link >= len(self.sections):
                raise BtfError("the symbol table has no names")
            strings = self.sections[section.link]
            names = self._cut(strings.offset, strings.size)
            table = self._cut(section.offset, section.size - section.size % _SYMBOL.size)
            for name, _, _, index, value, size in _SYMBOL.iter_unpack(table):
                if name and 0 < index < len(self.sections):
                    found[string(names, name)] = Symbol(self.sections[index].name, value, size)
        return found


def string(strings: bytes, offset: int) -> str:
    """Read the NUL-terminated string at `offset` of a string table."""
    end = strings.find(b"\0", offset)
    if end < 0:
        raise BtfError("a name lies outside its string table")
    return strings[offset:end].decode("utf-8", "backslashreplace")
