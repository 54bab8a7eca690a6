"""Attaching programs to what they watch, and detaching them, many at a time."""

from __future__ import annotations

import ctypes as C
import errno as errnos
import os
import re
import threading
from typing import NamedTuple

from . import bpf, cpus, kernel_functions, kinds, libbpf, near, perf, tracefs
from .fault import Fault, from_errno
from .libbpf import Library
from .objects import Program
from .refused import refused

_TRACEPOINT = re.compile(r"([\w-]+)[/:]([\w-]+)")
_UPROBE = re.compile(
    r"(?P<path>[^:]+):(?:(?P<symbol>[A-Za-z_][\w.@$]*)(?:\+(?P<plus>0x[0-9a-fA-F]+|\d+))?|(?P<offset>0x[0-9a-fA-F]+))"
)
_THREADS = 64
_LIBRARY_FOLDERS = ("/lib", "/usr/lib", "/lib64", "/usr/lib64", "/usr/local/lib")
_PROGRAM_FOLDERS = ("/usr/bin", "/usr/sbin", "/bin", "/sbin", "/usr/local/bin", "/usr/local/sbin")


class Link(NamedTuple):
    """What holds one program to one target; several kernel links where one would not do (a CPU each)."""

    program: str
    target: str
    kind: str
    pointers: list[int]


def attach(library: Library, program: Program, target: str | None) -> Link:
    """Attach one program to the target given, else to the one its section names; raises `Fault`."""
    target = target if target is not None else program.section.partition("/")[2]
    if not target:
        raise _no_target(program)
    attachers = {
        "tracepoint": _tracepoint,
        "raw_tp": _raw_tracepoint,
        "tp_btf": _btf_tracepoint,
        "uprobe": _uprobe,
        "uretprobe": _uprobe,
        "perf_event": _perf_event,
        "kprobe": kernel_functions.kprobe,
        "kretprobe": kernel_functions.kprobe,
        **dict.fromkeys(kinds.BY_FUNCTION, kernel_functions.by_function),
    }
    return Link(program.name, target, program.kind, attachers[program.kind](library, program, target))


def missed(library: Library, group: list[Link]) -> dict[str, int | None]:
    """Program -> hits that its kprobes never handed to it; None where the kernel does not tell."""
    result: dict[str, int | None] = {}
    for link in group:
        if link.kind in ("kprobe", "kretprobe"):
            for pointer in link.pointers:
                result[link.program] = bpf.kprobe_missed(library.bpf_link__fd(pointer))
    return result


def destroy(library: Library, links: list[Link]) -> None:
    """Take links out of the kernel, in parallel: each waits 70 to 120 ms for the kernel's grace periods."""
    pointers = [pointer for link in links for pointer in link.pointers]
    if len(pointers) < 2:
        for pointer in pointers:
            library.bpf_link__destroy(pointer)
        return

    def work() -> None:
        while True:
            try:
                pointer = pointers.pop()
            except IndexError:
                return
            library.bpf_link__destroy(pointer)

    threads = [threading.Thread(target=work) for _ in range(min(len(pointers), _THREADS))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def resolve(name: str) -> str | None:
    """Full path of a program or library given by path or by bare name; None when there is none."""
    if "/" in name:
        return name if os.path.exists(name) else None
    if ".so" in name:
        found = _from_loader_cache(name)
        if found:
            return found
    folders = _LIBRARY_FOLDERS if ".so" in name else _PROGRAM_FOLDERS
    return next((path for folder in folders if os.path.isfile(path := f"{folder}/{name}")), None)


def _from_loader_cache(name: str) -> str | None:
    """Path of a library in the dynamic loader's cache, whose strings stand between NULs."""
    try:
        with open("/etc/ld.so.cache", "rb") as cache:
            paths = re.findall(rb"(?<=\0)/[^\0]*/" + re.escape(name.encode()) + rb"(?=\0)", cache.read())
    except OSError:
        return None
    return next((path.decode() for path in paths if os.path.isfile(path)), None)


def _tracepoint(library: Library, program: Program, target: str) -> list[int]:
    match = _TRACEPOINT.fullmatch(target)
    what = f"attach tracepoint {target}"
    if match is None:
        raise Fault("attach", what, "a tracepoint is written CATEGORY/NAME", program=program.name, target=target)
    category, name = match.groups()
    problem = tracefs.ensure_tracing()
    root = tracefs.tracing()
    if root is None:
        raise _no_tracefs(program, what, target, problem)
    if not os.path.isdir(f"{root}/events/{category}/{name}"):
        raise Fault(
            "attach",
            what,
            "no such tracepoint",
            near=near.tracepoints(category, name),
            program=program.name,
            target=target,
        )
    with library.printed() as lines:
        pointer = library.bpf_program__attach_tracepoint(program.pointer, category.encode(), name.encode())
        if not pointer:
            number = C.get_errno()
            raise refused(
                program,
                what,
                target,
                number,
                lines,
                {
                    errnos.EACCES: "the program reads beyond the end of the tracepoint's record",
                    errnos.EINVAL: "the kernel refused it",
                },
            )
    return [pointer]


def _no_tracefs(program: Program, what: str, target: str, problem: str) -> Fault:
    mounting = () if tracefs.is_mounted("tracefs") else ("SYS_ADMIN",)
    needs = (*kinds.CAPABILITIES["tracepoint"], *mounting)
    fault = from_errno("permission", what, errnos.EACCES, needs, program=program.name, target=target)
    fault.fields["why"] = f"{problem or 'tracefs cannot be read'}; {fault.fields['why']}"
    return fault


def _raw_tracepoint(library: Library, program: Program, target: str) -> list[int]:
    return _checked_raw(
        library, program, target, library.bpf_program__attach_raw_tracepoint(program.pointer, target.encode())
    )


def _btf_tracepoint(library: Library, program: Program, target: str) -> list[int]:
    kernel_functions.in_its_section(program, target)
    return _checked_raw(library, program, target, library.bpf_program__attach(program.pointer))


def _checked_raw(library: Library, program: Program, target: str, pointer: int | None) -> list[int]:
    if pointer:
        return [pointer]
    number = C.get_errno()
    what = f"attach {program.kind} {target}"
    if number == errnos.ENOENT:
        names = near.close(target, near.raw_tracepoint_names())
        raise Fault("attach", what, "no such tracepoint", near=names, errno=number, program=program.name, target=target)
    reasons = {errnos.EINVAL: "the program reads arguments that the tracepoint does not have"}
    raise refused(program, what, target, number, [], reasons)


def _uprobe(library: Library, program: Program, target: str) -> list[int]:
    match = _UPROBE.fullmatch(target)
    what = f"attach {program.kind} {target}"
    if match is None:
        raise Fault(
            "attach",
            what,
            "a uprobe is written PATH:FUNCTION, PATH:FUNCTION+OFFSET or PATH:0xOFFSET",
            program=program.name,
            target=target,
        )
    path = resolve(match["path"])
    if path is None:
        raise Fault("attach", what, f"no such file: {match['path']}", program=program.name, target=target)
    symbol = match["symbol"]
    offset = int(match["offset"] or match["plus"] or "0", 0)
    options = libbpf.UprobeOpts(
        sz=C.sizeof(libbpf.UprobeOpts),
        retprobe=program.kind == "uretprobe",
        func_name=symbol.encode() if symbol else None,
    )
    with library.printed() as lines:
        pointer = library.bpf_program__attach_uprobe_opts(program.pointer, -1, path.encode(), offset, C.byref(options))
        number = C.get_errno()
    if pointer:
        return [pointer]
    functions = near.functions(path)
    if symbol and symbol.partition("@")[0] not in functions and number not in (errnos.EPERM, errnos.EACCES):
        why = f"no such function in {path}" if functions else f"{path} has no function symbols"
        raise Fault(
            "attach", what, why, near=near.close(symbol, functions), errno=number, program=program.name, target=target
        )
    raise refused(program, what, target, number, lines, {})


def _perf_event(library: Library, program: Program, target: str) -> list[int]:
    sampling = perf.parse(target)
    what = f"attach perf_event {target}"
    if sampling is None:
        raise Fault(
            "attach",
            what,
            "a perf event is written EVENT:FREQUENCYhz or EVENT:PERIOD",
            f"For example --attach {program.name}=cpu-clock:99hz.",
            program=program.name,
            target=target,
        )
    if sampling.event not in perf.SOFTWARE:
        raise Fault(
            "attach",
            what,
            f"no such software event: {sampling.event}",
            f"Events: {', '.join(perf.SOFTWARE)}.",
            near=near.close(sampling.event, perf.SOFTWARE),
            program=program.name,
            target=target,
        )
    pointers: list[int] = []
    try:
        for cpu in cpus.online():
            pointers.append(_perf_link(library, program, perf.open_event(sampling, -1, cpu)))
    except OSError as error:
        destroy(library, [Link(program.name, target, program.kind, pointers)])
        reasons = {
            errnos.EINVAL: "the frequency is above kernel.perf_event_max_sample_rate, or the kernel refused the event"
        }
        raise refused(program, what, target, error.errno or 0, [], reasons) from None
    return pointers


def _perf_link(library: Library, program: Program, fd: int) -> int:
    pointer = library.bpf_program__attach_perf_event(program.pointer, fd)
    if not pointer:
        number = C.get_errno()
        os.close(fd)
        raise OSError(number, os.strerror(number))
    return int(pointer)


def _no_target(program: Program) -> Fault:
    examples = {
        "perf_event": "cpu-clock:99hz",
        **dict.fromkeys(("uprobe", "uretprobe"), "libc.so.6:malloc"),
        **dict.fromkeys(("kprobe", "kretprobe"), "do_sys_openat2"),
        "tracepoint": "syscalls/sys_enter_openat",
        "raw_tp": "sys_enter",
    }
    return Fault(
        "attach",
        f"attach {program.label}",
        "its section names no target",
        f"Name one: --attach {program.name}={examples[program.kind]}.",
        program=program.name,
    )
