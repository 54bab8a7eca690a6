"""What runs: this process's sessions, and everything in the kernel with its owner."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd

from ebpf_magic import register
from ebpf_magic.hosts import registry

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any


def sessions() -> pd.DataFrame:
    """List this process's running sessions.

    Returns
    -------
    pandas.DataFrame
        Index ``name``, one row for each host; columns ``host``, ``state``, ``programs``, ``maps``, ``runs``,
        ``run_time_ns``.
    """
    rows = []
    for session in register.members():
        counters = session.poll_stats().get("programs", [])
        rows.append(
            {
                "name": session.name,
                "host": session.host,
                "state": session.state,
                "programs": ", ".join(program["name"] for program in session.program_rows),
                "maps": ", ".join(session.maps),
                "runs": sum(program["runs"] for program in counters),
                "run_time_ns": sum(program["run_time_ns"] for program in counters),
            }
        )
    return pd.DataFrame(rows, columns=["name", "host", "state", "programs", "maps", "runs", "run_time_ns"]).set_index(
        "name"
    )


def kernel(on: str = "auto") -> pd.DataFrame:
    """List every program and map in the kernel, with the processes that hold it.

    Parameters
    ----------
    on : str
        The host to ask.

    Returns
    -------
    pandas.DataFrame
        Index ``what`` ("program", "map") and ``id``; columns ``name``, ``type``, ``owner`` (``comm (pid)``; empty where
        no process holds it: pinned, or held by a link), ``uid``, ``runs``, ``run_time_ns``, ``max_entries``,
        ``memory_bytes``, ``map_ids``.

    Requires
    --------
    CAP_SYS_ADMIN on the host, for the ids and for other processes' descriptors.
    """
    found = registry.get(on).list_kernel()
    rows = [_row("program", item) for item in found["programs"]] + [_row("map", item) for item in found["maps"]]
    columns = ["name", "type", "owner", "uid", "runs", "run_time_ns", "max_entries", "memory_bytes", "map_ids"]
    frame = pd.DataFrame(rows, columns=["what", "id", *columns]).set_index(["what", "id"])
    numbers = ["uid", "runs", "run_time_ns", "max_entries", "memory_bytes"]
    return frame.astype(dict.fromkeys(numbers, "Int64"))  # a map has no runs, a program no entries: missing, not 0


def _row(what: str, item: Mapping[str, Any]) -> dict[str, Any]:
    row = {**item, "what": what, "owner": owners(item), "runs": item.get("run_cnt")}
    row["map_ids"] = ", ".join(str(number) for number in item.get("map_ids", []))
    return row


def owners(item: Mapping[str, Any]) -> str:
    """Name the processes that hold a program or map: ``comm (pid)``."""
    return ", ".join(f"{comm} ({pid})" for pid, comm in item["pids"])
