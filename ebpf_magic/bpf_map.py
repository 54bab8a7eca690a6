"""A map of a session as pandas data: read, changed, and watched live."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from ebpf_magic import map_programs
from ebpf_magic.arguments import checked
from ebpf_magic.data import histogram as histograms
from ebpf_magic.data import special
from ebpf_magic.errors import StoppedError, UsageError
from ebpf_magic.map_special import SpecialKinds

if TYPE_CHECKING:
    import pandas as pd

    from ebpf_magic.agent.maps import Snapshot
    from ebpf_magic.data.btf import MapSpec
    from ebpf_magic.display import Live
    from ebpf_magic.hosts.base import MapHandle
    from ebpf_magic.session import Session

_ARRAYS = frozenset({"array", "percpu_array"})
# Of kernel objects that belong to a process.
_HOLDERS = frozenset(
    "perf_event_array cgroup_array array_of_maps hash_of_maps sockmap sockhash xskmap reuseport_sockarray "
    "task_storage inode_storage sk_storage cgrp_storage arena ringbuf user_ringbuf".split()
)
# Those whose keys and values are the cell's own.
_ENTRIES = frozenset("hash lru_hash percpu_hash lru_percpu_hash queue stack".split()) | _ARRAYS
_BYTES = [("", "bytes")]  # the columns of what is known by its size
# Each CPU keeps free entries of its own, so an LRU map evicts before it looks full.
_LRU_FULL = 0.8


class Map(SpecialKinds):
    """One map of a session.

    After the session has ended it still answers with its last contents; it can no longer be changed.

    Attributes
    ----------
    name, type : str
        The map's name in the cell and libbpf's word for its type (``hash``, ``percpu_array``, ...).
    """

    def __init__(self, session: Session, handle: MapHandle, spec: MapSpec | None, possible_cpus: int) -> None:
        self.name = handle.name
        self.type = handle.type
        self._session = session
        self._handle = handle
        self._spec = spec
        self._possible_cpus = possible_cpus
        self._final: Snapshot | None = None
        self._cgroups: dict[int, str] = {}

    @property
    def kind(self) -> str:
        """What the map means beyond its type: ``hist``, ``hist_by``, or empty."""
        return self._spec.kind if self._spec else ""

    @property
    def unit(self) -> str:
        """Unit of a histogram's values, such as ``ns``; empty where none was declared."""
        return (self._spec.unit or "") if self._spec else ""

    @property
    def untyped(self) -> list[str]:
        """Which of key and value are bytes because the cell declares their size alone (``__uint(value_size, ...)``)."""
        if self._spec is None or self.type not in _ENTRIES:
            return []
        sides = {} if self.type in _ARRAYS else {"key": self._spec.key}
        sides["value"] = self._spec.value
        return [
            name for name, side in sides.items() if side and [(each.name, each.kind) for each in side.columns] == _BYTES
        ]

    @property
    def max_entries(self) -> int:
        """How many entries the map can hold."""
        return self._handle.info.max_entries

    @property
    def memory_bytes(self) -> int:
        """Kernel memory the map may take, computed before it was loaded."""
        return self._handle.memory_bytes

    def __repr__(self) -> str:
        return f"<Map {self.name}: {self.type}, {self.max_entries} entries, of {self._session.name}>"

    # Reading

    @checked
    def df(self, per_cpu: bool = False) -> pd.DataFrame:
        """Read the map as a DataFrame.

        Parameters
        ----------
        per_cpu : bool
            For a per-CPU map: one row per key and CPU (index level ``cpu``) instead of the sum over the CPUs.

        Returns
        -------
        pandas.DataFrame
            Key fields as index (``key`` for a plain key), value fields as columns (``value`` for a plain value), with
            the types of the C declaration. Fields of nested structs are ``outer.inner``; the members of a union stand
            side by side, ``df.attrs["unions"]`` names them; what has a form, such as an address, is shown in it, and
            ``df.attrs["shown"]`` names that. Kinds that hold no plain keys and values:
            :func:`ebpf_magic.data.special.special_frame`; of a queue or stack only the head can be seen, the rest comes
            out by :meth:`drain`. A histogram map gives its occupied buckets: index ``low_<unit>``, columns
            ``high_<unit>`` and ``count``. ``df.attrs`` says how it was read: ``read`` ("batch" or "element"),
            ``began_ns``, ``ended_ns`` (CLOCK_MONOTONIC), ``restarts``.

        Raises
        ------
        MapError
            The kernel refused the reading.
        UnsupportedError
            Maps of this kind cannot be read so; it says why, and what to do instead (:attr:`unreadable`).

        Notes
        -----
        Not a snapshot of one instant: entries are read bucket by bucket while the kernel goes on writing. A key is
        never doubled, and one that is present throughout is always there.
        """
        return self._frame(self._read(), per_cpu)

    def drain(self) -> pd.DataFrame:
        """Read the map and delete what was read, in one: each entry is handed out once.

        Returns
        -------
        pandas.DataFrame
            As :meth:`df`.

        Raises
        ------
        UsageError
            For an array, whose entries cannot be deleted.
        UnsupportedError
            Maps of this kind cannot be read so.
        """
        self._require_changeable("drain")
        self._require_readable("drain")
        self._require_deletable("drain")
        return self._frame(self._handle.read(delete=True), per_cpu=False)

    def histogram(self) -> histograms.Histogram:
        """Read all values of a histogram map as one histogram, summed over keys and CPUs.

        Returns
        -------
        ebpf_magic.data.histogram.Histogram

        Raises
        ------
        UsageError
            When the map was not declared with HIST or HIST_BY.
        """
        return self._histogram(self._read())

    @checked
    def percentiles(self, percentiles: Iterable[float] = (50, 90, 99)) -> pd.DataFrame:
        """Percentiles of a histogram map, each with its error bound.

        Parameters
        ----------
        percentiles : iterable of float
            Each from 0 to 100.

        Returns
        -------
        pandas.DataFrame
            Index ``percentile`` (for HIST_BY: the key fields, then ``percentile``); columns ``value_<unit>`` and
            ``error_<unit>``: the true percentile (inverted CDF) lies within value ± error.

        Raises
        ------
        UsageError
            When the map was not declared with HIST or HIST_BY.
        """
        wanted = list(percentiles)
        snapshot = self._read()
        if self.kind == "hist_by":
            spec = self._typed()
            assert spec is not None
            return histograms.percentiles_by(spec, snapshot.keys, snapshot.values, snapshot.count, wanted)
        return self._histogram(snapshot).percentiles(wanted)

    # Changing

    @checked
    def update(self, frame: pd.DataFrame | Mapping[int, str]) -> None:
        """Write a frame's rows into the map: the inverse of :meth:`df`.

        Parameters
        ----------
        frame : pandas.DataFrame or mapping
            Index and columns as :meth:`df` gives them. For a prog_array, which tail calls go through: index -> name
            of a program of this session, ``{0: "parse"}``. In a devmap or cpumap a column ``program`` names the
            program that is to see what goes there, "" where there is none.

        Raises
        ------
        UsageError
            A column is missing or a value does not fit its type; nothing was written.
        MapError
            The kernel refused an entry, for instance because the map is full.
        """
        self._require_changeable("update")
        self._require_plain("update")
        if self.type == "prog_array" or isinstance(frame, Mapping):
            self._fill(frame)
            return
        names: list[str] = []
        if map_programs.holds(self._handle):
            frame, names = map_programs.split(frame, f"update map {self.name}")
        keys, values, count = special.special_encode(
            self._typed(), self.type, self._handle.info.key_size, frame, self._possible_cpus
        )
        if any(names):
            self._session.agent_host.redirect(self._handle.handle, keys, values, names)
        elif count:
            self._handle.update(keys, values, count)

    @checked
    def delete(self, keys: Any) -> int:
        """Delete entries by key; keys that are not there are passed over.

        Parameters
        ----------
        keys : iterable or one key
            Keys as the index of :meth:`df` holds them: a number or text, a tuple for a struct, or an Index of them.

        Returns
        -------
        int
            How many entries were deleted.
        """
        self._require_changeable("delete")
        self._require_deletable("delete")
        if self.type in special.KEYLESS:
            instead = "Nothing can be taken out of it." if self.type == "bloom_filter" else "drain() takes all out."
            raise UsageError(f"delete map {self.name}", f"the entries of a {self.type} have no keys", instead)
        packed, count = special.special_keys(self._typed(), self.type, self._handle.info.key_size, keys)
        return self._handle.delete(packed, count) if count else 0

    def clear(self) -> None:
        """Delete every entry; an array's values become zero."""
        self._require_changeable("clear")
        self._require_readable("clear")
        self._handle.clear()

    # Watching

    @checked
    def live(self, interval_s: float = 1.0, top: int = 20, by: str | None = None, *, name: str | None = None) -> Live:
        """Show the map so that it keeps moving while other cells run.

        Parameters
        ----------
        interval_s : float
            Seconds between two readings; stretched when a reading is slow, so that it never takes more than a tenth
            of the time.
        top : int
            How many rows a table shows.
        by : str, optional
            Column that orders the table; the first numeric one when not given.
        name : str, optional
            What stands above it; the map's name when not given.

        Returns
        -------
        Live
            A table, or for a histogram map a histogram with its percentiles. Text in a plain IPython.
        """
        from ebpf_magic.display import Live, histogram_view, table_view

        if not interval_s > 0:
            raise UsageError(f"live view of map {self.name}", f"interval_s must be above 0, not {interval_s!r}")
        if self.kind:
            view, sample = histogram_view(self, name or self.name)
        else:
            view, sample = table_view(self, name or self.name, top=top, by=by)
        return Live(self._session, view, sample, interval_s)

    # Inside

    @property
    def ended(self) -> bool:
        """Whether the contents are final."""
        return self._final is not None

    @property
    def missed(self) -> dict[str, int]:
        """What the short macros could not count: ``full`` (refused by a full map), ``unseen`` (no START seen)."""
        return self._session.missed_of(self.name)

    def may_have_evicted(self, entries: int) -> bool:
        """Whether an LRU map holds so much that it may have dropped entries; the kernel does not count them."""
        return self.type.startswith("lru") and entries >= _LRU_FULL * self.max_entries

    def notes(self, entries: int) -> list[str]:
        """Say what this map could not hold or see."""
        missed = self.missed
        words = []
        if self.type in ("queue", "stack"):
            words.append("only its head can be seen; drain() takes everything out")
        if missed["full"]:
            words.append(f"{missed['full']:,} updates refused: the map is full ({self.max_entries:,} entries)")
        if missed["unseen"]:
            words.append(f"{missed['unseen']:,} ends without a START")
        if self.may_have_evicted(entries):
            words.append("an LRU map this full may have evicted entries")
        return words

    def sample(self) -> Snapshot:
        """Raw bytes of the map now, or as they were when the session ended."""
        return self._read()

    def keep_final(self) -> None:
        """Read the contents a last time, so that they outlive the kernel's map; then let the map go."""
        try:
            if self._final is None and not self.unreadable:
                self._final = self._handle.read()
                self._typed()
        finally:
            self._handle.close()

    @property
    def handle(self) -> MapHandle:
        """The host's handle."""
        return self._handle

    @property
    def spec(self) -> MapSpec | None:
        """Declaration of the map as BTF tells it."""
        return self._spec

    def _typed(self) -> MapSpec | None:
        """Give the declaration, with the paths that its cgroup ids have now, or had at the end."""
        if self._spec is None or not self._spec.has_cgroups:
            return self._spec
        with self._session.lock:
            if self._session.state == "running" and self._session.agent_host.alive:
                self._cgroups = self._session.agent_host.cgroups()
            return self._spec.with_cgroups(self._cgroups)

    def _read(self) -> Snapshot:
        self._require_readable("read")
        with self._session.lock:
            if self._final is not None:
                return self._final
            if self._session.state == "running":
                return self._handle.read()
        raise StoppedError(
            f"read map {self.name} of {self._session.name}", "the session ended before its contents could be read"
        )

    def _frame(self, snapshot: Snapshot, per_cpu: bool) -> pd.DataFrame:
        if self.kind == "hist" and per_cpu:
            frame = histograms.percpu_frame(snapshot.values, self._possible_cpus, self.unit)
        elif self.kind and not per_cpu:
            frame = self._histogram_frame(snapshot)
        else:
            frame = special.special_frame(
                self._typed(), self.type, snapshot.keys, snapshot.values, snapshot.count, self._possible_cpus, per_cpu
            )
        if map_programs.holds(self._handle):
            frame = map_programs.named(frame, self._session.program_rows)
        frame.attrs.update(
            read=snapshot.read, began_ns=snapshot.began_ns, ended_ns=snapshot.ended_ns, restarts=snapshot.restarts
        )
        return frame

    def _histogram_frame(self, snapshot: Snapshot) -> pd.DataFrame:
        if self.kind == "hist_by":
            spec = self._typed()
            assert spec is not None
            return histograms.histogram_frame(spec, snapshot.keys, snapshot.values, snapshot.count)
        return self._histogram(snapshot).frame()

    def _histogram(self, snapshot: Snapshot) -> histograms.Histogram:
        if self._spec is None or not self.kind:
            raise UsageError(
                f"percentiles of map {self.name}",
                f"it is a {self.type}, not a histogram",
                "Declare it with HIST or HIST_BY.",
            )
        if self.kind == "hist_by":
            return histograms.from_rows(self._spec, snapshot.keys, snapshot.values, snapshot.count)
        return histograms.from_percpu(snapshot.values, self._possible_cpus, self.unit)

    def _fill(self, programs: object) -> None:
        """Put programs into a program array; done by the agent, which never hands out a program's descriptor."""
        if self.type != "prog_array":
            raise UsageError(f"update map {self.name}", f"a {self.type} is written from a DataFrame", "See df().")
        if not isinstance(programs, Mapping) or not all(isinstance(name, str) for name in programs.values()):
            raise UsageError(
                f"update map {self.name}",
                "a prog_array is filled by names of programs",
                'Such as update({0: "parse"}).',
            )
        self._session.agent_host.fill(self._handle.handle, programs)

    def _require_running(self, verb: str) -> None:
        if self._session.state != "running":
            raise StoppedError(f"{verb} map {self.name} of {self._session.name}", "the session has ended")

    def _require_changeable(self, verb: str) -> None:
        self._require_running(verb)
        self._require_writable(verb)

    def _require_writable(self, verb: str) -> None:
        """Raise where the map may not be changed; a session's may."""

    def _require_deletable(self, verb: str) -> None:
        if self.type in _ARRAYS:
            raise UsageError(
                f"{verb} map {self.name}", f"the entries of a {self.type} cannot be deleted", "clear() sets them to 0."
            )

    def _require_plain(self, verb: str) -> None:
        if self.type in _HOLDERS:
            raise UsageError(
                f"{verb} map {self.name}", f"what a {self.type} holds goes in by a descriptor, not by a number"
            )
        if self.kind:
            raise UsageError(
                f"{verb} map {self.name}", "a histogram's buckets are not written from here", "See clear()."
            )
