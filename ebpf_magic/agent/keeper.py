"""A process that outlives a killed agent and takes out what no link of the agent's owns; else it goes with its handle.

A link goes with the last descriptor of it, whatever became of who made it. A filter of the classic hook of traffic
control does not, nor does a struct_ops table before links were there for it. A process of its own, and no fork of the
agent: that would hold all the maps the agent has mapped.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Sequence

_START = "import sys; sys.path.append({folder!r}); from agent.keeper import main; main()"


class Keeper:
    """One such process.

    Parameters
    ----------
    function : str
        What it calls once the agent is gone without `dismiss`: ``attach.traffic.clear``.
    numbers : sequence of int
        The arguments of the call.
    fds : sequence of int
        The descriptors among them, which it holds under the same numbers.
    """

    def __init__(self, function: str, numbers: Sequence[int], fds: Sequence[int] = ()) -> None:
        import subprocess  # here: most cells need none, and it would lengthen the agent's start

        folder = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
        start = [sys.executable, "-I", "-S", "-B", "-c", _START.format(folder=folder)]
        # In a session of its own: what ends the agent's process group must not end it.
        self._process = subprocess.Popen(
            [*start, function, *map(str, numbers)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            pass_fds=fds,
            start_new_session=True,
        )

    def dismiss(self) -> None:
        """End it: the agent has taken out itself what was kept; safe to call twice."""
        self._process.kill()
        self._process.wait()
        assert self._process.stdin is not None
        self._process.stdin.close()


def main() -> None:
    """Wait for the agent's end, which closes the other end of descriptor 0, and call."""
    function, *numbers = sys.argv[1:]
    home, _, name = function.rpartition(".")
    if not os.read(0, 1):
        getattr(importlib.import_module(f".{home}", __package__), name)(*map(int, numbers))
