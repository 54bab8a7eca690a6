"""Known, countable work, to try a probe on: ``ebpf-magic workload disk|net|fork|cpu|file``.

All of it is done by a process that does nothing else under its name (its *comm*), so that a cell which looks at that
name sees exactly what is reported. In the kernel, N rounds of it are::

    file  workload-file   N openat (and so do_sys_openat2), N read, N close
    fork  workload-fork   N sched_process_fork with it as the parent
          workload-exec   its children: N sched_process_exec, N sched_process_exit
    disk  workload-disk   N pwrite64, N fdatasync; with a disk below, N block_bio_queue of a block's bytes (two
                          smaller ones where the file is in pieces, and some for the file's times)
    net   workload-net    N connect, N inet_sock_set_state to TCP_SYN_SENT, as many sendto as reported
          workload-serve  the other end: N accept4
    cpu   workload-cpu    N clock_nanosleep (about as many sched_switch in state S: some are preempted before)

Needs the standard library alone: ``python3 -I -S workload.py fork`` works as well.
"""

from __future__ import annotations

# Few, and others where they are needed: a VM without KVM reads each of them for a long time.
import argparse
import contextlib
import os
import re
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_CLONE_NEWNET = 0x40000000
_SIOCGIFADDR = 0x8915
_READ_BYTES = 512
_MAX_FILE_BYTES = 64 << 20
_ALIGN_BYTES = 4096
_NETNS = "/run/netns"

Counts = dict[str, int]
_ENDING = (signal.SIGINT, signal.SIGTERM)


class Rounds:
    """So many rounds, or as many as fit a time, whichever ends first."""

    def __init__(self, count: int | None, seconds: float | None) -> None:
        self._count = count
        self._seconds = float("inf") if seconds is None else seconds

    def __iter__(self) -> Iterator[None]:
        done = 0
        deadline = time.monotonic() + self._seconds
        while self._count is None or done < self._count:
            if time.monotonic() >= deadline:
                return
            done += 1
            yield


def file_work(rounds: Rounds, path: str) -> Counts:
    """Open, read and close a file."""
    done = 0
    for _ in rounds:
        fd = os.open(path, os.O_RDONLY)
        os.read(fd, _READ_BYTES)
        os.close(fd)
        done += 1
    return {"openat": done, "read": done, "close": done, "read_bytes": done * _READ_BYTES}


def fork_work(rounds: Rounds, program: str) -> Counts:
    """Start a program and wait for its end."""
    done = 0
    for _ in rounds:
        pid = os.posix_spawn(program, ["true"], {})
        _, status = os.waitpid(pid, 0)
        if status != 0:
            raise OSError(f"{program} ended with wait status {status}")
        done += 1
    return {"fork": done, "exec": done, "exit": done}


def disk_work(rounds: Rounds, fd: int, block_bytes: int, blocks: int) -> Counts:
    """Overwrite blocks of a file, each brought to the disk before the next."""
    import mmap

    block = mmap.mmap(-1, -(-block_bytes // mmap.PAGESIZE) * mmap.PAGESIZE)  # aligned, as O_DIRECT wants it
    block.write(b"w" * len(block))
    view = memoryview(block)[:block_bytes]
    done = 0
    for _ in rounds:
        written = os.pwrite(fd, view, done % blocks * block_bytes)
        if written != block_bytes:
            raise OSError(f"{written} of {block_bytes} bytes were written")
        os.fdatasync(fd)
        done += 1
    return {"pwrite64": done, "fdatasync": done, "written_bytes": done * block_bytes}


def net_work(rounds: Rounds, address: tuple[str, int], message_bytes: int) -> Counts:
    """Connect, send a message, and wait until the other end has it all and closes."""
    import socket

    message = b"m" * message_bytes
    done = sends = 0
    for _ in rounds:
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as connection:
            connection.connect(address)
            sent = 0
            while sent < message_bytes:
                sent += connection.send(message[sent:])
                sends += 1
            connection.shutdown(socket.SHUT_WR)
            if connection.recv(1):
                raise OSError("the other end sent something")
        done += 1
    return {"connect": done, "sendto": sends, "sent_bytes": done * message_bytes}


def cpu_work(rounds: Rounds, burst_s: float) -> Counts:
    """Use CPU time, then sleep for a moment."""
    began = time.process_time_ns()
    done = 0
    for _ in rounds:
        until = time.process_time() + burst_s
        while time.process_time() < until:
            pass
        time.sleep(0.001)
        done += 1
    return {"clock_nanosleep": done, "cpu_time_ns": time.process_time_ns() - began}


class Worker:
    """A child process with a name of its own that does one piece of work and tells what it did."""

    def __init__(self, comm: str, work: Callable[[], Counts]) -> None:
        self.comm = comm
        self._reads, writes = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            try:
                signal.signal(signal.SIGTERM, signal.SIG_DFL)
                signal.pthread_sigmask(signal.SIG_UNBLOCK, _ENDING)
                _work(comm, work, writes)
            finally:
                os._exit(1)
        os.close(writes)

    def result(self) -> Counts:
        """Wait for its end; raises OSError with what it says went wrong."""
        with open(self._reads) as pipe:
            text = pipe.read()
        os.waitpid(self.pid, 0)
        self.pid = 0
        outcome, _, rest = text.partition("\n")
        if outcome != "done":
            raise OSError(rest if outcome else "it was killed")
        return {name: int(number) for name, number in map(str.split, rest.splitlines())}

    def kill(self) -> None:
        """End it, if it has not ended."""
        if self.pid:
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
            self.pid = 0


@contextlib.contextmanager
def _started(comm: str, work: Callable[[], Counts]) -> Iterator[Worker]:
    """Start a worker, which ends with the block at the latest."""
    signal.pthread_sigmask(signal.SIG_BLOCK, _ENDING)  # until there is somebody who would end it
    worker = Worker(comm, work)
    try:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _ENDING)
        yield worker
    finally:
        worker.kill()


def _work(comm: str, work: Callable[[], Counts], writes: int) -> None:
    """Do the work, in the child; nothing else is done under its name but one write(2) of the result."""
    try:
        os.write(os.open("/proc/self/comm", os.O_WRONLY), comm.encode())  # left open: closing it would count
        answer = "\n".join(["done", *(f"{name} {number}" for name, number in work().items())])
    except KeyboardInterrupt:
        os._exit(128 + signal.SIGINT)
    except Exception as error:
        answer = f"failed\n{error!s}"
    os.write(writes, answer.encode())
    os._exit(0)


def _run(comm: str, work: Callable[[], Counts]) -> dict[str, Any]:
    began = time.monotonic()
    with _started(comm, work) as worker:
        pid = worker.pid
        counts = worker.result()
    return {"comm": comm, "pid": pid, "counts": counts, "took_s": round(time.monotonic() - began, 6)}


def _read_ahead(*modules: str) -> None:
    """Import what a worker will: under its name the files would count as its own."""
    for name in modules:
        __import__(name)


def _do_file(options: argparse.Namespace, folder: str) -> dict[str, Any]:
    path = os.path.join(folder, "file")
    with open(path, "wb") as file:
        file.write(b"r" * _READ_BYTES)
    rounds = Rounds(options.count, options.seconds)
    done = _run("workload-file", lambda: file_work(rounds, path))
    counts = done["counts"]
    where = os.path.dirname(folder)
    text = f"{counts['openat']:,} opens, reads of {_READ_BYTES} bytes and closes of a file in {where}"
    return {**done, "text": text}


def _do_fork(options: argparse.Namespace, folder: str) -> dict[str, Any]:
    true = next(filter(os.path.exists, ("/usr/bin/true", "/bin/true")), "/bin/true")
    program = os.path.join(folder, "workload-exec")  # the kernel names a process after the path it was started by
    os.symlink(os.path.realpath(true), program)
    rounds = Rounds(options.count, options.seconds)
    done = _run("workload-fork", lambda: fork_work(rounds, program))
    return {**done, "text": f"{done['counts']['exec']:,} forks and execs of {true} as workload-exec"}


def _do_disk(options: argparse.Namespace, folder: str) -> dict[str, Any]:
    _read_ahead("mmap")
    size = options.block
    path = os.path.join(folder, "disk")
    rounds_most = options.count if options.count is not None else _MAX_FILE_BYTES
    blocks = max(min(rounds_most, _MAX_FILE_BYTES // size), 1)
    with open(path, "wb") as file:  # written before: what follows moves no metadata
        for _ in range(blocks):
            file.write(bytes(size))
        file.flush()
        os.fsync(file.fileno())
    fd, how = _open_direct(path, size)
    try:
        rounds = Rounds(options.count, options.seconds)
        done = _run("workload-disk", lambda: disk_work(rounds, fd, size, blocks))
    finally:
        os.close(fd)
    counts = done["counts"]
    text = (
        f"{counts['written_bytes']:,} bytes written in {counts['pwrite64']:,} blocks of {size:,}, each synchronised,"
        f" {how}, to a file in {os.path.dirname(folder)}"
    )
    return {**done, "direct": how == _DIRECT, "text": text}


_DIRECT = "past the page cache (O_DIRECT)"


def _open_direct(path: str, block_bytes: int) -> tuple[int, str]:
    if block_bytes % _ALIGN_BYTES == 0:
        with contextlib.suppress(OSError):  # not every file system can: a tmpfs since Linux 6.6
            return os.open(path, os.O_WRONLY | os.O_DIRECT), _DIRECT
    return os.open(path, os.O_WRONLY), "through the page cache"


def _do_net(options: argparse.Namespace, folder: str) -> dict[str, Any]:
    _read_ahead("socket", *(("ctypes", "fcntl", "struct") if options.netns else ()))
    reads, writes = os.pipe()
    with _started("workload-serve", lambda: _serve(options.netns, options.address, writes)) as serving:
        os.close(writes)
        with open(reads) as pipe:
            told = pipe.readline().split()
        if not told:
            serving.result()  # raises: it says why
            raise OSError("the server told no address")
        address = (told[0], int(told[1]))
        rounds = Rounds(options.count, options.seconds)
        done = _run("workload-net", lambda: net_work(rounds, address, options.bytes))
        os.kill(serving.pid, signal.SIGTERM)
        served = serving.result()
    counts = done["counts"]
    if (served["accept4"], served["received_bytes"]) != (counts["connect"], counts["sent_bytes"]):
        raise OSError(f"{counts} were sent and {served} received")
    where = f"{address[0]}" + (f" in the network namespace {options.netns}" if options.netns else "")
    text = f"{counts['connect']:,} TCP connections to {where}, {counts['sent_bytes']:,} bytes sent"
    return {**done, "address": address[0], "port": address[1], "served": served, "text": text}


def _serve(netns: str | None, address: str | None, tell: int) -> Counts:
    """Accept and read until SIGTERM; the address is told first."""
    import socket

    accepted = received = 0
    buffer = bytearray(1 << 16)
    if netns:
        _enter(netns)
        address = address or _first_address()
    over = []
    signal.signal(signal.SIGTERM, lambda *_: over.append(True))
    signal.siginterrupt(signal.SIGTERM, True)
    with socket.create_server((address or "127.0.0.1", 0), backlog=128) as server:
        host, port = server.getsockname()[:2]
        os.write(tell, f"{host} {port}\n".encode())
        os.close(tell)
        server.settimeout(0.2)  # a signal between the look and the call would be seen only by the next connection
        while not over:
            try:
                connection, _ = server.accept()
            except TimeoutError:
                continue
            with connection:
                while got := connection.recv_into(buffer):
                    received += got
            accepted += 1
    return {"accept4": accepted, "received_bytes": received}


def _enter(netns: str) -> None:
    import ctypes  # os.setns is there from Python 3.12 on

    libc = ctypes.CDLL(None, use_errno=True)
    path = os.path.join(_NETNS, netns)
    fd = os.open(path, os.O_RDONLY)
    try:
        if libc.setns(fd, _CLONE_NEWNET) != 0:
            number = ctypes.get_errno()
            raise OSError(number, f"{os.strerror(number)}: enter the network namespace", path)
    finally:
        os.close(fd)


def _first_address() -> str:
    """Find an IPv4 address of this network namespace that is not the loopback's."""
    import fcntl
    import socket
    import struct

    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asked:
        for _, name in socket.if_nameindex():
            request = struct.pack("40s", name.encode())
            with contextlib.suppress(OSError):  # it has none
                answer = fcntl.ioctl(asked.fileno(), _SIOCGIFADDR, request)
                address = socket.inet_ntoa(answer[20:24])
                if not address.startswith("127."):
                    return address
    raise OSError("no interface of that network namespace has an IPv4 address")


def _do_cpu(options: argparse.Namespace, folder: str) -> dict[str, Any]:
    rounds = Rounds(options.count, options.seconds)
    done = _run("workload-cpu", lambda: cpu_work(rounds, options.burst / 1000))
    counts = done["counts"]
    used_s = counts["cpu_time_ns"] / 1e9
    text = (
        f"{counts['clock_nanosleep']:,} bursts of {options.burst:g} ms and as many sleeps, {used_s:.3f} s of CPU time"
    )
    return {**done, "text": text}


_DOES: dict[str, Callable[[argparse.Namespace, str], dict[str, Any]]] = {
    "file": _do_file,
    "fork": _do_fork,
    "disk": _do_disk,
    "net": _do_net,
    "cpu": _do_cpu,
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Give a parser the arguments of ``ebpf-magic workload``."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.description = (__doc__ or "").partition("\n\nNeeds")[0].replace("``", "").replace("::\n", ":\n")
    parser.set_defaults(act=run)
    kinds = parser.add_subparsers(dest="kind", metavar="KIND", required=True)

    def add(kind: str, text: str, count: int, rounds: str) -> argparse.ArgumentParser:
        made = kinds.add_parser(kind, help=text)
        made.add_argument("--count", type=_positive, metavar="N", help=f"{rounds} (default {count})")
        made.add_argument("--seconds", type=_seconds, metavar="S", help="at most for so long; alone: for so long")
        made.add_argument(
            "--folder", help="where its files are (default: /scratch, the working folder, or the temp one)"
        )
        made.add_argument("--json", action="store_true", help="tell it as one line of JSON")
        made.set_defaults(default_count=count)
        return made

    add("file", "open, read and close a file", 1000, "opens")
    add("fork", "start processes", 23, "processes")
    disk = add("disk", "write blocks, each synchronised", 256, "blocks")
    disk.add_argument("--block", type=_size, default=16384, metavar="BYTES", help="of a block, such as 64K (16K)")
    net = add("net", "TCP connections", 100, "connections")
    net.add_argument("--bytes", type=_size, default=1000, help="of a message (%(default)s)")
    net.add_argument("--address", help="the server's (127.0.0.1, or the one the network namespace has)")
    net.add_argument(
        "--netns", metavar="NAME", help="the server is in this network namespace, such as peer (needs root)"
    )
    cpu = add("cpu", "use CPU time in bursts, with a sleep after each", 100, "bursts")
    cpu.add_argument("--burst", type=_seconds, default=1.0, metavar="MS", help="CPU time of a burst (%(default)s)")


def run(options: argparse.Namespace) -> int:
    """Do the work that was asked for and print what was done; the exit status is 0 when all went well."""
    if options.count is None and options.seconds is None:
        options.count = options.default_count
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # so that its files go
    try:
        with _own_folder(_folder(options.folder)) as folder:
            done = _DOES[options.kind](options, folder)
    except KeyboardInterrupt:
        return 130
    except OSError as error:
        print(f"ebpf-magic workload {options.kind}: {error}", file=sys.stderr)
        return 1
    text = done.pop("text")
    if options.json:
        import json

        print(json.dumps({"kind": options.kind, **done}))
    else:
        print(f"{done['comm']} (process {done['pid']}): {text}, in {done['took_s']:.3f} s")
    return 0


def main(arguments: Sequence[str] | None = None) -> int:
    """Run as a program of its own."""
    parser = argparse.ArgumentParser(prog="workload")
    add_arguments(parser)
    return run(parser.parse_args(arguments))


@contextlib.contextmanager
def _own_folder(place: str) -> Iterator[str]:
    """Make a folder that goes with all that is in it."""
    path = os.path.join(place, f"ebpf_magic-{os.getpid()}-{time.monotonic_ns()}")
    os.mkdir(path, 0o700)
    try:
        yield path
    finally:
        for name in os.listdir(path):
            os.unlink(os.path.join(path, name))
        os.rmdir(path)


def _folder(wanted: str | None) -> str:
    if wanted:
        return os.path.abspath(wanted)
    places = ["/scratch"] if os.path.ismount("/scratch") else []
    for place in [*places, os.getcwd()]:
        # access(2) alone knows of a read-only mount, which is what the working folder is in a VM.
        if os.access(place, os.W_OK | os.X_OK):
            return place
    return os.environ.get("TMPDIR", "/tmp")


def _positive(text: str) -> int:
    value = int(text.replace(",", "").replace("_", ""))
    if value <= 0:
        raise argparse.ArgumentTypeError(f"{text} is not above 0")
    return value


def _seconds(text: str) -> float:
    value = float(text)
    if not 0 < value < 1e9:
        raise argparse.ArgumentTypeError(f"{text} is not a time above 0")
    return value


def _size(text: str) -> int:
    found = re.fullmatch(r"(\d+)([KM]?)(?:i?B)?", text, re.IGNORECASE)
    value = int(found[1]) << {"": 0, "K": 10, "M": 20}[found[2].upper()] if found else 0
    if not 0 < value <= _MAX_FILE_BYTES:
        raise argparse.ArgumentTypeError(f"{text!r} is not a size from 1 to 64M, such as 512 or 16K")
    return value


if __name__ == "__main__":
    sys.exit(main())
