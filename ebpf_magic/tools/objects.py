"""The kernel's maps and programs as tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ebpf_magic.arguments import checked
from ebpf_magic.tools import unlisted

if TYPE_CHECKING:
    import pandas as pd

_MAP = {
    "id": "uint32", "name": "str", "type": "str", "key_bytes": "uint32", "value_bytes": "uint32",
    "max_entries": "uint32", "memory_bytes": "uint64", "owner": "str", "pids": "object",
}  # fmt: skip
_PROGRAM = {
    "id": "uint32", "name": "str", "type": "str", "tag": "str", "uid": "uint32", "loaded_s": "float64",
    "runs": "uint64", "run_time_ns": "uint64", "missed_runs": "uint64", "xlated_bytes": "uint32",
    "jited_bytes": "uint32", "map_ids": "object", "owner": "str", "pids": "object",
}  # fmt: skip


@checked
def maps(on: str | Sequence[str] = "auto") -> pd.DataFrame:
    """List every map in the kernel.

    Parameters
    ----------
    on : str or sequence of str
        The host to ask; several give an index level ``host``.

    Returns
    -------
    pandas.DataFrame
        A row for each map; columns ``id``, ``name`` (the kernel keeps 15 characters), ``type``, ``key_bytes``,
        ``value_bytes``, ``max_entries``, ``memory_bytes``, ``owner`` (``comm (pid)`` of those who hold it; empty for
        one that is pinned or held by a program alone) and ``pids`` (a list; ``explode("pids")`` joins with `tasks`).

    Requires
    --------
    CAP_SYS_ADMIN on the host, for the ids and for other processes' descriptors.

    Notes
    -----
    Costs a few system calls a map, and a look at every process's descriptors: some ten milliseconds. How many entries
    a map has is not among it: the kernel does not keep count, so that is the price of reading them all, by
    ``map(id=...).df()``.
    """
    return unlisted.on_each(on, lambda host: _frame(_listed(host)["maps"], _MAP))


@checked
def programs(on: str | Sequence[str] = "auto") -> pd.DataFrame:
    """List every program in the kernel.

    Parameters
    ----------
    on : str or sequence of str
        The host to ask; several give an index level ``host``.

    Returns
    -------
    pandas.DataFrame
        A row for each program; columns ``id``, ``name``, ``type``, ``tag`` (the digest of its instructions), ``uid``
        (of who loaded it), ``loaded_s`` (since boot), ``runs``, ``run_time_ns`` and ``missed_runs`` (counted while
        statistics are on, as they are while a session runs), ``xlated_bytes``, ``jited_bytes``, ``map_ids`` (a list;
        joins with `maps`), ``owner`` and ``pids`` as in `maps`.

    Requires
    --------
    CAP_SYS_ADMIN on the host, for the ids and for other processes' descriptors.

    Notes
    -----
    Costs a few system calls a program, and a look at every process's descriptors: some ten milliseconds.
    """
    return unlisted.on_each(on, lambda host: _frame(_listed(host)["programs"], _PROGRAM))


def _listed(on: str) -> dict[str, Any]:
    from ebpf_magic.hosts import registry

    return registry.get(on).list_kernel()


def _frame(rows: list[dict[str, Any]], columns: Mapping[str, str]) -> pd.DataFrame:
    import pandas as pd

    from ebpf_magic.listing import owners

    made = [{**row, "owner": owners(row), "pids": [pid for pid, _ in row["pids"]]} for row in rows]
    names = {"key_size": "key_bytes", "value_size": "value_bytes", "run_cnt": "runs"}
    frame = pd.DataFrame(made).rename(columns=names)
    return frame.reindex(columns=list(columns)).astype(dict(columns))
