"""The cgroups of this kernel (version 2): their paths by their ids, which are what bpf_get_current_cgroup_id gives."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable


def mount_point() -> str | None:
    """Where cgroup2 is mounted, as this process sees it; None when it is not."""
    # An agent that mounted tracefs for itself has mounts of its own, and what is mounted later it sees through another
    # process only: in a guest it starts before cgroup2 is there.
    for process in ("self", "1"):
        try:
            with open(f"/proc/{process}/mountinfo") as lines:
                found = _cgroup2(lines)
        except PermissionError:  # of another user's process, for one without CAP_SYS_PTRACE
            continue
        if found is not None:
            return found if process == "self" else f"/proc/{process}/root{found}"
    return None


def _cgroup2(mountinfo: Iterable[str]) -> str | None:
    for line in mountinfo:
        before, _, after = line.partition(" - ")
        if after.startswith("cgroup2 "):
            # Space, tab, newline and backslash stand as octal.
            return re.sub(r"\\(\d{3})", lambda match: chr(int(match[1], 8)), before.split()[4])
    return None


def paths() -> dict[int, str]:
    """Every cgroup's path by its id: the number of its folder's inode."""
    root = mount_point()
    if root is None:
        return {}
    try:
        found = {os.stat(root).st_ino: "/"}
    except PermissionError:  # process 1 belongs to somebody else: ids are shown as they are
        return {}
    folders = [root]
    while folders:
        try:
            with os.scandir(folders.pop()) as entries:
                for entry in entries:
                    if entry.is_dir(follow_symlinks=False):
                        found[entry.inode()] = entry.path[len(root.rstrip("/")) :]
                        folders.append(entry.path)
        except FileNotFoundError:  # it was removed meanwhile
            continue
    return found
