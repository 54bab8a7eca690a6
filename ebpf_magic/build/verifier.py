"""What the verifier says, as one error that points at the cell's own line."""

from __future__ import annotations

import re
from typing import NamedTuple

from ebpf_magic.build.compiler import Built
from ebpf_magic.build.diagnostics import excerpt
from ebpf_magic.build.linked import Piece, pieces
from ebpf_magic.build.linking import part_of
from ebpf_magic.build.source import Source
from ebpf_magic.data.btf import Btf, BtfError, LineInfo
from ebpf_magic.errors import VerifierError

_INSTRUCTION = re.compile(r"^(\d+): (?:\([0-9a-f]{2}\) |<invalid )")
_SOURCE = re.compile(r"^; (?P<text>.*?)(?: @ (?P<file>[^:@]+):(?P<line>\d+))?$")
_NAMED_INSTRUCTION = re.compile(r"\b(?:insn|from insn) (\d+)")
_MARKER = re.compile(r"-- (BEGIN|END) PROG LOAD LOG --")
# Lines that say nothing of the cause: statistics, register states, jumps.
_ASIDE = re.compile(
    r"^(processed \d+ insns|verification time|stack depth|max_states|(?:from )?\d+ to \d+:|\d+: |\d+:$|; |R\d+(_w)?=|"
    r"libbpf: |(?:cur|old) state: |mark_precise|last_idx|regs=|parent|func#\d+ @\d+$|Validating |\s*$)"
)
_TAIL_LINES = 6
_MAX_LINE = 200

# The verifier's words, and what a person can do about them.
_HINTS = (
    (r"or_null", "The pointer may be NULL: test it first, as in `if (!value) return 0;`."),
    (r"invalid mem access '(scalar|inv)'", "Read the kernel's memory by BPF_CORE_READ() or bpf_probe_read_kernel()."),
    (r"read from stack|invalid indirect access to stack", "Give the variable a value first, as in `= {}`."),
    (r"too large|too complex|sequence of \d+ jumps", "Give loops a small constant bound, or do less."),
    (r"back-edge|infinite loop", "The loop must have an end that the verifier can see, such as a constant bound."),
    (
        r"invalid access to (map value|packet)|(min|max) value is|unbounded (min|max|memory)",
        "Bound the index or length first, as in `if (i >= SIZE) return 0;`.",
    ),
    (r"cannot call GPL", 'The helper needs a GPL-compatible licence: char LICENSE[] SEC("license") = "GPL";'),
    (
        r"bpf_override_return",
        "Only a kprobe on a function open to error injection may, where CONFIG_BPF_KPROBE_OVERRIDE is set.",
    ),
    (r"unknown func|cannot use helper|helper call is not allowed", "This kind of program cannot call that helper."),
    (r"invalid bpf_context access|modified ctx", "The context has no such field for this kind of program."),
    (
        r"failed to find the address for kernel symbol",
        "Its BTF names this variable, but /proc/kallsyms of this kernel lists no variables (CONFIG_KALLSYMS_ALL). "
        "Another kernel may: --on vm.",
    ),
    (r"CO-RE relocation", "This kernel has no such type or field; bpf_core_field_exists() asks before it is read."),
    (r"combined stack size", "The functions together take more than 512 bytes of stack: use a PERCPU_ARRAY."),
    (r"At program exit|R0 !read_ok|R0 is not a known", "Return a number that this kind of program may, usually 0."),
    (r"[Uu]nreleased reference", "What was acquired must be released on every way out."),
)


class _Where(NamedTuple):
    line: int
    column: int | None
    cell: str = ""  # of those linked together; empty for the one that was run
    source: Source | None = None


def verifier_error(built: Built, error: VerifierError) -> VerifierError:
    """Make of the kernel's rejection an error that names the cell's line.

    Parameters
    ----------
    built : Built
        The cell whose object was refused.
    error : VerifierError
        The rejection as the agent reported it, with the program's name and the verifier's log.

    Returns
    -------
    VerifierError
        With `line`, an excerpt and a hint where they can be told; `log` is the whole log.
    """
    lines = _relevant(error.log)
    cause_at = _cause(lines)
    cause = lines[cause_at].strip()[:_MAX_LINE] if cause_at is not None else ""
    where = _locate(built, error.program, lines, cause_at)
    shown = [excerpt(where.source or built.source, where.line, where.column)] if where else []
    place = f", line {where.line}{f' of {where.cell}' if where.cell else ''}" if where else ""
    tail = [line[:_MAX_LINE] for line in lines[: (cause_at or 0) + 1] if line.strip()][-_TAIL_LINES:] if cause else []
    # The cause itself first: the lines before it name much that is not at fault.
    texts = (cause, "\n".join(lines[-30:]))
    hints = [hint for text in texts for pattern, hint in _HINTS if re.search(pattern, text)]
    return VerifierError(
        f"{error.what}{place}",
        f"the verifier says: {cause}" if cause else error.why,
        hints[0] if hints else error.hint,
        near=error.near,
        line=where.line if where else None,
        column=where.column if where else None,
        log=error.log,
        errno=error.errno,
        program=error.program,
        target=error.target,
        excerpt="\n".join(filter(None, [*shown, *(f"      {line}" for line in tail)])),
    )


def _relevant(log: str) -> list[str]:
    """Return the lines of the last program's log, without libbpf's frame."""
    lines = log.splitlines()
    begin = max((i for i, line in enumerate(lines) if (m := _MARKER.search(line)) and m[1] == "BEGIN"), default=-1)
    lines = lines[begin + 1 :]
    end = next((i for i, line in enumerate(lines) if (m := _MARKER.search(line)) and m[1] == "END"), len(lines))
    return [line.removeprefix("libbpf: ") for line in lines[:end]]


def _cause(lines: list[str]) -> int | None:
    """Return where the verifier's own words are: its last line that is neither a state nor a statistic."""
    return next((i for i in range(len(lines) - 1, -1, -1) if not _ASIDE.match(lines[i])), None)


def _locate(built: Built, program: str | None, lines: list[str], cause_at: int | None) -> _Where | None:
    try:
        btf = Btf.from_elf(built.object)
        symbol = btf.elf.symbols.get(program or "") if btf.elf else None
        laid = pieces(btf.elf, symbol) if btf.elf and symbol else []
        own = [_of_piece(btf, piece) for piece in laid]
        subprograms = btf.line_info(".text")
    except BtfError:
        return None  # an object without line information still has a log to show
    index = _failed_instruction(lines, cause_at)
    for piece, infos in zip(laid, own, strict=True):
        if index is not None and piece.start <= index < piece.start + piece.length:
            found = _of_cell([info for info in infos if info.insn <= index])
            if found:
                return _of_part(built, found, piece.section, index - piece.start + piece.first)
    return _by_text(built, [*subprograms, *(own[0] if own else [])], lines)


def _of_part(built: Built, where: _Where, section: str, insn: int) -> _Where:
    """Say which of several linked cells the line is of: each calls its own file the same."""
    part = part_of(built.parts, section, insn)
    if part is None or part[0] == built.parts[0][0]:
        return where
    return where._replace(cell=part[0], source=part[1].source)


def _of_piece(btf: Btf, piece: Piece) -> list[LineInfo]:
    """Return the line records of a piece of a program, counted from the program's first instruction."""
    first, last = piece.first, piece.first + piece.length
    infos = btf.line_info(piece.section)
    return [info._replace(insn=info.insn - first + piece.start) for info in infos if first <= info.insn < last]


def _failed_instruction(lines: list[str], cause_at: int | None) -> int | None:
    """Return the instruction the verifier stopped at: the one it names, else the last one it went through."""
    if cause_at is not None:
        named = _NAMED_INSTRUCTION.search(lines[cause_at])
        if named:
            return int(named[1])
    for line in reversed(lines[:cause_at]):
        match = _INSTRUCTION.match(line)
        if match:
            return int(match[1])
    return None


def _of_cell(infos: list[LineInfo]) -> _Where | None:
    """Return the last record that is the cell's; an inlined function of a header belongs to the line that called it."""
    for info in reversed(infos):
        if _is_cell(info.file) and info.line:
            return _Where(info.line, info.column or None)
    return None


def _by_text(built: Built, infos: list[LineInfo], lines: list[str]) -> _Where | None:
    """Find the last source line in the log: newer kernels name its number, older ones only print it."""
    for line in reversed(lines):
        match = _SOURCE.match(line)
        text = match["text"].strip() if match else ""
        if not match or not text:
            continue
        if match["line"] and _is_cell(match["file"]) and not built.parts:
            return _Where(int(match["line"]), None)
        known = [info.line for info in infos if _is_cell(info.file) and info.text.strip() == text and not built.parts]
        for name, source in _sources(built):
            known += [number for number, own in enumerate(source.lines, 1) if own.strip() == text]
            if known:
                return _Where(known[0], None, name, source)
    return None


def _sources(built: Built) -> list[tuple[str, Source]]:
    """Give the cells an object is made of, the one that was run first and without a name."""
    return [("", built.source), *((name, part.source) for name, part in built.parts[1:])]


def _is_cell(file: str) -> bool:
    return file.removeprefix("./") == "cell"
