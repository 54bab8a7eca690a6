"""struct_ops: maps that hold a table of functions, which the kernel takes among its own (a TCP congestion control)."""

from __future__ import annotations

import ctypes as C
import errno as errnos
import os
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from .. import bpf, bpf_links, kinds, maps, near
from ..fault import Fault, from_errno
from ..keeper import Keeper
from .handles import Handle, KernelLink, Link, close_all
from .links import OwnLink

if TYPE_CHECKING:
    from ..declared import Program
    from ..libbpf import Library

_UNUSED = re.compile(r"prog '([^']*)': SEC\(\"struct_ops\"\) program isn't referenced")
_BY_LINK = 1 << 13  # BPF_F_LINK
# libbpf 1.2 and later know both, 1.1 the first alone; with one name both behave alike.
_SECTION, _LINK_SECTION = b".struct_ops\0", b".struct_ops.link\0"


def as_one_section(data: memoryview) -> memoryview:
    """Give an object's .struct_ops.link section, in ELF and BTF, the name that every libbpf knows; raises `Fault`."""
    whole = bytes(data)
    if _LINK_SECTION not in whole:
        return data
    if b"\0" + _SECTION in whole:
        why = "it has both .struct_ops and .struct_ops.link"
        raise Fault("unsupported", "load the object", why, "Put all tables into one of them.")
    return memoryview(bytearray(whole.replace(_LINK_SECTION, _SECTION.ljust(len(_LINK_SECTION), b"\0"))))


def prefer_links(library: Library, pointers: Sequence[int]) -> None:
    """Have maps that are not loaded yet held by links, where the kernel can.

    It can since 68b04864ca42 ("bpf: Create links for BPF struct_ops maps."), v6.4. Without a link a map stays
    registered until its entry is deleted, whatever became of who registered it.
    """
    if pointers and b"\0bpf_struct_ops_link_create\0" in near.btf():
        for pointer in pointers:
            library.bpf_map__set_map_flags(pointer, library.bpf_map__map_flags(pointer) | _BY_LINK)


def unused(programs: Sequence[Program], failed: Program | None, error: int, lines: list[str]) -> Fault | None:
    """Explain that loading failed because no table has a function; None when that is not why."""
    named = next((match[1] for line in lines if (match := _UNUSED.search(line))), None)  # libbpf 1.3 and later
    program = next((program for program in programs if program.name == named), None)
    if failed is not None and failed.kind == "struct_ops" and error == bpf.ENOTSUPP:  # the kernel itself
        program = failed
    if program is None:
        return None
    why = "no table in .struct_ops has this function, or the kernel's struct has no such member"
    return Fault("load", f"load {program.label}", why, "Name it in the table, or leave it out.", program=program.name)


def attach(library: Library, name: str, pointer: int) -> Link:
    """Register one map with the kernel; raises `Fault`."""
    with library.printed() as lines:
        made = library.bpf_map__attach_struct_ops(pointer)
        number = C.get_errno()
    map_fd = int(library.bpf_map__fd(pointer))
    by_link = bool(library.bpf_map__map_flags(pointer) & _BY_LINK)
    # EBUSY: an attempt before this one has filled the map in, and only its link could not be made.
    if not made and not (by_link and number == errnos.EBUSY):
        raise _refused(name, number, lines)
    handles: list[Handle] = []
    if made:
        try:
            handles = [KernelLink(library, made) if by_link else Table(library, made)]
        except OSError as error:
            raise _refused(name, error.errno or 0, lines) from None
    if by_link and (not made or library.bpf_link__fd(made) == map_fd):  # libbpf 1.1 fills the map in, and that is all
        try:
            handles.insert(0, OwnLink(bpf_links.link_create(map_fd, 0, kinds.ON_STRUCT_OPS), has_target=False))
        except OSError as error:
            close_all(handles)
            raise _refused(name, error.errno or 0, lines) from None
    return Link(name, name, "struct_ops", handles)


class Table(KernelLink):
    """A table that no link holds, as before v6.4: it stays registered until its map's entry is deleted."""

    def __init__(self, library: Library, pointer: int) -> None:
        super().__init__(library, pointer)
        try:
            self._keeper = Keeper("attach.struct_ops.unregister", [self.fd], [self.fd])
        except OSError:
            super().close()
            raise

    def close(self) -> None:
        """Take the table out of the kernel."""
        super().close()
        self._keeper.dismiss()


def unregister(map_fd: int) -> None:
    """Take out the table of an agent that was killed."""
    maps.delete(map_fd, maps.info(map_fd), bytes(4), 1)


def _refused(name: str, number: int, lines: list[str]) -> Fault:
    fault = from_errno(
        "attach",
        f"attach struct_ops {name}",
        number,
        kinds.KINDS["struct_ops"].needs,
        target=name,
        log="\n".join(lines),
    )
    reasons = {
        errnos.EEXIST: "one of that name is registered already",
        errnos.EBUSY: "the map has been registered before",
        errnos.EINVAL: "the kernel refused the table: a function that must be there is missing, or its name",
    }
    if fault.fields["kind"] == "attach":
        fault.fields["why"] = reasons.get(number, os.strerror(number))
    return fault
