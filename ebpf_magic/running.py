"""Bring a cell into the kernel, and keep the sessions of this process."""

from __future__ import annotations

import atexit
import itertools
import keyword
import os
import secrets
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextvars import copy_context
from dataclasses import dataclass
from difflib import get_close_matches
from functools import partial
from typing import TYPE_CHECKING, Any

from ebpf_magic import build
from ebpf_magic.data import variables
from ebpf_magic.errors import (
    EbpfMagicError,
    HostError,
    NoSuchNameError,
    UnsupportedError,
    UsageError,
    VerifierError,
)
from ebpf_magic.group import Group
from ebpf_magic.hosts import registry
from ebpf_magic.hosts.base import AgentHost
from ebpf_magic.live import Task, ticker
from ebpf_magic.session import Session, Stage, read_types, target_text

if TYPE_CHECKING:
    from ebpf_magic.hosts.base import Loaded

MAP_BUDGET_BYTES = 256 << 20
MAX_CPU = 0.25
_WATCH_S = 1.0

_sessions: dict[str, Session | Group] = {}
# Every cell that ran, with the names of those it was linked with: others may be linked with it.
_sources: dict[str, tuple[str, tuple[str, ...]]] = {}
_unlisted: set[Session] = set()
_lock = threading.RLock()
_unnamed = itertools.count(1)


def run(
    source: str,
    name: str | None = None,
    engine: str = "auto",
    on: str | AgentHost | Sequence[str | AgentHost] = "auto",
    attach: Mapping[str, str] | bool | None = None,
    for_s: float | None = None,
    *,
    set: Mapping[str, Any] | None = None,
    keep_maps: bool = False,
    allow_change: bool = False,
    map_budget_bytes: int = MAP_BUDGET_BYTES,
    max_cpu: float = MAX_CPU,
    optional: Sequence[str] = (),
    with_cells: Sequence[str] = (),
    clang: str | None = None,
    progress: Callable[[str], None] | None = None,
) -> Session | Group:
    """Compile C, load it into the kernel and attach it.

    Parameters
    ----------
    source : str
        eBPF C. Without a single ``#include`` it gets vmlinux.h, libbpf's helpers, ebpf_magic.h and a GPL licence.
    name : str, optional
        A running session of the same name is replaced: the new one is attached before the old one goes, and when the
        new one fails, the old one runs on.
    engine : str
        ``libbpf``, or ``auto``.
    on : str or host, or a sequence of them
        ``local`` (this process may load programs), ``sudo``, ``vm`` or ``vm:6.1`` (a kernel of one's own, booted on
        first use), or ``auto``: the first of them that works. Or a machine of its own that :func:`ebpf_magic.hosts.vm`
        gave, which its maker closes. Several, such as ``["vm:6.1", "vm:6.12"]``, give one
        session whose frames have an index level ``host``.
    attach : mapping, optional
        Where programs go whose section does not say it: ``{"sample": "cpu-clock:99hz"}``, and for freplace
        ``{"new": "SESSION:FUNCTION"}``. The kind may stand before it: ``"uprobe:libc.so.6:malloc"``. False attaches
        nothing.
    for_s : float, optional
        Stop by itself after so many seconds; held by the agent.
    set : mapping, optional
        What global variables begin with, by name, before the programs are loaded: ``{"limit": 10}``. Also fields:
        ``{"conn.pid": 1}``. A constant must be ``const volatile``.
    keep_maps : bool
        Carry the contents of maps whose type did not change over from the session that is replaced.
    allow_change : bool
        Allow programs that can change what the machine does.
    map_budget_bytes : int
        Refuse to load when the maps could take more kernel memory than this.
    max_cpu : float
        Detach when the programs take more than this share of one core.
    optional : sequence of str
        Programs without which the rest may go on, where this kernel cannot load or attach them. The session's
        `warnings` say which were left out, and why.
    with_cells : sequence of str
        Names of cells of this process that ran before, whose functions, maps and variables this one declares
        ``extern``: they are compiled again for its kernel and linked with it.
    clang : str, optional
        The compiler to use.
    progress : callable, optional
        Told in a few words what is waited for while a host starts.

    Returns
    -------
    Session or Group
        A `Group`, which answers like a Session, when several hosts were named.

    Raises
    ------
    CompileError, LinkError, VerifierError, AttachError, NotPermittedError, GuardError, NoHostError, UsageError
        Each says what was tried, why it failed and what to do; nothing stays in the kernel.

    Requires
    --------
    Linux 5.8 or later with BTF, clang 14 or later, and the right to load programs (root, capabilities, or ``sudo -n``).
    """
    _check_options(name, engine, for_s, max_cpu, map_budget_bytes)
    name = name or f"ebpf{next(_unnamed)}"
    others = _linked(name, _names("with_cells", with_cells))
    make = partial(_compiled, source, name, others, clang)
    cell = _Cell(
        make,
        name,
        attach,
        for_s,
        set or {},
        keep_maps,
        allow_change,
        map_budget_bytes,
        max_cpu,
        _names("optional", optional),
        _running(name),
        progress,
    )
    session = cell.start_on(on)
    with _lock:
        _sources[name] = source, tuple(others)
    return session


def load_object(
    path: str | os.PathLike[str],
    name: str | None = None,
    on: str | AgentHost | Sequence[str | AgentHost] = "auto",
    attach: Mapping[str, str] | bool | None = None,
    for_s: float | None = None,
    *,
    set: Mapping[str, Any] | None = None,
    keep_maps: bool = False,
    allow_change: bool = False,
    map_budget_bytes: int = MAP_BUDGET_BYTES,
    max_cpu: float = MAX_CPU,
    optional: Sequence[str] = (),
    progress: Callable[[str], None] | None = None,
) -> Session | Group:
    """Load a compiled object into the kernel and attach it; the rest is as with :func:`run`.

    Parameters
    ----------
    path : str or path-like
        An ELF object for BPF: of clang, bpf2go (Go) or aya (Rust). Its maps are typed by its BTF; without BTF they are
        bytes.
    name : str, optional
        The session's name; that of the file when not given.
    on, attach, for_s, set, keep_maps, allow_change, map_budget_bytes, max_cpu, optional, progress
        As with :func:`run`.

    Returns
    -------
    Session or Group

    Raises
    ------
    LoadError
        The file is no BPF object, or is damaged.
    NoSuchNameError
        There is no such file.
    VerifierError, AttachError, NotPermittedError, GuardError, NoHostError, UsageError
        As with :func:`run`.
    """
    name = name or build.name_of(path)
    _check_options(name, "auto", for_s, max_cpu, map_budget_bytes)
    ready = build.read_object(path)
    cell = _Cell(
        lambda kernel: ready,
        name,
        attach,
        for_s,
        set or {},
        keep_maps,
        allow_change,
        map_budget_bytes,
        max_cpu,
        _names("optional", optional),
        _running(name),
        progress,
    )
    return cell.start_on(on)


def _compiled(
    source: str, name: str, others: Mapping[str, str], clang: str | None, kernel: build.KernelTarget
) -> build.Built:
    """Compile a cell, and link it with those that it names."""
    built = build.compile_cell(source, kernel=kernel, clang=clang)
    if others:
        parts = {each: build.compile_cell(text, kernel=kernel, clang=clang) for each, text in others.items()}
        built = build.link(built, parts, name)
    build.check_resolved(built, name)
    return built


def _stop_started(future: Future[Session]) -> None:
    if not future.exception():
        future.result().stop()


@dataclass(frozen=True)
class _Cell:
    """A cell or an object, and how it is to be run; `make` gives what is to be loaded into a kernel."""

    make: Callable[[build.KernelTarget], build.Built]
    name: str
    attach: Mapping[str, str] | bool | None
    for_s: float | None
    initial: Mapping[str, Any]
    keep_maps: bool
    allow_change: bool
    map_budget_bytes: int
    max_cpu: float
    optional: tuple[str, ...]
    previous: Session | Group | None
    progress: Callable[[str], None] | None

    def start_on(self, on: str | AgentHost | Sequence[str | AgentHost]) -> Session | Group:
        """Bring it into the kernel of one host or several, in the place of what had its name."""
        session: Session | Group
        if isinstance(on, (str, AgentHost)):
            session = self.start(on)
        else:
            session = Group(self.name, _start_on_each(self, _distinct(on)))
        try:
            build.settle()
        except BaseException:  # an interrupt: nobody would have the session to stop it
            session.stop()
            raise
        _replace(self.previous, session)
        return session

    def start(self, on: str | AgentHost) -> Session:
        """Bring it into the kernel of one host."""
        host = registry.get(on, self.progress) if isinstance(on, str) else on
        began = time.perf_counter_ns()
        built = self.make(build.KernelTarget(host.info.arch, host.kernel_id, host.btf))
        foreign = isinstance(built, build.Object)
        pieces = variables.initial(built.btf, self.initial) if self.initial else []
        compiled = time.perf_counter_ns()
        token = f"{self.name}-{secrets.token_hex(4)}"
        targets = self.attach if isinstance(self.attach, Mapping) else {}
        try:
            loaded = host.load(
                built.object,
                session=token,
                name=self.name,
                allow_change=self.allow_change,
                map_budget_bytes=self.map_budget_bytes,
                max_cpu=self.max_cpu,
                for_s=self.for_s,
                reuse=_reusable(self.previous, host, built) if self.keep_maps else None,
                meanwhile=lambda: read_types(built),
                initial={f"{piece.section}+{piece.offset}": piece.data.hex() for piece in pieces},
                optional=self.optional,
                targets=targets,
                foreign=foreign,
            )
            stages = [
                Stage("read" if foreign else "compiled", compiled - began, _compiled_detail(built)),
                Stage("loaded", loaded.open_ns + loaded.load_ns, _loaded_detail(loaded)),
            ]
            links, attached_ns, gap_ns = [], 0, None
            if self.attach is not False:
                # Before attaching: the calibration's own system calls are not to be in the data.
                host.calibrate(sorted({program["kind"] for program in loaded.programs}))
                reply = host.attach(token, targets, _running_on(host, self.previous))
                links, attached_ns, gap_ns = reply["links"], time.monotonic_ns(), reply["gap_ns"]
                loaded.notes.extend(reply["notes"])
                detail = ", ".join(map(target_text, links)) or "nothing to attach"
                stages.append(Stage("attached", reply["attach_ns"], detail))
            # Not before: what this takes would be missing from the data.
            session = Session(self.name, host, token, built, loaded, links, attached_ns)
            session.stages, session.gap_ns = stages, gap_ns
        except BaseException as error:
            if host.alive:
                host.close_session(token)
            if isinstance(error, VerifierError):
                raise build.verifier_error(built, error) from None
            raise
        return session


def _linked(name: str, with_cells: tuple[str, ...]) -> dict[str, str]:
    """Find the sources of cells to link with, and of those that they were linked with themselves."""
    found: dict[str, str] = {}
    wanted = list(with_cells)
    while wanted:
        other = wanted.pop(0)
        if other == name:
            raise UsageError(f"link {name} with {other}", "a cell cannot be linked with itself")
        with _lock:
            if other not in _sources:
                raise NoSuchNameError(
                    f"link {name} with {other}",
                    "no cell of that name ran before",
                    f"Cells: {', '.join(_sources) or 'none'}. With --no-attach a cell is only compiled and loaded.",
                    near=get_close_matches(other, _sources),
                )
            source, others = _sources[other]
        if other not in found:
            found[other] = source
            wanted += [cell for cell in others if cell != name]
    return found


def _names(option: str, names: Sequence[str]) -> tuple[str, ...]:
    """Check a list of names: a text would be taken for its letters."""
    if isinstance(names, str) or not all(isinstance(name, str) for name in names):
        raise UsageError(f"{option}={names!r}", "it is a list of names", f"Such as {option}=[{str(names)!r}].")
    return tuple(names)


def _distinct(on: Sequence[str | AgentHost]) -> dict[str, str | AgentHost]:
    """Check several hosts; give them by their names."""
    hosts = list(on)
    if not hosts or not all(isinstance(host, (str, AgentHost)) for host in hosts):
        raise UsageError(f"run on {on!r}", "name one host or several", 'Such as on=["vm:6.1", "vm:6.12"].')
    named = {host if isinstance(host, str) else host.name: host for host in hosts}
    if len(named) < len(hosts):
        raise UsageError(f"run on {', '.join(named)}", "a host is named twice")
    return named


def _start_on_each(cell: _Cell, hosts: Mapping[str, str | AgentHost]) -> list[Session]:
    """Start on several hosts at the same time: on all of them, or on none."""
    pool = ThreadPoolExecutor(len(hosts), "ebpf_magic-start")
    # In the caller's context, which is how a notebook knows which cell's output a progress line belongs to.
    futures = [pool.submit(copy_context().run, cell.start, host) for host in hosts.values()]
    pool.shutdown(wait=False)
    try:
        wait(futures)
    except BaseException:  # an interrupt: what will have started is taken out again
        for future in futures:
            future.add_done_callback(_stop_started)
        raise
    errors = [(name, future.exception()) for name, future in zip(hosts, futures, strict=True) if future.exception()]
    if errors:
        for future in futures:
            _stop_started(future)
        name, error = errors[0]
        assert error is not None
        if isinstance(error, EbpfMagicError):
            error.what = f"on {name}: {error.what}"
        raise error
    started = [future.result() for future in futures]
    if len({session.host for session in started}) < len(started):
        for session in started:
            session.stop()
        same = ", ".join(f"{name} is {session.host}" for name, session in zip(hosts, started, strict=True))
        raise UsageError(f"run on {', '.join(hosts)}", f"a host is named twice: {same}")
    return started


def start_unlisted(source: str, name: str, on: str) -> Session:
    """Start a session that `sessions` does not list and that no other replaces; `stop_all` stops it too."""
    cell = _Cell(
        partial(_compiled, source, name, {}, None),
        name,
        attach=None,
        for_s=None,
        initial={},
        keep_maps=False,
        allow_change=False,
        map_budget_bytes=MAP_BUDGET_BYTES,
        max_cpu=MAX_CPU,
        optional=(),
        previous=None,
        progress=None,
    )
    session = cell.start(on)
    build.keep()
    with _lock:
        _unlisted.add(session)
    session.on_end(lambda: _unlist(session))
    return session


def _unlist(session: Session) -> None:
    with _lock:
        _unlisted.discard(session)


def sessions() -> list[Session | Group]:
    """List the sessions of this process that are running, oldest first.

    Returns
    -------
    list of Session or Group
        `%ebpf ls` shows the same as a table.
    """
    with _lock:
        return list(_sessions.values())


def _running(name: str) -> Session | Group | None:
    with _lock:
        return _sessions.get(name)


def stop_all() -> None:
    """Stop every session of this process."""
    with _lock:
        everything = [*sessions(), *_unlisted]
    for session in everything:
        session.stop()


def find(name: str) -> Session | Group:
    """Give the running session of that name; raises NoSuchNameError with the near ones."""
    with _lock:
        if name in _sessions:
            return _sessions[name]
        raise NoSuchNameError(
            f"session {name!r}",
            "no such session is running",
            f"Running: {', '.join(_sessions) or 'none'}.",
            near=get_close_matches(name, _sessions),
        )


def _check_options(name: str | None, engine: str, for_s: float | None, max_cpu: float, budget: int) -> None:
    if name is not None and (not name.isidentifier() or keyword.iskeyword(name)):
        raise UsageError(f"session name {name!r}", "it must be a Python name, since the session is bound to it")
    if engine not in ("auto", "libbpf"):
        raise UnsupportedError(f"engine {engine!r}", "only libbpf is offered yet", "Leave engine out.")
    if for_s is not None and not 0 < for_s < float("inf"):
        raise UsageError(f"run for {for_s!r} s", "the time must be above 0")
    if not 0 < max_cpu < float("inf"):
        raise UsageError(f"max_cpu {max_cpu!r}", "it is a share of one core above 0, such as 0.25")
    if budget <= 0:
        raise UsageError(f"map budget of {budget!r} bytes", "it must be above 0")


def _compiled_detail(built: build.Built) -> str:
    if built.parts:
        return f"{len(built.object):,} bytes, linked with {', '.join(name for name, _ in built.parts[1:])}"
    if built.cached:
        return f"{len(built.object):,} bytes, from the cache"
    return f"{len(built.object):,} bytes" + (", precompiled prelude" if built.prelude == "precompiled" else "")


def _loaded_detail(loaded: Loaded) -> str:
    verified = sum(program["verified_insns"] or 0 for program in loaded.programs)
    jited = sum(program["jited_bytes"] for program in loaded.programs)
    return f"{verified:,} instructions verified, {jited:,} bytes JITed"


def _running_on(host: AgentHost, previous: Session | Group | None) -> str:
    """Name the session that is replaced, as its agent knows it; empty where none runs on that host."""
    members = previous.members if previous else ()
    return next((each.token for each in members if each.state == "running" and each.agent_host is host), "")


def _reusable(previous: Session | Group | None, host: AgentHost, built: build.Built) -> dict[str, str]:
    """Find the running session's maps whose declaration is the same in the new object: name -> handle."""
    for session in previous.members if previous else ():
        if session.state == "running" and session.agent_host is host:
            return {
                name: session.maps[name].handle.handle
                for name, spec in built.btf.map_specs().items()
                # A program array holds the programs of the session that goes.
                if name in session.maps and session.maps[name].spec == spec and session.maps[name].type != "prog_array"
            }
    return {}


def _replace(previous: Session | Group | None, session: Session | Group) -> None:
    """Register the new session, then let the one before go: in this order no event is missed between the two.

    But for a place that takes one program only: there the agent has let it go already, see `Session.gap_ns`.
    """
    attached = session.attached_ns
    with _lock:
        meanwhile = _sessions.get(session.name)  # another thread's, which had the same one to replace
        _sessions[session.name] = session
    session.on_end(lambda: _forget(session))
    _watchman.start()
    if previous is not None and any(member.state == "running" for member in previous.members):
        began = time.monotonic_ns()
        previous.stop()
        session.swap_ns = (began - attached, time.monotonic_ns() - attached)
    if meanwhile is not None and meanwhile is not previous:
        meanwhile.stop()


def _forget(session: Session | Group) -> None:
    with _lock:
        if _sessions.get(session.name) is session:
            del _sessions[session.name]


class _Watchman:
    """Asks each agent now and then, while there are sessions, what its guard did, and tells the sessions."""

    def __init__(self) -> None:
        self._task: Task | None = None

    def start(self) -> None:
        with _lock:
            if self._task is None:
                self._task = ticker.add(self._look, _WATCH_S, self._failed)

    def _look(self) -> None:
        with _lock:
            if not _sessions and self._task is not None:
                self._task.cancel()
                self._task = None
        for host, group in _by_host(members()).items():
            try:
                states = host.status()["sessions"]
            except HostError as error:
                for session in group:
                    session.fail(str(error))
                continue
            for session in group:
                session.watch(states.get(session.token, {}))

    def _failed(self, error: Exception) -> None:
        self._task = None
        for session in members():
            session.warnings.append(f"the watch on the agent ended: {error!r}")


def members() -> list[Session]:
    """List the sessions that are running, those of each host, oldest first."""
    return [member for session in sessions() for member in session.members]


def _by_host(group: list[Session]) -> dict[AgentHost, list[Session]]:
    result: dict[AgentHost, list[Session]] = {}
    for session in group:
        result.setdefault(session.agent_host, []).append(session)
    return result


def _at_exit() -> None:
    if os.getpid() != _PROCESS:  # a forked child's end is not the end of its parent's sessions
        return
    with _lock:
        everything = [*members(), *_unlisted]
    try:
        for session in everything:  # one after the other: no thread can be started any more
            session.stop()
    finally:
        registry.close_all()


_PROCESS = os.getpid()
_watchman = _Watchman()
atexit.register(_at_exit)
