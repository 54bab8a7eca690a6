"""Programs on functions of the kernel: kprobe and kretprobe, fentry, fexit and fmod_ret, and the hooks of lsm."""

from __future__ import annotations

import ctypes as C
import errno as errnos
import os
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from .. import bpf, kinds, libbpf, near, tracefs
from ..fault import Fault, from_errno
from .handles import Context, Handle, KernelLink
from .refused import refused

if TYPE_CHECKING:
    from ..declared import Program
    from ..libbpf import Library

_KPROBE = re.compile(r"(?P<symbol>(?:[\w-]+:)?[A-Za-z_][\w.$]*)(?:\+(?P<offset>0x[0-9a-fA-F]+|\d+))?")
_SYSCALL = re.compile(r"[a-z]\w*")
_UNRESOLVED = re.compile(r"prog '([^']*)': failed to find kernel BTF type ID")
# What the verifier's log ends with when it has not come to the first instruction.
_NOTHING_VERIFIED = re.compile(r"^processed 0 insns", re.MULTILINE)
_TARGET_HINTS = {
    "is not sleepable": "Leave the .s of its section out: only some functions can have programs that sleep.",
    "is not modifiable": "fmod_ret may change security_*() functions, and those open to error injection. "
    "fentry and fexit watch any.",
}
_PMU = "/sys/bus/event_source/devices/kprobe/type"
_IN_A_VM = "A VM with a distribution's kernel has it: --on vm."


def kprobe(context: Context, program: Program, target: str) -> list[Handle]:
    """Attach a kprobe or kretprobe to ``FUNCTION`` or ``FUNCTION+OFFSET``; raises `Fault`."""
    match = _KPROBE.fullmatch(target)
    about: dict[str, Any] = {"program": program.name, "target": target}
    what = f"attach {program.kind} {target}"
    if match is None:
        raise Fault("attach", what, f"a {program.kind} is written FUNCTION or FUNCTION+OFFSET", **about)
    symbol, offset = match["symbol"], int(match["offset"] or "0", 0)
    is_return = program.kind == "kretprobe"
    if is_return and offset:
        raise Fault("attach", what, "a kretprobe has no offset: it is hit when the function returns", **about)
    _check_kprobes(what, about)
    options = libbpf.KprobeOpts(sz=C.sizeof(libbpf.KprobeOpts), offset=offset, retprobe=is_return)
    with context.library.printed() as lines:
        pointer = context.library.bpf_program__attach_kprobe_opts(program.pointer, symbol.encode(), C.byref(options))
        number = C.get_errno()
    if pointer:
        return [KernelLink(context.library, pointer)]
    if number == errnos.ENOENT:
        names = near.close(symbol, near.kernel_functions())
        hint = f"Name another, --attach {program.name}=FUNCTION, or go on without it: --optional {program.name}."
        raise Fault("attach", what, "the kernel has no such function", hint, near=names, errno=number, **about)
    raise refused(program, what, target, number, lines, _kprobe_reasons(offset))


def ksyscall(context: Context, program: Program, target: str) -> list[Handle]:
    """Attach to the function of a system call, whatever this kernel's architecture calls it; raises `Fault`."""
    about: dict[str, Any] = {"program": program.name, "target": target}
    what = f"attach {program.kind} {target}"
    if not _SYSCALL.fullmatch(target):
        hint = "It has no prefix: ksyscall/openat."
        raise Fault("attach", what, f"a {program.kind} is written by the system call's name", hint, **about)
    _check_kprobes(what, about)
    options = libbpf.KsyscallOpts(sz=C.sizeof(libbpf.KsyscallOpts), retprobe=program.kind == "kretsyscall")
    with context.library.printed() as lines:
        pointer = context.library.bpf_program__attach_ksyscall(program.pointer, target.encode(), C.byref(options))
        number = C.get_errno()
    if pointer:
        return [KernelLink(context.library, pointer)]
    if number == errnos.ENOENT:
        names = near.close(target, near.syscalls())
        raise Fault("attach", what, "the kernel has no such system call", near=names, errno=number, **about)
    raise refused(program, what, target, number, lines, {})


def by_function(context: Context, program: Program, target: str) -> list[Handle]:
    """Attach fentry, fexit, fmod_ret or lsm where its section says; raises `Fault`."""
    what = f"attach {program.kind} {target}"
    in_its_section(program, target)
    if program.kind == "lsm":
        would_be_called(program, target)
    with context.library.printed() as lines:
        pointer = context.library.bpf_program__attach(program.pointer)
        number = C.get_errno()
    if pointer:
        return [KernelLink(context.library, pointer)]
    without = "this kernel cannot attach programs to functions (CONFIG_DYNAMIC_FTRACE_WITH_DIRECT_CALLS)"
    reasons = {
        errnos.EBUSY: "this function cannot be traced (notrace), or something else has patched its entry",
        errnos.E2BIG: "the function has as many programs as the kernel allows",
        errnos.EOPNOTSUPP: without,
        bpf.ENOTSUPP: without,
    }
    raise refused(program, what, target, number, lines, reasons)


def bind(library: Library, programs: Sequence[Program]) -> None:
    """Tell libbpf the targets that it does not find in its own sections, before loading; raises `Fault`."""
    for program in programs:
        target = program.section.partition("/")[2]
        if (
            not kinds.takes_target(program.kind)
            or program.section == library.bpf_program__section_name(program.pointer).decode()
        ):
            continue
        with library.printed():
            error = -library.bpf_program__set_attach_target(program.pointer, 0, target.encode())
        if error in (errnos.ESRCH, errnos.ENOENT):
            raise _no_such(program)
        if error:
            about = {"program": program.name, "target": target}
            raise from_errno(
                "attach", f"attach {program.kind} {target}", error, kinds.KINDS[program.kind].needs, **about
            )


def would_be_called(program: Program, target: str) -> None:
    """Refuse to attach to a hook where the kernel would never call the program; raises `Fault`."""
    modules = security_modules()
    if modules and "bpf" not in modules:
        raise Fault(
            "attach",
            f"attach {program.kind} {target}",
            f"this kernel would never call it: bpf is not among its security modules ({', '.join(modules)})",
            f"Boot it with lsm={','.join(modules)},bpf on its command line. {_IN_A_VM}",
            program=program.name,
            target=target,
        )


def in_its_section(program: Program, target: str) -> None:
    """Refuse another target than the one to which the program was bound while loading; raises `Fault`."""
    if target != program.section.partition("/")[2]:
        raise Fault(
            "usage",
            f"attach {program.label} to {target}",
            f"the target of {program.kind} is settled when it is loaded",
            f'Write SEC("{program.section.partition("/")[0]}/{target}").',
            program=program.name,
            target=target,
        )


def unresolved(programs: Sequence[Program], lines: list[str]) -> Fault | None:
    """Explain that loading failed because the kernel's BTF has no such function or hook; None when that is not why."""
    failed = next((match[1] for line in lines if (match := _UNRESOLVED.search(line))), None)
    program = next((program for program in programs if program.name == failed), None)
    return _no_such(program) if program else None


def _no_such(program: Program) -> Fault:
    target = program.section.partition("/")[2]
    bound = program.kind in kinds.BOUND
    names, why = {
        "lsm": (near.lsm_hooks, "no such hook"),
        "lsm_cgroup": (near.lsm_hooks, "no such hook"),
        "iter": (near.iterators, "the kernel has no such iterator"),
    }.get(program.kind, (near.btf_functions, "the kernel's BTF has no such function"))
    another = f"Name another, --attach {program.name}={kinds.example(program.kind)}, or go" if bound else "Go"
    return Fault(
        "attach",
        f"attach {program.kind} {target}",
        why,
        f"{another} on without it: --optional {program.name}.",
        near=near.close(target, names()),
        errno=errnos.ESRCH,
        program=program.name,
        target=target,
    )


def not_attachable(program: Program, log: str) -> Fault | None:
    """Explain that the kernel looked at the target only, and refused it; None when that is not why loading failed."""
    if program.kind not in kinds.BY_BTF or not _NOTHING_VERIFIED.search(log):
        return None
    target = program.section.partition("/")[2]
    said = log.strip().partition("\n")[0]
    why = "the kernel lets no program be attached there" if _NOTHING_VERIFIED.match(said) else said
    hint = next((hint for words, hint in _TARGET_HINTS.items() if words in said), "")
    what = f"attach {program.kind} {target}"
    return Fault("attach", what, why, hint, errno=errnos.EINVAL, program=program.name, target=target, log=log)


def security_modules() -> list[str]:
    """Name the kernel's active security modules; empty when that cannot be read."""
    if not tracefs.is_mounted("securityfs"):
        tracefs.mount("securityfs")
    try:
        with open(f"{tracefs.MOUNTS['securityfs']}/lsm") as text:
            return text.read().strip().split(",")
    except OSError:
        return []


def has_kprobes() -> bool:
    """Whether this kernel is built with kprobes."""
    return os.path.exists(_PMU) or os.path.exists(f"{tracefs.tracing()}/kprobe_events")


def _check_kprobes(what: str, about: dict[str, Any]) -> None:
    if not has_kprobes():
        raise Fault("attach", what, "this kernel is built without kprobes (CONFIG_KPROBE_EVENTS)", _IN_A_VM, **about)


def _kprobe_reasons(offset: int) -> dict[int, str]:
    refusal = "the kernel lets nobody probe this function (notrace, or on its list of forbidden ones)"
    return {
        # Since b022f0c7e404 ("tracing/kprobes: Return EADDRNOTAVAIL when func matches several symbols"), v6.7; before,
        # the first of them was probed.
        errnos.EADDRNOTAVAIL: "the kernel has several functions of that name",
        errnos.EINVAL: f"{refusal}, or the offset lies outside of it" if offset else refusal,
        errnos.EILSEQ: "no instruction begins at that offset",
    }
