"""A cell or an object on its way into the kernel: compiled, loaded and attached on one host, or on several at once."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextvars import copy_context
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ebpf_magic import build, map_programs
from ebpf_magic.data import variables
from ebpf_magic.errors import EbpfMagicError, UsageError, VerifierError
from ebpf_magic.group import Group
from ebpf_magic.hosts import registry
from ebpf_magic.hosts.base import MAP_BUDGET_BYTES, MAX_CPU, AgentHost
from ebpf_magic.session import Session, Stage, read_types, target_text

if TYPE_CHECKING:
    from ebpf_magic.hosts.base import Loaded


@dataclass(frozen=True, kw_only=True)
class Cell:
    """A cell or an object, and how it is to be run; `make` gives what is to be loaded into a kernel."""

    make: Callable[[build.KernelTarget], build.Built]
    name: str
    attach: Mapping[str, str] | bool | None = None
    for_s: float | None = None
    initial: Mapping[str, Any] = field(default_factory=dict)
    keep_maps: bool = False
    allow_change: bool = False
    map_budget_bytes: int = MAP_BUDGET_BYTES
    max_cpu: float = MAX_CPU
    optional: tuple[str, ...] = ()
    previous: Session | Group | None = None
    progress: Callable[[str], None] | None = None

    def start_on(self, on: str | AgentHost | Sequence[str | AgentHost]) -> Session | Group:
        """Bring it into the kernel of one host or several."""
        if isinstance(on, (str, AgentHost)):
            return self.start(on)
        return Group(self.name, _start_on_each(self, _distinct(on)))

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
                attaches=self.attach is not False,
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
            if isinstance(error, EbpfMagicError):
                build.point_at(built, error)
            raise
        return session


def _distinct(on: Sequence[str | AgentHost]) -> dict[str, str | AgentHost]:
    """Check several hosts; give them by their names."""
    hosts = list(on)
    if not hosts:
        raise UsageError(f"run on {on!r}", "name one host or several", 'Such as on=["vm:6.1", "vm:6.12"].')
    named = {host if isinstance(host, str) else host.name: host for host in hosts}
    if len(named) < len(hosts):
        raise UsageError(f"run on {', '.join(named)}", "a host is named twice")
    return named


def _start_on_each(cell: Cell, hosts: Mapping[str, str | AgentHost]) -> list[Session]:
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


def _stop_started(future: Future[Session]) -> None:
    if not future.exception():
        future.result().stop()


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
                # Such a map holds the programs of the session that goes.
                if name in session.maps
                and session.maps[name].spec == spec
                and not map_programs.holds(session.maps[name].handle)
            }
    return {}
