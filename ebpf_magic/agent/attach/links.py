"""Links to what may go away while a program is attached to it."""

from __future__ import annotations

from .. import bpf_links
from .handles import LinkFd


class OwnLink(LinkFd):
    """A link by its descriptor, made by bpf() itself: the same whatever libbpf knows of its kind.

    Parameters
    ----------
    fd : int
        The descriptor, which it owns.
    has_target : bool
        Whether the kernel tells what it is attached to, and that this is gone.
    note : str
        What the user should know of it.
    """

    def __init__(self, fd: int, has_target: bool = True, note: str = "") -> None:
        super().__init__(fd)
        self.note = note
        self._has_target = has_target

    @property
    def lost(self) -> bool:
        """Whether what it was attached to is gone: an interface, a cgroup, a namespace."""
        return self._has_target and self.fd >= 0 and bpf_links.link_target(self.fd) == 0
