"""Links to what may go away while a program is attached to it."""

from __future__ import annotations

from typing import NamedTuple

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


class Held(NamedTuple):
    """A place that takes one program only, as a running session holds it: its link, and the program in it."""

    link: OwnLink
    prog_fd: int


class TakenOver(OwnLink):
    """A link of the session that is replaced, with this one's program in it; raises OSError where that cannot be.

    Until `keep` it is the other's: `close` puts back what was there.
    """

    def __init__(self, held: Held, prog_fd: int) -> None:
        bpf_links.link_update(held.link.fd, prog_fd)
        super().__init__(held.link.fd, note=held.link.note)
        self._held: Held | None = held

    def keep(self) -> None:
        """Take it for good."""
        if self._held is not None:
            self._held.link.fd, self._held = -1, None

    def close(self) -> None:
        """Take the link out of the kernel, or give it back."""
        if self._held is None:
            super().close()
        elif self.fd >= 0:
            self.fd = -1
            bpf_links.link_update(self._held.link.fd, self._held.prog_fd)
