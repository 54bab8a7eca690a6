"""An initramfs archive (cpio, the "newc" format), written without root.

Source: Documentation/driver-api/early-userspace/buffer-format.rst of the kernel. Several archives one after the other
are one initramfs; a later entry replaces an earlier one of the same name.
"""

from __future__ import annotations

import stat
from dataclasses import dataclass, field

_TRAILER = "TRAILER!!!"


@dataclass
class Archive:
    """Folders, files and links, to be owned by root; the folders above an entry are made with it."""

    _parts: list[bytes] = field(default_factory=list)
    _folders: set[str] = field(default_factory=set)

    def folder(self, path: str, mode: int = 0o755) -> None:
        """Add a folder; adding it once more changes nothing."""
        path = path.strip("/")
        if path and path not in self._folders:
            self._above(path)
            self._folders.add(path)
            self._add(path, stat.S_IFDIR | mode, b"")

    def file(self, path: str, content: bytes, mode: int = 0o644) -> None:
        """Add a file."""
        self._above(path.strip("/"))
        self._add(path.strip("/"), stat.S_IFREG | mode, content)

    def link(self, path: str, target: str) -> None:
        """Add a symbolic link."""
        self._above(path.strip("/"))
        self._add(path.strip("/"), stat.S_IFLNK | 0o777, target.encode("utf-8", "surrogateescape"))

    def device(self, path: str, major: int, minor: int, mode: int = 0o600) -> None:
        """Add a character device."""
        self._above(path.strip("/"))
        self._add(path.strip("/"), stat.S_IFCHR | mode, b"", major, minor)

    def data(self) -> bytes:
        """Return the archive, padded so that another may follow."""
        whole = b"".join([*self._parts, _entry(_TRAILER, 0, b"")])
        return whole + bytes(-len(whole) % 512)

    def _above(self, path: str) -> None:
        above = path.rpartition("/")[0]
        if above:
            self.folder(above)

    def _add(self, path: str, mode: int, content: bytes, major: int = 0, minor: int = 0) -> None:
        self._parts.append(_entry(path, mode, content, major, minor))


def _entry(path: str, mode: int, content: bytes, major: int = 0, minor: int = 0) -> bytes:
    name = path.encode("utf-8", "surrogateescape") + b"\0"
    links = 2 if stat.S_ISDIR(mode) else 1
    # inode (0: no hard links), mode, uid, gid, links, mtime, size, the device it is on, its own device, name, checksum
    numbers = (0, mode, 0, 0, links, 0, len(content), 0, 0, major, minor, len(name), 0)
    head = b"070701" + b"".join(b"%08X" % number for number in numbers) + name
    return head + bytes(-len(head) % 4) + content + bytes(-len(content) % 4)
