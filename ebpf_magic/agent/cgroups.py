"""The cgroups of this kernel (version 2): their paths by their ids, which are what bpf_get_current_cgroup_id gives."""

from __future__ import annotations

import os


def mount_point() -> str | None:
    """Where cgroup2 is mounted, as this process sees it; None when it is not."""
    with open("/proc/self/mountinfo") as lines:
        for line in lines:
            before, _, after = line.partition(" - ")
            if after.startswith("cgroup2 "):
                # Space, tab, newline and backslash stand as octal.
                return before.split()[4].encode().decode("unicode_escape")
    return None


def paths() -> dict[int, str]:
    """Every cgroup's path by its id: the number of its folder's inode."""
    root = mount_point()
    if root is None:
        return {}
    found = {os.stat(root).st_ino: "/"}
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
