"""What an iterator wrote as a DataFrame: rows of a struct, or lines of text."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from ebpf_magic.data import levels
from ebpf_magic.data.layout import Layout, label
from ebpf_magic.data.maps import view_rows
from ebpf_magic.errors import IteratorError, UnsupportedError

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from ebpf_magic.data.btf import Btf
    from ebpf_magic.data.elf import Elf

# Where ROW() of ebpf_magic.h leaves, in each function that uses it, a pointer to the type of its rows.
ANCHORS = ".em.rows"
_ANCHOR = "em_row"
_INSN = np.dtype([("code", "u1"), ("registers", "u1"), ("offset", "<i2"), ("immediate", "<i4")])
_CALL, _SEQ_WRITE = 0x85, 127


def row_types(btf: Btf, programs: Sequence[str]) -> dict[str, Layout]:
    """Find the types of the rows that programs write with ROW.

    Parameters
    ----------
    btf : Btf
        The object's.
    programs : sequence of str
        Its iterators.

    Returns
    -------
    dict
        Program -> layout of its rows; one that writes no rows is not in it. A program that writes and has no ROW of
        its own has that of the object's other functions, one of which it calls.

    Raises
    ------
    UnsupportedError
        When one program writes rows of several types, or it cannot be known which of several it writes.
    """
    found: dict[str, set[int]] = {}
    for name, type_id in btf.pointers(ANCHORS):
        function, _, rest = name.partition(".")
        if rest.startswith(_ANCHOR):
            found.setdefault(function, set()).add(type_id)
    shared: set[int] = set().union(*(types for function, types in found.items() if function not in programs))
    types = {
        program: found.get(program) or (shared if shared and _writes(btf.elf, program) else set())
        for program in programs
    }
    for program, several in types.items():
        if len(several) > 1:
            names = sorted(btf.type(type_id).name or "(unnamed)" for type_id in several)
            why = f"it may write rows of several types: {', '.join(names)}"
            raise UnsupportedError(f"read iterator {program}", why, "Write all its rows as one type.")
    layouts = {program: btf.layout(next(iter(each))) for program, each in types.items() if each}
    return {program: layout for program, layout in layouts.items() if layout is not None}


def _writes(elf: Elf | None, program: str) -> bool:
    """Whether a program calls bpf_seq_write, itself or by a function that is not inlined."""
    symbol = elf.symbols.get(program) if elf else None
    if elf is None or symbol is None:
        return False
    code = _calls(elf, symbol.section)[symbol.value // 8 : (symbol.value + symbol.size) // 8]
    by_itself = bool(((code["registers"] >> 4 == 0) & (code["immediate"] == _SEQ_WRITE)).any())
    others = _calls(elf, ".text")
    return by_itself or bool((code["registers"] >> 4 == 1).any() and (others["immediate"] == _SEQ_WRITE).any())


def _calls(elf: Elf, section: str) -> npt.NDArray[np.void]:
    """Return the instructions of a section, those that call nothing as zeros."""
    raw = elf.data(section) or b""
    code = np.frombuffer(raw[: len(raw) // _INSN.itemsize * _INSN.itemsize], _INSN).copy()
    code[code["code"] != _CALL] = np.zeros((), _INSN)
    return code


def row_frame(name: str, layout: Layout, raw: Any) -> pd.DataFrame:
    """Turn rows of one type, one behind the other, into a DataFrame with a column for each field.

    Raises
    ------
    IteratorError
        When the bytes are not whole rows.
    """
    size = layout.dtype.itemsize
    count, rest = divmod(memoryview(raw).nbytes, size)
    if rest:
        raise IteratorError(
            f"read iterator {name}",
            f"{memoryview(raw).nbytes:,} bytes are no whole number of rows of {size} bytes",
            "Write with ROW alone, not also with BPF_SEQ_PRINTF; .raw() has the bytes.",
        )
    rows = view_rows(name, "rows", layout.dtype, raw, count, size)
    columns = {label(column, "value"): levels.values(column, layout.take(rows, column)) for column in layout.columns}
    frame = pd.DataFrame(columns, copy=False)
    frame.attrs.update(layout.attrs("value"))
    return frame


def line_frame(text: str) -> pd.DataFrame:
    """Turn text into a DataFrame with a row for each line, in the column ``line``."""
    lines = text.removesuffix("\n").split("\n") if text else []
    return pd.DataFrame({"line": pd.array(lines, dtype="str")})
