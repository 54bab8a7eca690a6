"""A running QEMU: started, listened to, ended with the notebook however that ends."""

from __future__ import annotations

import fcntl
import os
import re
import signal
import socket
import subprocess
import threading
from collections.abc import Callable, Sequence

from ebpf_magic.agent.wire import Channel
from ebpf_magic.errors import plain
from ebpf_magic.hosts.local import close_in_children

# QEMU is a child of a shell that also waits, through the one beside it, for the end of descriptor 3: the notebook's
# end, also by SIGKILL. Words are arguments, never shell text.
_RUN = """exec 3<&0 </dev/null
"$@" 3<&- & qemu=$!
(read -r _ <&3; kill -KILL "$qemu") >/dev/null 2>&1 & watch=$!
exec 3<&-
wait "$qemu"; status=$?
kill -KILL "$watch"
exit "$status" """
_FIRST_FD = 20  # a shell's own are the lowest, and dash's copies from 10 on
_KEEP_BYTES = 64 << 10
_LAST_WORDS_BYTES = 4000
_MOST_NOTES = 20
_MOST_MARKS = 60
# All in the guest may write to its console, also what only looks like a mark of ours.
_MARK = re.compile(r"^ebpf_magic: ([0-9]{1,9}(?:\.[0-9]{1,9})?) (\w{1,20})\b ?(.*)$")
_PANIC = re.compile(r"Kernel panic - not syncing: (.*)")


class Line:
    """A connection between this process and QEMU; theirs is closed here once QEMU has it."""

    def __init__(self) -> None:
        self.ours, theirs = socket.socketpair()
        self.theirs = socket.socket(fileno=out_of_the_way(theirs.detach()))
        close_in_children(self.ours)

    def close(self) -> None:
        """Close both ends; safe to call twice."""
        self.ours.close()
        self.theirs.close()


class Console:
    """What the guest says on its console: the last of it kept, its marks noted.

    Attributes
    ----------
    marks : dict
        Stage -> seconds since the guest's kernel began, and the rest of the line.
    """

    def __init__(self, line: socket.socket, on_mark: Callable[[str, float, str], None]) -> None:
        self.marks: dict[str, tuple[float, str]] = {}
        self.notes: list[str] = []
        self.panic = ""
        self._line = line
        self._on_mark = on_mark
        self._kept = bytearray()
        self._rest = b""
        self._changed = threading.Condition()
        self._ended = False
        self._thread = threading.Thread(target=self._listen, name="ebpf_magic-console", daemon=True)
        self._thread.start()

    def wait_for(self, stage: str, seconds: float) -> bool:
        """Wait until the guest has come so far; False when it has not, or has ended."""
        with self._changed:
            self._changed.wait_for(lambda: stage in self.marks or self._ended, seconds)
            return stage in self.marks

    def wait_for_end(self, seconds: float) -> None:
        """Wait until the console is closed and all of it read."""
        self._thread.join(seconds)

    def text(self) -> str:
        """Return the last of what was said, without what would move a cursor."""
        with self._changed:
            text = bytes(self._kept).decode("utf-8", "replace")
        lines = (plain(line).rstrip() for line in text.split("\n"))
        return "\n".join(line for line in lines if line and not line.startswith("ebpf_magic: "))

    def _listen(self) -> None:
        while True:
            try:
                part = self._line.recv(1 << 16)
            except OSError:  # closed by us
                part = b""
            with self._changed:
                self._kept += part
                del self._kept[:-_KEEP_BYTES]
                self._ended = not part
                new = [mark for line in self._lines(part) if (mark := self._note(line))]
                self._changed.notify_all()
            for mark in new:  # not under the lock: whoever is told may ask us something
                self._tell(*mark)
            if not part:
                return

    def _lines(self, part: bytes) -> list[str]:
        whole = (self._rest + part)[-_KEEP_BYTES:]
        *lines, self._rest = whole.split(b"\n") if part else [*whole.split(b"\n"), b""]
        return [line.decode("utf-8", "replace").strip() for line in lines]

    def _note(self, line: str) -> tuple[str, float, str] | None:
        """Keep what a line says; give the stage that it is the first to tell of."""
        if found := _PANIC.search(line):
            self.panic = self.panic or plain(found[1])[:200]
        found = _MARK.match(line)
        if found is None:
            return None
        seconds, stage, rest = float(found[1]), found[2], plain(found[3])[:200]
        if stage == "note":
            if len(self.notes) < _MOST_NOTES:
                self.notes.append(rest)
            return None
        if stage in self.marks or len(self.marks) >= _MOST_MARKS:
            return None
        self.marks[stage] = (seconds, rest)
        return stage, seconds, rest

    def _tell(self, stage: str, seconds: float, rest: str) -> None:
        try:
            self._on_mark(stage, seconds, rest)
        except Exception as error:  # the caller's; a console that nobody reads would stop the guest
            self.notes.append(f"how far it is could not be told: {error!r}")


class Life:
    """A QEMU process with its two lines: the agent's (`channel`) and the console. A `Link` of hosts/base.py.

    Parameters
    ----------
    command : sequence of str
        QEMU's command line, which names `agent` and `console` as descriptors.
    agent, console : Line
        The two lines.
    inherited : sequence of int
        Further descriptors that the command names.
    on_mark : callable
        Told, on a thread of ours, how far the guest is: stage, seconds, more.
    """

    def __init__(
        self,
        command: Sequence[str],
        agent: Line,
        console: Line,
        inherited: Sequence[int],
        on_mark: Callable[[str, float, str], None],
    ) -> None:
        self._agent, self._console, self._alive = agent, console, Line()
        self._lock = threading.Lock()
        self._killed = False
        self.channel = Channel(read_fd=os.dup(agent.ours.fileno()), write_fd=os.dup(agent.ours.fileno()))
        try:
            # A session of its own: Ctrl-C in a terminal is not for the guest.
            self.popen = subprocess.Popen(
                ["/bin/sh", "-c", _RUN, "sh", *command],
                stdin=self._alive.theirs.fileno(),
                stdout=console.theirs.fileno(),
                stderr=console.theirs.fileno(),
                pass_fds=[agent.theirs.fileno(), console.theirs.fileno(), *inherited],
                start_new_session=True,
                cwd="/",
            )
        except BaseException:
            self.close()
            raise
        finally:
            for line in (agent, console, self._alive):
                line.theirs.close()
        self.console = Console(console.ours, on_mark)

    def shutdown(self) -> None:
        """End the connection: the agent ends, and with it the guest; a pending read of ours returns."""
        try:
            self._agent.ours.shutdown(socket.SHUT_RDWR)
        except OSError:  # not connected any more: that is what was wanted
            return

    def wait(self, seconds: float) -> bool:
        """Wait for QEMU to end; whether it did. A guest is never waited for long: its memory is all that it has."""
        with self._lock:
            try:
                self.popen.wait(min(seconds, 1.0))
            except subprocess.TimeoutExpired:
                return False
            return True

    def kill(self) -> None:
        """End it by force."""
        with self._lock:
            if self.popen.poll() is None:
                self._killed = True
                os.killpg(self.popen.pid, signal.SIGKILL)
                self.popen.wait()

    def ending(self) -> str:
        """How it ended: ``the guest's kernel panicked: ...``."""
        self.console.wait_for_end(0.5)
        if self.console.panic:
            return f"the guest's kernel panicked: {self.console.panic}"
        if "failed" in self.console.marks:
            return f"the guest could not {self.console.marks['failed'][1]}"
        if "ended" in self.console.marks:
            memory = "; the guest had run out of memory" if "oom" in self.console.marks else ""
            return f"the agent in the guest ended: {_how(self.console.marks['ended'][1])}{memory}"
        code = self.popen.poll()
        if code is None or self._killed:  # by us, and for a reason that whoever did it knows
            return "its connection ended"
        if code == -signal.SIGKILL or code == 128 + signal.SIGKILL:
            return "QEMU was killed by SIGKILL"
        return f"QEMU ended: {_how(str(code if code >= 0 else 128 - code))}"

    def last_words(self) -> str:
        """Return the last lines of the guest's console, and what QEMU itself said."""
        return self.console.text()[-_LAST_WORDS_BYTES:].strip()

    def close(self) -> None:
        """Let go of everything once it has ended; safe to call twice."""
        self.channel.close()
        for line in (self._agent, self._console, self._alive):
            if line is self._console:  # wakes the thread that listens
                try:
                    line.ours.shutdown(socket.SHUT_RDWR)
                except OSError:
                    pass
            line.close()


def out_of_the_way(fd: int) -> int:
    """Return the descriptor under a number that a shell has no use for; the one given is closed."""
    try:
        return fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, _FIRST_FD)
    finally:
        os.close(fd)


def _how(status: str) -> str:
    """Say how a process ended, of the number a shell gives it."""
    if not status.isdecimal():  # "²" is a digit, and no number
        return "in an unknown way"
    number = int(status)
    if number > 128 and number - 128 in set(signal.Signals):
        return f"killed by {signal.Signals(number - 128).name}"
    return f"exit code {number}"
