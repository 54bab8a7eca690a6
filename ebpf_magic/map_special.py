"""What some map kinds can do beside being read as a table: be asked, looked up, pinned, or hold other maps."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ebpf_magic.agent import maps as raw_maps
from ebpf_magic.arguments import checked
from ebpf_magic.data import special
from ebpf_magic.errors import NoSuchNameError, UnsupportedError, UsageError

if TYPE_CHECKING:
    import pandas as pd

    from ebpf_magic.data.btf import MapSpec
    from ebpf_magic.hosts.base import MapHandle
    from ebpf_magic.opened import OpenedMap
    from ebpf_magic.session import Session

PIN_FOLDER = "/sys/fs/bpf"
_MAPS_OF_MAPS = ("array_of_maps", "hash_of_maps")
_LOOKED_UP = {"inode_storage": "the path of a file", "cgrp_storage": "a cgroup's path", "task_storage": "a process id"}


class SpecialKinds:
    """The part of a `Map` that only some kinds answer; the others say which do."""

    name: str
    type: str
    _handle: MapHandle
    _spec: MapSpec | None
    _session: Session

    @property
    def unreadable(self) -> str:
        """Why :meth:`Map.df` cannot read the map, and what to do instead; empty where it can."""
        found = raw_maps.unreadable(self._handle.info)
        return " ".join(found[:1]) if found else ""

    @property
    def info(self) -> dict[str, Any]:
        """What the kernel says of the map: id, type, sizes in bytes, flags; and where it is pinned, if it is known."""
        found = self._handle.info
        return {
            "id": found.id,
            "name": self.name,
            "type": self.type,
            "key_size": found.key_size,
            "value_size": found.value_size,
            "max_entries": found.max_entries,
            "flags": found.flags,
            "memory_bytes": self._handle.memory_bytes,
            "pin": self._handle.pin,
        }

    @property
    def pin_path(self) -> str:
        """Where the map is pinned, and so outlives its session; empty when nowhere."""
        return self._handle.pin

    @checked
    def pin(self, path: str | None = None) -> str:
        """Pin the map in a bpffs, where it outlives its session and other programs find it.

        Parameters
        ----------
        path : str, optional
            ``/sys/fs/bpf/`` and the map's name when not given.

        Returns
        -------
        str
            The path.

        Raises
        ------
        MapError
            Something is pinned there already, or there is no bpffs.
        """
        self._require_running("pin")
        path = path or f"{PIN_FOLDER}/{self.name}"
        note = self._handle.wire.add_pin(path)
        self._handle.pin = path
        if note:
            self._session.warnings.append(f"{self.name}: {note}")
        return path

    def unpin(self) -> None:
        """Take the map's pin away; the map itself stays as long as somebody holds it.

        Also of a map of some other program's that was opened for reading: a pin is a name beside the map, and to take
        it away is what this asks for.

        Raises
        ------
        UsageError
            It is not pinned.
        MapError
            Another map is pinned there by now, or none.
        """
        self._require_running("unpin")
        if not self._handle.pin:
            raise UsageError(f"unpin map {self.name}", "it is not pinned, as far as is known here")
        self._handle.wire.remove_pin(self._handle.pin)
        self._handle.pin = ""

    @checked
    def contains(self, values: Iterable[Any] | pd.DataFrame) -> pd.Series[bool]:
        """Ask a bloom filter which of some values it may hold.

        Parameters
        ----------
        values : iterable or DataFrame
            Values as the map's declaration has them; a DataFrame of the fields for a struct.

        Returns
        -------
        pandas.Series of bool
            False: never put in. True: put in, or (seldom) taken for one that was. Its index are the values.
        """
        import numpy as np
        import pandas as pd

        if self.type != "bloom_filter":
            raise self._not_this_kind("ask", ("bloom_filter",), ".df() lists what is in it.")
        self._require_running("ask")
        frame = values if isinstance(values, pd.DataFrame) else pd.DataFrame({"value": list(values)})
        _, packed, count = special.special_encode(self._spec, self.type, 0, frame, 1)
        found = self._handle.wire.contains(packed, count) if count else b""
        index = frame.index if isinstance(values, pd.DataFrame) else pd.Index(frame["value"])
        return pd.Series(np.frombuffer(found, bool), index=index, name="contains")

    @checked
    def lookup(self, owner: str | int) -> pd.Series[Any] | None:
        """Look up the value that hangs on one file, cgroup or process.

        Parameters
        ----------
        owner : str or int
            inode_storage: the path of a file, on the session's host. cgrp_storage: a cgroup's path, absolute or below
            the cgroup file system. task_storage: a process id.

        Returns
        -------
        pandas.Series or None
            The value's fields; None when nothing hangs there.
        """
        if self.type not in _LOOKED_UP:
            raise self._not_this_kind("look up in", tuple(_LOOKED_UP), ".df() lists what is in it.")
        self._require_running("look up in")
        value = self._handle.wire.lookup(str(owner))
        if value is None:
            return None
        plain = replace(self._spec, key=None) if self._spec else None
        return special.special_frame(plain, "hash", bytes(4), value, 1, 1).iloc[0].rename(owner)

    @checked
    def read(self, offset: int = 0, size_bytes: int = 4096) -> bytes:
        """Read a part of an arena.

        Parameters
        ----------
        offset, size_bytes : int
            Counted from the arena's beginning. A page that no program has allocated reads as zeros, and is allocated
            by reading it.
        """
        if self.type != "arena":
            raise self._not_this_kind("read bytes of", ("arena",), ".df() reads its entries.")
        self._require_running("read")
        length = self._handle.info.max_entries * 4096
        if offset < 0 or size_bytes < 0 or offset + size_bytes > length:
            raise UsageError(f"read map {self.name}", f"the arena has {length:,} bytes")
        return self._handle.wire.memory(offset, size_bytes)

    @checked
    def inner(self, key: Any) -> OpenedMap:
        """Open the map that a map of maps holds at a key; close it when done with it.

        Parameters
        ----------
        key : int or object
            As the index of :meth:`Map.df` has it.

        Returns
        -------
        OpenedMap
            Typed as the outer map's declaration says of its inner ones. It can be changed where this one can.
        """
        from ebpf_magic import opened

        if self.type not in _MAPS_OF_MAPS:
            raise self._not_this_kind("open an inner map of", _MAPS_OF_MAPS, "It holds plain values: .df().")
        self._require_running("open an inner map of")
        held = self.df()["map_id"]  # type: ignore[attr-defined]
        if key not in held.index:
            shown = ", ".join(map(repr, held.index.tolist()[:10])) or "none"
            raise NoSuchNameError(f"inner map {key!r} of {self.name}", "nothing is there", f"Its keys: {shown}.")
        spec = self._spec.inner if self._spec else None
        return opened.of_host(self._session.agent_host, int(held[key]), "", self._may_change, spec)

    @property
    def _may_change(self) -> bool:
        """Whether the map, and what it holds, may be changed; a session's may."""
        return True

    def _not_this_kind(self, verb: str, kinds: tuple[str, ...], instead: str) -> UsageError:
        return UsageError(f"{verb} map {self.name}", f"it is a {self.type}, not a {' or '.join(kinds)}", instead)

    def _require_readable(self, verb: str) -> None:
        found = raw_maps.unreadable(self._handle.info)
        if found:
            raise UnsupportedError(f"{verb} map {self.name} ({self.type})", *found)

    def _require_running(self, verb: str) -> None:
        raise NotImplementedError
