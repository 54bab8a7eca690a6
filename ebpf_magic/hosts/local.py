"""The running kernel: an agent as a child of this process, with its rights (`local`) or root's (`sudo`)."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import weakref
from pathlib import Path
from typing import IO

from ebpf_magic.agent.wire import Channel
from ebpf_magic.errors import AgentError, NoHostError
from ebpf_magic.hosts.base import AgentHost

# The agent's folder as a package of its own: nothing else of ebpf_magic, nothing of site-packages comes with it.
_START = "import sys; sys.path.append({folder!r}); from agent.__main__ import main; sys.exit(main())"
_LAST_WORDS_BYTES = 4000
_connections: weakref.WeakSet[socket.socket] = weakref.WeakSet()


def _close_in_child() -> None:
    """Close what a forked child that lives on would keep open, and with it the programs attached."""
    for connection in list(_connections):
        connection.close()


os.register_at_fork(after_in_child=_close_in_child)


def close_in_children(connection: socket.socket) -> None:
    """Have a connection closed in every child that is forked: its end is what ends the other side."""
    _connections.add(connection)


def local(pass_fds: bool = True, needs_load: bool = True) -> AgentHost:
    """Start an agent with the rights of this process.

    Parameters
    ----------
    pass_fds : bool
        Read maps through descriptors the agent passes; otherwise through the agent.
    needs_load : bool
        Refuse when the agent cannot load programs; otherwise it can still tell what is missing.

    Raises
    ------
    NoHostError
        Not Linux, no libbpf, or no right to load programs; says what is missing.
    """
    host = _start("local", [], pass_fds)
    if needs_load and host.info.load_problem:
        problem = host.info.load_problem
        host.close()
        raise NoHostError(
            "run programs on this machine with the rights of this process",
            problem,
            'Start Jupyter as root, or let this user run `sudo -n` and say on="sudo".',
        )
    return host


def sudo(pass_fds: bool = True) -> AgentHost:
    """Start an agent as root by `sudo -n`; this process stays the plain user it is.

    Parameters
    ----------
    pass_fds : bool
        Read maps through descriptors the agent passes; otherwise through the agent.

    Raises
    ------
    NoHostError
        There is no sudo, it wants a password, or root cannot load programs either.
    """
    path = shutil.which("sudo")
    if path is None:
        raise NoHostError(
            "run programs by sudo", "there is no sudo on the path", "Install it, or start Jupyter as root."
        )
    host = _start("sudo", [path, "-n", "--"], pass_fds)
    if host.info.load_problem:
        problem = host.info.load_problem
        host.close()
        raise NoHostError("run programs by sudo", f"root cannot load programs here: {problem}")
    return host


class _Process:
    """The agent's process (or sudo's, which ends with it)."""

    def __init__(self, command: list[str], prefix: list[str]) -> None:
        self._sudo = prefix
        self._lock = threading.Lock()
        self._ours, theirs = socket.socketpair()
        self.channel = Channel(sock=self._ours)
        words = tempfile.TemporaryFile()
        self._words: IO[bytes] | None = words
        try:
            # A session of its own: what ends the notebook's process group must not end the agent before it cleaned up.
            self.popen = subprocess.Popen(
                prefix + command,
                stdin=theirs.fileno(),
                stdout=subprocess.DEVNULL,
                stderr=words,
                start_new_session=True,
                cwd="/",
            )
        except BaseException:
            self.close()
            raise
        finally:
            theirs.close()
        close_in_children(self._ours)

    def shutdown(self) -> None:
        """End the connection: the agent cleans up and ends, and a read of ours returns."""
        try:
            self._ours.shutdown(socket.SHUT_RDWR)
        except OSError:  # not connected any more: that is what was wanted
            return

    def wait(self, seconds: float) -> bool:
        """Wait for the process to end; whether it did."""
        with self._lock:
            try:
                self.popen.wait(seconds)
            except subprocess.TimeoutExpired:
                return False
            return True

    def kill(self) -> None:
        """End it by force."""
        if self.popen.poll() is None:
            if self._sudo:
                self._kill_as_root()
            else:
                self.popen.kill()
            self.wait(5)

    def ending(self) -> str:
        """How it ended: ``killed by SIGSEGV``."""
        code = self.popen.poll()
        if code is None:
            return "its connection ended"
        return f"killed by {signal.Signals(-code).name}" if code < 0 else f"it ended with exit code {code}"

    def last_words(self) -> str:
        """Read the tail of what it wrote to stderr; empty after `close`."""
        if self._words is None:
            return ""
        size = os.fstat(self._words.fileno()).st_size
        return (
            os.pread(self._words.fileno(), _LAST_WORDS_BYTES, max(size - _LAST_WORDS_BYTES, 0))
            .decode(errors="replace")
            .strip()
        )

    def close(self) -> None:
        """Let go of the connection and of its stderr."""
        self.channel.close()
        if self._words is not None:
            self._words.close()
            self._words = None

    def _kill_as_root(self) -> None:
        """Kill by sudo: a plain user may not signal root's processes."""
        family = [self.popen.pid]
        for pid in family:  # grows: sudo may have a monitor between itself and the agent, whose own children clean up
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # it has ended meanwhile
                if Path(f"/proc/{pid}/comm").read_text() != "sudo\n":
                    continue
                family += map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())
        command = [*self._sudo, "kill", "-KILL", *map(str, reversed(family))]
        subprocess.run(command, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False)


def _start(name: str, prefix: list[str], pass_fds: bool) -> AgentHost:
    if sys.platform != "linux":
        raise NoHostError(f"run programs on {name}", f"this is {sys.platform}; eBPF programs run on Linux only")
    python = sys.executable or shutil.which("python3")
    if not python:
        raise NoHostError(f"run programs on {name}", "no Python interpreter found for the agent")
    folder = str(Path(__file__).resolve().parent.parent)
    # -B for root: no files of root's in the user's folders.
    command = [python, "-I", "-S", *(["-B"] if prefix else []), "-c", _START.format(folder=folder)]
    process = _Process(command, prefix)
    try:
        return AgentHost(name, process, pass_fds)
    except AgentError as error:
        raise _why_not(name, error) from error


def _why_not(name: str, error: AgentError) -> NoHostError:
    words = error.log
    last = words.splitlines()[-1] if words else str(error)
    if words.startswith("sudo:"):
        return NoHostError(
            "run programs by sudo",
            words.splitlines()[0],
            "Allow it without a password (`NOPASSWD` in /etc/sudoers.d), or start Jupyter as root.",
        )
    if "libbpf" in last:
        return NoHostError(
            f"run programs on {name}",
            f"libbpf cannot be used: {last}",
            "Install it: apt install libbpf1, or dnf install libbpf.",
        )
    return NoHostError(f"run programs on {name}", f"the agent did not start: {last}")
