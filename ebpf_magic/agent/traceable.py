"""Functions of the kernel that ftrace can be attached to, by a pattern, and where they are."""

from __future__ import annotations

import collections
import fnmatch
import os
import re
from typing import NamedTuple

from . import near, tracefs


class Functions(NamedTuple):
    """Addresses of the functions that matched, and how many were left out since others have their name."""

    addresses: list[int]
    ambiguous: int


def functions(pattern: str) -> Functions | None:
    """Find the functions that match a pattern of ``*`` and ``?``; None where the kernel does not list any.

    Raises OSError where this process may not see the list or the addresses.
    """
    root = tracefs.tracing()
    matches = re.compile(fnmatch.translate(pattern)).match
    if root is None or not os.path.exists(f"{root}/available_filter_functions"):
        return None
    try:
        # Since 83f74441bcb1 ("ftrace: Show all functions with addresses in available_filter_functions_addrs"), v6.5.
        with open(f"{root}/available_filter_functions_addrs") as lines:
            rows = [line.split(None, 2)[:2] for line in lines]
        return Functions([int(address, 16) for address, name in rows if matches(name) and near.is_meant(name)], 0)
    except FileNotFoundError:
        pass
    with open(f"{root}/available_filter_functions") as lines:
        wanted = {name for line in lines if matches(name := line.split(None, 1)[0]) and near.is_meant(name)}
    return _located(wanted)


def _located(wanted: set[str]) -> Functions:
    """Look names up in /proc/kallsyms; of those that stand there several times, which one can be traced is not told."""
    found = collections.defaultdict(list)
    with open("/proc/kallsyms") as lines:
        for line in lines:
            address, kind, name = line.split(None, 3)[:3]
            if name in wanted and kind in "tTwW":
                found[name].append(int(address, 16))
    if found and not any(any(addresses) for addresses in found.values()):
        raise PermissionError(1, "the kernel does not show where its functions are (kernel.kptr_restrict)")
    single = [addresses[0] for addresses in found.values() if len(addresses) == 1]
    return Functions(single, len(found) - len(single))
