"""The guest's /etc: made for it, with what this machine's programs need of the machine's own."""

from __future__ import annotations

import contextlib
import os
import re
from pathlib import Path

from ebpf_magic.hosts.guest.cpio import Archive

# Read-only facts that programs under /usr look up; nothing here tells of users, keys or networks.
_COPIED = (
    "ld.so.cache",
    "ld.so.conf",
    "protocols",
    "services",
    "mime.types",
    "inputrc",
    "bash.bashrc",
    "debian_version",
)
_MAX_BYTES = 1 << 20
_NSSWITCH = (
    "passwd: files\ngroup: files\nshadow: files\nhosts: files\nnetworks: files\nprotocols: files\nservices: files\n"
)


def add_etc(archive: Archive, name: str, etc: Path = Path("/etc")) -> None:
    """Add /etc to an archive.

    Parameters
    ----------
    archive : Archive
        Where to.
    name : str
        The guest's host name.
    etc : Path
        Where this machine's own is.
    """
    user, uid, gid = _user()
    passwd = ["root:x:0:0:root:/root:/bin/sh", "nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin"]
    group = ["root:x:0:", "nogroup:x:65534:"]
    if uid not in (0, 65534):
        passwd.insert(1, f"{user}:x:{uid}:{gid}:{user}:/root:/bin/sh")
        group.insert(1, f"{user}:x:{gid}:")
    written = {
        "passwd": "\n".join(passwd) + "\n",
        "group": "\n".join(group) + "\n",
        "hostname": f"{name}\n",
        "hosts": f"127.0.0.1 localhost {name}\n::1 localhost\n10.0.0.1 veth0\n10.0.0.2 veth1\n",
        "nsswitch.conf": _NSSWITCH,
        "resolv.conf": "",
    }
    for file, text in written.items():
        archive.file(f"etc/{file}", text.encode())
    archive.link("etc/mtab", "/proc/self/mounts")
    for file in _COPIED:
        with contextlib.suppress(OSError):  # not every distribution has each of them
            if (etc / file).stat().st_size <= _MAX_BYTES:
                archive.file(f"etc/{file}", (etc / file).read_bytes())
    for link in ("os-release", "localtime"):
        with contextlib.suppress(OSError):
            archive.link(f"etc/{link}", os.readlink(etc / link))
    with contextlib.suppress(OSError):  # Debian's choice among several programs of one name
        for entry in sorted(os.scandir(etc / "alternatives"), key=lambda entry: entry.name):
            if entry.is_symlink():
                archive.link(f"etc/alternatives/{entry.name}", os.readlink(entry.path))


def _user() -> tuple[str, int, int]:
    """Return who runs the notebook, so that the owner of shared files has a name in the guest."""
    import pwd

    uid = os.getuid()
    try:
        entry = pwd.getpwuid(uid)
    except KeyError:  # a container's user without a name
        return "user", uid, os.getgid()
    name = entry.pw_name if re.fullmatch(r"[a-z_][a-z0-9_-]*", entry.pw_name) else "user"
    return name, uid, entry.pw_gid
