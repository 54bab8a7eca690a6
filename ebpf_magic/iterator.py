"""An iterator of a session: the kernel's own objects as a DataFrame."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from ebpf_magic.arguments import checked
from ebpf_magic.errors import IteratorError, StoppedError

if TYPE_CHECKING:
    import pandas as pd

    from ebpf_magic.data.layout import Layout
    from ebpf_magic.session import Session

MAX_BYTES = 1 << 30
DEADLINE_S = 60.0


class Iterator:
    """One iterator of a session; each reading goes over the kernel's objects anew.

    Attributes
    ----------
    name : str
        The program's name in the cell.
    objects : str
        What it goes over, as its section names it: ``task``, ``bpf_map_elem``.
    """

    def __init__(self, session: Session, name: str, objects: str, row: Layout | None) -> None:
        self.name = name
        self.objects = objects
        self._session = session
        self._row = row

    def __repr__(self) -> str:
        what = "rows" if self._row else "text"
        return f"<Iterator {self.name}: {what} of {self.objects}, of {self._session.name}>"

    @checked
    def df(self, *, max_bytes: int = MAX_BYTES, deadline_s: float = DEADLINE_S) -> pd.DataFrame:
        """Read everything it writes now, as a DataFrame.

        Parameters
        ----------
        max_bytes : int
            Give up when it writes more.
        deadline_s : float
            Give up when it takes longer.

        Returns
        -------
        pandas.DataFrame
            What ``ROW`` writes: a column for each field, with the types of the C declaration. Without ROW: its lines
            of text, in the column ``line``. ``attrs`` has ``began_ns`` and ``ended_ns`` (this process's
            CLOCK_MONOTONIC).

        Raises
        ------
        IteratorError
            The kernel stopped half way, or a bound was passed.
        StoppedError
            The session has ended.

        Notes
        -----
        Not a snapshot of one instant: objects come and go while the kernel walks over them. The program runs once
        for each object, some 100 ns each, in the agent's process.
        """
        from ebpf_magic.data import rows

        began_ns = time.monotonic_ns()
        raw = self.raw(max_bytes=max_bytes, deadline_s=deadline_s)
        ended_ns = time.monotonic_ns()
        row = self._row
        if row and row.has_cgroups:
            row = row.with_cgroups(self._session.agent_host.cgroups())
        frame = rows.row_frame(self.name, row, raw) if row else rows.line_frame(_decoded(raw))
        frame.attrs.update(began_ns=began_ns, ended_ns=ended_ns)
        return frame

    @checked
    def text(self, *, max_bytes: int = MAX_BYTES, deadline_s: float = DEADLINE_S) -> str:
        """Read everything it writes now, as text."""
        return _decoded(self.raw(max_bytes=max_bytes, deadline_s=deadline_s))

    @checked
    def raw(self, *, max_bytes: int = MAX_BYTES, deadline_s: float = DEADLINE_S) -> bytearray:
        """Read everything it writes now, as bytes."""
        session, what = self._session, f"read iterator {self.name} of {self._session.name}"
        until = time.monotonic() + deadline_s
        raw = bytearray()
        more, anew = True, True
        with session.lock:  # two readings of one program at a time would be one
            if session.state != "running":
                raise StoppedError(what, "the session has ended, and an iterator keeps nothing")
            while more:
                piece, more = session.agent_host.iterate(session.token, self.name, anew)
                raw += piece
                anew = False
                if len(raw) > max_bytes:
                    raise IteratorError(what, f"it wrote more than {max_bytes:,} bytes", "max_bytes= allows more.")
                if more and time.monotonic() > until:
                    why = f"it was not done within {deadline_s:g} s, after {len(raw):,} bytes"
                    raise IteratorError(what, why, "deadline_s= allows more.")
        return raw


def _decoded(raw: bytearray) -> str:
    return raw.decode("utf-8", "backslashreplace")
