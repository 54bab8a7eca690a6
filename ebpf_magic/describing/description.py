"""What `describe` gives: a target as C, and a cell that works on it."""

from __future__ import annotations

import keyword
from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Description:
    """What a target is, and a cell that works on it.

    Attributes
    ----------
    kind : str
        ``tracepoint``, ``raw_tp``, ``syscall``, ``function``, ``functions``, ``kfunc``, ``lsm``, ``iter``, ``uprobe``,
        ``usdt``, ``attach``, ``struct``, ``union``, ``enum`` or ``typedef``.
    name : str
        What it is called.
    c : str
        What it is, as C.
    source : str
        The source of a cell that works on it, for :func:`ebpf_magic.run`; empty where nothing can.
    options : mapping
        More arguments that it needs: ``ebpf_magic.run(d.source, **d.options)``.
    """

    kind: str
    name: str
    c: str
    source: str = ""
    options: Mapping[str, object] = field(default_factory=dict)

    @property
    def cell(self) -> str:
        """The cell with its first line, ready to paste."""
        if not self.source:
            return ""
        name = "".join(letter if letter.isalnum() and letter.isascii() else "_" for letter in self.name)
        if self.kind in ("uprobe", "usdt"):  # without the path of the file
            name = name[self.name.find(":") + 1 :]
        if keyword.iskeyword(name) or not name[:1].isalpha():  # struct class, 9p/9p_client_req
            name = f"on_{name.lstrip('_')}"
        words = ["%%ebpf", name]
        attach = self.options.get("attach")
        if isinstance(attach, Mapping):
            words += [f"--attach {program}={where}" for program, where in attach.items()]
        if attach is False:
            words.append("--no-attach")
        if self.options.get("allow_change"):
            words.append("--allow-change")
        return f"{' '.join(words)}\n{self.source}"

    def __repr__(self) -> str:
        return f"{self.c}\n\n{self.cell}".rstrip()

    def _repr_markdown_(self) -> str:
        what, cell = (f"```c\n{part.strip()}\n```" for part in (self.c, self.cell))
        return f"{what}\n\nA cell that works on it:\n\n{cell}" if self.cell else what
