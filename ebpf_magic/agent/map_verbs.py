"""The verbs for maps: of sessions, and of others, opened by id or pin."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from . import arena, bpf, map_owners, maps, near, pins
from .fault import Fault, from_errno
from .objects import LoadedMap
from .reply import Reply

if TYPE_CHECKING:
    from .server import Request

_MAX_READ_BYTES = 64 << 20


class MapVerbs:
    """Maps that some other program owns, held while they are looked at; and the verbs."""

    def __init__(
        self, find: Callable[[str], LoadedMap], number: Callable[[], int], possible_cpus: int, passes_fds: bool
    ) -> None:
        self._find = find
        self._number = number
        self._possible_cpus = possible_cpus
        self._passes_fds = passes_fds
        self.opened: dict[str, LoadedMap] = {}
        self.verbs: dict[str, Callable[[Request], Reply]] = {
            "read": self._read,
            "update": self._update,
            "delete": self._delete,
            "clear": self._clear,
            "poke": self._poke,
            "open": self._open,
            "release": self._release,
            "pin": self._pin,
            "unpin": self._unpin,
            "lookup": self._lookup,
            "contains": self._contains,
            "memory": self._memory,
        }

    def close(self) -> None:
        """Let go of all maps of others."""
        held, self.opened = self.opened, {}
        for item in held.values():
            os.close(item.fd)

    def _read(self, request: Request) -> Reply:
        item = self._find(request.text("map"))
        snapshot = map_call(
            item, "read", lambda: maps.read(item.fd, item.info, self._possible_cpus, request.flag("delete"))
        )
        fields = {
            "count": snapshot.count,
            "read": snapshot.read,
            "began_ns": snapshot.began_ns,
            "ended_ns": snapshot.ended_ns,
            "restarts": snapshot.restarts,
            "key_bytes": len(snapshot.keys),
            "value_bytes": len(snapshot.values),
        }
        return Reply(fields, [snapshot.keys, snapshot.values])

    def _update(self, request: Request) -> Reply:
        item = self._find(request.text("map"))
        count, flags = request.integer("count"), request.integer("flags", 0)
        split = count * item.info.key_size
        keys, values = request.payload[:split], request.payload[split:]
        map_call(
            item, "update", lambda: maps.update(item.fd, item.info, self._possible_cpus, keys, values, count, flags)
        )
        return Reply({})

    def _delete(self, request: Request) -> Reply:
        item = self._find(request.text("map"))
        count = request.integer("count")
        return Reply(
            {"deleted": map_call(item, "delete from", lambda: maps.delete(item.fd, item.info, request.payload, count))}
        )

    def _clear(self, request: Request) -> Reply:
        item = self._find(request.text("map"))
        map_call(item, "clear", lambda: maps.clear(item.fd, item.info, self._possible_cpus))
        return Reply({})

    def _poke(self, request: Request) -> Reply:
        item = self._find(request.text("map"))
        offset = request.integer("offset")
        map_call(item, "write into", lambda: maps.poke(item.fd, item.info, offset, request.payload))
        return Reply({})

    def _open(self, request: Request) -> Reply:
        flags = 0 if request.flag("writable") else bpf.RDONLY
        pin = request.text("pin", "")
        fd = _by_pin(pin, flags) if pin else _by_id(request.integer("map_id"), flags)
        try:
            info, raw = maps.info(fd), bpf.map_info(fd)
            item = LoadedMap(info.name, fd, info, False, bpf.memlock_bytes(fd), pin)
            btf, problem = _btf(raw.btf_id)
            handle = f"m{self._number()}"
            fields = {
                "map": describe(handle, item),
                "key_type": raw.btf_key_type_id if btf else 0,
                "value_type": raw.btf_value_type_id if btf else 0,
                "btf_problem": problem,
            }
        except BaseException:
            os.close(fd)
            raise
        self.opened[handle] = item
        return Reply(fields, [btf], [fd] if self._passes_fds and request.flag("pass_fds") else [])

    def _release(self, request: Request) -> Reply:
        item = self.opened.pop(request.text("map"), None)
        if item is not None:
            os.close(item.fd)
        return Reply({})

    def _pin(self, request: Request) -> Reply:
        return Reply({"note": pins.add(self._find(request.text("map")).fd, request.text("path"))})

    def _unpin(self, request: Request) -> Reply:
        pins.remove(request.text("path"), self._find(request.text("map")).info.id)
        return Reply({})

    def _lookup(self, request: Request) -> Reply:
        item, name = self._find(request.text("map")), request.text("name")
        what = f"look up {name} in map {item.name}"
        if item.info.type_name not in map_owners.LOOKED_UP:
            raise Fault("usage", what, f"it is a {item.info.type_name}, whose values hang on nothing")
        if item.info.type_name == "task_storage" and not (name.isdecimal() and int(name) < 1 << 31):
            raise Fault("usage", what, "a process is named by its id, a number")
        if "\0" in name:
            raise Fault("usage", what, "no file has a name with a NUL in it")
        try:
            fd = map_owners.open_owner(item.info.type_name, name)
            try:
                value = map_owners.lookup(item.fd, fd, item.info.value_size)
            finally:
                os.close(fd)
        except OSError as error:
            folder, leaf = os.path.split(name)
            beside = os.listdir(folder) if error.errno == errno.ENOENT and os.path.isdir(folder) else []
            raise Fault("map", what, error.strerror or str(error), near=near.close(leaf, beside)) from None
        return Reply({"found": value is not None}, [value or b""])

    def _contains(self, request: Request) -> Reply:
        item = self._find(request.text("map"))
        return Reply(
            {},
            [
                map_call(
                    item, "ask", lambda: maps.contains(item.fd, item.info, request.payload, request.integer("count"))
                )
            ],
        )

    def _memory(self, request: Request) -> Reply:
        item = self._find(request.text("map"))
        offset, size = request.integer("offset"), request.integer("size")
        if size > _MAX_READ_BYTES:
            raise Fault("usage", f"read map {item.name}", f"{size:,} bytes at once are more than {_MAX_READ_BYTES:,}")
        return Reply({}, [map_call(item, "read", lambda: arena.read(item.fd, offset, size))])


def describe(handle: str, item: LoadedMap) -> dict[str, Any]:
    """Describe a map as the protocol has it."""
    info = item.info
    return {
        "handle": handle,
        "name": item.name,
        "type": info.type_name,
        "type_id": info.type,
        "key_size": info.key_size,
        "value_size": info.value_size,
        "max_entries": info.max_entries,
        "flags": info.flags,
        "id": info.id,
        "memory_bytes": item.memory_bytes,
        "internal": item.internal,
        "pin": item.pin,
    }


def map_call(item: LoadedMap, verb: str, call: Callable[[], Any]) -> Any:
    """Make a call that works on a map; an OSError of it becomes a `Fault`."""
    try:
        return call()
    except OSError as error:
        fault = from_errno("map", f"{verb} map {item.name}", error.errno or 0)
        fault.fields["why"] = error.strerror or str(error)
        raise fault from None


def _by_id(number: int, flags: int) -> int:
    what, needs = f"open map {number}", ("SYS_ADMIN",)
    if number >= 1 << 32:
        raise Fault("usage", what, "a map's id has 32 bits")
    try:
        fd = bpf.fd_by_id(bpf.MAP_GET_FD_BY_ID, number, flags)
        if fd is not None:
            return fd
        near_ids = [f"{found} ({name})" for found, name in _closest(number)]
    except OSError as error:
        raise from_errno("map", what, error.errno or 0, needs) from None
    raise Fault(
        "map",
        what,
        "there is no map of that id: its owner may have let go of it",
        "`%ebpf ls --all` lists all maps.",
        near=near_ids,
        errno=errno.ENOENT,
    )


def _closest(number: int) -> list[tuple[int, str]]:
    """Up to five maps whose ids are the nearest."""
    ids: list[int] = []
    each: int | None = 0
    while (each := bpf.next_id(bpf.MAP_GET_NEXT_ID, each or 0)) is not None:
        ids.append(each)
    found = []
    for each in sorted(ids, key=lambda other: abs(other - number))[:5]:
        fd = bpf.fd_by_id(bpf.MAP_GET_FD_BY_ID, each)
        if fd is not None:
            try:
                found.append((each, maps.info(fd).name))
            finally:
                os.close(fd)
    return found


def _by_pin(path: str, flags: int) -> int:
    what, real = f"open the map pinned at {path}", pins.reach(path)
    try:
        fd = bpf.get_pinned(real, flags)
    except OSError as error:
        fault = from_errno("map", what, error.errno or 0, pins.NEEDS)
        if error.errno == errno.ENOENT:
            fault.fields["why"], fault.fields["near"] = "nothing is pinned there", pins.beside(path)
        elif os.path.exists(real) and not pins.is_bpffs(real):
            fault.fields["why"] = "it is no pin: it lies in no bpffs"
        elif error.errno == errno.EACCES and flags == 0:
            fault.fields["hint"] = "Without writable=True it needs only the right to read."
        raise fault from None
    if not bpf.is_map(fd):
        os.close(fd)
        raise Fault("map", what, "what is pinned there is no map")
    return fd


def _btf(number: int) -> tuple[bytes, str]:
    """Type information of a map's owner, and why there is none."""
    if not number:
        return b"", "its owner loaded it without BTF"
    try:
        return bpf.btf_of(number), ""
    except OSError as error:
        return b"", f"its BTF cannot be read: {error.strerror}"
