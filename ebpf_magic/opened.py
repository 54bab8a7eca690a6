"""Maps that some other program owns: opened by id or pin, read only unless asked otherwise."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, cast

from ebpf_magic.arguments import checked
from ebpf_magic.bpf_map import Map
from ebpf_magic.data.btf import Btf, BtfError
from ebpf_magic.data.layout import Layout, bytes_layout
from ebpf_magic.data.spec import MapSpec
from ebpf_magic.errors import StoppedError, UsageError
from ebpf_magic.hosts import registry

if TYPE_CHECKING:
    from ebpf_magic.agent.maps import Snapshot
    from ebpf_magic.hosts.base import AgentHost, Opened
    from ebpf_magic.session import Session


@checked
def map(id: int | None = None, *, pin: str | None = None, on: str = "auto", writable: bool = False) -> OpenedMap:
    """Open a map that some other program owns, such as a Cilium agent's.

    Parameters
    ----------
    id : int, optional
        The kernel's id of the map: ``%ebpf ls --all`` lists them.
    pin : str, optional
        Or where it is pinned: ``/sys/fs/bpf/counts``.
    on : str
        The host it is on.
    writable : bool
        Allow update, delete, clear and drain. If not, the kernel itself refuses to change it through this handle.

    Returns
    -------
    OpenedMap
        With the API of a session's `Map`. Key and value are typed by the BTF that its owner loaded, else bytes.

    Raises
    ------
    MapError
        There is no such map (`.near` names those with near ids or pins).
    NotPermittedError
        By id it takes CAP_SYS_ADMIN, by pin the right to read the pin.

    Notes
    -----
    As long as it is open the map stays, also when its owner lets go of it: what it held last can still be read.

    Requires
    --------
    Linux 5.8.
    """
    if (id is None) == (pin is None):
        raise UsageError("open a map", "name it by its id or by its pin", 'em.map(id=42), em.map(pin="/sys/fs/bpf/x")')
    if id is not None and not 0 < id < 1 << 32:
        raise UsageError(f"open map {id!r}", "a map's id is a number above 0", "`%ebpf ls --all` lists all maps.")
    return of_host(registry.get(on), id, pin or "", writable)


def of_host(
    host: AgentHost, map_id: int | None, pin: str, writable: bool = False, spec: MapSpec | None = None
) -> OpenedMap:
    """Open a map by id or pin on a host; `spec` declares it where the caller knows better than the kernel."""
    found = host.open_map(map_id, pin, writable)
    return OpenedMap(host, found, spec or _spec(found), writable)


class OpenedMap(Map):
    """A map of some other program; `close` lets go of it, and `with` works."""

    def __init__(self, host: AgentHost, found: Opened, spec: MapSpec, writable: bool) -> None:
        self.writable = writable
        self.btf_problem = found.btf_problem
        self._owner = _Owner(host, found)
        super().__init__(cast("Session", self._owner), found.handle, spec, host.info.possible_cpus)

    def close(self) -> None:
        """Let go of the map; safe to call twice. Live views of it keep what they last saw."""
        if self._owner.end() and self._owner.agent_host.alive:
            self._handle.wire.release()
        self._handle.close()

    def __enter__(self) -> OpenedMap:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        state = "" if self._owner.state == "running" else ", closed"
        return f"<OpenedMap {self.name}: {self.type}, id {self.info['id']}, on {self._owner.host}{state}>"

    def _ipython_display_(self) -> None:
        self.live()._ipython_display_()

    def _read(self) -> Snapshot:
        self._require_readable("read")
        self._require_running("read")
        return self._handle.read()

    def _require_running(self, verb: str) -> None:
        if self._owner.state != "running":
            raise StoppedError(f"{verb} map {self.name}", "it has been closed")

    @property
    def _may_change(self) -> bool:
        return self.writable

    def _require_writable(self, verb: str) -> None:
        if not self.writable:
            raise UsageError(
                f"{verb} map {self.name}",
                "it belongs to another program and was opened for reading alone",
                "If it is meant to be changed: em.map(..., writable=True).",
            )


class _Owner:
    """What a `Map` asks of its session, for a map that has none here."""

    def __init__(self, host: AgentHost, found: Opened) -> None:
        self.name = f"{host.name}, map {found.handle.info.id}"
        self.host = host.name
        self.agent_host = host
        self.lock = threading.RLock()
        self.state = "running"
        self.warnings: list[str] = []
        self.program_rows: list[dict[str, Any]] = []
        self._on_end: list[Callable[[], None]] = []

    def missed_of(self, name: str) -> dict[str, int]:
        """Nothing is known of what its programs could not count."""
        return {"full": 0, "unseen": 0}

    def on_end(self, call: Callable[[], None]) -> None:
        """Call when the map is closed, at once if it has been."""
        with self.lock:
            if self.state == "running":
                self._on_end.append(call)
                return
        call()

    def end(self) -> bool:
        """Close, once; whether it was open."""
        calls: list[Callable[[], None]] = []
        with self.lock:
            was, self.state = self.state, "stopped"
            calls, self._on_end = self._on_end, calls
        for call in calls:
            call()
        return was == "running"


def _spec(found: Opened) -> MapSpec:
    """Declare a map as its owner's BTF in the kernel has it; by size alone where there is none."""
    info = found.handle.info
    key = bytes_layout(info.key_size) if info.key_size else None
    value = bytes_layout(info.value_size) if info.value_size else None
    if found.btf:
        try:
            btf = Btf(found.btf)
            key = _typed(btf, found.key_type, info.key_size) or key
            value = _typed(btf, found.value_type, info.value_size) or value
        except BtfError as error:
            found.btf_problem = str(error)
    return MapSpec(found.handle.name, key=key, value=value, type_id=info.type, max_entries=info.max_entries)


def _typed(btf: Btf, type_id: int, size: int) -> Layout | None:
    layout = btf.layout(type_id) if type_id else None
    return layout if layout and layout.dtype.itemsize == size else None
