"""What the agent holds, and the verbs that work on it."""

from __future__ import annotations

import itertools
import os
import time
from array import array
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from . import bpf, cpus, machine, objects, privileges, programs, tail_calls, tracefs, wire
from .fault import Fault
from .libbpf import Library
from .map_verbs import MapVerbs, describe
from .objects import LoadedMap
from .reply import Reply
from .sessions import Session, detach_all
from .trace_log import TraceLog, sweep

if TYPE_CHECKING:
    from .kernel_list import Page
    from .server import Request
    from .shell import Shell


class Agent:
    """Sessions, maps and measured hook costs; `close` takes everything out of the kernel."""

    def __init__(self, library: Library, passes_fds: bool, shell: bool = False) -> None:
        self._library = library
        self._passes_fds = passes_fds
        self._possible_cpus = cpus.possible()
        self._sessions: dict[str, Session] = {}
        self._handles = itertools.count(1)
        self._stats_fd = -1
        self._stats_problem = ""
        self._hook_ns: dict[str, float | None] = {}
        self._listing: Iterator[Page] | None = None
        self._tracefs_problem = tracefs.ensure_tracing()
        tracing = tracefs.tracing()
        if tracing:
            sweep(tracing)
        names = (
            "hello btf load attach detach close status stats calibrate fill log run packets features list cgroups "
            "iterate find format redirect"
        )
        self.verbs: dict[str, Callable[[Request], Reply]] = {name: getattr(self, f"_{name}") for name in names.split()}
        self._maps = MapVerbs(self._map, lambda: next(self._handles), self._possible_cpus, passes_fds)
        self.verbs |= self._maps.verbs
        self._shell: Shell | None = None
        if shell:
            from .shell import Shell

            self._shell = Shell()
            self.verbs |= _shell_verbs(self._shell)

    # What the server's clock asks

    @property
    def is_watching(self) -> bool:
        """Whether any session needs the clock."""
        return any(session.state != "detached" for session in self._sessions.values())

    def next_deadline_ns(self) -> int | None:
        """When the next --for ends (CLOCK_MONOTONIC)."""
        return min((session.deadline_ns for session in self._sessions.values() if session.deadline_ns), default=None)

    def tick(self) -> None:
        """Hold the limits, and empty the logs before the kernel overwrites them."""
        for session in list(self._sessions.values()):
            try:
                session.tick()
            except Exception as error:  # its trouble, even a defect of ours: the others keep their programs
                session.detach("error", f"stopped: the agent could not watch over it: {error!r}")
        self._adjust_stats()

    def close(self) -> None:
        """Take everything out of the kernel, and end the commands."""
        if self._shell is not None:
            self._shell.close()
        sessions, self._sessions = list(self._sessions.values()), {}
        detach_all(sessions)
        for session in sessions:
            session.close()
        self._maps.close()
        self._adjust_stats()

    # The verbs

    def _hello(self, request: Request) -> Reply:
        problem = programs.try_loading(self._library)
        return Reply(
            {
                "protocol": wire.PROTOCOL,
                **machine.describe(),
                "libbpf": self._library.version,
                "uid": os.getuid(),
                "pid": os.getpid(),
                "capabilities": privileges.effective(),
                "load_problem": problem,
                "tracefs_problem": self._tracefs_problem,
                "shell": self._shell is not None,
            }
        )

    def _btf(self, request: Request) -> Reply:
        from . import near

        module = request.text("module", "")
        what, hint = "read the kernel's BTF", "It needs CONFIG_DEBUG_INFO_BTF."
        if module:
            what, hint = f"read the BTF of module {module}", "It may have been unloaded."
        try:
            return Reply({}, [near.module_btf(module or "vmlinux")])
        except OSError as error:
            raise Fault("load", what, str(error), hint, errno=error.errno) from None

    def _load(self, request: Request) -> Reply:
        token = request.text("session")
        if token in self._sessions:
            raise Fault("usage", f"load session {token}", "there is one of that name")
        attaches = request.flag("attaches")
        limits = objects.Limits(
            request.flag("allow_change"), attaches, request.integer("map_budget_bytes"), self._possible_cpus
        )
        reuse = {name: self._map(handle) for name, handle in request.texts("reuse").items()}
        max_cpu, for_s = request.number("max_cpu"), request.number("for_s")
        if request.flag("foreign"):
            from . import trial

            trial.open_in_child(self._library, request.payload, request.text("name"))
        alive = {session.name: session.object for session in self._sessions.values() if session.state != "detached"}
        wishes = objects.Wishes(
            frozenset(request.names("optional")), request.texts("targets"), request.texts("initial"), alive
        )
        loaded = objects.load(self._library, request.payload, request.text("name"), limits, reuse, wishes)
        session = Session(request.text("name"), loaded, max_cpu or float("inf"), for_s, wishes.optional, attaches)
        session.maps = {f"m{next(self._handles)}": item for item in loaded.maps}
        self._sessions[token] = session
        try:
            notes = self._prepare(session)
            fds = [item.fd for item in loaded.maps] if self._passes_fds and request.flag("pass_fds") else []
            fields = {
                "programs": loaded.describe_programs(),
                "maps": [describe(handle, item) for handle, item in session.maps.items()],
                "open_ns": loaded.open_ns,
                "load_ns": loaded.load_ns,
                "notes": [*loaded.notes, *notes],
            }
        except BaseException:
            del self._sessions[token]
            session.close()
            raise
        return Reply(fields, fds=fds[: wire.MAX_FDS])  # maps beyond are read through this agent

    def _attach(self, request: Request) -> Reply:
        session = self._session(request)
        targets = request.texts("targets")
        for name in targets.keys() - session.object.left_out:
            session.program(name)
        began = time.monotonic_ns()
        replaced = self._sessions.get(request.text("replaces", ""))
        made, notes, gap_ns = session.attach_over(targets, replaced)
        took = time.monotonic_ns() - began
        rows = [
            {"program": link.program, "target": link.target, "kind": link.kind, "detail": link.detail} for link in made
        ]
        return Reply({"links": rows, "attach_ns": took, "notes": notes, "gap_ns": gap_ns})

    def _detach(self, request: Request) -> Reply:
        began = time.monotonic_ns()
        self._session(request).detach()
        self._adjust_stats()
        return Reply({"detach_ns": time.monotonic_ns() - began})

    def _close(self, request: Request) -> Reply:
        session = self._sessions.pop(request.text("session"), None)
        if session is not None:
            session.close()
            self._adjust_stats()
        return Reply({})

    def _status(self, request: Request) -> Reply:
        rows = {
            token: {
                "state": session.state,
                "reason": session.reason,
                "message": session.message,
                "warnings": session.warnings,
            }
            for token, session in self._sessions.items()
        }
        return Reply({"sessions": rows})

    def _stats(self, request: Request) -> Reply:
        time_ns, rows = self._session(request).stats()
        rows = [{**row, "hook_ns": self._hook_ns.get(row["kind"])} for row in rows]
        return Reply({"time_ns": time_ns, "programs": rows})

    def _calibrate(self, request: Request) -> Reply:
        from . import calibrate

        wanted = request.names("kinds")
        for kind in wanted:
            if kind not in self._hook_ns:
                self._hook_ns[kind] = calibrate.hook_ns(self._library, kind)
        return Reply({"hook_ns": {kind: self._hook_ns[kind] for kind in wanted}})

    def _fill(self, request: Request) -> Reply:
        item = self._map(request.text("map"))
        tail_calls.fill(self._owner(request.text("map")), item, request.texts("programs"))
        return Reply({})

    def _redirect(self, request: Request) -> Reply:
        from . import redirects

        handle = request.text("map")
        redirects.fill(self._owner(handle), self._map(handle), request.payload, request.names("programs"))
        return Reply({})

    def _cgroups(self, request: Request) -> Reply:
        from . import cgroups

        return Reply({}, [b"".join(os.fsencode(f"{number} {path}\0") for number, path in cgroups.paths().items())])

    def _log(self, request: Request) -> Reply:
        session = self._session(request)
        lines, dropped = session.log.take() if session.log is not None else ([], 0)
        return Reply({"lines": lines, "dropped": dropped})

    def _run(self, request: Request) -> Reply:
        session = self._session(request)
        program = session.program(request.text("program"))
        if session.state == "detached":
            raise Fault("gone", f"run {program.label}", "the session's programs are out of the kernel")
        split = request.integer("ctx_bytes")
        ctx, data = bytes(request.payload[:split]), bytes(request.payload[split:])
        result = programs.run(
            self._library, session.object.fd(program), program, ctx, data, request.integer("repeat", 1)
        )
        fields = {
            "retval": result.retval,
            "duration_ns": result.duration_ns,
            "ctx_bytes": len(result.ctx),
            "data_bytes": len(result.data),
        }
        return Reply(fields, [result.ctx, result.data])

    def _iterate(self, request: Request) -> Reply:
        piece = self._session(request).read_iterator(request.text("program"), request.flag("anew"))
        return Reply({"more": piece.more}, [piece.data])

    def _find(self, request: Request) -> Reply:
        from . import finding

        return Reply({}, ["\n".join(finding.find(request.text("kind"), request.text("pattern"))).encode()])

    def _format(self, request: Request) -> Reply:
        from . import finding

        return Reply({}, [finding.tracepoint_format(request.text("category"), request.text("name"))])

    def _packets(self, request: Request) -> Reply:
        from . import packets

        session = self._session(request)
        program = session.program(request.text("program"))
        if session.state == "detached":
            raise Fault("gone", f"run {program.label}", "the session's programs are out of the kernel")
        split = 4 * request.integer("count")
        if split > len(request.payload):
            raise Fault("usage", f"run {program.label}", "not every packet's length came with it")
        lengths = array("I", bytes(request.payload[:split]))
        found = packets.run(
            self._library,
            session.object.fd(program),
            program,
            lengths,
            request.payload[split:],
            request.integer("repeat", 1),
            request.integer("first", 0),
        )
        fields = {"count": len(lengths), "data_bytes": len(found.data)}
        return Reply(fields, [bytes(found.verdicts), bytes(found.durations_ns), bytes(found.lengths), found.data])

    def _features(self, request: Request) -> Reply:
        from . import features

        return Reply({"checks": features.checks(self._library)})

    def _list(self, request: Request) -> Reply:
        from . import kernel_list

        begun, self._listing = self._listing, None
        listing = kernel_list.pages() if begun is None or request.flag("anew") else begun
        page = next(listing)
        if page.more:
            self._listing = listing
        return Reply(page._asdict())

    # Helpers

    def _session(self, request: Request) -> Session:
        token = request.text("session")
        if token not in self._sessions:
            raise Fault("gone", f"session {token}", "there is none of that name")
        return self._sessions[token]

    def _map(self, handle: str) -> LoadedMap:
        if handle in self._maps.opened:
            return self._maps.opened[handle]
        for session in self._sessions.values():
            if handle in session.maps:
                return session.maps[handle]
        raise Fault("gone", f"map {handle}", "its session is closed")

    def _owner(self, handle: str) -> Session:
        for session in self._sessions.values():
            if handle in session.maps:
                return session
        raise Fault("usage", f"fill map {handle}", "it belongs to no session of this agent")

    def _prepare(self, session: Session) -> list[str]:
        """Statistics and the log of a new session; what of it is not to be had."""
        notes = []
        self._adjust_stats()
        if self._stats_problem:
            notes.append(f"no run statistics, and so no --max-cpu: {self._stats_problem}")
        if session.object.prints:
            tracing = tracefs.tracing()
            try:
                if tracing is None:
                    raise FileNotFoundError(self._tracefs_problem)
                session.log = TraceLog(tracing)
            except OSError as error:
                notes.append(f"bpf_printk lines are not shown: {error}")
        return notes

    def _adjust_stats(self) -> None:
        """Run statistics are on as long as any session can run."""
        if self.is_watching and self._stats_fd < 0 and not self._stats_problem:
            try:
                self._stats_fd = bpf.enable_stats()
            except OSError as error:
                self._stats_problem = str(error)
        elif not self.is_watching and self._stats_fd >= 0:
            os.close(self._stats_fd)
            self._stats_fd = -1


def _shell_verbs(shell: Shell) -> dict[str, Callable[[Request], Reply]]:
    """Verbs that only an agent has which was started with a shell."""

    def take(request: Request) -> Reply:
        output, status = shell.take(request)
        return Reply({"status": status}, [output])

    def signal(request: Request) -> Reply:
        shell.signal(request)
        return Reply({})

    def forget(request: Request) -> Reply:
        shell.forget(request)
        return Reply({})

    return {"spawn": lambda request: Reply(shell.spawn(request)), "take": take, "signal": signal, "forget": forget}
