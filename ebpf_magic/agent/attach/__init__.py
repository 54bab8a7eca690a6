"""Attaching programs to what they watch, and detaching them; a file for each family of kinds."""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Callable

from .. import bpf_links, kinds
from ..fault import Fault
from .handles import Context, Handle, KernelLink, Link, LinkFd, close_all
from .links import Held, OwnLink, TakenOver

if TYPE_CHECKING:
    from ..declared import Program

__all__ = ["Context", "Handle", "Held", "KernelLink", "Link", "attach", "destroy", "keep", "lost", "missed", "to_take"]

_MISSED = {
    **dict.fromkeys(("kprobe", "kretprobe", "ksyscall", "kretsyscall"), bpf_links.kprobe_missed),
    **dict.fromkeys(("kprobe.multi", "kretprobe.multi"), bpf_links.kprobe_multi_missed),
}
# Where one program at a time can be attached and the kernel exchanges it in a link. Not in struct_ops tables before
# v6.4, nor in the packet filter's links.
_EXCHANGED = frozenset({"xdp", "flow_dissector"})
Attacher = Callable[[Context, "Program", str], "list[Handle]"]


def attach(context: Context, program: Program, target: str | None) -> Link:
    """Attach one program to the target given, else to the one its section names; raises `Fault`."""
    kind = kinds.KINDS[program.kind]
    target = _without_prefix(program, kind, target or "") if kind.prefix else program.target(target)
    if not target and kind.example:
        raise Fault(
            "attach",
            f"attach {program.label}",
            "it needs a target" if kind.prefix else "its section names no target",
            f"Name one: --attach {program.name}={kind.example}.",
            program=program.name,
        )
    place = f"{kind.prefix}:{target}" if kind.prefix else target
    held = context.held.get((program.kind, place))
    if held is not None:
        return Link(
            program.name, place, program.kind, [TakenOver(held, context.library.bpf_program__fd(program.pointer))]
        )
    home, _, name = kind.attacher.partition(".")  # imported when it is needed: most cells need one
    attacher: Attacher = getattr(importlib.import_module(f".{home}", __name__), name)
    handles = attacher(context, program, target)
    detail = ", ".join(handle.detail for handle in handles if isinstance(handle, LinkFd))
    return Link(program.name, place, program.kind, handles, detail)


def _without_prefix(program: Program, kind: kinds.Kind, target: str) -> str:
    """Take ``xdp:`` from ``xdp:eth0``; raises `Fault` for a target that belongs to another kind of program."""
    word, colon, rest = target.partition(":")
    if colon and word == kind.prefix:
        return rest
    if colon and word and word in {other.prefix for other in kinds.KINDS.values()}:
        example = kind.example or f"{kind.prefix}:NAME"
        raise Fault(
            "attach",
            f"attach {program.label} to {target}",
            f"{program.kind} programs are not attached to a {word}",
            f"Such as --attach {program.name}={example}.",
            program=program.name,
            target=target,
        )
    return target


def to_take(group: Iterable[Link], prog_fds: Mapping[str, int]) -> dict[tuple[str, str], Held]:
    """Give what of a session's links the one that replaces it can take over, for `Context.held`."""
    return {
        (link.kind, link.target): Held(handle, prog_fds[link.program])
        for link in group
        for handle in link.handles
        if link.kind in _EXCHANGED and isinstance(handle, OwnLink) and handle.fd >= 0
    }


def keep(group: Iterable[Link]) -> bool:
    """Take for good what was taken over; whether anything was."""
    taken = [handle for link in group for handle in link.handles if isinstance(handle, TakenOver)]
    for handle in taken:
        handle.keep()
    return bool(taken)


def missed(group: Iterable[Link]) -> dict[str, int | None]:
    """Program -> hits that its kprobes never handed to it; None where the kernel does not tell."""
    result: dict[str, int | None] = {}
    for link in group:
        count = _MISSED.get(link.kind)
        for handle in link.handles:
            if count and isinstance(handle, (KernelLink, LinkFd)):
                result[link.program] = count(handle.fd)
    return result


def lost(group: Iterable[Link]) -> list[str]:
    """Say of each link whether what it was attached to is gone."""
    return [
        f"{link.program} no longer runs: {link.target} is gone"
        for link in group
        if link.handles and all(getattr(handle, "lost", False) for handle in link.handles)
    ]


def destroy(group: Iterable[Link]) -> None:
    """Take links out of the kernel; when it returns, none of their programs runs."""
    close_all([handle for link in group for handle in link.handles])
