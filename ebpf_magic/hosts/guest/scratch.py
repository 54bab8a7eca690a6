"""The guest's scratch disk: a sparse file without a name, which is gone with QEMU."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile

SIZE_BYTES = 1 << 30
_MAKERS = ("mke2fs", "mkfs.ext4")
# Little to write: no journal to empty, inode tables as they are in a sparse file.
_OPTIONS = (
    "-q",
    "-F",
    "-t",
    "ext4",
    "-m",
    "0",
    "-E",
    "lazy_itable_init=1,lazy_journal_init=1,nodiscard",
    "-J",
    "size=4",
)


def make(size_bytes: int = SIZE_BYTES) -> int | None:
    """Make the file with an empty ext4 in it.

    Returns
    -------
    int or None
        Its descriptor, the caller's to close; None where there is no mke2fs or no room.
    """
    path = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"])
    maker = next(filter(None, (shutil.which(name, path=path) for name in _MAKERS)), None)
    if maker is None:
        return None
    with tempfile.TemporaryFile(prefix="ebpf_magic-") as file:
        file.truncate(size_bytes)
        done = subprocess.run(
            [maker, *_OPTIONS, f"/proc/self/fd/{file.fileno()}"],
            pass_fds=[file.fileno()],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
        )
        return os.dup(file.fileno()) if done.returncode == 0 else None
