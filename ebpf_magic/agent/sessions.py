"""A session on the agent's side: one loaded object with its links, maps, limits and counters."""

from __future__ import annotations

import collections
import errno
import os
import time
from collections.abc import Collection, Iterable, Mapping
from typing import Any

from . import attach, bpf, kinds, near, tail_calls
from .attach import Held, Link, struct_ops
from .declared import Program
from .fault import Fault
from .objects import LoadedMap, LoadedObject, notes_on
from .readings import Piece, Readings
from .trace_log import TraceLog

_WINDOW_NS = 1_000_000_000
_TAKEN = frozenset({errno.EBUSY, errno.EEXIST, errno.E2BIG})  # what says that a place takes no further program


class Session:
    """One loaded object and all that hangs on it; `close` is safe to call twice."""

    def __init__(
        self,
        name: str,
        loaded: LoadedObject,
        max_cpu: float,
        for_s: float | None,
        optional: Collection[str],
        attaches: bool,
    ) -> None:
        self.name = name
        self.state = "loaded"
        self.reason: str | None = None
        self.message = ""
        self.warnings: list[str] = []
        self.maps: dict[str, LoadedMap] = {}
        self.log: TraceLog | None = None
        self.object = loaded
        self._max_cpu = max_cpu
        self._for_s = for_s
        self._optional = optional
        self._attaches = attaches
        self._deadline_ns: int | None = None
        self._links: list[Link] = []
        self._readings = Readings()
        self._missed: dict[str, int | None] = {}
        self._frozen: tuple[int, list[dict[str, Any]]] | None = None
        self._usage: collections.deque[tuple[int, int]] = collections.deque()

    def attach(
        self, targets: dict[str, str], held: Mapping[tuple[str, str], Held] | None = None
    ) -> tuple[list[Link], list[str]]:
        """Attach every program that has something to be attached to; all or nothing, but for those that are optional.

        What was left out, and why, is the second result. What is `held` by the session before is taken over.
        """
        if self.state != "loaded":
            raise Fault("usage", "attach the session", f"it is {self.state}")
        if not self._attaches:  # the guard let in what may only be loaded
            raise Fault("usage", "attach the session", "it was loaded not to be attached")
        context = attach.Context(self.object.library, {item.name: item for item in self.maps.values()}, held or {})
        made: list[Link] = []
        refused: dict[str, Fault] = {}
        try:
            for program in self._attachable(targets):
                try:
                    made.append(attach.attach(context, program, targets.get(program.name)))
                except Fault as fault:
                    if program.name not in self._optional:
                        raise
                    refused[program.name] = fault
            for name, pointer in self.object.tables.items():
                made.append(struct_ops.attach(self.object.library, name, pointer))
            if refused and not made:
                raise next(iter(refused.values()))
        except BaseException:
            attach.destroy(made)
            raise
        self._links = made
        self.warnings += [note for link in made for handle in link.handles if (note := getattr(handle, "note", ""))]
        self.state = "attached"
        now = time.monotonic_ns()
        self._usage.append((now, self._run_time_ns()))
        if self._for_s is not None:
            self._deadline_ns = now + int(self._for_s * 1e9)
        return made, notes_on(refused)

    def _attachable(self, targets: dict[str, str]) -> list[Program]:
        programs = [program for program in self.object.programs if kinds.KINDS[program.kind].attacher]
        if any(item.info.type_name == "prog_array" for item in self.maps.values()):
            return tail_calls.without_targets_of_calls(programs, targets)
        return programs

    def attach_over(self, targets: dict[str, str], before: Session | None) -> tuple[list[Link], list[str], int | None]:
        """Attach in the place of another session.

        Where one program alone can be attached, this one's is put into the other's link; where the kernel cannot do
        that either, the other is let go of first. Gives what `attach` does, and for how many ns neither was attached;
        None when both were meanwhile.
        """
        held: dict[tuple[str, str], Held] = {}
        while True:
            try:
                made, notes = self.attach(targets, held)
            except Fault as fault:
                if before is None or fault.fields["errno"] not in _TAKEN or not before.holds(fault.fields["target"]):
                    raise
                if held or not (held := before.to_take()):
                    break
            except OSError:  # of an exchange: this driver takes the other program out before it takes one in
                break
            else:
                return made, notes, 0 if attach.keep(made) else None
        assert before is not None
        began = time.monotonic_ns()
        before.detach("stop", "replaced")
        made, notes = self.attach(targets)
        return made, notes, time.monotonic_ns() - began

    def to_take(self) -> dict[tuple[str, str], Held]:
        """Give what of it a session that replaces it can take over."""
        return attach.to_take(self._links, {program.name: self.object.fd(program) for program in self.object.programs})

    def holds(self, target: str | None) -> bool:
        """Whether one of its programs is attached there."""
        for link in self._links:
            prefix = kinds.KINDS[link.kind].prefix
            if target == link.target or (prefix and target == link.target[len(prefix) + 1 :]):
                return True
        return False

    def tick(self) -> None:
        """Hold the limits, and empty the log before the kernel overwrites it."""
        if self.state != "attached":
            return
        # What links are attached to may go: an interface, a cgroup. The other programs run on.
        self.warnings += [words for words in attach.lost(self._links) if words not in self.warnings]
        ended = self._passed_limit()
        if ended:
            self.detach(*ended)
        elif self.log is not None:
            self.log.collect()

    def take_links(self) -> list[Link]:
        """Hand out the links for detaching, once."""
        self._missed = attach.missed(self._links) or self._missed
        taken, self._links = self._links, []
        return taken

    def freeze(self, reason: str, message: str) -> None:
        """Keep the last counters and take the programs out of the kernel; the links are gone by now."""
        if self.state == "detached":
            return
        self._frozen = time.monotonic_ns(), []
        try:
            self._frozen = self._read_stats()
            if self.log is not None:
                self.log.collect()
        except OSError as error:
            self.warnings.append(f"its last counters and log lines are not known: {error}")
        finally:
            self._readings.close()
            self.object.close()
            self.state, self.reason, self.message = "detached", reason, message

    def detach(self, reason: str = "stop", message: str = "") -> None:
        """Take links and programs out of the kernel; the maps stay readable."""
        attach.destroy(self.take_links())
        self.freeze(reason, message)

    def close(self) -> None:
        """Let go of everything."""
        self.detach()
        if self.log is not None:
            self.log.close()
            self.log = None
        held, self.maps = self.maps, {}
        for item in held.values():
            os.close(item.fd)

    def stats(self) -> tuple[int, list[dict[str, Any]]]:
        """CLOCK_MONOTONIC time and counters of the programs; as they were at the end after detaching."""
        return self._frozen or self._read_stats()

    def program(self, name: str) -> Program:
        """Find the loaded program of that name."""
        found = next((program for program in self.object.programs if program.name == name), None)
        if found is None:
            names = [program.name for program in self.object.programs]
            hint = f"Programs: {', '.join(names)}."
            raise Fault("usage", f"program {name!r}", "no such program", hint, near=near.close(name, names))
        return found

    def read_iterator(self, name: str, anew: bool) -> Piece:
        """Read what an iterator writes, in pieces; raises `Fault`."""
        program = self.program(name)
        what = f"read {program.label}"
        if program.kind != "iter":
            raise Fault("usage", what, "it is no iterator", 'An iterator is SEC("iter/OBJECTS"), such as iter/task.')
        link = next((link for link in self._links if link.program == name), None)
        if link is None:
            raise Fault("gone", what, f"the session is {self.state}, not attached")
        handle = link.handles[0]
        assert isinstance(handle, attach.KernelLink)
        return self._readings.read(name, program.label, handle.fd, anew)

    def _passed_limit(self) -> tuple[str, str] | None:
        """Reason and message when a limit of this session is passed."""
        now = time.monotonic_ns()
        if self._deadline_ns is not None and now >= self._deadline_ns:
            return "for", f"stopped after {self._for_s:g} s, as --for asked"
        total = self._run_time_ns()
        self._usage.append((now, total))
        while len(self._usage) > 2 and now - self._usage[1][0] >= _WINDOW_NS:
            self._usage.popleft()
        since, before = self._usage[0]
        # Over a whole second even when less has passed: a start must not look like a storm.
        share = (total - before) / max(now - since, _WINDOW_NS)
        if share <= self._max_cpu:
            return None
        return (
            "max_cpu",
            f"stopped: the programs took {share:.0%} of a core over the last second, the limit is {self._max_cpu:.0%}; "
            f"--max-cpu {min(share * 1.5, 64):.0%} would allow it",
        )

    @property
    def deadline_ns(self) -> int | None:
        """When --for ends it (CLOCK_MONOTONIC)."""
        return self._deadline_ns if self.state == "attached" else None

    def _run_time_ns(self) -> int:
        # An iterator's time is that of whoever reads it: no event of the machine's makes it run.
        counted = [program for program in self.object.programs if program.kind != "iter"]
        return sum(bpf.prog_info(self.object.fd(program)).run_time_ns for program in counted)

    def _read_stats(self) -> tuple[int, list[dict[str, Any]]]:
        rows = []
        missed = attach.missed(self._links) or self._missed
        for program in self.object.programs:
            info = bpf.prog_info(self.object.fd(program))
            before_it = missed.get(program.name, 0)
            rows.append(
                {
                    "name": program.name,
                    "kind": program.kind,
                    "runs": info.run_cnt,
                    "run_time_ns": info.run_time_ns,
                    "missed_runs": None if before_it is None else info.recursion_misses + before_it,
                }
            )
        return time.monotonic_ns(), rows


def detach_all(group: Iterable[Session], reason: str = "stop", message: str = "") -> None:
    """Detach several sessions at the price of one."""
    sessions = list(group)
    taken = [link for session in sessions for link in session.take_links()]
    attach.destroy(taken)
    for session in sessions:
        session.freeze(reason, message)
