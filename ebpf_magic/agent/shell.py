"""Shell commands: one process group each, its output in one pipe, ended when whoever started it ends.

Used on both sides: by the agent for a host whose root is the user's own (a VM), by the notebook for this machine.
"""

from __future__ import annotations

import fcntl
import os
import signal
import threading
from collections.abc import Mapping
from typing import TYPE_CHECKING

from .fault import Fault

if TYPE_CHECKING:
    from .server import Request

MAX_TAKE_BYTES = 256 << 10
# The most Linux takes as one argument: MAX_ARG_STRLEN, 32 pages, with the byte that ends it.
MAX_COMMAND_BYTES = (128 << 10) - 1
CANNOT_ENTER_FOLDER = 125
# The command is an argument, never part of this text. Standard input is a pipe that nobody writes to: a watcher in the
# command's own group waits for its end, which comes when the starter has ended, however it did, and then kills the
# group. The watcher is nobody's child, so that the command never sees a child that it did not start.
_SCRIPT = f"""exec 3<&0 </dev/null
( (trap "" INT QUIT TERM HUP; read -r _ <&3; kill -KILL 0) >/dev/null 2>&1 & )
cd -- "$2" || exit {CANNOT_ENTER_FOLDER}
exec 3<&- /bin/sh -c "$1"
"""
_F_GETPIPE_SZ = 1032  # fcntl has the name since 3.10
_SIGNALS = signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}


class Process:
    """A shell command in a session and process group of its own; standard output and error are one stream, in order.

    The leader stays unreaped until `close`: until then no other process group can have its number.

    Parameters
    ----------
    command : bytes
        One line (or more) for ``/bin/sh -c``.
    folder : str
        Where it runs.
    environment : mapping
        All of its environment.

    Raises
    ------
    OSError
        There is no shell, or no process to be had.
    ValueError
        The command is too long, or has a NUL byte.
    """

    def __init__(self, command: bytes, folder: str, environment: Mapping[str, str]) -> None:
        if len(command) > MAX_COMMAND_BYTES:
            raise ValueError(f"it has {len(command):,} bytes; at most {MAX_COMMAND_BYTES:,} can be given to a shell")
        if b"\0" in command:
            raise ValueError("it has a NUL byte")
        self._output, output = os.pipe()
        life, self._life = os.pipe()
        self._open = True
        self._lock = threading.Lock()  # no signal to a number that is no longer ours
        self._status: int | None = None
        try:
            os.set_blocking(self._output, False)
            actions = [
                (os.POSIX_SPAWN_DUP2, theirs, number) for theirs, number in ((life, 0), (output, 1), (output, 2))
            ]
            words: list[str | bytes] = ["sh", "-c", _SCRIPT, "sh", command, folder]
            # Not fork: the notebook has threads. Signals as they are at first: the agent ignores SIGINT.
            self.pid = os.posix_spawn(
                "/bin/sh",
                words,
                environment,
                file_actions=actions,
                setsid=True,
                setsigmask=(),
                setsigdef=_SIGNALS,
            )
        except BaseException:
            self._close_pipes()
            raise
        finally:
            os.close(output)
            os.close(life)

    def take(self) -> tuple[bytes, int | None]:
        """Take what it has written since, without waiting, and its exit status once it has ended and all is taken.

        Returns
        -------
        bytes, int or None
            Of a command that a signal ended, the status is the signal's number, negative. What processes write that
            the command left behind is no longer taken.
        """
        if self._status is not None:
            return b"", self._status
        ended = os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        if ended is None:
            return self._read(MAX_TAKE_BYTES), None
        # What it wrote is in the pipe now, all of it.
        rest = self._read(max(fcntl.fcntl(self._output, _F_GETPIPE_SZ), MAX_TAKE_BYTES))
        self._status = ended.si_status if ended.si_code == os.CLD_EXITED else -ended.si_status
        return rest, self._status

    def signal(self, number: int) -> None:
        """Send a signal to the command and all that is in its group; nothing happens after `close`."""
        with self._lock:
            if self._open:
                os.killpg(self.pid, number)

    def close(self) -> None:
        """Kill what is left of its group and let go of it; safe to call twice."""
        with self._lock:
            if not self._open:
                return
            try:
                os.killpg(self.pid, signal.SIGKILL)
                os.waitpid(self.pid, 0)
            except (ProcessLookupError, ChildProcessError):  # reaped by other code of this process
                pass
            self.let_go()

    def let_go(self) -> None:
        """Close the pipes alone: for a forked child, which must not keep the command alive."""
        self._open = False
        self._close_pipes()

    def _read(self, limit: int) -> bytes:
        parts = []
        while limit > 0:
            try:
                part = os.read(self._output, limit)
            except BlockingIOError:
                break
            if not part:
                break
            parts.append(part)
            limit -= len(part)
        return b"".join(parts)

    def _close_pipes(self) -> None:
        os.close(self._output)
        os.close(self._life)


class Shell:
    """The agent's commands, by the names their starter gave them, and the verbs that work on them."""

    def __init__(self) -> None:
        self._processes: dict[str, Process] = {}

    def spawn(self, request: Request) -> dict[str, int]:
        """Start the payload as a command; in `folder` where that is there, else at home."""
        name, command = request.text("command"), bytes(request.payload)
        what = "run " + repr(command[:60].decode(errors="replace"))
        if name in self._processes:
            raise Fault("usage", what, f"there is a command {name} already")
        environment = request.texts("environment")
        folders = (request.text("folder"), environment.get("HOME", "/"), "/")
        folder = next(folder for folder in folders if os.path.isdir(folder))
        try:
            process = Process(command, folder, environment)
        except (OSError, ValueError) as error:
            raise Fault("command", what, str(error)) from None
        self._processes[name] = process
        return {"pid": process.pid}

    def take(self, request: Request) -> tuple[bytes, int | None]:
        """Hand out what a command has written since, and its exit status once it has ended."""
        return self._process(request).take()

    def signal(self, request: Request) -> None:
        """Send a command and its children a signal."""
        number = request.integer("number")
        if number not in signal.valid_signals():
            raise Fault("usage", "send a signal", f"there is no signal {number}")
        self._process(request).signal(number)

    def forget(self, request: Request) -> None:
        """Kill what is left of a command and let go of it; one that is not known is fine."""
        process = self._processes.pop(request.text("command"), None)
        if process is not None:
            process.close()

    def close(self) -> None:
        """Kill all commands."""
        while self._processes:
            self._processes.popitem()[1].close()

    def _process(self, request: Request) -> Process:
        name = request.text("command")
        if name not in self._processes:
            raise Fault("gone", f"command {name}", "there is none of that name")
        return self._processes[name]
