"""Running the compiler: its flags, its deadline, and the precompiled prelude."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ebpf_magic import cache
from ebpf_magic.build.headers import PRELUDE, Headers
from ebpf_magic.build.private import PrivateFolder
from ebpf_magic.build.toolchain import Toolchain, environment
from ebpf_magic.errors import CompileError

if sys.platform == "linux":
    import resource

DEADLINE_S = 60.0
_OBJECT = "cell.o"
_MAX_LOG_BYTES = 256 << 10
# What a compiler may take, so that a cell that grows without end does not exhaust the machine.
_MAX_ADDRESS_SPACE_BYTES = 4 << 30
_MAX_FILE_BYTES = 256 << 20
_TARGET_ARCH = {"x86": "__TARGET_ARCH_x86", "arm64": "__TARGET_ARCH_arm64"}


@dataclass(frozen=True)
class Clang:
    """A compiler with all it needs for one kernel.

    Attributes
    ----------
    toolchain : Toolchain
        The program.
    headers : Headers
        Where the headers are.
    arch : str
        The kernel's architecture, "x86" or "arm64".
    folder : PrivateFolder
        The compiler works in it, and everything it writes is there.
    deadline : float
        When to give up, in `time.monotonic` seconds.
    """

    toolchain: Toolchain
    headers: Headers
    arch: str
    folder: PrivateFolder
    deadline: float

    def command(self, *words: str | Path) -> list[str]:
        """Return the compiler's command line: what it always gets, and these arguments."""
        return [*self.toolchain.command, *base_flags(self.arch), *self.headers.flags(), *map(str, words)]

    def run(self, *words: str | Path) -> Result:
        """Run the compiler on these arguments, after the ones it always gets."""
        # The private folder's name is another one each time; the object is not to know it.
        folder = self.folder.path
        code, log = _run(self.command(f"-ffile-prefix-map={folder}=.", *words), folder, self.deadline)
        return Result(code, log[:_MAX_LOG_BYTES].decode("utf-8", "backslashreplace"))

    def compile(self, *words: str | Path) -> Result:
        """Run the compiler on these arguments to make an object."""
        output = self.folder.path / _OBJECT
        result = self.run(*words, "-c", "-o", output.name)
        return replace(result, made=output.read_bytes() if result.code == 0 and output.is_file() else b"")

    def precompiled_prelude(self, key: str) -> Path | None:
        """Return the precompiled prelude, made now if the cache has none; None when there cannot be one."""
        folder = cache.folder("prelude")
        if folder is None:
            return None
        path = folder / f"{key}.pch"
        if path.is_file():
            cache.touch(path)
            return path
        made = self.folder.path / "prelude.pch"
        if self.run("-x", "c-header", PRELUDE, "-o", made).code != 0:
            return None  # the plain build that follows says what is wrong
        return cache.put_file("prelude", path.name, made.read_bytes())


@dataclass(frozen=True)
class Result:
    """How a run of the compiler ended, all it said, and the object it made."""

    code: int
    log: str
    made: bytes = b""


def base_flags(arch: str) -> list[str]:
    """Return the flags of every build, those of the precompiled prelude included."""
    return [
        *("-target", "bpf", "-g", "-O2", "-std=gnu17"),
        # Below v3 (Linux 5.1; atomics that return a value 5.12) clang refuses to use what __sync_fetch_and_add returns.
        "-mcpu=v3",
        f"-D{_TARGET_ARCH[arch]}",
        "-fdebug-compilation-dir=.",
        *("-ferror-limit=20", "-fno-crash-diagnostics", "-fno-caret-diagnostics", "-fno-color-diagnostics"),
        # Without a prototype it is no helper, and libbpf would look for it as a kernel function.
        *("-Wall", "-Wno-unknown-warning-option", "-Werror=implicit-function-declaration"),
    ]


def goes_with_precompiled(flags: Sequence[str], prelude_text: str) -> bool:
    """Whether flags are known to leave the prelude as it was compiled: warnings, and names that do not occur in it.

    clang itself cannot be asked: it takes a prelude made with other definitions in silence.
    """
    for flag in flags:
        name = re.fullmatch(r"-D([A-Za-z_]\w*)(?:=.*)?", flag, re.DOTALL)
        if name:
            if re.search(rf"\b{name.group(1)}\b", prelude_text):
                return False
        elif not re.fullmatch(r"-W[a-z][\w=-]*", flag):
            return False
    return True


def _run(command: list[str], folder: Path, deadline: float) -> tuple[int, bytes]:
    """Run a command in a session of its own; on its deadline, or an interrupt, end all of it."""
    process = subprocess.Popen(
        command,
        cwd=folder,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        env=environment() | {"TMPDIR": str(folder)},
        start_new_session=True,
    )
    try:
        limit(process.pid)
        # Not wait(timeout): that looks again only after up to 50 ms, more than the compiler takes.
        _, log = process.communicate(timeout=max(0.0, deadline - time.monotonic()))
    except subprocess.TimeoutExpired:
        raise CompileError(
            "compile the cell",
            f"the compiler was not done after {DEADLINE_S:.0f} s",
            "Macros that grow without end do that.",
        ) from None
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        if process.stderr:
            process.stderr.close()
    return process.returncode, log


def limit(pid: int) -> None:
    """Bound what a compiler may take."""
    if sys.platform != "linux":
        return
    for which, limit in ((resource.RLIMIT_AS, _MAX_ADDRESS_SPACE_BYTES), (resource.RLIMIT_FSIZE, _MAX_FILE_BYTES)):
        try:
            resource.prlimit(pid, which, (limit, limit))
        except (ProcessLookupError, PermissionError, ValueError):
            return  # it has ended already, or has a lower limit than ours
