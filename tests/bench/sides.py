"""The other sides of the comparison: BCC, bpftrace and a C program, each a process of its own."""

from __future__ import annotations

import contextlib
import json
import os
import platform
import subprocess
import sysconfig
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
SYSTEM_PYTHON = "/usr/bin/python3"
# The event all sides attach to; `events()` makes it happen.
EVENT = "syscalls:sys_enter_getpgid"
END_TIMEOUT_S = 10
# In a mount namespace of its own, so that nothing of the machine's is changed: BCC and bpftrace want these mounted.
MOUNTS = (
    "mountpoint -q /sys/kernel/tracing || mount -t tracefs tracefs /sys/kernel/tracing || exit 1; "
    'mountpoint -q /sys/kernel/debug || mount -t debugfs debugfs /sys/kernel/debug; exec "$@"'
)


class Missing(Exception):
    """A side cannot be measured here; the text says what is missing."""


def privileged(*command: str, environment: dict[str, str] | None = None) -> list[str]:
    """The command line that runs `command` as root with tracefs there."""
    words = [f"{name}={value}" for name, value in (environment or {}).items()]
    sudo = [] if os.geteuid() == 0 else ["sudo", "-n"]
    return [*sudo, "env", *words, "unshare", "-m", "sh", "-c", MOUNTS, "sh", *command]


@contextlib.contextmanager
def events() -> Iterator[None]:
    """Make the event happen some thousand times a second."""
    over = threading.Event()

    def make() -> None:
        while not over.is_set():
            os.getpgid(0)
            time.sleep(0.0002)

    thread = threading.Thread(target=make, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def kernel_headers(folder: Path) -> Path:
    """One tree with the headers of the newest kernel packaged for this machine, made of links.

    Debian splits them: what depends on the configuration lies apart from what does not; BCC looks into one tree. They
    are not the running kernel's, which serves for programs that look into no kernel structure.
    """
    found = sorted(Path("/usr/src").glob("linux-headers-*/include/generated/autoconf.h"))
    if not found:
        raise Missing("no kernel headers in /usr/src")
    own = found[-1].parents[2]
    common = Path(str(own).rpartition("-")[0] + "-common")
    arch = {"x86_64": "x86", "aarch64": "arm64"}[platform.machine()]
    for include in ("include", f"arch/{arch}/include"):
        target = folder / include
        target.mkdir(parents=True)
        for source in (common / include, own / include):
            for item in source.iterdir() if source.is_dir() else ():
                link = target / item.name
                link.unlink(missing_ok=True)
                link.symlink_to(item)
    return folder


def ask(process: subprocess.Popen[str], line: str) -> str:
    """Send one line and wait for one; an empty answer when the process has ended."""
    assert process.stdin is not None and process.stdout is not None
    try:
        print(line, file=process.stdin, flush=True)
    except BrokenPipeError:
        return ""
    return process.stdout.readline()


def end(process: subprocess.Popen[str]) -> None:
    """Close its input, which ends it."""
    assert process.stdin is not None and process.stdout is not None
    process.stdin.close()
    process.wait(END_TIMEOUT_S)
    process.stdout.close()


class Bcc:
    """BCC in a warm process; its methods are the functions of bcc_side.py."""

    def __init__(self, headers: Path) -> None:
        self._noise = tempfile.TemporaryFile()  # closed with the process
        command = [SYSTEM_PYTHON, str(HERE / "bcc_side.py"), sysconfig.get_path("purelib")]
        self._process = subprocess.Popen(
            privileged(*command, environment={"BCC_KERNEL_SOURCE": str(headers)}),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._noise,
            text=True,
        )

    def ask(self, do: str, **arguments: Any) -> dict[str, int]:
        line = ask(self._process, json.dumps({"do": do, **arguments}))
        if not line:
            self._noise.seek(0)
            raise Missing("BCC ended: " + self._noise.read().decode(errors="replace")[-2000:])
        answer: dict[str, int] = json.loads(line)
        return answer

    def close(self) -> None:
        end(self._process)
        self._noise.close()


class Bpftrace:
    """bpftrace, a new process each time; what starts it runs on."""

    def __init__(self) -> None:
        command = privileged(SYSTEM_PYTHON, str(HERE / "bpftrace_side.py"), EVENT)
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def to_attached_ns(self) -> int:
        """Nanoseconds from the start of bpftrace until its probe is attached."""
        took = int(ask(self._process, "") or 0)
        if not took:
            raise Missing("bpftrace saw no event")
        return took

    def close(self) -> None:
        end(self._process)


class Libbpf:
    """The C program that opens and loads an object with libbpf, again and again."""

    def __init__(self, folder: Path, object: Path) -> None:
        program = folder / "load"
        subprocess.run(["clang", "-O2", "-Wall", "-Werror", "-o", program, HERE / "load.c", "-lbpf"], check=True)
        self._process = subprocess.Popen(
            privileged(str(program), str(object)), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def load(self) -> tuple[int, int, int]:
        """Open and load it once: nanoseconds, maps, programs."""
        took, maps, programs = map(int, ask(self._process, "").split() or (0, 0, 0))
        if not took:
            raise Missing("libbpf did not load the object")
        return took, maps, programs

    def close(self) -> None:
        end(self._process)


class Batch:
    """The C program, with a hash of its own of the same contents."""

    def __init__(self, folder: Path, keys: Path, values: Path, entries: int, key_bytes: int) -> None:
        program = folder / "batch"
        if not program.exists():
            subprocess.run(["clang", "-O2", "-Wall", "-Werror", "-o", program, HERE / "batch.c"], check=True)
        self._process = subprocess.Popen(
            privileged(str(program), str(entries), str(key_bytes), str(keys), str(values)),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdout is not None
        if self._process.stdout.readline() != "ready\n":
            raise Missing("the C program did not start")

    def read(self) -> tuple[int, int, int]:
        """Read the map once: nanoseconds, entries, sum of the values."""
        took, entries, total = map(int, ask(self._process, "").split())
        return took, entries, total

    def close(self) -> None:
        end(self._process)
