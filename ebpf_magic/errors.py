"""Every error ebpf_magic raises.

EbpfMagicError
├── UsageError                what was asked cannot be meant: an option, an empty cell, a bad value
│   └── NoSuchNameError       no such map, session, program or column (`.near` names likely ones)
├── BuildError
│   ├── ToolchainError        clang, libbpf's headers or the kernel's BTF are missing
│   ├── CompileError          clang refused the cell (`.line`, `.column`, `.log`)
│   └── LinkError             cells do not fit together: a name defined twice, or nowhere
├── HostError                 the place where programs run
│   ├── NoHostError           no host can run a program here; says what is missing for each
│   ├── NoKernelError         no such kernel to boot, or to fetch (`.near`)
│   ├── FetchError            packages cannot be had, or not unpacked (`.log`)
│   ├── AgentError            the agent died, went silent or sent what is not the protocol
│   └── AgentTimeoutError     a call passed its deadline
├── CommandError              a shell command failed, or could not be run (`.status`, `.log`)
├── KernelError               the kernel said no (`.errno`)
│   ├── NotPermittedError     a capability is missing, or lockdown forbids it
│   ├── VerifierError         the verifier rejected a program (`.line`, `.log`, `.program`)
│   ├── LoadError             anything else that stopped an object from loading
│   ├── AttachError           no such target, or the kernel refused it (`.near`)
│   ├── MapError              a map operation failed
│   └── IteratorError         an iterator could not be read to its end
├── UnsupportedError          a program or map kind that ebpf_magic does not offer yet
├── GuardError                the guard refused or stopped a program
├── StoppedError              the session has ended and what was asked for needs it running
├── PcapError                 a capture file is damaged, or is none
└── BtfError                  type information is damaged (in data/elf.py; also a ValueError)
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

# What would move a terminal's cursor or colour what follows; U+009B begins such a sequence just as ESC [ does.
_CONTROL = re.compile(r"(\x1b\[|\x9b)[0-9;?]*[A-Za-z]|\x1bc|[^\n\t\x20-\x7e\xa0-\U0010ffff]")


class EbpfMagicError(Exception):
    """Base of all errors: what was tried, why it failed, and what to do now.

    Parameters
    ----------
    what : str
        What was tried, and on what: ``attach tracepoint syscalls/sys_enter_opnat``.
    why : str
        The cause, in one sentence.
    hint : str
        What to do now; empty when there is nothing to add.
    near : sequence of str
        Names that exist and resemble the one that does not.
    line, column : int, optional
        Position in the user's cell, counted from 1.
    log : str
        The complete log of the tool or kernel, for reading at leisure.
    errno : int, optional
        The kernel's error number.
    program, target : str, optional
        The program and the attach target concerned.
    """

    def __init__(
        self,
        what: str,
        why: str = "",
        hint: str = "",
        *,
        near: Sequence[str] = (),
        line: int | None = None,
        column: int | None = None,
        log: str = "",
        errno: int | None = None,
        program: str | None = None,
        target: str | None = None,
        excerpt: str = "",
    ) -> None:
        self.what = what
        self.why = why
        self.hint = hint
        self.near = list(near)
        self.line = line
        self.column = column
        self.log = log
        self.errno = errno
        self.program = program
        self.target = target
        self.excerpt = excerpt
        super().__init__(what, why)

    def __str__(self) -> str:
        text = f"{self.what}: {self.why}" if self.why else self.what
        if self.near:
            text += f" (near: {', '.join(self.near)})"
        if self.excerpt:
            text += f"\n{self.excerpt}"
        if self.hint:
            text += f"\n{self.hint}"
        return text

    @property
    def brief(self) -> str:
        """What was tried, and the first line of why it failed: for a card, beside other things."""
        return f"{self.what}: {self.why.partition(chr(10))[0]}" if self.why else self.what

    def _render_traceback_(self) -> list[str]:
        """Give IPython the message alone to show: the frames in between are ours and not the user's."""
        return [f"{type(self).__name__}: {self}"]


class UsageError(EbpfMagicError):
    """What was asked cannot be meant."""


class NoSuchNameError(UsageError):
    """No such map, session, program or column."""


class BuildError(EbpfMagicError):
    """A cell did not become an object."""


class ToolchainError(BuildError):
    """Something needed for compiling is missing."""


class CompileError(BuildError):
    """The compiler refused the cell."""


class LinkError(BuildError):
    """Cells do not fit together."""


class HostError(EbpfMagicError):
    """The place where programs run failed."""


class NoHostError(HostError):
    """No host can run a program here."""


class NoKernelError(HostError):
    """There is no such kernel to boot, or to fetch."""


class FetchError(HostError):
    """A kernel's packages cannot be had, or not unpacked."""


class AgentError(HostError):
    """The agent died, went silent, or broke the protocol."""


class AgentTimeoutError(AgentError):
    """A call passed its deadline; the agent was ended."""


class CommandError(EbpfMagicError):
    """A shell command failed, or could not be run.

    Attributes
    ----------
    status : int or None
        Its exit status; of one that a signal ended, the signal's number, negative; None when there is none.
    log : str
        What it wrote, as far as it was kept.
    """

    status: int | None = None


class KernelError(EbpfMagicError):
    """The kernel said no."""


class NotPermittedError(KernelError):
    """A capability is missing, or lockdown forbids it."""


class VerifierError(KernelError):
    """The verifier rejected a program."""


class LoadError(KernelError):
    """The object could not be loaded."""


class AttachError(KernelError):
    """A program could not be attached."""


class MapError(KernelError):
    """A map operation failed."""


class IteratorError(KernelError):
    """An iterator could not be read to its end."""


class UnsupportedError(EbpfMagicError):
    """A program or map kind that is not offered yet."""


class GuardError(EbpfMagicError):
    """The guard refused a program, or stopped it."""


class PcapError(EbpfMagicError):
    """A capture file is damaged, or is none."""


class StoppedError(EbpfMagicError):
    """The session has ended."""


_BY_KIND: dict[str, type[EbpfMagicError]] = {
    "usage": UsageError,
    "permission": NotPermittedError,
    "verifier": VerifierError,
    "load": LoadError,
    "attach": AttachError,
    "map": MapError,
    "iter": IteratorError,
    "unsupported": UnsupportedError,
    "guard": GuardError,
    "gone": StoppedError,
    "command": CommandError,
    "host": AgentError,
}


def plain(text: str) -> str:
    """Return text of somebody who is not trusted, such as a guest, without what a terminal would obey."""
    return _CONTROL.sub("", text)


def from_wire(error: Mapping[str, Any], log: str = "") -> EbpfMagicError:
    """Make the exception for an error the agent reported; an unknown kind becomes a HostError."""
    kind = _BY_KIND.get(str(error.get("kind")), HostError)
    near = error.get("near")
    errno = error.get("errno")

    def text(key: str) -> str:
        value = error.get(key)
        return plain(value) if isinstance(value, str) else ""

    return kind(
        text("what") or "the agent reported an error",
        text("why"),
        text("hint"),
        near=[plain(str(name)) for name in near] if isinstance(near, list) else (),
        errno=errno if isinstance(errno, int) else None,
        program=text("program") or None,
        target=text("target") or None,
        log=plain(log),
    )
