"""The user's cache folder: checked, bounded, safe for several processes, and never needed.

An entry is one file, `KIND/KEY`: a line with the SHA-256 of what follows, then the content. It is written under another
name and renamed, so that a reader sees all of it or nothing; what does not match its checksum is removed and made anew.
Where the folder cannot be written everything still works, only slower.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import random
import stat
import tempfile
import time
from pathlib import Path

# Bytes that each kind of entry may take in all; the entries used longest ago go first.
_LIMITS = {
    "objects": 256 << 20,
    "vmlinux": 64 << 20,
    "prelude": 256 << 20,
    "toolchain": 1 << 20,
    "initramfs": 128 << 20,
    "kernels": 512 << 20,
}


def root() -> Path:
    """Return the folder: $XDG_CACHE_HOME/ebpf_magic, or ~/.cache/ebpf_magic."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    return (Path(base) if os.path.isabs(base) else Path(os.path.expanduser("~")) / ".cache") / "ebpf_magic"


def folder(kind: str) -> Path | None:
    """Return the folder of a kind of entry, made if need be; None where that cannot be, or it is another user's."""
    path = root() / kind
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        for each in (path.parent, path):
            about = each.stat()
            if about.st_uid != os.getuid():
                return None
            if stat.S_IMODE(about.st_mode) & 0o077:
                each.chmod(0o700)
    except OSError:
        return None
    return path


def digest(*parts: str | bytes) -> str:
    """Return a key for these parts, of which none can run into the next."""
    sha = hashlib.sha256()
    for part in parts:
        raw = part.encode("utf-8", "surrogateescape") if isinstance(part, str) else part
        sha.update(f"{len(raw)}:".encode())
        sha.update(raw)
    return sha.hexdigest()


def get(kind: str, key: str) -> bytes | None:
    """Return an entry's content, or None when it is absent or damaged."""
    directory = folder(kind)
    if directory is None:
        return None
    path = directory / key
    try:
        raw = path.read_bytes()
    except OSError:
        return None
    touch(path)
    checksum, _, content = raw.partition(b"\n")
    if checksum != hashlib.sha256(content).hexdigest().encode():
        remove(path)
        return None
    return content


def put(kind: str, key: str, content: bytes) -> None:
    """Keep an entry, if the folder can be written."""
    put_file(kind, key, hashlib.sha256(content).hexdigest().encode() + b"\n" + content)


def put_file(kind: str, key: str, raw: bytes) -> Path | None:
    """Keep a plain file, without a checksum; return where it is, None where it could not be kept."""
    directory = folder(kind)
    if directory is None:
        return None
    path = directory / key
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=directory, prefix=".new-")
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(raw)
            os.replace(temporary, path)
        except BaseException:
            remove(Path(temporary))
            raise
    except OSError:
        return None
    # Looking through a full folder takes as long as compiling: one small entry in sixteen does it for the others.
    if len(raw) > _LIMITS[kind] // 64 or random.random() < 1 / 16:
        _prune(directory, _LIMITS[kind], keep=path)
    return path


def touch(path: Path) -> None:
    """Note that an entry was used, so that it is not the next to go.

    Its access time says so: clang refuses a precompiled prelude when the modification time of a header is another one.
    """
    with contextlib.suppress(OSError):
        os.utime(path, ns=(time.time_ns(), path.stat().st_mtime_ns))


def remove(path: Path) -> None:
    """Remove a file, if it is there and can be."""
    with contextlib.suppress(OSError):
        path.unlink()


def _prune(directory: Path, limit_bytes: int, keep: Path) -> None:
    """Remove the files used longest ago until the rest fits."""
    files = []
    for path in directory.rglob("*"):
        with contextlib.suppress(OSError):  # another process may have removed it
            about = path.stat()
            if stat.S_ISREG(about.st_mode):
                files.append((max(about.st_atime_ns, about.st_mtime_ns), about.st_size, path))
    total = sum(size for _, size, _ in files)
    for _, size, path in sorted(files):
        if total <= limit_bytes:
            return
        if path != keep:
            remove(path)
            total -= size
