"""Sessions: a cell's programs while they run, and what they leave behind when they stop."""

from __future__ import annotations

import threading
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar, overload

from ebpf_magic import build
from ebpf_magic.accounts import Accounts, missed_counters
from ebpf_magic.arguments import checked
from ebpf_magic.bpf_map import Map
from ebpf_magic.data.btf import Btf
from ebpf_magic.errors import (
    EbpfMagicError,
    HostError,
    NoSuchNameError,
    StoppedError,
    UsageError,
)
from ebpf_magic.iterator import Iterator
from ebpf_magic.variables import Variables

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import pandas as pd

    from ebpf_magic.hosts.base import AgentHost, Loaded


class RunResult(NamedTuple):
    """What ``BPF_PROG_RUN`` gave: the program's return value, nanoseconds a run, and what it left in ctx and data."""

    retval: int
    duration_ns: int
    ctx: bytes
    data: bytes


@dataclass(frozen=True)
class Stage:
    """One step of bringing a cell into the kernel: its name, how long it took, and what came of it."""

    name: str
    took_ns: int
    detail: str


M = TypeVar("M")


class Maps(Mapping[str, M]):
    """A session's maps (or iterators) by name; an unknown name is answered with the near ones."""

    def __init__(self, session_name: str, maps: dict[str, M], noun: str = "map") -> None:
        self._session_name = session_name
        self._maps = maps
        self._noun = noun

    @checked
    def __getitem__(self, name: str) -> M:
        try:
            return self._maps[name]
        except KeyError:
            raise NoSuchNameError(
                f"{self._noun} {name!r} of {self._session_name}",
                f"no such {self._noun}",
                f"Its {self._noun}s: {', '.join(self._maps) or 'none'}.",
                near=get_close_matches(str(name), self._maps),
            ) from None

    def __contains__(self, name: object) -> bool:
        return name in self._maps

    def __iter__(self) -> typing.Iterator[str]:
        return iter(self._maps)

    def __len__(self) -> int:
        return len(self._maps)

    def __repr__(self) -> str:
        return f"<{self._noun.capitalize()}s of {self._session_name}: {', '.join(self._maps) or 'none'}>"


class Session(Accounts):
    """A cell's programs in the kernel; made by :func:`~ebpf_magic.run`, not directly.

    Attributes
    ----------
    name : str
        The name given to the cell.
    host : str
        Where the programs run: ``local``, ``sudo``.
    engine : str
        What compiled and loaded them: ``libbpf``.
    maps : Mapping of str to Map
        The maps of the cell.
    iter : Mapping of str to Iterator
        The iterators of the cell.
    stages : list of Stage
        Compiled, loaded, attached: the time each took and what came of it.
    """

    engine = "libbpf"

    def __init__(
        self,
        name: str,
        host: AgentHost,
        token: str,
        built: build.Built,
        loaded: Loaded,
        links: list[dict[str, Any]],
        attached_ns: int,
    ) -> None:
        self.name = name
        self.host = host.name
        self.token = token
        self.lock = threading.RLock()
        self.stages: list[Stage] = []
        self.message = ""
        self.warnings: list[str] = [*([built.warnings] if built.warnings else []), *loaded.notes]
        self.swap_ns: tuple[int, int] | None = None
        self.gap_ns: int | None = None  # for how long neither was attached, this nor the one it replaced
        self.agent_host = host
        self._built = built
        self._programs = loaded.programs
        self._links = links
        self._state = "running"
        self._ending = False
        self._stats: dict[str, Any] = {}
        self._log: list[dict[str, Any]] = []
        self._log_dropped = 0
        self._attached_ns = attached_ns
        self._since_ns = host.stats(token)["time_ns"] if attached_ns else 0
        self._on_end: list[Callable[[], None]] = []
        specs = built.btf.map_specs()
        cpus = host.info.possible_cpus
        self._all_maps = {
            handle.name: Map(self, handle, specs.get(handle.name), cpus) for handle in loaded.maps.values()
        }
        self.maps = Maps(name, {key: value for key, value in self._all_maps.items() if not value.handle.internal})
        self.iter = Maps(name, _iterators(self, built.btf, loaded.programs), "iterator")
        self._missed = missed_counters(built.btf)
        self._counters = b""  # the data section with them, as last read

    # What it is

    @property
    def state(self) -> str:
        """``running``, ``stopped``, or ``failed`` (its agent is gone)."""
        return self._state

    @property
    def members(self) -> tuple[Session, ...]:
        """Itself: a cell that runs on one host; see `Group`."""
        return (self,)

    @property
    def programs(self) -> pd.DataFrame:
        """The programs, one row each.

        Returns
        -------
        pandas.DataFrame
            Index ``name``; columns ``section``, ``target``, ``insns``, ``verified_insns``, ``xlated_bytes``,
            ``jited_bytes``.
        """
        import pandas as pd

        targets = {link["program"]: target_text(link) for link in self._links}
        rows = [{**program, "target": targets.get(program["name"], "")} for program in self._programs]
        columns = ["name", "section", "target", "insns", "verified_insns", "xlated_bytes", "jited_bytes"]
        return pd.DataFrame(rows, columns=columns).set_index("name")

    @cached_property
    def vars(self) -> Variables:
        """The cell's global variables by name: ``s.vars["limit"]`` reads, ``s.vars["limit"] = 10`` writes."""
        return Variables(self, self._built.btf, self._all_maps)

    def __repr__(self) -> str:
        what = ", ".join(f"{program['name']} ({program['section']})" for program in self._programs)
        return f"<Session {self.name}: {self.state} on {self.host}; {what or 'no programs'}>"

    def _ipython_display_(self) -> None:
        from ebpf_magic.display import show_card

        show_card(self)

    def __enter__(self) -> Session:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    # What it does

    @overload
    def run(self, program: str, ctx: bytes | None = None, data: bytes | None = None, repeat: int = 1) -> RunResult: ...

    @overload
    def run(
        self, program: str, ctx: None = None, *, data: pd.DataFrame | Sequence[bytes], repeat: int = 1
    ) -> pd.DataFrame: ...

    @checked
    def run(
        self,
        program: str,
        ctx: bytes | None = None,
        data: bytes | pd.DataFrame | Sequence[bytes] | None = None,
        repeat: int = 1,
    ) -> RunResult | pd.DataFrame:
        """Run a program with ``BPF_PROG_RUN``, without waiting for its hook: once, or over many packets.

        Parameters
        ----------
        program : str
            Name of the program (its C function).
        ctx : bytes, optional
            Context handed to it, where its kind takes one.
        data : bytes, pandas.DataFrame or sequence of bytes, optional
            One packet; or many, of a frame those in its column ``data``, such as :func:`~ebpf_magic.read_pcap` gives.
        repeat : int
            How many times each; ``syscall`` programs run once.

        Returns
        -------
        RunResult or pandas.DataFrame
            Of many packets a frame: the one given (its index and all columns), and beside it ``verdict`` (a
            categorical: ``XDP_PASS``, ``TC_ACT_SHOT``; a number where the kernel has no name for it), ``out`` (bytes:
            the packet as the program left it) and ``duration_ns`` (of one run, by the kernel's own clock).

        Raises
        ------
        NoSuchNameError
            No such program.
        UsageError
            A frame without a column ``data``, packets that are not bytes, or a `repeat` that is none.
        UnsupportedError
            This kind of program cannot be run so.
        KernelError
            The kernel refused a packet; the text says which.

        Notes
        -----
        Thousands of packets are one round trip; nothing of them is sent anywhere.
        """
        from ebpf_magic import packet_runs

        known = {row["name"]: row["kind"] for row in self._programs}
        if program not in known:
            raise NoSuchNameError(
                f"program {program!r} of {self.name}",
                "no such program",
                f"Its programs: {', '.join(known) or 'none'}.",
                near=get_close_matches(program, known),
            )
        if self.state != "running":
            raise StoppedError(f"run program {program} of {self.name}", "the session has ended")
        if not 0 <= repeat < 1 << 31:
            raise UsageError(f"run program {program} of {self.name}", f"repeat={repeat!r} is no number of times")
        if data is None or isinstance(data, bytes):
            raw = self.agent_host.run_program(self.token, program, ctx or b"", data or b"", repeat)
            return RunResult(raw["retval"], raw["duration_ns"], raw["ctx_out"], raw["data_out"])
        if ctx is not None:
            raise UsageError(f"run program {program} of {self.name}", "packets and a ctx do not go together")
        return packet_runs.run(self.agent_host, self.token, program, known[program], data, repeat)

    def stop(self) -> None:
        """Take everything out of the kernel. The maps' last contents, the statistics and the log stay readable."""
        self._end("stopped", "")

    @checked
    def on_end(self, call: Callable[[], None]) -> None:
        """Call when the session ends, at once if it has."""
        with self.lock:
            if self._state == "running":
                self._on_end.append(call)
                return
        call()

    # Inside

    def watch(self, status: Mapping[str, Any]) -> None:
        """Follow the agent's word on this session: what the guard stopped, stops here too."""
        self.warnings += [words for words in status.get("warnings", ()) if words not in self.warnings]
        if status.get("state") == "detached" and self._state == "running":
            state = "failed" if status.get("reason") == "error" else "stopped"
            self._end(state, str(status.get("message", "")))

    def fail(self, why: str) -> None:
        """End because the agent is gone; with map descriptors at hand the last contents are kept all the same."""
        self._end("failed", why)

    @property
    def links(self) -> list[dict[str, Any]]:
        """The links: program, target, kind."""
        return self._links

    @property
    def program_rows(self) -> list[dict[str, Any]]:
        """The programs as the agent described them."""
        return self._programs

    @property
    def attached_ns(self) -> int:
        """Time at which everything was attached, on this process's CLOCK_MONOTONIC."""
        return self._attached_ns

    @property
    def since_ns(self) -> int:
        """The same on the clock of the host's kernel, which is that of its counters."""
        return self._since_ns

    def _end(self, state: str, message: str) -> None:
        calls: list[Callable[[], None]] = []
        try:
            with self.lock:
                if self._ending or self._state != "running":
                    return
                self._ending = True
                self.message = message
                try:
                    self._detach_and_keep()
                except HostError as error:
                    state, self.message = "failed", self.message or error.brief
                finally:
                    self._state = state
                    calls, self._on_end = self._on_end, []
        finally:
            for call in calls:
                call()

    def _detach_and_keep(self) -> None:
        """Programs out first, then the last reading of everything they wrote, then the maps."""
        try:
            if self.agent_host.alive:
                self.agent_host.detach(self.token)
                self._stats = self.agent_host.stats(self.token)
                self._fetch_log()
        finally:
            unread: dict[str, str] = {}
            try:
                for item in self._all_maps.values():
                    try:
                        item.keep_final()
                    except EbpfMagicError as error:
                        unread[item.name] = error.brief
                if unread:
                    why = next(iter(unread.values()))
                    self.warnings.append(f"the last contents of {', '.join(unread)} could not be read: {why}")
            finally:  # also after an interrupt: nobody can stop it a second time
                for item in self._all_maps.values():
                    item.handle.close()
                if self.agent_host.alive:
                    self.agent_host.close_session(self.token)


def read_types(built: build.Built) -> None:
    """Read what a session needs of its cell's types: they are kept, so that it can be done while the kernel loads."""
    built.btf.map_specs()
    missed_counters(built.btf)


def target_text(link: Mapping[str, Any]) -> str:
    """Where a program is attached, and what the target does not say: ``vfs_* (83 functions)``."""
    return f"{link['target']} ({link['detail']})" if link["detail"] else str(link["target"])


def _iterators(session: Session, btf: Btf, programs: list[dict[str, Any]]) -> dict[str, Iterator]:
    sections = {program["name"]: program["section"] for program in programs if program["kind"] == "iter"}
    if not sections:
        return {}
    from ebpf_magic.data.rows import row_types

    types = row_types(btf, list(sections))
    return {
        name: Iterator(session, name, section.partition("/")[2], types.get(name)) for name, section in sections.items()
    }
