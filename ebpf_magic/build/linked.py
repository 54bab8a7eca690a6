"""Where the instructions of a loaded program come from: its own section, then the functions libbpf appends to it."""

from __future__ import annotations

import struct
from typing import NamedTuple

from ebpf_magic.data.elf import Elf, Symbol

_INSN = struct.Struct("<BBhi")
_SYMBOL = struct.Struct("<IBBHQQ")
_RELOCATION = struct.Struct("<QQ")
_CALL, _LOAD_ADDRESS = 0x85, 0x18
_PSEUDO_CALL = 1
_FUNCTION = 2
_TEXT = ".text"


class Piece(NamedTuple):
    """Instructions that stay together: `length` from `first` of a section, at `start` of the loaded program."""

    section: str
    first: int
    length: int
    start: int


def pieces(elf: Elf, program: Symbol) -> list[Piece]:
    """Lay a program out as libbpf does: each function follows when it is first called, then what that one calls.

    Parameters
    ----------
    elf : Elf
        The object.
    program : Symbol
        The program's symbol.

    Source: ``bpf_object__reloc_code`` of libbpf.
    """
    symbols = _symbols(elf)
    functions = {
        value // 8: size // 8 for kind, section, value, size in symbols if kind == _FUNCTION and section == _TEXT
    }
    calls = {section: _calls(elf, section, symbols) for section in {program.section, _TEXT}}
    laid = [Piece(program.section, program.value // 8, program.size // 8, 0)]
    pending = [target for _, target in _within(calls, laid[0])]
    seen: set[int] = set()
    while pending:
        function = pending.pop(0)
        if function in seen or function not in functions:
            continue
        seen.add(function)
        last = laid[-1]
        laid.append(Piece(_TEXT, function, functions[function], last.start + last.length))
        pending = [target for _, target in _within(calls, laid[-1])] + pending
    return laid


def _within(calls: dict[str, list[tuple[int, int]]], piece: Piece) -> list[tuple[int, int]]:
    return [call for call in calls[piece.section] if piece.first <= call[0] < piece.first + piece.length]


def _calls(elf: Elf, section: str, symbols: list[tuple[int, str, int, int]]) -> list[tuple[int, int]]:
    """Instruction of the section, and the instruction of .text that it calls or takes the address of, in order."""
    relocations = {
        offset // 8: symbols[info >> 32]
        for offset, info in _RELOCATION.iter_unpack(_whole(elf.data(f".rel{section}"), _RELOCATION.size))
        if info >> 32 < len(symbols)
    }
    found = []
    for index, (code, registers, _, immediate) in enumerate(_INSN.iter_unpack(_whole(elf.data(section), _INSN.size))):
        _, where, value, _ = relocations.get(index, (0, section, 0, 0))
        if code == _CALL and registers >> 4 == _PSEUDO_CALL:
            # Without a relocation the distance is from this very instruction.
            base = value // 8 if index in relocations else index
            if where == _TEXT:
                found.append((index, base + immediate + 1))
        elif code == _LOAD_ADDRESS and index in relocations and where == _TEXT:
            found.append((index, (value + immediate) // 8))
    return found


def _symbols(elf: Elf) -> list[tuple[int, str, int, int]]:
    """Type, section, value and size of every symbol, in the order in which relocations count them."""
    names = [section.name for section in elf.sections]
    return [
        (info & 15, names[index] if index < len(names) else "", value, size)
        for _, info, _, index, value, size in _SYMBOL.iter_unpack(_whole(elf.data(".symtab"), _SYMBOL.size))
    ]


def _whole(data: bytes | None, size: int) -> bytes:
    return (data or b"")[: len(data or b"") // size * size]
