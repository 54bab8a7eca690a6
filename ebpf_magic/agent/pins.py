"""Pins: names in a bpffs that hold a map when no process does."""

from __future__ import annotations

import ctypes as C
import errno
import os
from typing import TYPE_CHECKING

from . import bpf, maps, near, tracefs
from .fault import Fault, from_errno
from .libbpf import Library

if TYPE_CHECKING:
    from .declared import MapSpec

ROOT = tracefs.MOUNTS["bpf"]
NEEDS = ("BPF",)
PRIVATE = (
    f"no bpffs is mounted at {ROOT}: the pin lives in a mount of the agent's own and goes with it; "
    f"before the first cell: sudo mount -t bpf bpf {ROOT}"
)
_BPF_FS_MAGIC = 0xCAFE4A11
_libc = C.CDLL(None, use_errno=True)


def root() -> tuple[str, str]:
    """Where to pin by name: the folder as this process reaches it, and what is to be said of it.

    That of everybody where a bpffs is mounted, else one of this process's own; raises `Fault` where neither is.
    """
    people = tracefs.seen_by_people(ROOT)
    if is_bpffs(people):
        return people, ""
    if is_bpffs(ROOT):
        return ROOT, PRIVATE
    problem = tracefs.mount("bpf")
    if problem:
        raise Fault("load", f"pin a map below {ROOT}", problem, f"sudo mount -t bpf bpf {ROOT}")
    return ROOT, PRIVATE


def place(library: Library, specs: list[MapSpec]) -> list[str]:
    """Have maps pinned by name where people see the pins; what is to be said of it."""
    pinned = [spec for spec in specs if spec.pinned]
    if not pinned:
        return []
    folder, note = root()
    for spec in pinned:
        path = f"{folder}/{spec.name}"
        _check_pin(spec, path)
        error = -library.bpf_map__set_pin_path(spec.pointer, path.encode())
        if error:
            raise from_errno("load", f"pin map {spec.name}", error)
    return [note] if note else []


def _check_pin(spec: MapSpec, path: str) -> None:
    """Refuse a pin that holds another kind of map: libbpf only says EINVAL."""
    what, shown = f"load map {spec.name}", f"{ROOT}/{spec.name}"
    try:
        fd = bpf.get_pinned(path)
    except OSError as error:
        if error.errno == errno.ENOENT:
            return
        raise from_errno("load", f"{what}: open its pin {shown}", error.errno or 0, NEEDS) from None
    try:
        if not bpf.is_map(fd):
            raise Fault("load", what, f"what is pinned at {shown} is no map", f"Remove it: sudo rm {shown}")
        found = maps.info(fd)
    finally:
        os.close(fd)
    entries = spec.max_entries or found.max_entries  # 0: as many as there are CPUs
    declared = (spec.type, spec.key_size, spec.value_size, entries, spec.flags)
    if declared != (found.type, found.key_size, found.value_size, found.max_entries, found.flags):
        raise Fault(
            "load",
            what,
            f"the map that is pinned at {shown} is another: {_sizes(found)}; declared is {_sizes(spec)}",
            f"Declare it so, or remove the pin: sudo rm {shown}",
        )


def _sizes(of: MapSpec | maps.MapInfo) -> str:
    flags = f", flags {of.flags:#x}" if of.flags else ""
    return f"{of.type_name}, key {of.key_size}, value {of.value_size} bytes, {of.max_entries:,} entries{flags}"


def reach(path: str) -> str:
    """Path by which this process reaches a pin: what everybody sees first, then what only it sees."""
    people = tracefs.seen_by_people(path)
    return people if os.path.lexists(people) or not os.path.lexists(path) else path


def add(fd: int, path: str) -> str:
    """Pin a map there; what is to be said of the place. Raises `Fault`."""
    what = f"pin the map at {path}"
    if not os.path.isabs(path) or os.path.normpath(path) != path:
        raise Fault("usage", what, "it must be an absolute path without . and ..", f"Such as {ROOT}/counts.")
    folder, note = os.path.dirname(path), ""
    if folder == ROOT or folder.startswith(ROOT + "/"):
        base, note = root()
        real = base + path[len(ROOT) :]
    else:
        real = tracefs.seen_by_people(path)
    if not is_bpffs(os.path.dirname(real)):
        raise Fault("map", what, f"{folder} is no folder of a bpffs", f"Such as {ROOT}/counts.")
    try:
        bpf.pin(fd, real)
    except OSError as error:
        fault = from_errno("map", what, error.errno or 0, NEEDS)
        if error.errno == errno.EEXIST:
            fault.fields["why"] = "something is pinned there already"
            fault.fields["hint"] = "Take another name, or em.map(pin=...) and its unpin() first."
        raise fault from None
    return note


def remove(path: str, map_id: int) -> None:
    """Take the pin of that map away; raises `Fault` when another map, or none, is pinned there."""
    what, real = f"unpin the map at {path}", reach(path)
    try:
        fd = bpf.get_pinned(real, bpf.RDONLY)
    except OSError as error:
        if error.errno == errno.ENOENT:
            raise Fault("map", what, "nothing is pinned there", errno=errno.ENOENT) from None
        raise from_errno("map", what, error.errno or 0, NEEDS) from None
    try:
        found = bpf.map_info(fd).id if bpf.is_map(fd) else 0
    finally:
        os.close(fd)
    if found != map_id:
        raise Fault(
            "map", what, f"{f'map {found}' if found else 'no map'} is pinned there, and this one is map {map_id}"
        )
    try:
        os.unlink(real)
    except OSError as error:
        raise from_errno("map", what, error.errno or 0) from None


def beside(path: str) -> list[str]:
    """Names of pins like this one, in the same folder."""
    folder, name = os.path.split(path)
    names: set[str] = set()
    for each in {folder, tracefs.seen_by_people(folder)}:
        if os.path.isdir(each):
            names |= set(os.listdir(each))
    return near.close(name, names)


def is_bpffs(path: str) -> bool:
    """Whether a path lies in a bpffs."""
    raw = C.create_string_buffer(256)
    if _libc.statfs(os.fsencode(path), raw) != 0:
        return False
    return int.from_bytes(raw.raw[:4], "little") == _BPF_FS_MAGIC
