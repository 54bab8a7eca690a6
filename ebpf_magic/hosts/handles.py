"""A map as a session holds it: through a descriptor of this process, or through the agent's verbs."""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from ebpf_magic.agent import maps
from ebpf_magic.agent.maps import MapInfo, Snapshot
from ebpf_magic.agent.wire import Buffer, Frame, WireError
from ebpf_magic.errors import MapError, StoppedError
from ebpf_magic.hosts.replies import check_entries

if TYPE_CHECKING:
    from ebpf_magic.hosts.base import AgentHost

T = TypeVar("T")
_NAME_BYTES = {"task_storage": 4, "sk_storage": 8}  # of an owner: a task's id, a socket's cookie


class MapHandle(Protocol):
    """A map that can be read and changed; `handle` is its name in the protocol."""

    name: str
    type: str
    info: MapInfo
    internal: bool
    memory_bytes: int
    handle: str
    pin: str

    @property
    def wire(self) -> WireMap:
        """The same map by way of the agent, for what only the agent can do."""

    def read(self, delete: bool = False) -> Snapshot:
        """All entries; with `delete` each is handed out once."""

    def update(self, keys: Buffer, values: Buffer, count: int, flags: int = 0) -> None:
        """Insert or overwrite entries."""

    def delete(self, keys: Buffer, count: int) -> int:
        """Delete entries; how many there were."""

    def clear(self) -> None:
        """Delete all entries; of an array, zero them."""

    def poke(self, offset: int, data: bytes) -> None:
        """Overwrite bytes of a data section, and nothing beside them."""

    def close(self) -> None:
        """Let go of the map; safe to call twice."""


class WireMap:
    """A map read and changed by the agent."""

    def __init__(self, host: AgentHost, row: Mapping[str, Any]) -> None:
        self._host = host
        self.name: str = row["name"]
        self.type: str = row["type"]
        self.info = info_of(row)
        self.internal: bool = row["internal"]
        self.memory_bytes: int = row["memory_bytes"]
        self.handle: str = row["handle"]
        self.pin: str = row["pin"]

    @property
    def wire(self) -> WireMap:
        """Itself."""
        return self

    def read(self, delete: bool = False) -> Snapshot:
        """All entries; with `delete` each is handed out once."""
        return self._host.call("read", {"map": self.handle, "delete": delete}, (), self._snapshot)

    def update(self, keys: Buffer, values: Buffer, count: int, flags: int = 0) -> None:
        """Insert or overwrite entries."""
        request = {"map": self.handle, "count": count, "flags": flags}
        self._host.call("update", request, (keys, values), lambda frame: None)

    def delete(self, keys: Buffer, count: int) -> int:
        """Delete entries; how many there were."""
        request = {"map": self.handle, "count": count}
        return self._host.call("delete", request, (keys,), lambda frame: int(frame.header["deleted"]))

    def clear(self) -> None:
        """Delete all entries; of an array, zero them."""
        self._host.call("clear", {"map": self.handle}, (), lambda frame: None)

    def poke(self, offset: int, data: bytes) -> None:
        """Overwrite bytes of a data section, and nothing beside them."""
        self._host.call("poke", {"map": self.handle, "offset": offset}, (data,), lambda frame: None)

    def contains(self, values: Buffer, count: int) -> bytes:
        """Ask a bloom filter: for each value a byte that is 1 where it may hold it."""
        return self._host.call("contains", {"map": self.handle, "count": count}, (values,), self._bytes(count))

    def lookup(self, name: str) -> bytes | None:
        """Value that hangs on a file, a cgroup or a task; None when there is none."""

        def convert(frame: Frame) -> bytes | None:
            return self._bytes(self.info.value_size)(frame) if frame.header["found"] else None

        return self._host.call("lookup", {"map": self.handle, "name": name}, (), convert)

    def memory(self, offset: int, size_bytes: int) -> bytes:
        """Read a part of an arena."""
        request = {"map": self.handle, "offset": offset, "size": size_bytes}
        return self._host.call("memory", request, (), self._bytes(size_bytes))

    def add_pin(self, path: str) -> str:
        """Pin it; what is to be said of the place."""
        return self._host.call("pin", {"map": self.handle, "path": path}, (), lambda frame: str(frame.header["note"]))

    def remove_pin(self, path: str) -> None:
        """Take the pin away."""
        self._host.call("unpin", {"map": self.handle, "path": path}, (), lambda frame: None)

    def release(self) -> None:
        """Have the agent let go of a map that it opened by id or pin."""
        self._host.call("release", {"map": self.handle}, (), lambda frame: None)

    def close(self) -> None:
        """Nothing to let go of: the agent's session owns the map."""

    @staticmethod
    def _bytes(expected: int) -> Callable[[Frame], bytes]:
        def convert(frame: Frame) -> bytes:
            if len(frame.payload) != expected:
                raise WireError(f"its answer has a payload of {len(frame.payload)} bytes, not {expected}")
            return bytes(frame.payload)

        return convert

    def _snapshot(self, frame: Frame) -> Snapshot:
        header, cpus = frame.header, self._host.info.possible_cpus
        count, split, stride = header["count"], header["key_bytes"], maps.value_stride(self.info, cpus)
        key_size = self.info.key_size
        if header["read"] == "owners" and maps.reads_by_agent(self.type):
            # What owners are named by has a size of its own, not that of the descriptor which is the key.
            key_size = _NAME_BYTES.get(self.type) or split // max(count, 1)
        check_entries(count, split, header["value_bytes"], key_size, stride)
        return Snapshot(
            frame.payload[:split],
            frame.payload[split:],
            header["count"],
            header["read"],
            header["began_ns"],
            header["ended_ns"],
            header["restarts"],
        )


class FdMap:
    """A map read and changed through a descriptor of this process, which it owns; outlives the agent."""

    def __init__(self, described: WireMap, fd: int, possible_cpus: int) -> None:
        self.name = described.name
        self.type = described.type
        self.info = described.info
        self.internal = described.internal
        self.memory_bytes = described.memory_bytes
        self.handle = described.handle
        self.pin = described.pin
        self._wire = described
        self._fd = fd
        self._cpus = possible_cpus
        # Held through a whole read: the number must not be closed, and taken by another file, under it.
        self._lock = threading.Lock()
        self._finalizer = weakref.finalize(self, os.close, fd)

    @property
    def wire(self) -> WireMap:
        """The same map by way of the agent, for what only the agent can do."""
        return self._wire

    def read(self, delete: bool = False) -> Snapshot:
        """All entries; with `delete` each is handed out once."""
        return self._call("read", lambda fd: maps.read(fd, self.info, self._cpus, delete))

    def update(self, keys: Buffer, values: Buffer, count: int, flags: int = 0) -> None:
        """Insert or overwrite entries."""
        self._call("update", lambda fd: maps.update(fd, self.info, self._cpus, keys, values, count, flags))

    def delete(self, keys: Buffer, count: int) -> int:
        """Delete entries; how many there were."""
        return self._call("delete from", lambda fd: maps.delete(fd, self.info, keys, count))

    def clear(self) -> None:
        """Delete all entries; of an array, zero them."""
        self._call("clear", lambda fd: maps.clear(fd, self.info, self._cpus))

    def poke(self, offset: int, data: bytes) -> None:
        """Overwrite bytes of a data section, and nothing beside them."""
        self._call("write into", lambda fd: maps.poke(fd, self.info, offset, data))

    def close(self) -> None:
        """Close the descriptor; safe to call twice."""
        with self._lock:
            self._finalizer()

    def _call(self, verb: str, call: Callable[[int], T]) -> T:
        with self._lock:
            if not self._finalizer.alive:
                raise StoppedError(f"{verb} map {self.name}", "it has been closed")
            try:
                return call(self._fd)
            except OSError as error:
                raise MapError(f"{verb} map {self.name}", error.strerror or str(error), errno=error.errno) from error


def info_of(row: Mapping[str, Any]) -> MapInfo:
    """Sizes and type of a map from its row in a reply."""
    return MapInfo(
        row["type_id"], row["id"], row["key_size"], row["value_size"], row["max_entries"], row["flags"], row["name"]
    )
