"""Shell commands on a host: started, followed while they run, interrupted and ended."""

from __future__ import annotations

import codecs
import contextlib
import os
import re
import secrets
import signal
import sys
import sysconfig
import threading
import time
import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from ebpf_magic.agent.shell import Process
from ebpf_magic.arguments import checked
from ebpf_magic.errors import CommandError, EbpfMagicError

if TYPE_CHECKING:
    from ebpf_magic.hosts.base import AgentHost

# JupyterLab shows 1 MB/s and drops what comes faster: so much is shown as it comes, and of the rest the end.
HEAD_BYTES = 256 << 10
TAIL_BYTES = 64 << 10
LAST_LINES = 10
# Between two looks at a command: short at first, since most commands are; each look is a round trip on a VM.
_SHORTEST_PAUSE_S = 0.002
_LONGEST_PAUSE_S = 0.1
_PAUSE_GROWTH = 1.3
_SHOW_S = 0.05
_END_S = 3.0
_GUEST_COMMANDS = "/ebpf_magic/commands"
_SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
# `make &`, but neither `a &&` nor `echo \&`, which the shell is to judge.
_IN_BACKGROUND = re.compile(r"(?<![&\\|<>])&\s*$")

OnOutput = Callable[[str], object]


class _Running(Protocol):
    """A command that was started: here, or by an agent."""

    pid: int

    def take(self) -> tuple[bytes, int | None]:
        """Hand out what it has written since, and its exit status once it has ended."""

    def signal(self, number: int) -> None:
        """Send it and its children a signal."""

    def close(self) -> None:
        """Kill what is left of it and let go; safe to call twice."""


class _There:
    """A command that a host's agent runs."""

    def __init__(self, host: AgentHost, command: bytes) -> None:
        self._host = host
        self._name = secrets.token_hex(8)
        environment = {
            "PATH": f"{_GUEST_COMMANDS}:{_path(_SYSTEM_PATH)}",
            "HOME": "/root",
            "USER": "root",
            "LOGNAME": "root",
            "SHELL": "/bin/sh",
            "LANG": "C.UTF-8",
            "TERM": "dumb",
        }
        request = {"command": self._name, "folder": _folder(), "environment": environment}
        try:
            self.pid = host.call("spawn", request, [command], lambda frame: int(frame.header["pid"]))
        except BaseException:  # an interrupt comes before the answer: it may have been started
            self.close()
            raise

    def take(self) -> tuple[bytes, int | None]:
        """Hand out what it has written since, and its exit status once it has ended."""
        request = {"command": self._name}
        return self._host.call("take", request, (), lambda frame: (bytes(frame.payload), frame.header["status"]))

    def signal(self, number: int) -> None:
        """Send it and its children a signal."""
        self._host.call("signal", {"command": self._name, "number": number}, (), lambda frame: None)

    def close(self) -> None:
        """Kill what is left of it and let go; safe to call twice, and when the host is gone."""
        if self._host.alive:
            with contextlib.suppress(EbpfMagicError):  # with the agent its commands have gone
                self._host.call("forget", {"command": self._name}, (), lambda frame: None)


def _path(path: str) -> str:
    """Have ebpf-magic itself found, also by a notebook whose environment is not activated."""
    scripts = sysconfig.get_path("scripts")
    return path if scripts in path.split(":") else f"{scripts}:{path}"


class Output:
    """What a command wrote: the beginning and the end of it, and how much there was in between."""

    def __init__(self) -> None:
        self.head = bytearray()
        self._tail = bytearray()
        self.total_bytes = 0

    @property
    def left_out_bytes(self) -> int:
        """How much was not kept."""
        return self.total_bytes - len(self.head) - len(self._tail)

    def add(self, data: bytes) -> None:
        """Append; what goes beyond the beginning is kept as the end."""
        self.total_bytes += len(data)
        room = HEAD_BYTES - len(self.head)
        self.head += data[:room]
        self._tail += data[room:]
        del self._tail[:-TAIL_BYTES]

    def rest(self, shown_bytes: int, over: bool = True) -> bytes:
        """Give what is to be shown after so much of it; the end of it only when the command has ended."""
        if not over:
            return bytes(self.head[shown_bytes:])
        if not self.left_out_bytes:
            return bytes(self.head + self._tail)[shown_bytes:]
        note = f"\n... {self.left_out_bytes:,} bytes left out ...\n"
        return bytes(self.head[shown_bytes:]) + note.encode() + bytes(self._tail)

    def text(self) -> str:
        """All that was kept."""
        return self.rest(0).decode(errors="replace")


class Command:
    """A shell command that was started; it ends with `kill`, with its VM, or with this process.

    Attributes
    ----------
    command : str
        The line.
    host : str
        Where it runs: ``local``, ``vm:6.1``.
    pid : int
        Its process there, which leads a group of its own.
    """

    def __init__(self, command: str, host: str, running: _Running, on_output: OnOutput | None = None) -> None:
        self.command = command
        self.host = host
        self.pid = running.pid
        self._running = running
        self._on_output = on_output
        self._output = Output()
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._shown_bytes = 0
        self._status: int | None = None
        self._error: Exception | None = None
        self._changed = threading.Condition()
        self._over = False
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._follow, name=f"ebpf_magic-sh-{self.pid}", daemon=True)
        self._thread.start()

    def poll(self) -> int | None:
        """Return its exit status (a signal's number, negative), or None while it runs; raises what ended the host."""
        with self._changed:
            if self._error is not None:
                raise self._error
            return self._status

    @checked
    def wait(self, timeout_s: float | None = None) -> int | None:
        """Wait for its end, at most so many seconds; then as `poll`."""
        with self._changed:
            self._changed.wait_for(lambda: self._over, timeout_s)
        return self.poll()

    def output(self) -> str:
        """Return what it has written so far, standard output and error in order: the beginning and the end of it."""
        with self._changed:
            return self._output.text()

    def interrupt(self) -> None:
        """Send it and its children SIGINT, as Ctrl-C does."""
        self._signal(signal.SIGINT)

    def kill(self) -> None:
        """End it and its children by force; safe to call twice."""
        self._signal(signal.SIGKILL)
        self._thread.join(_END_S)
        self._stop.set()  # one that cannot be killed is left alone

    def follow(self, on_output: OnOutput, timeout_s: float | None = None) -> int | None:
        """Hand its output to a function, on this thread, as it comes; return its exit status, or None at the timeout.

        A second call goes on where the first one stopped. A command started with an `on_output` of its own is not
        followed as well.

        Parameters
        ----------
        on_output : callable
            Called with pieces of text; of output beyond the first 256 KiB, with the last 64 KiB at the end.
        timeout_s : float, optional
            Give up following after so many seconds.
        """
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        while True:
            with self._changed:
                self._changed.wait_for(
                    self._has_news, None if deadline is None else max(deadline - time.monotonic(), 0)
                )
                over = self._over
                piece = self._output.rest(self._shown_bytes, over)
                self._shown_bytes += len(piece)
            if text := self._decoder.decode(piece, over):
                on_output(text)
            if over:
                return self.poll()
            if deadline is not None and time.monotonic() >= deadline:
                return None
            with self._changed:  # few messages to the page, not one for each line
                self._changed.wait_for(lambda: self._over, _SHOW_S)

    def __repr__(self) -> str:
        if self._error is not None:
            state = "lost with its host"
        else:
            state = "running" if self._status is None else ending(self._status)
        return f"<Command {self.command!r} on {self.host}, process {self.pid}: {state}>"

    def _has_news(self) -> bool:
        return self._over or len(self._output.head) > self._shown_bytes

    def _signal(self, number: int) -> None:
        if not self._over:
            with contextlib.suppress(EbpfMagicError, ProcessLookupError):  # it ended meanwhile
                self._running.signal(number)

    def _follow(self) -> None:
        """Take its output and its end; on a thread of the command's own."""
        try:
            self._status = self._take_all()
        except EbpfMagicError as error:
            self._error = error
        except OSError as error:
            self._error = CommandError(_what(self.command, self.host), f"how it ended cannot be known: {error}")
        except Exception as error:  # of the caller's on_output
            self._error = error
        finally:
            try:
                self._running.close()
            finally:
                with self._changed:
                    self._over = True
                    self._changed.notify_all()

    def _take_all(self) -> int | None:
        pause_s = _SHORTEST_PAUSE_S
        while not self._stop.wait(pause_s):
            data, status = self._running.take()
            if data:
                with self._changed:
                    self._output.add(data)
                    self._changed.notify_all()
                if self._on_output is not None:
                    self._on_output(self._decoder.decode(data))
            if status is not None:
                return status
            pause_s = _SHORTEST_PAUSE_S if data else min(pause_s * _PAUSE_GROWTH, _LONGEST_PAUSE_S)
        return None


def run(
    command: str,
    host: AgentHost | None = None,
    *,
    background: bool = False,
    timeout_s: float | None = None,
    on_output: OnOutput | None = None,
) -> Command:
    """Run a shell command: where a host's agent runs commands (a VM) as root there, else here as this process's user.

    Parameters
    ----------
    command : str
        For ``/bin/sh -c``. An ``&`` at its end puts it in the background.
    host : AgentHost, optional
        None is this machine.
    background : bool
        Return at once; the command goes on.
    timeout_s : float, optional
        End a command that takes longer; not for one in the background.
    on_output : callable, optional
        Called with pieces of text as they come: in the foreground on this thread, in the background on another.
        Without it, a command in the foreground prints.

    Returns
    -------
    Command
        Ended, unless it is in the background.

    Raises
    ------
    CommandError
        Its exit status is not 0, it took too long, or it could not be started.
    """
    line = _IN_BACKGROUND.sub("", command)
    background = background or line != command
    if not line.strip():
        raise CommandError("run a shell command", "there is none")
    started = _start(line, host, on_output if background else None)
    if background:
        return started
    tell = on_output or show
    try:
        status = started.follow(tell, timeout_s)
    except KeyboardInterrupt:
        _interrupt(started, tell)
        raise
    except BaseException:
        started.kill()
        raise
    if status is None:
        _interrupt(started, tell)
        raise _failed(started, None, f"it took longer than {timeout_s:g} s and was ended")
    if status != 0:
        raise _failed(started, status, ending(status))
    return started


def ending(status: int) -> str:
    """Say how a command ended: ``exit status 2``, ``killed by SIGSEGV``."""
    if status >= 0:
        return f"exit status {status}"
    with contextlib.suppress(ValueError):
        return f"killed by {signal.Signals(-status).name}"
    return f"killed by signal {-status}"


def _start(line: str, host: AgentHost | None, on_output: OnOutput | None) -> Command:
    there = host is not None and host.info.shell
    name = host.name if host is not None and there else "local"
    command = line.encode(errors="surrogateescape")
    running: _Running
    try:
        if host is not None and there:
            running = _There(host, command)
        else:
            running = Process(command, _folder(), {**os.environ, "PATH": _path(os.environ.get("PATH", os.defpath))})
            _here.add(running)
    except (OSError, ValueError) as error:
        raise CommandError(_what(line, name), str(error)) from error
    return Command(line, name, running, on_output)


def _interrupt(command: Command, on_output: OnOutput) -> None:
    """End a command as Ctrl-C does, so that it can clean up and say its last words, and after a while by force."""
    try:
        command.interrupt()
        command.follow(on_output, _END_S)
    except EbpfMagicError:  # its host has gone, and it with it
        return
    finally:
        command.kill()


def _failed(command: Command, status: int | None, why: str) -> CommandError:
    log = command.output()
    lines = log.rstrip().splitlines()[-LAST_LINES:]
    error = CommandError(
        _what(command.command, command.host), why, log=log, excerpt="\n".join(f"    {line}" for line in lines)
    )
    error.status = status
    return error


def _what(line: str, host: str) -> str:
    short = line.strip()
    short = short if len(short) <= 80 and "\n" not in short else short.splitlines()[0][:77] + "..."
    return f"run `{short}` on {host}"


def show(text: str) -> None:
    """Print a piece of output at once."""
    sys.stdout.write(text)
    sys.stdout.flush()


def _folder() -> str:
    try:
        return os.getcwd()
    except FileNotFoundError:  # it was removed under us
        return "/"


# A forked child that lives on must not keep the commands of a notebook that has ended.
_here: weakref.WeakSet[Process] = weakref.WeakSet()


def _let_go_in_child() -> None:
    for process in list(_here):
        process.let_go()


os.register_at_fork(after_in_child=_let_go_in_child)
