"""Iterators: programs that the kernel runs once for each of its objects, when somebody reads."""

from __future__ import annotations

import ctypes as C
import errno as errnos
import os
import re
from typing import TYPE_CHECKING, Any

from .. import libbpf, near
from ..fault import Fault
from .handles import Context, Handle, KernelLink
from .refused import refused

if TYPE_CHECKING:
    from ..declared import Program

# Iterators that go through the entries of one map, and the kinds of map that they take.
_MAP_KINDS = {
    "bpf_map_elem": "hash, array and their LRU and per-CPU kinds",
    "bpf_sk_storage_map": "sk_storage",
    "sockmap": "sockmap, sockhash",
}
_TASKS = frozenset({"task", "task_file", "task_vma"})
_ONE_TASK = re.compile(r"(?P<what>pid|tid):(?P<number>[1-9]\d{0,9})")
# enum bpf_cgroup_iter_order
_ORDERS = {"self": 1, "pre": 2, "post": 3, "up": 4}
_CGROUPS = re.compile(r"(?:(?P<order>\w+):)?(?P<path>/.*)")


class _MapInfo(C.Structure):
    _fields_ = [("map_fd", C.c_uint32)]


class _CgroupInfo(C.Structure):
    _fields_ = [("order", C.c_uint32), ("cgroup_fd", C.c_uint32), ("cgroup_id", C.c_uint64)]


class _TaskInfo(C.Structure):
    _fields_ = [("tid", C.c_uint32), ("pid", C.c_uint32), ("pid_fd", C.c_uint32)]


def iterator(context: Context, program: Program, target: str) -> list[Handle]:
    """Make the link that readings begin from; raises `Fault`.

    The section names the objects. The target narrows them: a map of the session (``bpf_map_elem``), ``pid:123`` or
    ``tid:123`` (``task``), a cgroup's folder, with an order before it if not ``pre:`` (``cgroup``).
    """
    objects = program.section.partition("/")[2]
    wanted = "" if target == objects else target
    if objects in _MAP_KINDS:
        return _over_map(context, program, objects, target, wanted)
    if objects == "cgroup":
        return _over_cgroups(context, program, wanted)
    if not wanted:
        return _linked(context, program, objects, None, {})
    match = _ONE_TASK.fullmatch(wanted)
    if objects in _TASKS and match:
        info = _TaskInfo(**{match["what"]: int(match["number"])})
        return _linked(context, program, wanted, info, {errnos.ESRCH: f"there is no {match[0].replace(':', ' ')}"})
    why = f"an iterator over {objects} goes over all there are"
    if objects in _TASKS:
        why = f"an iterator over {objects} goes over all there are, or is written pid:123 or tid:123"
    raise Fault("usage", f"attach {program.label} to {wanted}", why, program=program.name, target=wanted)


def _over_map(context: Context, program: Program, objects: str, target: str, wanted: str) -> list[Handle]:
    name = wanted if wanted or target not in context.maps else target
    about: dict[str, Any] = {"program": program.name, "target": name or objects}
    what = f"attach iter {objects}" + (f" to map {name}" if name else "")
    shown = [item.name for item in context.maps.values() if not item.internal]
    named = f"Maps of the session: {', '.join(shown) or 'none'}."
    if not name:
        hint = f"Name one: --attach {program.name}={shown[0] if shown else 'MAP'}. {named}"
        raise Fault("attach", what, "it goes through the entries of one map, and none is named", hint, **about)
    if name not in context.maps:
        raise Fault("attach", what, "the session has no such map", named, near=near.close(name, shown), **about)
    item = context.maps[name]
    reasons = {
        errnos.EINVAL: f"it is a {item.info.type_name}; {objects} takes {_MAP_KINDS[objects]}",
        errnos.EACCES: f"the program reads beyond the map's keys of {item.info.key_size} or values of "
        f"{item.info.value_size} bytes",
    }
    return _linked(context, program, name, _MapInfo(item.fd), reasons)


def _over_cgroups(context: Context, program: Program, wanted: str) -> list[Handle]:
    if not wanted:
        return _linked(context, program, "cgroup", _CgroupInfo(order=_ORDERS["pre"]), {})
    about: dict[str, Any] = {"program": program.name, "target": wanted}
    what = f"attach iter cgroup to {wanted}"
    match = _CGROUPS.fullmatch(wanted)
    order = (match["order"] or "pre") if match else ""
    if match is None or order not in _ORDERS:
        orders = ", ".join(_ORDERS)
        why = f"it is written FOLDER or ORDER:FOLDER; orders are {orders}"
        raise Fault("attach", what, why, near=near.close(order, _ORDERS), **about)
    path = match["path"]
    try:
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        folder, _, name = path.rstrip("/").rpartition("/")
        raise Fault("attach", what, f"{path}: {error.strerror}", near=_folders(folder, name), **about) from None
    try:
        reasons = {errnos.EBADF: f"{path} is no cgroup"}
        return _linked(context, program, wanted, _CgroupInfo(order=_ORDERS[order], cgroup_fd=fd), reasons)
    finally:
        os.close(fd)


def _folders(folder: str, name: str) -> list[str]:
    try:
        return [f"{folder}/{found}" for found in near.close(name, os.listdir(folder or "/"))]
    except OSError:  # near names are only a help
        return []


def _linked(
    context: Context, program: Program, target: str, info: C.Structure | None, reasons: dict[int, str]
) -> list[Handle]:
    options = libbpf.IterOpts(sz=C.sizeof(libbpf.IterOpts))
    if info is not None:
        options.link_info, options.link_info_len = C.addressof(info), C.sizeof(info)
    with context.library.printed() as lines:
        pointer = context.library.bpf_program__attach_iter(program.pointer, C.byref(options))
        number = C.get_errno()
    if pointer:
        return [KernelLink(context.library, pointer)]
    raise refused(program, f"attach iter {target}", target, number, lines, reasons)
