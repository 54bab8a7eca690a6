"""Names that exist and resemble the one that does not: tracepoints, raw tracepoints, functions of a file."""

from __future__ import annotations

import difflib
import mmap
import os
import re
from collections.abc import Iterable

from . import elf, tracefs

_BTF = "/sys/kernel/btf/vmlinux"
_LIMIT = 5


def close(name: str, names: Iterable[str]) -> list[str]:
    """Up to five names that resemble `name`."""
    return difflib.get_close_matches(name, list(names), _LIMIT, 0.6)


def tracepoints(category: str, name: str) -> list[str]:
    """Tracepoints like this one: of the same category by bare name, else ``category/name``."""
    root = f"{tracefs.tracing()}/events"
    if not os.path.isdir(root):
        return []
    folder = os.path.join(root, category)
    if os.path.isdir(folder):
        found = close(name, _folders(folder))
        if found:
            return found
    everything = [f"{group}/{event}" for group in _folders(root) for event in _folders(os.path.join(root, group))]
    exact = [full for full in everything if full.endswith(f"/{name}")]
    return exact[:_LIMIT] or close(f"{category}/{name}", everything)


def raw_tracepoint_names() -> set[str]:
    """Names for raw_tp and tp_btf, from the kernel's BTF; empty without one."""
    try:
        with open(_BTF, "rb") as btf:
            return {name.decode() for name in re.findall(rb"(?<=\0)btf_trace_(\w+)(?=\0)", btf.read())}
    except OSError:
        return set()


def functions(path: str) -> set[str]:
    """Functions a file defines; empty when it is no ELF file that can be read."""
    try:
        with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as data:
            view = memoryview(data)
            try:
                return elf.function_names(view)
            finally:
                view.release()
    except (OSError, ValueError, elf.DamagedElf):
        return set()


def _folders(path: str) -> list[str]:
    with os.scandir(path) as entries:
        return [entry.name for entry in entries if entry.is_dir()]
