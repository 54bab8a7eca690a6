"""Why an object was not loaded: libbpf's lines and the verifier's log, brought to one cause."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping

from . import kinds, libbpf
from .attach import functions, replacing, struct_ops
from .declared import Program
from .fault import Fault, from_errno
from .privileges import missing

_FAILED_PROGRAM = re.compile(r"prog '([^']*)': BPF program load failed")


def explain(error: int, programs: list[Program], lines: list[str], log: str, targets: Mapping[str, str]) -> Fault:
    """Make the fault of an object that libbpf or the kernel did not load, from what both of them said."""
    failed = next((match[1] for line in lines if (match := _FAILED_PROGRAM.search(line))), None)
    program = next((program for program in programs if program.name == failed), None)
    what = f"load {program.label}" if program else "load the object"
    text = "\n".join(line for line in lines if "-- BEGIN PROG LOAD LOG --" not in line)
    unresolved = functions.unresolved(programs, lines)
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
        if said:
            fault.fields["why"] += f": {_cause(said)}"
    return fault


def _verdict(log: str) -> str:
    """Take the verifier's own last words on the instruction it refused."""
    lines = [line for line in log.rstrip().splitlines() if line.strip()]
    useful = [line for line in lines[-8:] if not line.startswith(("processed ", "verification time", "stack depth"))]
    return useful[-1].strip() if useful else ""


def complaints(lines: list[str]) -> list[str]:
    """Leave out what libbpf only notes: sections that mean nothing to it."""
    return [line for line in lines if not line.startswith("elf: skipping ")]


def _cause(lines: list[str]) -> str:
    """Find the first complaint that says more than that loading failed."""
    return next((line for line in lines if "failed to load" not in line and "LOAD LOG" not in line), lines[-1])
