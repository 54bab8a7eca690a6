"""The layout of a loaded program, as libbpf makes it. The object is that of test_build_verifier."""

from __future__ import annotations

import random
from pathlib import Path

from ebpf_magic.build.linked import Piece, pieces
from ebpf_magic.data.elf import BtfError, Elf

RAW = (Path(__file__).parent / "data" / "rejected.bpf.o").read_bytes()


def test_a_function_follows_the_program_that_calls_it() -> None:
    elf = Elf(RAW)
    program, helper = elf.symbols["calls"], elf.symbols["helper"]
    assert helper.section == ".text"
    assert pieces(elf, program) == [
        Piece("raw_tp/sys_enter", program.value // 8, program.size // 8, 0),
        Piece(".text", helper.value // 8, helper.size // 8, program.size // 8),
    ]


def test_a_program_that_calls_none_is_by_itself() -> None:
    elf = Elf(RAW)
    program = elf.symbols["good"]
    assert pieces(elf, program) == [Piece("raw_tp/sys_enter", program.value // 8, program.size // 8, 0)]


def test_no_damage_does_more_than_a_wrong_layout() -> None:
    chance = random.Random(5)
    for _ in range(2000):
        data = bytearray(RAW)
        for _ in range(chance.randint(1, 30)):
            data[chance.randrange(len(data))] = chance.randrange(256)
        try:
            elf = Elf(bytes(data))
            for symbol in elf.symbols.values():
                assert pieces(elf, symbol)
        except BtfError:
            pass
