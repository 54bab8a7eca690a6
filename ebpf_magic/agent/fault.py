"""The one exception the agent answers a request with; `ebpf_magic.errors` makes it one of its classes again."""

from __future__ import annotations

import errno as errnos
import os
from collections.abc import Sequence
from typing import Any

from . import privileges


class Fault(Exception):
    """What was tried, why it failed, what to do now; the fields of a reply's ``error``."""

    def __init__(
        self,
        kind: str,
        what: str,
        why: str = "",
        hint: str = "",
        *,
        near: Sequence[str] = (),
        errno: int | None = None,
        program: str | None = None,
        target: str | None = None,
        log: str = "",
    ) -> None:
        super().__init__(what, why)
        self.log = log
        fields = {"kind": kind, "what": what, "why": why, "hint": hint, "near": list(near), "errno": errno}
        self.fields: dict[str, Any] = {**fields, "program": program, "target": target}


def from_errno(kind: str, what: str, number: int, needs: Sequence[str] = (), **more: Any) -> Fault:
    """Fault for an errno; of EPERM and EACCES it says which capability is missing, if one is.

    Parameters
    ----------
    kind : str
        Kind of the fault when it is not a matter of permission.
    needs : sequence of str
        Capabilities the operation needs.
    """
    if number in (errnos.EPERM, errnos.EACCES):
        why, hint = privileges.explain(needs)
        if number == errnos.EPERM or why:
            why = (
                why
                or f"{os.strerror(number)}, though no capability is missing: lockdown or a security module forbids it"
            )
            return Fault(
                "permission", what, why, hint or "`%ebpf doctor` tries each kind of program.", errno=number, **more
            )
    return Fault(kind, what, os.strerror(number), errno=number, **more)
