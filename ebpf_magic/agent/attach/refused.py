"""Why a program is not attached: its target cannot be meant, or the kernel refuses it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .. import kinds
from ..fault import Fault, from_errno

if TYPE_CHECKING:
    from ..declared import Program


def not_attached(program: Program, target: str, why: str, hint: str = "", **more: Any) -> Fault:
    """Make the fault for a target that is written wrongly, or does not exist."""
    what = f"attach {program.kind} {target}"
    return Fault("attach", what, why, hint, program=program.name, target=target, **more)


def refused(program: Program, what: str, target: str, number: int, lines: list[str], reasons: dict[int, str]) -> Fault:
    """Make the fault for an errno.

    Parameters
    ----------
    lines : list of str
        What libbpf printed meanwhile; the fault's log.
    reasons : dict
        What an errno means for this kind of program; of others the system's own words are taken.
    """
    fault = from_errno(
        "attach",
        what,
        number,
        kinds.KINDS[program.kind].needs,
        program=program.name,
        target=target,
        log="\n".join(lines),
    )
    if fault.fields["kind"] == "attach" and number in reasons:
        fault.fields["why"] = reasons[number]
    return fault
