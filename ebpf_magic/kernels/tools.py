"""What a kernel needs besides itself: a static busybox for its first moments, and a libbpf that is new enough."""

from __future__ import annotations

import ctypes
import os
import re
import shutil
from pathlib import Path

from ebpf_magic.data.elf import BtfError, Elf
from ebpf_magic.errors import NoKernelError
from ebpf_magic.kernels import store

_LIBBPF = re.compile(r"libbpf\.so\.(1\.\d+\.\d+)")


def busybox() -> Path:
    """Return a statically linked busybox: the fetched one, else this machine's.

    Raises
    ------
    NoKernelError
        When there is none.
    """
    places = [store.root() / "tools" / "busybox"]
    installed = shutil.which("busybox")
    if installed:
        places.append(Path(installed))
    for path in places:
        if os.access(path, os.X_OK) and _is_static(path):
            return path
    raise NoKernelError(
        "find a static busybox, which starts the virtual machine",
        "none was fetched, and none is installed",
        "Fetch it, which needs no root: `ebpf-magic kernel fetch tools`.",
    )


def _is_static(path: Path) -> bool:
    try:
        return Elf(path.read_bytes()).data(".interp") is None
    except BtfError:
        return False


def libbpf() -> Path | None:
    """Return the fetched libbpf where it is newer than the system's, else None."""
    fetched = fetched_libbpf()
    if fetched is None:
        return None
    version, path = fetched
    return path if version > system_libbpf() else None


def fetched_libbpf() -> tuple[tuple[int, int], Path] | None:
    """Return the newest fetched libbpf: its version and its file; None where none was fetched."""
    found = []
    for path in (store.root() / "tools").glob("libbpf.so.*"):
        name = _LIBBPF.fullmatch(path.name)
        if name:
            found.append((libbpf_version(name[1]), path))
    return max(found, default=None)


def system_libbpf() -> tuple[int, int]:
    """Return the version of the libbpf that is installed; (0, 0) where there is none."""
    try:
        library = ctypes.CDLL("libbpf.so.1")
        return library.libbpf_major_version(), library.libbpf_minor_version()
    except (OSError, AttributeError):
        return 0, 0


def libbpf_version(package_version: str) -> tuple[int, int]:
    """Return the version of libbpf in a package's version: (1, 4) of ``1:1.4.6-1~bpo12+1``."""
    found = re.match(r"(?:\d+:)?(\d+)\.(\d+)", package_version)
    return (int(found[1]), int(found[2])) if found else (0, 0)
