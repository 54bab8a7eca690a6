"""Attaching programs to what they watch, and detaching them; a file for each family of kinds."""

from __future__ import annotations

import importlib
from collections.abc import Iterable
from typing import TYPE_CHECKING, Callable

from .. import bpf, kinds
from ..fault import Fault
from .handles import Context, Handle, KernelLink, Link, LinkFd, close_all

if TYPE_CHECKING:
    from ..objects import Program

__all__ = ["Context", "Handle", "KernelLink", "Link", "attach", "destroy", "missed"]

_MISSED = {
    **dict.fromkeys(("kprobe", "kretprobe", "ksyscall", "kretsyscall"), bpf.kprobe_missed),
    **dict.fromkeys(("kprobe.multi", "kretprobe.multi"), bpf.kprobe_multi_missed),
}
Attacher = Callable[[Context, "Program", str], "list[Handle]"]


def attach(context: Context, program: Program, target: str | None) -> Link:
    """Attach one program to the target given, else to the one its section names; raises `Fault`."""
    kind = kinds.KINDS[program.kind]
    target = program.target(target)
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
    handles = attacher(context, program, target)
    detail = ", ".join(handle.detail for handle in handles if isinstance(handle, LinkFd))
    return Link(program.name, target, program.kind, handles, detail)


def missed(group: Iterable[Link]) -> dict[str, int | None]:
    """Program -> hits that its kprobes never handed to it; None where the kernel does not tell."""
    result: dict[str, int | None] = {}
    for link in group:
        count = _MISSED.get(link.kind)
        for handle in link.handles:
            if count and isinstance(handle, (KernelLink, LinkFd)):
                result[link.program] = count(handle.fd)
    return result


def destroy(group: Iterable[Link]) -> None:
    """Take links out of the kernel; when it returns, none of their programs runs."""
    close_all([handle for link in group for handle in link.handles])
