"""Maps that hold programs: program arrays, and device and CPU maps whose entries may have one for what is sent on.

A program goes in by its name, since no program's descriptor leaves the agent, and is read as its id; the name stands
beside it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from ebpf_magic.errors import UsageError

if TYPE_CHECKING:
    import pandas as pd

    from ebpf_magic.hosts.base import MapHandle

_REDIRECTS = frozenset({"devmap", "devmap_hash", "cpumap"})
_BOTH_BYTES = 8  # struct bpf_devmap_val, bpf_cpumap_val


def holds(handle: MapHandle) -> bool:
    """Whether entries of the map are, or may have, programs."""
    return handle.type == "prog_array" or (handle.type in _REDIRECTS and handle.info.value_size >= _BOTH_BYTES)


def named(frame: pd.DataFrame, programs: Iterable[Mapping[str, Any]]) -> pd.DataFrame:
    """Put a column ``program`` beside ``prog_id``: the name in the session, "" where there is none."""
    names = {0: "", **{row["id"]: row["name"] for row in programs}}
    frame["program"] = frame["prog_id"].map(names).astype("str")
    return frame


def split(frame: pd.DataFrame, what: str) -> tuple[pd.DataFrame, list[str]]:
    """Take the programs' names out of a frame that is to be written; what is left has 0 for each.

    Raises
    ------
    UsageError
        When a program is given by its id, or by what is no name.
    """
    if "program" not in frame:
        if "prog_id" in frame and frame["prog_id"].any():
            raise UsageError(what, "a program goes in by its name, not by its id", "Put it in a column `program`.")
        return frame.assign(prog_id=0), [""] * len(frame)
    names = frame["program"].tolist()
    for row, name in zip(frame.index, names, strict=True):
        if not isinstance(name, str):
            why = f"row {row}: {name!r} in column program is no name of a program"
            raise UsageError(what, why, 'Without one it is "".')
    return frame.drop(columns="program").assign(prog_id=0), names
