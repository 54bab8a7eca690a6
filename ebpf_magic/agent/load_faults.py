"""Why an object was not loaded: libbpf's lines and the verifier's log, brought to one cause."""

from __future__ import annotations

import errno as errnos
import os
import re
from collections.abc import Mapping

from . import kinds, libbpf, near
from .attach import functions, replacing, struct_ops
from .declared import Program
from .fault import Fault, from_errno
from .privileges import missing

# What the cell declares extern, and the kernel is to have: a kernel variable, a kfunc, a setting of its configuration.
_EXTERN = re.compile(r"extern (?:\((?P<kind>\w+)[^)]*\) )?'(?P<name>[^']+)'(?: \(strong\))?: (?P<said>.*)")
_EXTERN_KINDS = {
    "func": "this kernel has no such function for programs to call",
    "var": "the kernel's BTF has no such variable",
    "kcfg": "this kernel's configuration has no such setting",
    "": "/proc/kallsyms has no such symbol",
}
_FAILED_PROGRAM = re.compile(r"prog '([^']*)': BPF program load failed")


def explain(error: int, programs: list[Program], lines: list[str], log: str, targets: Mapping[str, str]) -> Fault:
    """Make the fault of an object that libbpf or the kernel did not load, from what both of them said."""
    failed = next((match[1] for line in lines if (match := _FAILED_PROGRAM.search(line))), None)
    program = next((program for program in programs if program.name == failed), None)
    what = f"load {program.label}" if program else "load the object"
    text = "\n".join(line for line in lines if "-- BEGIN PROG LOAD LOG --" not in line)
    unresolved = functions.unresolved(programs, lines) or _extern(lines, error)
    if unresolved:
        return unresolved
    refused = functions.not_attachable(program, log) if program else None
    refused = refused or struct_ops.unused(programs, program, error, lines)
    if program and program.kind == "freplace":
        refused = replacing.why_refused(program, program.target(targets.get(program.name)), log)
    if refused:
        return refused
    if program and log.strip():
        verdict = _verdict(log)
        return Fault("verifier", what, verdict or os.strerror(error), errno=error, program=program.name, log=log)
    needs = kinds.KINDS[program.kind].needs if program else ("BPF", "PERFMON")
    fault = from_errno("load", what, error, needs, program=failed, log=log.strip() or text)
    if fault.fields["kind"] == "permission" and program and program.kind in kinds.BY_FUNCTION and not missing(needs):
        fault.fields["hint"] = f"A VM with a distribution's kernel lets {program.kind} programs be: --on vm."
    said = complaints(lines)
    if fault.fields["kind"] == "load":
        fault.fields["why"] = libbpf.OWN_ERRORS.get(error) or fault.fields["why"]
        if unset := _without_config(lines):
            fault.fields["why"], fault.fields["hint"] = unset, "LINUX_KERNEL_VERSION is known without them."
        elif said:
            # Of libbpf's own findings the number says nothing: "No such process" stands for a type that is not there.
            number = "" if error == errnos.ESRCH else f"{fault.fields['why']}: "
            fault.fields["why"] = number + _cause(said)
    return fault


def _extern(lines: list[str], error: int) -> Fault | None:
    """Explain that the kernel has not what the cell declares extern; None when that is not why loading failed."""
    match = next((match for line in lines if (match := _EXTERN.match(line))), None)
    if match is None:
        return None
    name, said = match["name"], match["said"]
    kind = match["kind"] or ("kcfg" if name.startswith("CONFIG_") else "")
    missing = said.startswith("not ")
    asks = name if kind in ("func", "kcfg") else f"&{name}"
    return Fault(
        "load",
        f"resolve extern {name}",
        _EXTERN_KINDS.get(kind, said) if missing else said,
        f"Declared __weak, it is 0 where the kernel has none: `if ({asks})` asks." if missing else "",
        near=near.close(name, near.btf_functions()) if missing and kind == "func" else (),
        errno=error,
        target=name,
    )


def _verdict(log: str) -> str:
    """Take the verifier's own last words on the instruction it refused."""
    lines = [line for line in log.rstrip().splitlines() if line.strip()]
    useful = [line for line in lines[-8:] if not line.startswith(("processed ", "verification time", "stack depth"))]
    return useful[-1].strip() if useful else ""


def complaints(lines: list[str]) -> list[str]:
    """Leave out what libbpf only notes: sections that mean nothing to it."""
    return [line for line in lines if not line.startswith("elf: skipping ")]


def _without_config(lines: list[str]) -> str:
    """Say that libbpf found no file of the kernel's settings; empty when that is not why."""
    if not any("failed to open system Kconfig" in line for line in lines):
        return ""
    files = f"neither /boot/config-{os.uname().release} nor /proc/config.gz is there"
    return f"the cell declares settings of the kernel (__kconfig), and {files}"


def _cause(lines: list[str]) -> str:
    """Find the first complaint that says more than that loading failed."""
    return next((line for line in lines if "failed to load" not in line and "LOAD LOG" not in line), lines[-1])
