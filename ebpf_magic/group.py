"""One cell on several hosts: the sessions as one, whose frames have an index level ``host``."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from ebpf_magic.arguments import checked
from ebpf_magic.errors import NoSuchNameError
from ebpf_magic.session import Maps, RunResult, Session
from ebpf_magic.variables import GroupVariables

if TYPE_CHECKING:
    import pandas as pd

    from ebpf_magic.bpf_map import Map
    from ebpf_magic.display import Live
    from ebpf_magic.iterator import Iterator

T = TypeVar("T")
_STATES = ("failed", "running", "stopped")


class GroupMap:
    """One map of a cell on all its hosts.

    Attributes
    ----------
    name : str
        The map's name in the cell.
    by_host : dict
        The `Map` on each host.
    """

    def __init__(self, name: str, by_host: Mapping[str, Map]) -> None:
        self.name = name
        self.by_host = dict(by_host)

    @property
    def kind(self) -> str:
        """What the map means beyond its type: ``hist``, ``hist_by``, or empty."""
        return next(iter(self.by_host.values())).kind

    @property
    def ended(self) -> bool:
        """Whether the contents are final."""
        return all(item.ended for item in self.by_host.values())

    @checked
    def df(self, per_cpu: bool = False) -> pd.DataFrame:
        """Read the map on all hosts at the same time; `Map.df` with an index level ``host`` in front.

        ``attrs["by_host"]`` says for each host how it was read; ``attrs["ended_ns"]`` is this process's clock.
        """
        return _joined(in_parallel({host: partial(item.df, per_cpu) for host, item in self.by_host.items()}))

    @checked
    def percentiles(self, percentiles: Iterable[float] = (50, 90, 99)) -> pd.DataFrame:
        """Percentiles on each host; `Map.percentiles` with an index level ``host`` in front."""
        wanted = list(percentiles)
        return _joined({host: item.percentiles(wanted) for host, item in self.by_host.items()})

    def clear(self) -> None:
        """Delete every entry on every host; an array's values become zero."""
        for item in self.by_host.values():
            item.clear()

    @checked
    def live(self, interval_s: float = 1.0, top: int = 20, by: str | None = None) -> Live:
        """Show the map so that it keeps moving: the hosts' views below one another. See `Map.live`."""
        first, *others = (item.live(interval_s, top, by, name=f"{self.name} on {host}") for host, item in self._items())
        for other in others:
            first = first.above(other)
        return first

    def _items(self) -> Iterable[tuple[str, Map]]:
        return self.by_host.items()

    def __repr__(self) -> str:
        return f"<GroupMap {self.name} on {', '.join(self.by_host)}>"


class GroupIterator:
    """One iterator of a cell on all its hosts.

    Attributes
    ----------
    name : str
        The program's name in the cell.
    by_host : dict
        The `Iterator` on each host.
    """

    def __init__(self, name: str, by_host: Mapping[str, Iterator]) -> None:
        self.name = name
        self.by_host = dict(by_host)

    @checked
    def df(self) -> pd.DataFrame:
        """Read it on all hosts at the same time; `Iterator.df` with an index level ``host`` in front."""
        return _joined(in_parallel({host: item.df for host, item in self.by_host.items()}))

    def text(self) -> dict[str, str]:
        """Read what it writes on each host, as text."""
        return in_parallel({host: item.text for host, item in self.by_host.items()})

    def __repr__(self) -> str:
        return f"<GroupIterator {self.name} on {', '.join(self.by_host)}>"


class Group:
    """A cell on several hosts; answers like a `Session`, its frames with an index level ``host`` in front.

    Made by :func:`~ebpf_magic.run` with several hosts. What only one host can do is asked of one: ``group["vm:6.1"]``.

    Attributes
    ----------
    name : str
        The name given to the cell.
    members : tuple of Session
        One for each host.
    host : str
        Their hosts, in one line.
    maps : Mapping of str to GroupMap
        The maps of the cell.
    iter : Mapping of str to GroupIterator
        The iterators of the cell.
    """

    engine = "libbpf"

    def __init__(self, name: str, members: Sequence[Session]) -> None:
        self.name = name
        self.members = tuple(members)
        self.host = ", ".join(member.host for member in members)
        self.warnings: list[str] = []
        self.swap_ns: tuple[int, int] | None = None
        names = dict.fromkeys(map_name for member in members for map_name in member.maps)
        self.maps: Mapping[str, GroupMap] = Maps(
            name,
            {
                map_name: GroupMap(
                    map_name, {each.host: each.maps[map_name] for each in members if map_name in each.maps}
                )
                for map_name in names
            },
        )
        self.iter: Mapping[str, GroupIterator] = Maps(
            name,
            {
                each: GroupIterator(each, {member.host: member.iter[each] for member in members if each in member.iter})
                for each in dict.fromkeys(each for member in members for each in member.iter)
            },
            "iterator",
        )
        self._lock = threading.Lock()
        self._left = len(members)
        self._on_end: list[Callable[[], None]] = []
        for member in members:
            member.on_end(self._one_ended)

    def __getitem__(self, host: str) -> Session:
        for member in self.members:
            if member.host == host:
                return member
        raise NoSuchNameError(f"host {host!r} of {self.name}", "it does not run there", f"It runs on {self.host}.")

    @property
    def state(self) -> str:
        """``failed`` if it failed on one host, ``running`` as long as it runs on one, ``stopped``."""
        found = {member.state for member in self.members}
        return next(state for state in _STATES if state in found)

    @property
    def attached_ns(self) -> int:
        """Time at which everything was attached everywhere, on this process's CLOCK_MONOTONIC."""
        return max(member.attached_ns for member in self.members)

    @property
    def programs(self) -> pd.DataFrame:
        """The programs; `Session.programs` with an index level ``host``."""
        return _joined({member.host: member.programs for member in self.members})

    @property
    def vars(self) -> GroupVariables:
        """The cell's global variables; read by host, written on all hosts. See `Session.vars`."""
        return GroupVariables({member.host: member.vars for member in self.members})

    def stats(self) -> pd.DataFrame:
        """Tell what the programs cost; `Session.stats` with an index level ``host``."""
        return _joined(in_parallel({member.host: member.stats for member in self.members}))

    @property
    def log(self) -> pd.DataFrame:
        """What ``bpf_printk`` said; `Session.log` with a level ``host``. The times are each host's own."""
        frames = {member.host: member.log for member in self.members}
        joined = _joined(frames)
        joined.attrs["dropped"] = sum(frame.attrs["dropped"] for frame in frames.values())
        return joined

    def missed(self) -> dict[str, dict[str, dict[str, int]]]:
        """Tell what the cell's macros could not count: host -> map -> ``full``, ``unseen``."""
        return {member.host: member.missed() for member in self.members}

    def lost(self) -> list[str]:
        """Say in words what was not counted, not seen, or not run; empty when nothing was lost."""
        return [f"{member.host}: {word}" for member in self.members for word in member.lost()]

    @checked
    def run(
        self,
        program: str,
        ctx: bytes | None = None,
        data: bytes | pd.DataFrame | Sequence[bytes] | None = None,
        repeat: int = 1,
    ) -> dict[str, RunResult] | pd.DataFrame:
        """Run a program on each host: once, host -> result; over many packets, a frame with a level ``host``.

        See `Session.run`.
        """
        if data is None or isinstance(data, bytes):
            return {member.host: member.run(program, ctx, data, repeat) for member in self.members}
        packets = data

        def of(member: Session) -> pd.DataFrame:
            return member.run(program, data=packets, repeat=repeat)

        return _joined(in_parallel({member.host: partial(of, member) for member in self.members}))

    def stop(self) -> None:
        """Take everything out of every kernel; what was seen stays readable."""
        in_parallel({member.host: member.stop for member in self.members})

    @checked
    def on_end(self, call: Callable[[], None]) -> None:
        """Call when it has ended on the last host, at once if it has."""
        with self._lock:
            if self._left:
                self._on_end.append(call)
                return
        call()

    def _one_ended(self) -> None:
        with self._lock:
            self._left -= 1
            calls, self._on_end = (self._on_end, []) if not self._left else ([], self._on_end)
        for call in calls:
            call()

    def __repr__(self) -> str:
        return f"<Group {self.name}: {self.state} on {self.host}>"

    def _ipython_display_(self) -> None:
        from ebpf_magic.display import show_cards

        show_cards(self.members)

    def __enter__(self) -> Group:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


def in_parallel(calls: Mapping[str, Callable[[], T]]) -> dict[str, T]:
    """Make the calls at the same time; the results by name, or the first error once all are done."""
    with ThreadPoolExecutor(len(calls), "ebpf_magic-group") as pool:
        futures = {name: pool.submit(call) for name, call in calls.items()}
    return {name: future.result() for name, future in futures.items()}


def _joined(frames: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    import pandas as pd

    plain = {}
    for host, frame in frames.items():
        plain[host] = frame.copy(deep=False)
        plain[host].attrs = {}  # concat compares them, and those of two hosts differ
    joined = pd.concat(plain, names=["host"])
    joined.attrs = {"by_host": {host: frame.attrs for host, frame in frames.items()}, "ended_ns": time.monotonic_ns()}
    return joined
