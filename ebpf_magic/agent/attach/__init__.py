"""Attaching programs to what they watch, and detaching them; a file for each family of kinds."""

from __future__ import annotations

import importlib
from collections.abc import Iterable
from typing import TYPE_CHECKING, Callable

from .. import bpf, kinds
from ..fault import Fault
from .handles import Context, Handle, KernelLink, Link, close_all

if TYPE_CHECKING:
    from ..objects import Program

__all__ = ["Context", "Handle", "KernelLink", "Link", "attach", "destroy", "missed"]

Attacher = Callable[[Context, "Program", str], "list[Handle]"]


def attach(context: Context, program: Program, target: str | None) -> Link:
    """Attach one program to the target given, else to the one its section names; raises `Fault`."""
    kind = kinds.KINDS[program.kind]
    target = target if target is not None else program.section.partition("/")[2]
    if not target and kind.example:
        raise Fault(
            "attach",
            f"attach {program.label}",
            "its section names no target",
            f"Name one: --attach {program.name}={kind.example}.",
            program=program.name,
        )
    home, _, name = kind.attacher.partition(".")  # imported when it is needed: most cells need one
    attacher: Attacher = getattr(importlib.import_module(f".{home}", __name__), name)
    return Link(program.name, target, program.kind, attacher(context, program, target))


def missed(group: Iterable[Link]) -> dict[str, int | None]:
    """Program -> hits that its kprobes never handed to it; None where the kernel does not tell."""
    result: dict[str, int | None] = {}
    for link in group:
        if link.kind in ("kprobe", "kretprobe"):
            for handle in link.handles:
                if isinstance(handle, KernelLink):
                    result[link.program] = bpf.kprobe_missed(handle.fd)
    return result


def destroy(group: Iterable[Link]) -> None:
    """Take links out of the kernel; when it returns, none of their programs runs."""
    close_all([handle for link in group for handle in link.handles])
