"""What clang says, as one error that points at the cell's own line."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from difflib import get_close_matches
from pathlib import Path

from ebpf_magic.build.clang import Result
from ebpf_magic.build.macros import macros
from ebpf_magic.build.source import Source
from ebpf_magic.errors import CompileError

AFTER_CELL = "after the cell"  # the file name of what is compiled behind the cell's last line
_MESSAGE = re.compile(
    r"^(?:(?P<file>[^:\n]+):(?P<line>\d+):(?P<column>\d+): )?(?P<kind>fatal error|error|warning|note): (?P<text>.*)$"
)
_INCLUDED = re.compile(r"^In file included from (?P<file>[^:\n]+):(?P<line>\d+)")
_EXPANDED = re.compile(r"expanded from macro '(\w+)'")
_UNKNOWN = re.compile(
    r"(?:use of undeclared identifier|unknown type name|implicit declaration of function|"
    r"call to undeclared function) '(\w+)'"
)
_HELPER = re.compile(r"\(\*(?: const)? ?(bpf_\w+)\)\(")
# What clang says of a name at the top level that it takes for a function, and that was to be a macro.
_NO_MACRO = re.compile(
    r"unexpected type name|type specifier missing|parameter list without types|expected parameter declarator"
)
# What clang says, what that means in a cell (empty: the same), and what to do about it.
_EXPLAINED = (
    (
        r"redefinition of '(\w+)' as different kind of symbol",
        r"the name \1 is taken: the kernel's types have it",
        "vmlinux.h, with all its constants, is part of the cell: take another name.",
    ),
    (
        r"'(bits|gnu|sys)/.*file not found",
        "",
        "A program in the kernel has no C library; the kernel's types are in vmlinux.h.",
    ),
    (
        r"file not found",
        "",
        "Headers are looked for in the notebook's folder, those of --include, libbpf's and the system's; vmlinux.h is "
        "made.",
    ),
    (r"static.assert(?:ion)? failed.*?requirement '.*?':? \"?(.*?)\"?$", r"\1", ""),
    (
        r"incomplete type 'struct bpf_iter_(\w+)'",
        r"this kernel has no iterator \1 for programs to loop by",
        "bpf_for() and its kin need Linux 6.4 and its vmlinux.h. A loop with a small constant bound needs neither.",
    ),
    (
        r"BPF stack limit",
        "its variables take more than the 512 bytes of stack a program has",
        "Keep large ones in a PERCPU_ARRAY.",
    ),
    (
        r"defined with too many args|stack arguments are not",
        "a function can have five arguments at most",
        "Pass a struct.",
    ),
)
_PAIRED = re.compile(r"\b(ADD|OBSERVE_BY)\s*\(")
_MAX_OTHERS = 2
_MAX_WIDTH = 160
_MAX_TEXT = 400


@dataclass(frozen=True)
class Message:
    """One thing clang said; line and column are the cell's, None for what is elsewhere."""

    kind: str
    text: str
    line: int | None
    column: int | None
    where: str = ""
    macros: tuple[str, ...] = ()


def compile_error(source: Source, result: Result, libbpf: Path) -> CompileError:
    """Make the error for a cell that did not compile.

    Parameters
    ----------
    source : Source
        The cell.
    result : Result
        How the compiler ended and what it said.
    libbpf : Path
        The folder with libbpf's headers, whose helpers are suggested for unknown names.
    """
    errors = _essential(message for message in parse(source, result.log) if message.kind in ("error", "fatal error"))
    if not errors:
        return _without_message(result)
    first = errors[0]
    why, hint = _explain(first, source)
    said = list(dict.fromkeys(f"{_place(error)}: {_explain(error, source)[0]}" for error in errors))[1:]
    others = said[:_MAX_OTHERS] + ([f"and {len(said) - _MAX_OTHERS} more errors"] if len(said) > _MAX_OTHERS else [])
    return CompileError(
        f"compile the cell, {_place(first)}",
        why,
        hint,
        near=[] if "did you mean" in why else _near(first, source, libbpf),
        line=first.line,
        column=first.column,
        log=result.log,
        excerpt="\n".join(filter(None, [excerpt(source, first.line, first.column), *others])),
    )


def warnings(source: Source, log: str) -> str:
    """Return the compiler's warnings about the cell, one a line."""
    found = [f"{_place(message)}: {message.text}" for message in parse(source, log) if message.kind == "warning"]
    return "\n".join(dict.fromkeys(found))


def parse(source: Source, log: str) -> Iterator[Message]:
    """Read clang's messages; what it says of a macro or an included file is put on the cell's line that used it."""
    included: int | None = None
    held: Message | None = None
    for line in log.splitlines():
        inclusion = _INCLUDED.match(line)
        if inclusion:
            included = int(inclusion["line"]) if _is_cell(inclusion["file"]) else included
            continue
        match = _MESSAGE.match(line)
        if not match:
            continue
        if match["kind"] == "note":
            expanded = _EXPANDED.match(match["text"])
            if expanded and held:
                held = replace(held, macros=(*held.macros, expanded[1]))
            continue
        if held:
            yield held
        held = _message(source, match, included)
        included = None
    if held:
        yield held


def excerpt(source: Source, line: int | None, column: int | None = None) -> str:
    """Return a line of the cell with a caret under the column; empty when there is no such line."""
    text = source.line(line or 0)
    if not text.strip():
        return ""
    # clang counts bytes. A long line is cut to the part around the column.
    at = len(text.encode()[: (column or 1) - 1].decode("utf-8", "replace"))
    start = max(0, at - _MAX_WIDTH // 2) if len(text) > _MAX_WIDTH else 0
    shown = text[start : start + _MAX_WIDTH]
    number = str(line)
    result = f"{number:>5} | {shown}"
    if column:
        before = re.sub(r"[^\t]", " ", text[start:at])
        result += f"\n{'':>5} | {before}^"
    return result


def _is_cell(file: str) -> bool:
    return file.removeprefix("./") == "cell"


def _message(source: Source, match: re.Match[str], included: int | None) -> Message:
    # The option that turns a warning off is of no use in a cell.
    text = re.sub(r" \[-W[^\]]*\]$", "", match["text"])
    if len(text) > _MAX_TEXT:
        text = f"{text[:_MAX_TEXT]} ..."
    file = match["file"]
    if file is None:
        return Message(match["kind"], text, included, None)
    line, column = int(match["line"]), int(match["column"])
    if _is_cell(file):
        if line > source.last_line:  # the end of the file, where something was still open
            return Message(match["kind"], text, source.last_line, None, AFTER_CELL)
        return Message(match["kind"], text, line, column)
    if file == AFTER_CELL:
        return Message(match["kind"], text, source.last_line, None, AFTER_CELL)
    return Message(match["kind"], text, included, None, f"{file}:{line}")


def _essential(errors: Iterable[Message]) -> list[Message]:
    """Return the errors without repetitions and without those that only follow from another."""
    found = list(dict.fromkeys(errors))
    unknown = {match[1] for message in found if (match := _UNKNOWN.search(message.text))}
    kept = []
    for message in found:
        match = _UNKNOWN.search(message.text)
        if match and match[1].endswith("__missed") and match[1].removesuffix("__missed") in unknown:
            continue
        kept.append(message)
    own = [message for message in kept if message.where != AFTER_CELL or message.text.startswith("expected")]
    placed = [message for message in own or kept if not message.text.startswith("too many errors emitted")]
    return sorted(placed, key=lambda message: message.where == AFTER_CELL)


def _place(message: Message) -> str:
    place = f"line {message.line}" if message.line else "outside its own lines"
    return f"{place} ({message.where})" if message.where and message.where != AFTER_CELL else place


def _without_message(result: Result) -> CompileError:
    if "malloc" in result.log or "out of memory" in result.log or "bad_alloc" in result.log:
        why = "the compiler ran out of the memory it is allowed"
    elif result.code < 0 or result.code > 128:
        why = "the compiler itself crashed"
    elif result.code == 0:
        why = "the compiler made no object: one of its flags asks for something else"
    else:
        why = f"the compiler failed (exit code {result.code}) without naming a line"
    return CompileError("compile the cell", why, "All it said is in the error's .log.", log=result.log)


def _explain(message: Message, source: Source) -> tuple[str, str]:
    """Return the cause in words that fit a cell, and what to do about it."""
    text = message.text
    unknown = _UNKNOWN.search(text)
    paired = _PAIRED.search(source.line(message.line or 0))
    # clang 22 does not tell of the macro when it points at an argument.
    if "EM_PAIR" in message.macros or (paired and "excess elements in struct" in text):
        return _explain_pair(message, paired[1] if paired else "ADD")
    if unknown and unknown[1].endswith("__missed"):
        name = unknown[1].removesuffix("__missed")
        return (
            f"map {name} was not made by HASH, ARRAY or one of their kind, and so has no counter of what is lost",
            f"Declare it as HASH({name}, key type, value type), or use bpf_map_lookup_elem and bpf_map_update_elem.",
        )
    called = _called_as_macro(message, source)
    short = unknown[1] if unknown else called
    if _without_short_names(source) and (short in macros() or re.fullmatch(r"[us](8|16|32|64)", short)):
        return text, 'A cell with its own #include gets this name by #include "ebpf_magic.h"; one without any has it.'
    if unknown and "function" in text:
        return f"there is no function or macro {unknown[1]}", ""
    if called and called not in macros():
        return f"there is no macro {called}", ""
    if message.where == AFTER_CELL and text.startswith("expected"):
        return f"{text} by the end of the cell", "Something was left open: a brace, a parenthesis, a semicolon."
    if message.where and "redefinition" in text and "vmlinux.h" in source.code:
        return text, "vmlinux.h has the kernel's types already: leave this #include out, or that of vmlinux.h."
    if unknown and "linux/bpf.h" in source.code and re.match("(BPF|TCX|XDP|SK|LIRC)_", unknown[1]):
        return (
            text,
            "<linux/bpf.h> is that of this system's C library; #include \"vmlinux.h\" in its place is the kernel's.",
        )
    for pattern, why, hint in _EXPLAINED:
        match = re.search(pattern, text)
        if match:
            return match.expand(why) or text, hint
    return text, ""


def _explain_pair(message: Message, name: str) -> tuple[str, str]:
    """Explain what clang says of the struct of a key and a number that ADD and OBSERVE_BY make."""
    name = next((macro for macro in message.macros if macro in ("ADD", "OBSERVE_BY")), name)
    if "suggest braces" in message.text:
        return "the key of this map is a struct, and this is none", "A key is a variable, or {.member = value, ...}."
    return f"{name} has too {'many' if 'excess' in message.text else 'few'} arguments", f"It is {macros()[name].usage}."


def _called_as_macro(message: Message, source: Source) -> str:
    """Return the name at the beginning of the line that clang took for a function's, if that is what it stumbled on."""
    called = re.match(r"\s*(\w+)\s*\(", source.line(message.line or 0)) if _NO_MACRO.search(message.text) else None
    return called[1] if called else ""


def _without_short_names(source: Source) -> bool:
    return source.own_includes and "ebpf_magic.h" not in source.code


def _near(message: Message, source: Source, libbpf: Path) -> list[str]:
    """Return names that exist and resemble the one that does not."""
    unknown = _UNKNOWN.search(message.text)
    name = unknown[1] if unknown else _called_as_macro(message, source)
    if not name or name in macros():
        return []
    known = dict.fromkeys([*macros(), *_helpers(libbpf), *_declared(source)])
    known.pop(name, None)
    return get_close_matches(name, known, n=3, cutoff=0.7)


def _helpers(libbpf: Path) -> list[str]:
    try:
        text = (libbpf / "bpf/bpf_helper_defs.h").read_text("utf-8", "replace")
    except OSError:
        return []  # suggestions only
    return [*_HELPER.findall(text), "bpf_printk", "BPF_CORE_READ", "BPF_KPROBE", "BPF_PROG", "SEC"]


def _declared(source: Source) -> list[str]:
    """Return the maps the cell declares by a macro, and its functions and variables as far as a glance shows them."""
    return re.findall(r"\b(?:HASH|ARRAY|HIST|HIST_BY)\s*\(\s*(\w+)", source.code) + re.findall(
        r"\b\w+\s+\**(\w+)\s*(?:\(|=|;|SEC\b)", source.code
    )
