"""Programs on what the kernel offers for tracing: tracepoints, raw and typed ones, and samples of a clock."""

from __future__ import annotations

import ctypes as C
import errno as errnos
import os
import re
from typing import TYPE_CHECKING

from .. import cpus, kinds, near, tracefs
from ..fault import Fault, from_errno
from . import perf
from .functions import in_its_section
from .handles import Context, EventLink, Handle, KernelLink, close_all
from .refused import not_attached, refused

if TYPE_CHECKING:
    from ..declared import Program

_TRACEPOINT = re.compile(r"([\w-]+)[/:]([\w-]+)")


def tracepoint(context: Context, program: Program, target: str) -> list[Handle]:
    """Attach to the tracepoint ``CATEGORY/NAME``; raises `Fault`."""
    match = _TRACEPOINT.fullmatch(target)
    what = f"attach tracepoint {target}"
    if match is None:
        raise not_attached(program, target, "a tracepoint is written CATEGORY/NAME")
    category, name = match.groups()
    problem = tracefs.ensure_tracing()
    root = tracefs.tracing()
    if root is None:
        raise _no_tracefs(program, what, target, problem)
    if not os.path.isdir(f"{root}/events/{category}/{name}"):
        raise not_attached(program, target, "no such tracepoint", near=near.tracepoints(category, name))
    with context.library.printed() as lines:
        try:
            return [EventLink(context.library, program.pointer, perf.open_tracepoint(f"{category}/{name}"))]
        except OSError as error:
            reasons = {
                errnos.EACCES: "the program reads beyond the end of the tracepoint's record",
                errnos.EINVAL: "the kernel refused it",
            }
            raise refused(program, what, target, error.errno or 0, lines, reasons) from None


def _no_tracefs(program: Program, what: str, target: str, problem: str) -> Fault:
    mounting = () if tracefs.is_mounted("tracefs") else ("SYS_ADMIN",)
    needs = (*kinds.KINDS["tracepoint"].needs, *mounting)
    fault = from_errno("permission", what, errnos.EACCES, needs, program=program.name, target=target)
    fault.fields["why"] = f"{problem or 'tracefs cannot be read'}; {fault.fields['why']}"
    return fault


def raw_tracepoint(context: Context, program: Program, target: str) -> list[Handle]:
    """Attach to a raw tracepoint, by its bare name; raises `Fault`."""
    return _checked_raw(
        context, program, target, context.library.bpf_program__attach_raw_tracepoint(program.pointer, target.encode())
    )


def btf_tracepoint(context: Context, program: Program, target: str) -> list[Handle]:
    """Attach to the typed tracepoint that the section names; raises `Fault`."""
    in_its_section(program, target)
    return _checked_raw(context, program, target, context.library.bpf_program__attach(program.pointer))


def _checked_raw(context: Context, program: Program, target: str, pointer: int | None) -> list[Handle]:
    if pointer:
        return [KernelLink(context.library, pointer)]
    number = C.get_errno()
    if number == errnos.ENOENT:
        names = near.close(target, near.raw_tracepoint_names())
        raise not_attached(program, target, "no such tracepoint", near=names, errno=number)
    reasons = {errnos.EINVAL: "the program reads arguments that the tracepoint does not have"}
    raise refused(program, f"attach {program.kind} {target}", target, number, [], reasons)


def perf_event(context: Context, program: Program, target: str) -> list[Handle]:
    """Run on samples: ``cpu-clock:99hz``, ``page-faults:1``; raises `Fault`."""
    sampling = perf.parse(target)
    if sampling is None:
        why = "a perf event is written EVENT:FREQUENCYhz or EVENT:PERIOD"
        raise not_attached(program, target, why, f"For example --attach {program.name}=cpu-clock:99hz.")
    if sampling.event not in perf.SOFTWARE:
        names = near.close(sampling.event, perf.SOFTWARE)
        why, hint = f"no such software event: {sampling.event}", f"Events: {', '.join(perf.SOFTWARE)}."
        raise not_attached(program, target, why, hint, near=names)
    handles: list[Handle] = []
    try:
        for cpu in cpus.online():
            handles.append(EventLink(context.library, program.pointer, perf.open_event(sampling, -1, cpu)))
    except OSError as error:
        close_all(handles)
        reasons = {
            errnos.EINVAL: "the frequency is above kernel.perf_event_max_sample_rate, or the kernel refused the event"
        }
        raise refused(program, f"attach perf_event {target}", target, error.errno or 0, [], reasons) from None
    return handles
