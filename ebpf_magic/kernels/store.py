"""The user's data folder: `kernels/RELEASE` and `tools`, for this user alone, complete or not there at all.

What is new is made in a folder of another name beside them and renamed; one process at a time does that.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import shutil
import stat
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from ebpf_magic.errors import FetchError

# What is being made or taken away has such a name; one that nobody holds the lock for was left by a killed process.
_UNFINISHED = ".new-"


@dataclass(frozen=True)
class Kernel:
    """A kernel that can be booted.

    Parameters
    ----------
    release : str
        What `uname -r` says in it: ``6.1.0-50-amd64``.
    version : str
        Its series: ``6.1``.
    image : Path
        The compressed kernel, vmlinuz.
    modules : Path
        The folder ``lib/modules/RELEASE``.
    source : str
        ``fetched``, ``machine`` (of this machine's /boot) or ``path`` (the user named the image).
    """

    release: str
    version: str
    image: Path
    modules: Path
    source: str

    @property
    def size_bytes(self) -> int:
        """What its image and modules take on the disk."""
        files = [self.image, *(path for path in self.modules.rglob("*") if path.is_file())]
        return sum(path.stat().st_size for path in files)


def series(release: str) -> str:
    """Return the series of a release: `6.1` of `6.1.0-50-amd64`."""
    found = re.match(r"\d+\.\d+", release)
    return found[0] if found else release


def age(release: str) -> tuple[int, ...]:
    """Return what sorts releases from old to new: their numbers."""
    return tuple(map(int, re.findall(r"\d+", release)))


def is_of(release: str, wanted: str) -> bool:
    """Whether a release is the wanted one or of the wanted series: 6.12.9 is of 6.12, and not of 6.1."""
    return release == wanted or release.startswith((f"{wanted}.", f"{wanted}-", f"{wanted}+"))


def root() -> Path:
    """Return the folder: $XDG_DATA_HOME/ebpf_magic, or ~/.local/share/ebpf_magic."""
    base = os.environ.get("XDG_DATA_HOME", "")
    return (Path(base) if os.path.isabs(base) else Path(os.path.expanduser("~")) / ".local/share") / "ebpf_magic"


def kernel_folder(release: str) -> Path:
    """Return where a fetched kernel lies."""
    return root() / "kernels" / release


def kernel_in(folder: Path, release: str) -> Kernel:
    """Return the kernel whose files lie in a folder laid out as its package lays them out."""
    image, modules = folder / "boot" / f"vmlinuz-{release}", folder / "lib/modules" / release
    return Kernel(release, series(release), image, modules, "fetched")


def stored() -> list[Kernel]:
    """Return the fetched kernels, the newest first."""
    releases = _names(root() / "kernels")
    kernels = (kernel_in(kernel_folder(release), release) for release in releases)
    there = [kernel for kernel in kernels if kernel.image.is_file() and kernel.modules.is_dir()]
    return sorted(there, key=lambda kernel: age(kernel.release), reverse=True)


def _names(folder: Path) -> list[str]:
    try:
        return [name for name in os.listdir(folder) if not name.startswith(".")]
    except OSError:  # nothing was ever fetched, or the folder is another user's
        return []


def make_folder(*parts: str) -> Path:
    """Make the data folder, or one in it, for this user alone, and return it.

    Raises
    ------
    FetchError
        When it cannot be made, or another user owns it.
    """
    path = root()
    for each in (path, *(path := path / part for part in parts)):
        try:
            each.mkdir(mode=0o700, parents=True, exist_ok=True)
            about = each.stat()
            if about.st_uid == os.getuid() and stat.S_IMODE(about.st_mode) & 0o077:
                each.chmod(0o700)
        except OSError as error:
            raise FetchError(
                f"keep kernels in {each}", error.strerror or str(error), "XDG_DATA_HOME names another place for them."
            ) from None
        if about.st_uid != os.getuid():
            raise FetchError(f"keep kernels in {each}", "it belongs to another user")
    return path


@contextlib.contextmanager
def locked(say_waiting: Callable[[], None] = lambda: None) -> Iterator[None]:
    """Be the one process that changes the folder; remove first what a killed one left."""
    with open(make_folder() / ".lock", "w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say_waiting()
            fcntl.flock(lock, fcntl.LOCK_EX)
        for left in root().glob(f"{_UNFINISHED}*"):
            shutil.rmtree(left, ignore_errors=True)
        yield


@contextlib.contextmanager
def workplace() -> Iterator[Path]:
    """Make a folder for unfinished things, on the disk of the finished ones; nothing of it stays."""
    path = Path(tempfile.mkdtemp(prefix=_UNFINISHED, dir=make_folder()))
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


def drop(kernel: Kernel) -> None:
    """Remove a fetched kernel: at once out of sight, then from the disk."""
    with locked(), workplace() as work:
        os.rename(kernel_folder(kernel.release), work / "removed")
