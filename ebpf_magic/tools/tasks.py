"""The threads of the kernel as a table."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ebpf_magic.arguments import checked
from ebpf_magic.tools import unlisted

if TYPE_CHECKING:
    import pandas as pd


@checked
def tasks(on: str | Sequence[str] = "auto") -> pd.DataFrame:
    """List every thread, as the kernel itself has it.

    Parameters
    ----------
    on : str or sequence of str
        The host to ask; several give an index level ``host``.

    Returns
    -------
    pandas.DataFrame
        A row for each thread; columns ``pid`` (the process, what the kernel calls tgid), ``tid`` (the thread), ``ppid``
        (the process it comes from), ``comm``, ``state`` (a letter, as ``ps`` has it), ``is_kernel`` (a thread of the
        kernel's own), ``uid``, ``cgroup_id`` (of cgroup v2; the inode of its folder), ``start_ns`` (since boot),
        ``run_ns`` (time on a CPU, exact), ``user_ns`` and ``system_ns`` (the same in parts, as sampled by the
        kernel's clock) and ``rss_bytes`` (memory of the whole process that is present; the kernel's own quick
        figure, some pages for each CPU off).

    Requires
    --------
    A kernel with BTF, Linux 5.8, and the right to load programs. It needs no ``--allow-change``.

    Notes
    -----
    The first call on a host compiles and loads a program, a fifth of a second; later ones take about a microsecond a
    thread and a millisecond in all. Threads of the agent's own pid namespace and below are seen; numbers are those of
    the first namespace, as programs see them.
    """
    return unlisted.on_each(on, _read)


def _read(on: str) -> pd.DataFrame:
    session = unlisted.session("tasks", on)
    frame = session.iter["tasks"].df()
    frame["rss_bytes"] = frame.pop("rss_pages") * session.agent_host.info.page_size
    return frame
