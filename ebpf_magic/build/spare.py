"""A compiler started ahead: it has read the prelude and waits for the next cell, so that running a cell again is quick.

Starting clang and reading the prelude is most of what compiling a cell takes. One such process waits, for a few minutes
after a cell was compiled; when this process ends, however it does, it reads the end of its input and goes too.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import selectors
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path

from ebpf_magic.build.clang import limit
from ebpf_magic.build.headers import OWN
from ebpf_magic.build.toolchain import environment

_UNIT = OWN / "spare.c"
_WAIT_S = 300.0
_MALLOC = {"GLIBC_TUNABLES": "glibc.malloc.hugetlb=1:glibc.malloc.top_pad=33554432"}  # fewer page faults; glibc 2.35
# The folder goes with the compiler, also when nobody is left to remove it. Words are arguments, never shell text.
# The shell lets go of the pipes, so that their end is the compiler's end; descriptor 3, since a shell takes the
# standard input away from what it runs beside itself.
_RUN = 'exec 3<&0; folder=$1; shift; "$@" <&3 3<&- & exec </dev/null >/dev/null 2>&1 3<&-; wait; rm -rf -- "$folder" &'
_SECTION_HEADERS = struct.Struct("<40xQ10xHH")  # e_shoff, e_shentsize, e_shnum: what clang writes last


class Spare:
    """One waiting compiler.

    Parameters
    ----------
    command : sequence of str
        The compiler and all its flags but for input and output.
    """

    def __init__(self, command: Sequence[str]) -> None:
        self.command = tuple(command)
        self._folder = Path(tempfile.mkdtemp(prefix="ebpf_magic-")).resolve()
        words = [*command, f"-ffile-prefix-map={self._folder}=.", "-x", "c", str(_UNIT), "-c", "-o", "-"]
        try:
            self._process = subprocess.Popen(
                ["/bin/sh", "-c", _RUN, "sh", str(self._folder), *words],
                cwd=self._folder,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env=environment() | {"TMPDIR": str(self._folder), "LD_BIND_NOW": "1"} | _MALLOC,
                start_new_session=True,
            )
        except OSError:
            shutil.rmtree(self._folder, ignore_errors=True)
            raise
        limit(self._process.pid)
        self._given = False
        self._timer = threading.Timer(_WAIT_S, self.close)
        self._timer.daemon = True
        self._timer.start()

    @property
    def pid(self) -> int:
        """The process, which is also the number of its group."""
        return self._process.pid

    def give(self, name: str, text: str) -> None:
        """Give it the cell; it may be gone by then, which `result` finds out."""
        self._timer.cancel()
        # The text of the lines that the object carries is read from the file, the cell itself from the pipe.
        with contextlib.suppress(OSError, ValueError):  # it has ended, or was closed after waiting too long
            (self._folder / name).write_text(text, "utf-8", newline="\n")
            assert self._process.stdin
            self._process.stdin.write(f'#line 1 "{name}"\n{text}'.encode())
            self._process.stdin.close()
            self._given = True

    def result(self, timeout_s: float) -> bytes | None:
        """Wait for the object; None when it had anything to say: then the plain way says it better.

        It may still be ending then; `close` waits for that.
        """
        if not self._given:
            return None
        try:
            return self._read(time.monotonic() + timeout_s)
        except (OSError, ValueError):
            return None

    def _read(self, deadline: float) -> bytes | None:
        """Read the object up to its last byte; not up to the end of the process, which takes as long again."""
        assert self._process.stdout and self._process.stderr
        made = b""
        with selectors.DefaultSelector() as selector:
            selector.register(self._process.stdout, selectors.EVENT_READ)
            selector.register(self._process.stderr, selectors.EVENT_READ)
            while not _is_whole(made):
                ready = selector.select(max(0.0, deadline - time.monotonic()))
                if not ready:
                    return None
                for key, _ in ready:
                    part = os.read(key.fd, 1 << 20)
                    if key.fileobj is self._process.stderr and part:
                        return None
                    if key.fileobj is self._process.stdout and not part:
                        return None
                    if not part:
                        selector.unregister(key.fileobj)
                    elif key.fileobj is self._process.stdout:
                        made += part
        return made

    def close(self) -> None:
        """End it and remove its folder; safe to call twice."""
        self._timer.cancel()
        if self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
        for stream in (self._process.stdin, self._process.stdout, self._process.stderr):
            if stream:
                stream.close()
        shutil.rmtree(self._folder, ignore_errors=True)  # the shell may be removing it, too


def _is_whole(made: bytes) -> bool:
    """Whether this is an ELF object up to its end: how the compiler ended is not waited for."""
    if not made.startswith(b"\x7fELF") or len(made) < 64:
        return False
    at, size, count = _SECTION_HEADERS.unpack_from(made)
    return bool(len(made) >= at + size * count > 0)


_waiting: Spare | None = None
_next: tuple[str, ...] = ()
_ending: list[Spare] = []
_lock = threading.Lock()


def expect(command: Sequence[str]) -> None:
    """Say what the next cell is likely to be compiled with; `prepare` then starts it."""
    global _next
    _next = tuple(command)


def prepare() -> None:
    """Have a compiler wait for the next cell, where one is expected and none waits; let the one before go."""
    _let_go()
    if sys.platform == "linux" and _next and _waiting is None:
        with contextlib.suppress(OSError):  # no room, no process left: the next cell is compiled the plain way
            _exchange(Spare(_next))


def take() -> Spare | None:
    """Give the waiting compiler, once; whether it is the right one, its command says."""
    spare = _exchange(None)
    if spare is not None:
        _ending.append(spare)
    return spare


def close() -> None:
    """Have none wait any longer."""
    _let_go()
    spare = _exchange(None)
    if spare is not None:
        spare.close()


def _let_go() -> None:
    while _ending:
        _ending.pop().close()


def _exchange(spare: Spare | None) -> Spare | None:
    """Put this one in the place of the one that waits, and give the caller that one; of two, the new one stays."""
    global _waiting
    with _lock:
        before, _waiting = _waiting, spare
    if spare is not None and before is not None:
        before.close()
        return None
    return before


atexit.register(close)
