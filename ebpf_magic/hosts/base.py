"""A host: the notebook's end of one agent."""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from typing import TYPE_CHECKING, Any, TypeVar

from ebpf_magic.agent import maps
from ebpf_magic.agent.wire import PROTOCOL, Buffer, Frame, WireError
from ebpf_magic.arguments import checked
from ebpf_magic.errors import AgentError, AgentTimeoutError, EbpfMagicError, from_wire
from ebpf_magic.hosts import replies
from ebpf_magic.hosts.ends import HostInfo, Link, Loaded, Opened
from ebpf_magic.hosts.handles import FdMap, MapHandle, WireMap
from ebpf_magic.hosts.worker import Worker

if TYPE_CHECKING:
    from ebpf_magic.hosts.shell import Command

__all__ = ["AgentHost", "HostInfo", "Link", "Loaded", "MapHandle", "Opened"]

GONE = "the agent is gone: "
MAP_BUDGET_BYTES = 256 << 20
MAX_CPU = 0.25
CLOSE_S = 10.0
# Seconds a call may take before the agent is given up.
DEADLINES_S = {
    "load": 60.0,
    "attach": 60.0,
    "read": 60.0,
    "update": 60.0,
    "delete": 60.0,
    "clear": 60.0,
    "run": 60.0,
    "packets": 60.0,
    "features": 60.0,
}
DEADLINE_S = 10.0
_MAX_LOG_BYTES = 32 << 20
_MAX_LISTED = 1 << 20

T = TypeVar("T")


class AgentHost:
    """One agent and the calls it answers; any thread may call.

    All round trips run on one thread of the host's own, so that an interrupt in the caller never cuts a frame. Every
    call has a deadline; when it passes, the agent is ended (AgentTimeoutError). A dead agent is an AgentError at once.

    Attributes
    ----------
    name : str
        ``local``, ``sudo``.
    info : HostInfo
        What the agent says of its kernel and of itself.
    passes_fds : bool
        Whether maps are read through descriptors of this process rather than through the agent.
    deadlines_s : dict
        Seconds a verb may take; others take `deadline_s`.
    may_change : bool
        Whether programs that can change what the machine does need no permission there, as in a VM of one's own.
    """

    may_change = False

    def __init__(self, name: str, link: Link, pass_fds: bool = True) -> None:
        self.name = name
        self.passes_fds = pass_fds and link.channel.passes_fds
        self.deadlines_s = dict(DEADLINES_S)
        self.deadline_s = DEADLINE_S
        self._link = link
        self._worker = Worker(f"ebpf_magic-{name}")
        self._lock = threading.Lock()
        self._listing = threading.Lock()
        self._number = 0
        self._hook_ns: dict[str, float | None] = {}
        self._death = ""
        self._closed = False
        _hosts.add(self)
        try:
            self.info = self._hello()
        except BaseException:
            self.close()
            raise

    @property
    def alive(self) -> bool:
        """Whether the agent answers, as far as is known."""
        return not self._death and not self._closed

    @property
    def kernel_id(self) -> str:
        """What tells its kernel from others, under which the types that it gave are kept."""
        return self.info.build_id

    def load(
        self,
        obj: bytes,
        *,
        session: str,
        name: str,
        attaches: bool = True,
        allow_change: bool = False,
        map_budget_bytes: int = MAP_BUDGET_BYTES,
        max_cpu: float = MAX_CPU,
        for_s: float | None = None,
        reuse: Mapping[str, str] | None = None,
        initial: Mapping[str, str] | None = None,
        meanwhile: Callable[[], object] | None = None,
        optional: Sequence[str] = (),
        targets: Mapping[str, str] | None = None,
        foreign: bool = False,
    ) -> Loaded:
        """Load an ELF object; what the guard holds the session to comes with it.

        Parameters
        ----------
        obj : bytes
            The object.
        session : str
            How the caller will name it; no other live session may have that name.
        name : str
            For the kernel's and libbpf's messages.
        attaches : bool
            Whether it will be attached; what will not be may be of any kind, and `attach` refuses it.
        allow_change : bool
            Allow programs that can change what the machine does; `may_change` allows them always.
        map_budget_bytes : int
            Refuse maps that could take more kernel memory.
        max_cpu : float
            Detach when the programs take more of one core over a second.
        for_s : float, optional
            Detach so many seconds after attaching.
        reuse : mapping, optional
            Map name -> handle of a live map whose contents the new session goes on with.
        initial : mapping, optional
            ``SECTION+OFFSET`` -> the bytes, in hexadecimal, that variables there begin with.
        meanwhile : callable, optional
            Called while the kernel is at work; an error of ours that it raises is raised when that is over.
        optional : sequence of str
            Programs that may be left out when this kernel cannot load or attach them; `notes` says why.
        targets : mapping, optional
            Program -> target as `attach` will have it: what replaces a function is bound to it before it is loaded.
        foreign : bool
            Whether somebody else compiled it: then it is tried first where a damaged one can do no harm.

        Raises
        ------
        VerifierError, LoadError, AttachError, GuardError, UnsupportedError, NotPermittedError
            Nothing of the object stays in the kernel.
        """
        request = {
            "session": session,
            "name": name,
            "attaches": attaches,
            "allow_change": allow_change or self.may_change,
            "map_budget_bytes": map_budget_bytes,
            "max_cpu": max_cpu,
            "for_s": for_s,
            "reuse": dict(reuse or {}),
            "initial": dict(initial or {}),
            "optional": list(optional),
            "targets": dict(targets or {}),
            "pass_fds": self.passes_fds,
            "foreign": foreign,
        }
        return self.call("load", request, [obj], self._loaded, meanwhile)

    def attach(self, session: str, targets: Mapping[str, str] | None = None, replaces: str = "") -> dict[str, Any]:
        """Attach all programs of a session; all or nothing, but for those that are optional.

        Parameters
        ----------
        session : str
            A loaded session.
        targets : mapping, optional
            Program -> target, where the section does not name one.
        replaces : str, optional
            A session whose place it takes: where a target takes one program only, the programs are exchanged in its
            link, or that one is detached first.

        Returns
        -------
        dict
            ``links``: list of ``program``, ``target``, ``kind``, ``detail``; ``attach_ns``; ``notes``: what was not;
            ``gap_ns``, for how long neither was attached when the other one had to go first; 0 when they were
            exchanged, None when both were attached meanwhile.
        """
        return self._ask("attach", session=session, targets=dict(targets or {}), replaces=replaces)

    def detach(self, session: str) -> dict[str, Any]:
        """Take a session's links and programs out of the kernel; its maps stay readable."""
        return self._ask("detach", session=session)

    def close_session(self, session: str) -> None:
        """Let go of everything of a session; one that is not known is fine."""
        self._ask("close", session=session)

    def status(self) -> dict[str, Any]:
        """State of every session: ``{"sessions": {name: {"state", "reason", "message", "warnings"}}}``."""
        return self._ask("status")

    def stats(self, session: str) -> dict[str, Any]:
        """Counters of a session's programs: ``time_ns`` (CLOCK_MONOTONIC) and ``programs``."""
        return self._ask("stats", session=session)

    def calibrate(self, kinds: list[str]) -> dict[str, float | None]:
        """Measure, once each, the ns one hit of an attach kind costs beside the program; None where it cannot be."""
        if missing := [kind for kind in kinds if kind not in self._hook_ns]:
            self._hook_ns.update(self._ask("calibrate", kinds=missing)["hook_ns"])
        return {kind: self._hook_ns.get(kind) for kind in kinds}

    def fill(self, handle: str, programs: Mapping[int, str]) -> None:
        """Put programs of its session into a prog_array: index -> name."""
        self._ask("fill", map=handle, programs={str(index): name for index, name in programs.items()})

    def redirect(self, handle: str, keys: bytes, values: bytes, programs: Sequence[str]) -> None:
        """Write entries of a devmap or cpumap, each with its session's program of that name ("": none)."""
        self.call("redirect", {"map": handle, "programs": list(programs)}, (keys, values), lambda frame: None)

    def log(self, session: str) -> dict[str, Any]:
        """Lines of bpf_printk since the last call: ``lines`` and ``dropped``."""
        return self._ask("log", session=session)

    def run_program(
        self, session: str, program: str, ctx: bytes = b"", data: bytes = b"", repeat: int = 1
    ) -> dict[str, Any]:
        """Run a program by BPF_PROG_RUN: ``retval``, ``duration_ns``, ``ctx_out``, ``data_out``."""
        request = {
            "session": session,
            "program": program,
            "ctx_bytes": len(ctx),
            "data_bytes": len(data),
            "repeat": repeat,
        }

        def convert(frame: Frame) -> dict[str, Any]:
            split = frame.header["ctx_bytes"]
            out = {"ctx_out": bytes(frame.payload[:split]), "data_out": bytes(frame.payload[split:])}
            return {**frame.header, **out}

        return self.call("run", request, [ctx, data], convert)

    def run_packets(
        self, session: str, program: str, lengths: Buffer, data: Buffer, repeat: int = 1, first: int = 0
    ) -> list[memoryview]:
        """Run a program over packets by BPF_PROG_RUN: verdicts, ns and lengths (32 bits each), and what came out.

        Parameters
        ----------
        lengths : buffer
            Of each packet, 32 bits.
        data : buffer
            All packets, one behind the other.
        repeat : int
            How many times each.
        first : int
            What an error calls the first of them.
        """
        sent = len(lengths) // 4
        request = {"session": session, "program": program, "count": sent, "repeat": repeat, "first": first}

        def convert(frame: Frame) -> list[memoryview]:
            payload = frame.payload
            replies.check_packets(sent, frame.header["count"], frame.header["data_bytes"], len(payload))
            parts = [payload[at * sent : (at + 4) * sent] for at in (0, 4, 8)]
            if sum(parts[2].cast("I")) != frame.header["data_bytes"]:
                raise WireError("the lengths of its answer on packets do not add up")
            return [*parts, payload[12 * sent :]]

        return self.call("packets", request, [lengths, data], convert)

    def features(self) -> list[dict[str, Any]]:
        """Try what works on this kernel: ``name``, ``ok``, ``detail``, ``hint``."""
        checks: list[dict[str, Any]] = self._ask("features")["checks"]
        return checks

    def iterate(self, session: str, program: str, anew: bool) -> tuple[bytes, bool]:
        """Read the next piece of what an iterator writes, or anew its first, and whether there is more."""
        request = {"session": session, "program": program, "anew": anew}
        return self.call("iterate", request, (), lambda frame: (bytes(frame.payload), frame.header["more"]))

    def find(self, kind: str, pattern: str) -> list[str]:
        """Names that match a pattern, and for some kinds more after a tab; see `ebpf_magic.probes`."""
        request = {"kind": kind, "pattern": pattern}
        return self.call("find", request, (), lambda frame: _lines(frame.payload))

    def tracepoint_format(self, category: str, name: str) -> str:
        """Read what tracefs says of a tracepoint's record."""
        request = {"category": category, "name": name}
        return self.call("format", request, (), lambda frame: bytes(frame.payload).decode(errors="replace"))

    def list_kernel(self) -> dict[str, Any]:
        """Every program and map in the kernel and who holds it: ``programs`` and ``maps``."""
        found: dict[str, Any] = {"programs": [], "maps": []}
        more = anew = True
        with self._listing:  # two lists at a time would take each other's pages
            while more:
                page = self._ask("list", anew=anew)
                more, anew = page["more"], False
                for what, rows in found.items():
                    rows += page[what]
                is_endless = sum(map(len, found.values())) > _MAX_LISTED or not (page["programs"] or page["maps"])
                if more and is_endless:
                    raise AgentError(f"list the programs and maps on {self.name}", "the agent comes to no end")
        return found

    def cgroups(self) -> dict[int, str]:
        """Paths of the kernel's cgroups by their ids; empty where cgroup2 is not mounted."""
        return self.call("cgroups", {}, (), lambda frame: replies.cgroup_paths(frame.payload))

    def open_map(self, map_id: int | None = None, pin: str = "", writable: bool = False) -> Opened:
        """Open a map that some other program owns, by its id or by a pin.

        Parameters
        ----------
        map_id, pin : int, str
            One of them.
        writable : bool
            Whether it may be changed through the handle; if not, the kernel itself holds to that.
        """
        request = {"map_id": map_id or 0, "pin": pin, "writable": writable, "pass_fds": self.passes_fds}
        return self.call("open", request, (), self._opened)

    def btf(self, module: str = "") -> bytes:
        """Read the kernel's BTF, raw, or a module's, which goes on from it."""
        return self.call("btf", {"module": module}, (), lambda frame: bytes(frame.payload))

    @checked
    def sh(
        self,
        command: str,
        *,
        background: bool = False,
        timeout_s: float | None = None,
        on_output: Callable[[str], object] | None = None,
    ) -> Command:
        """Run a shell command: in a VM as its root, on this machine as this process's user.

        See :func:`ebpf_magic.sh`, which finds the host by itself.
        """
        from ebpf_magic.hosts import shell

        return shell.run(command, self, background=background, timeout_s=timeout_s, on_output=on_output)

    def close(self) -> None:
        """End the agent, which takes everything out of the kernel; safe to call twice."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
        self._link.shutdown()
        if not self._link.wait(CLOSE_S):
            self._link.kill()
        self._worker.close()
        self._link.close()

    def call(
        self,
        verb: str,
        fields: Mapping[str, Any],
        payload: Sequence[Buffer],
        convert: Callable[[Frame], T],
        meanwhile: Callable[[], object] | None = None,
    ) -> T:
        """Make one round trip; `convert` makes the result of the answer, on the host's own thread.

        There `meanwhile` is called between request and answer; an answer that is a refusal comes before its errors.
        """
        if not self.alive:
            raise self._dead(verb)
        outcome = self._worker.submit(lambda: self._round_trip(verb, fields, payload, convert, meanwhile))
        deadline_s = self.deadlines_s.get(verb, self.deadline_s)
        if not outcome.wait(deadline_s):
            self._give_up(f"no answer to {verb!r} within {deadline_s:g} s")
            raise AgentTimeoutError(
                f"call {verb!r} of the agent on {self.name}",
                f"no answer within {deadline_s:g} s; the agent was ended",
                "What it had in the kernel is gone. Run the cell again: it starts a new one.",
            )
        result: T = outcome.result()
        return result

    def _ask(self, verb: str, **fields: Any) -> dict[str, Any]:
        return self.call(verb, fields, (), lambda frame: frame.header)

    def _round_trip(
        self,
        verb: str,
        fields: Mapping[str, Any],
        payload: Sequence[Buffer],
        convert: Callable[[Frame], T],
        meanwhile: Callable[[], object] | None = None,
    ) -> T:
        if not self.alive:
            raise self._dead(verb)
        self._number += 1
        try:
            self._link.channel.send({"id": self._number, "verb": verb, **fields}, payload)
            problem = _error_of(meanwhile)
            frame = self._link.channel.receive()
        except WireError as error:
            self._give_up(str(error))
            raise self._dead(verb) from error
        except OSError as error:  # reset, or broken pipe: it ended
            self._give_up("")
            raise self._dead(verb) from error
        number = None if frame is None else frame.header.pop("id", None)
        if frame is None or type(number) is not int or number != self._number:  # neither true nor 1.0 is 1 here
            self._give_up("" if frame is None else "its answer belongs to another call")
            raise self._dead(verb)
        refused = frame.header.get("error")
        if isinstance(refused, dict):
            raise from_wire(refused, bytes(frame.payload[:_MAX_LOG_BYTES]).decode(errors="replace"))
        try:
            replies.check(verb, frame.header, len(frame.payload))
            result = convert(frame)
        except WireError as error:
            self._give_up(str(error))
            raise self._dead(verb) from error
        if problem is not None:
            raise problem
        return result

    def _hello(self) -> HostInfo:
        answer = self._ask("hello")
        if answer.get("protocol") != PROTOCOL:
            raise AgentError(
                f"start the agent on {self.name}", f"it speaks protocol {answer.get('protocol')}, not {PROTOCOL}"
            )
        return HostInfo(**{field.name: answer[field.name] for field in fields(HostInfo)})

    def _loaded(self, frame: Frame) -> Loaded:
        header = frame.header
        fds = self._usable(frame.fds)
        handles: dict[str, MapHandle] = {}
        for index, row in enumerate(header["maps"]):
            handles[row["name"]] = self._handle(row, fds[index : index + 1])
        return Loaded(header["programs"], handles, header["open_ns"], header["load_ns"], header["notes"])

    def _handle(self, row: Mapping[str, Any], fds: list[int]) -> MapHandle:
        """Give a map as it is read from here: through its descriptor, if one came and that is enough."""
        wire_map = WireMap(self, row)
        if fds and not maps.reads_by_agent(wire_map.type):
            return FdMap(wire_map, fds[0], self.info.possible_cpus)
        for fd in fds:
            os.close(fd)
        return wire_map

    def _opened(self, frame: Frame) -> Opened:
        header = frame.header
        handle = self._handle(header["map"], self._usable(frame.fds))
        return Opened(handle, bytes(frame.payload), header["key_type"], header["value_type"], header["btf_problem"])

    def _usable(self, fds: list[int]) -> list[int]:
        """Give the descriptors, or none where this process may not use them: then maps are read through the agent."""
        try:
            for fd in fds[:1]:
                maps.info(fd)
        except PermissionError:  # before 5.19, kernel.unprivileged_bpf_disabled forbids this to a plain user
            for fd in fds:
                os.close(fd)
            self.passes_fds = False
            return []
        return fds

    def _give_up(self, why: str) -> None:
        """Mark the agent as dead and make sure that it is; the worker's pending read ends with the connection."""
        with self._lock:
            if self._death or self._closed:
                return
            self._death = why or "it ended"
        self._link.shutdown()
        self._link.wait(0.0 if why else 1.0)  # one that ended by itself may say how
        self._link.kill()
        if not why:
            self._death = self._link.ending()

    def _dead(self, verb: str) -> AgentError:
        what = f"call {verb!r} of the agent on {self.name}"
        if not self._death:
            again = "Run the cell again; a host that you made yourself is to be made anew."
            return AgentError(what, f"{GONE}it was closed", f"What it had in the kernel is gone with it. {again}")
        words = self._link.last_words()
        return AgentError(
            what,
            f"{GONE}{self._death}" + (f"\nIts last words:\n{words}" if words else ""),
            "What it had in the kernel is gone with it. Run the cell again: it starts a new one.",
            log=words,
        )


def _error_of(call: Callable[[], object] | None) -> EbpfMagicError | None:
    """Make a call; the error of ours that it raised."""
    try:
        if call is not None:
            call()
    except EbpfMagicError as error:
        return error
    return None


# The thread that makes the round trips is not in a forked child: one that ends would wait for it, to stop sessions that
# are its parent's.
_hosts: weakref.WeakSet[AgentHost] = weakref.WeakSet()


def _leave_to_parent() -> None:
    for host in list(_hosts):
        host._death = "it belongs to the process that this one was forked from"


os.register_at_fork(after_in_child=_leave_to_parent)


def _lines(payload: memoryview) -> list[str]:
    text = bytes(payload).decode(errors="replace")
    return text.split("\n") if text else []
