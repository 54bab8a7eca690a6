"""Which of this machine's folders the guest sees: read-only, at the same paths, and no more than it needs."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass, field
from pathlib import Path

from ebpf_magic.hosts.guest import bundle

_PACKAGE = Path(__file__).resolve().parents[2]
# Folders that on most systems are links into /usr.
_MERGED = ("bin", "sbin", "lib", "lib32", "lib64", "libx32")
# The guest has its own: a share in their place would hide it.
_OWN = ("/", "/boot", "/dev", "/etc", "/proc", "/root", "/run", "/scratch", "/sys", "/tmp", "/usr", "/var")
_KEYS = (".ssh", ".gnupg", ".aws", ".kube")
_NEVER_UNDER = ("/dev", "/proc", "/sys", "/scratch", "/ebpf_magic")


@dataclass(frozen=True)
class Share:
    """A folder the guest sees at the same path.

    `fresh` is for what the user edits: every opening asks this machine. Otherwise the guest keeps what it has read.
    """

    path: str
    fresh: bool = False


@dataclass
class Root:
    """The files a guest runs on.

    Parameters
    ----------
    shares : list of Share
        Folders of this machine; one within another comes after it.
    links : dict
        Symbolic links at the top: ``{"/bin": "usr/bin"}``.
    image : str, optional
        A disk image with one file system (ext4) to run on, in the place of this machine's /usr. It is opened read-only;
        what the guest writes is kept in its memory.
    python : str
        The interpreter for the agent, in the guest.
    folder : str
        Where commands start: the working folder, if it is shared.
    notes : list of str
        What was left out, and why.
    """

    shares: list[Share]
    links: dict[str, str] = field(default_factory=dict)
    image: str | None = None
    python: str = "/usr/bin/python3"
    folder: str = "/root"
    notes: list[str] = field(default_factory=list)


def machine(folder: str | None = None, also: list[str] | None = None) -> Root:
    """Describe a root of this machine's own files.

    Parameters
    ----------
    folder : str, optional
        The folder the user works in; the current one unless said.
    also : list of str, optional
        More folders to share.

    Returns
    -------
    Root
        /usr, this interpreter and its environment, this package, the working folder. Never the home as such.
    """
    root = Root([Share("/usr")], python=bundle.interpreter(_PACKAGE))
    for name in _MERGED:
        if os.path.islink(f"/{name}"):
            root.links[f"/{name}"] = os.readlink(f"/{name}")
        elif os.path.isdir(f"/{name}"):
            root.shares.append(Share(f"/{name}"))
    folders = [os.path.realpath(sys.base_prefix), *map(os.path.realpath, also or [])]
    environment = os.path.realpath(sys.prefix)
    _add(root, folders, [str(_PACKAGE), environment], os.path.realpath(folder or _working_folder()))
    return root


def image(path: str | os.PathLike[str], python: str = "/usr/bin/python3", folder: str | None = None) -> Root:
    """Describe a root that is a disk image; this package and the working folder are shared into it.

    Parameters
    ----------
    path : str or path
        The image: one ext4 file system, no partitions, with Python 3.9 or later and libbpf 1.
    python : str
        The image's interpreter.
    folder : str, optional
        The folder the user works in; the current one unless said.
    """
    root = Root([], image=os.path.abspath(path), python=python)
    _add(root, [], [str(_PACKAGE)], os.path.realpath(folder or _working_folder()))
    return root


def refusal(folder: str, homes: list[str] | None = None) -> str:
    """Say why a folder is not shared as the working folder; empty when it may be."""
    homes = _homes() if homes is None else homes
    for home in homes:
        if home == folder or _within(home, folder):
            return f"it is or holds the home {home}, with its keys"
        if _within(folder, home) and os.path.relpath(folder, home).startswith("."):
            return f"it is one of the hidden folders of {home}"
    if folder in _OWN:
        return "the guest has its own"
    # Also of homes that are not this user's: root works anywhere.
    if keys := [name for name in _KEYS if os.path.isdir(os.path.join(folder, name))]:
        return f"it holds keys, in {keys[0]}"
    if any(folder == each or _within(folder, each) for each in _NEVER_UNDER):
        return "the guest has its own there"
    if not folder.isprintable() or folder != folder.strip():
        return "its name has characters that cannot be passed on"
    return ""


def _add(root: Root, kept: list[str], fresh: list[str], working: str) -> None:
    """Add folders to the shares, without those that are within another that is as fresh."""
    why = refusal(working)
    if why:
        root.notes.append(f"the working folder {working} is not shared with the guest: {why}")
    else:
        root.folder = working
        fresh = [*fresh, working]
    homes = _homes()
    for path in sorted({*kept, *fresh}, key=len):
        over = [share for share in root.shares if share.path == path or _within(path, share.path)]
        holds_home = any(home == path or _within(home, path) for home in homes)
        if path in _OWN or holds_home:
            continue
        # What distributions and installers put there does not change under a running guest.
        is_fresh = path in fresh and (path == working or not _within(path, "/usr"))
        if not over or (is_fresh and not over[-1].fresh):
            root.shares.append(Share(path, is_fresh))
    root.shares.sort(key=lambda share: (share.path.count("/"), share.path))


def _homes() -> list[str]:
    homes = {os.path.realpath(os.path.expanduser("~"))}
    if user := os.environ.get("SUDO_USER"):
        homes.add(os.path.realpath(os.path.expanduser(f"~{user}")))
    return sorted(homes)


def _working_folder() -> str:
    try:
        return os.getcwd()
    except FileNotFoundError:  # it was removed under us
        return "/"


def _within(path: str, folder: str) -> bool:
    return path != folder and os.path.commonpath([path, folder]) == folder
