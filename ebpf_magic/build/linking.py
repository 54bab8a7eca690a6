"""Several cells as one object, and which cell an instruction of it comes from."""

from __future__ import annotations

import re
import struct
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from difflib import get_close_matches
from pathlib import Path

from ebpf_magic.build import linker
from ebpf_magic.build.compiler import Built
from ebpf_magic.build.diagnostics import excerpt
from ebpf_magic.build.private import PrivateFolder
from ebpf_magic.data.btf import Btf
from ebpf_magic.data.elf import Elf
from ebpf_magic.errors import LinkError, ToolchainError

_DEADLINE_S = 30.0
_SYMBOL = struct.Struct("<IBBHQQ")
_GLOBAL = 1  # binding; 2 is weak, and may stay without a definition
_TWICE = re.compile(r"conflicting non-weak symbol #\d+ \((\w+)\) definition in '\d+-(\w+)'")
_MISMATCH = re.compile(r"global '(\w+)': (.*)")
# What the kernel or libbpf will fill in.
_RESOLVED_LATER = (".ksyms", ".kconfig")


def link(built: Built, others: Mapping[str, Built], name: str) -> Built:
    """Link a cell with others.

    Parameters
    ----------
    built : Built
        The cell.
    others : mapping of str to Built
        What it is linked with, by the cells' names.
    name : str
        The cell's own name, for messages.

    Returns
    -------
    Built
        The whole; its `parts` tell which instruction is whose.

    Raises
    ------
    LinkError
        Two cells define the same name, a name is declared differently, or libbpf's linker fails otherwise.
    ToolchainError
        libbpf is not installed.
    """
    cells = {name: built, **others}
    with PrivateFolder() as folder:
        inputs = [f"{index}-{cell}" for index, cell in enumerate(cells)]
        for path, part in zip(inputs, cells.values(), strict=True):
            (folder.path / path).write_bytes(part.object)
        command = [sys.executable, "-I", "-S", str(Path(linker.__file__)), "linked", *inputs]
        try:
            done = subprocess.run(
                command,
                cwd=folder.path,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=_DEADLINE_S,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise LinkError(_what(cells), f"libbpf's linker was not done after {_DEADLINE_S:.0f} s") from None
        log = done.stderr.decode("utf-8", "replace")
        if done.returncode == linker.NO_LIBBPF:
            raise ToolchainError(
                _what(cells), f"libbpf is missing: {log.strip()}", "Install it: `apt install libbpf1`."
            )
        if done.returncode != 0:
            raise _refused(cells, done.returncode, log)
        linked = (folder.path / "linked").read_bytes()
    return replace(built, object=linked, parts=tuple(cells.items()))


def check_resolved(built: Built, name: str) -> None:
    """Refuse an object that uses a name which no cell of it defines; raises `LinkError`."""
    elf = Elf(built.object)
    undefined = _undefined(elf)  # most cells have none, and their types are read while the kernel loads them
    unresolved = sorted(undefined - _filled_in(built.btf)) if undefined else []
    if not unresolved:
        return
    used = re.compile(rf"\b(?:__builtin_)?{re.escape(unresolved[0])}\b")
    line = next((number for number, text in enumerate(built.source.lines, 1) if used.search(text)), None)
    defined = [symbol for symbol in elf.symbols if not symbol.startswith(".")]
    raise LinkError(
        _what(dict(built.parts)) if built.parts else f"make the object of {name}",
        f"{', '.join(unresolved)} {'is' if len(unresolved) == 1 else 'are'} declared, and defined nowhere",
        "--with CELL (with_cells=[...]) names the cell that has it. There is no C library in the kernel.",
        near=get_close_matches(unresolved[0], defined),
        line=line,
        excerpt=excerpt(built.source, line),
    )


def part_of(parts: Sequence[tuple[str, Built]], section: str, insn: int) -> tuple[str, Built] | None:
    """Find the cell that an instruction of a linked section comes from: the linker puts one behind the other."""
    end = 0
    for name, built in parts:
        end += len((built.btf.elf.data(section) if built.btf.elf else None) or b"") // 8
        if insn < end:
            return name, built
    return None


def _refused(cells: Mapping[str, Built], code: int, log: str) -> LinkError:
    twice, mismatch = _TWICE.search(log), _MISMATCH.search(log)
    if twice:
        symbol, second = twice[1].removesuffix("__missed"), twice[2]
        first = next((name for name, part in cells.items() if part.btf.elf and twice[1] in part.btf.elf.symbols), "")
        why = f"{symbol} is defined twice, in {first} and in {second}"
        return LinkError(_what(cells), why, "Rename one of them; a function can be static instead.", log=log)
    if mismatch:
        said = mismatch[2].replace(" '(null)'", "")  # the name, where libbpf has none
        why = f"the cells do not agree on what {mismatch[1]} is: {said}"
        return LinkError(_what(cells), why, log=log)
    if code < 0:
        return LinkError(_what(cells), "libbpf's linker itself crashed", log=log)
    lines = [line.removeprefix("libbpf: ") for line in log.strip().splitlines()]
    return LinkError(_what(cells), f"libbpf's linker says: {lines[0] if lines else 'nothing'}", log=log)


def _what(cells: Mapping[str, Built]) -> str:
    first, *others = cells
    return f"link {first} with {', '.join(others)}"


def _undefined(elf: Elf) -> set[str]:
    names, found = elf.data(".strtab") or b"", set()
    table = elf.data(".symtab") or b""
    for at, info, _, index, _, _ in _SYMBOL.iter_unpack(table[: len(table) // _SYMBOL.size * _SYMBOL.size]):
        if at and index == 0 and info >> 4 == _GLOBAL:
            found.add(names[at : names.find(b"\0", at)].decode("utf-8", "replace"))
    return found


def _filled_in(btf: Btf) -> set[str]:
    sections = [section for number in btf.sections if (section := btf.type(number)).name in _RESOLVED_LATER]
    return {btf.type(of).name for section in sections for of, _, _ in btf.section_variables(section)}
