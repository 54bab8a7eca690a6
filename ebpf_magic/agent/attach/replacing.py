"""Programs that take the place of a global function in another session's program: freplace."""

from __future__ import annotations

import ctypes as C
import errno as errnos
import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from .. import bpf, kinds, near
from ..fault import Fault, from_errno
from ..libbpf import Library
from .handles import Context, Handle, KernelLink
from .refused import refused

if TYPE_CHECKING:
    from ..declared import Program
    from ..objects import LoadedObject

_GLOBAL = "Only a global function can be replaced: take `static` away there."
_HINTS = {
    "static functions": _GLOBAL,
    "not a global function": _GLOBAL,  # since 6.8
    "match": "It must have the arguments and the return type of the function that it replaces.",
    "args while": "It must have the arguments and the return type of the function that it replaces.",
}


class _FuncInfo(C.Structure):
    _fields_ = [("insn_off", C.c_uint32), ("type_id", C.c_uint32)]


class Place(NamedTuple):
    """A function in the kernel: its program's descriptor, and its name."""

    program_fd: int
    function: str


def bind(
    library: Library, programs: Sequence[Program], targets: Mapping[str, str], sessions: Mapping[str, LoadedObject]
) -> None:
    """Tell libbpf what each freplace program will replace, which it must know before loading; raises `Fault`."""
    for program in programs:
        if program.kind == "freplace":
            target = program.target(targets.get(program.name))
            place = _find(program, target, sessions)
            error = -library.bpf_program__set_attach_target(program.pointer, place.program_fd, place.function.encode())
            if error:
                about = {"program": program.name, "target": target}
                raise from_errno("attach", f"attach freplace {target}", error, kinds.KINDS["freplace"].needs, **about)


def freplace(context: Context, program: Program, target: str) -> list[Handle]:
    """Put the program where the function is to which it was bound; raises `Fault`."""
    with context.library.printed() as lines:
        pointer = context.library.bpf_program__attach(program.pointer)
        number = C.get_errno()
    if pointer:
        return [KernelLink(context.library, pointer)]
    reasons = {errnos.EBUSY: "another program has taken the place of that function already"}
    raise refused(program, f"attach freplace {target}", target, number, lines, reasons)


def why_refused(program: Program, target: str, log: str) -> Fault | None:
    """Explain that the kernel compared the two functions and refused; None when that is not why loading failed."""
    said = log.strip().partition("\n")[0]
    hint = next((hint for words, hint in _HINTS.items() if words in said), "")
    if not hint:
        return None
    about = {"program": program.name, "target": target, "log": log}
    return Fault("attach", f"attach freplace {target}", said, hint, errno=errnos.EINVAL, **about)


def _find(program: Program, target: str, sessions: Mapping[str, LoadedObject]) -> Place:
    what = f"attach freplace {target}" if target else f"attach {program.label}"
    about: dict[str, Any] = {"program": program.name, "target": target}
    name, _, function = target.partition(":")
    if not (name and function):
        why = "what an freplace program replaces is written SESSION:FUNCTION"
        raise Fault("attach", what, why, f"Such as --attach {program.name}=SESSION:FUNCTION.", **about)
    if name not in sessions:
        hint = f"Running on this host: {', '.join(sessions) or 'none'}."
        raise Fault("attach", what, f"no session {name} is running", hint, near=near.close(name, sessions), **about)
    other = sessions[name]
    found: list[str] = []
    for candidate in other.programs:
        try:
            names = _functions(other.library, other.fd(candidate))
        except OSError as error:
            raise from_errno("attach", what, error.errno or 0, kinds.KINDS["freplace"].needs, **about) from None
        if function in names:
            return Place(other.fd(candidate), function)
        found += names
    hint = "Only a global function that is called, and not inlined (__noinline), is there."
    why = f"the programs of {name} have no function of that name"
    raise Fault("attach", what, why, hint, near=near.close(function, found), **about)


def _functions(library: Library, program_fd: int) -> list[str]:
    """Names of a loaded program's functions, the program itself first."""
    about = bpf.prog_info(program_fd)
    records = bpf.prog_func_info(program_fd, _FuncInfo * about.nr_func_info)
    btf = library.btf__load_from_kernel_by_id(about.btf_id) if about.btf_id else None
    if not btf:
        if about.btf_id:
            raise OSError(C.get_errno(), "read the types of a loaded program")
        return []
    try:
        names = []
        for record in records:
            of_type = library.btf__type_by_id(btf, record.type_id)
            name = library.btf__name_by_offset(btf, C.c_uint32.from_address(of_type).value) if of_type else b""
            names.append(os.fsdecode(name or b""))
        return names
    finally:
        library.btf__free(btf)
