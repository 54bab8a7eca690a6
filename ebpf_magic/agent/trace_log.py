"""What bpf_printk said: a tracefs instance of the session's own, read without blocking."""

from __future__ import annotations

import collections
import itertools
import os
import re
import sys
from typing import Any

_PREFIX = "ebpf_magic-"
_UNKNOWN_COMM = "<...>"  # the kernel notes a task's name when it is switched out: none yet, or forgotten
_EVENT = "events/bpf_trace/bpf_trace_printk/enable"
_LINE = re.compile(
    r"\s*(?P<comm>.*)-(?P<pid>\d+)\s+(?:\([\d -]+\)\s+)?\[(?P<cpu>\d+)\]\s+\S+\s+(?P<time>\d+\.\d+): "
    r"bpf_trace_printk: (?P<text>.*)"
)
_LOST = re.compile(r"CPU:\d+ \[LOST (?P<count>\d+) EVENTS\]")
_MAX_LINES = 5000
_MAX_REPLY_BYTES = 256 << 10
_READ_BYTES = 1 << 16
_MAX_READS = 64
_numbers = itertools.count(1)


class TraceLog:
    """Lines of bpf_printk since it was made; it cannot know which program wrote one. `close` removes the instance."""

    def __init__(self, tracing: str) -> None:
        self._folder = f"{tracing}/instances/{_PREFIX}{os.getpid()}-{next(_numbers)}"
        self._lines: collections.deque[dict[str, Any]] = collections.deque()
        self._dropped = 0
        self._rest = ""
        self._pipe = -1
        os.mkdir(self._folder)
        try:
            _write(f"{self._folder}/trace_clock", "mono")
            _write(f"{self._folder}/{_EVENT}", "1")
            self._pipe = os.open(f"{self._folder}/trace_pipe", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except BaseException:
            self.close()
            raise

    def collect(self) -> None:
        """Take over what was written since; keeps the newest lines and counts the others."""
        for _ in range(_MAX_READS):
            try:
                data = os.read(self._pipe, _READ_BYTES)
            except BlockingIOError:
                break
            if not data:
                break
            text = self._rest + data.decode(errors="replace")
            *lines, self._rest = text.split("\n")
            for line in lines:
                self._add(line)

    def take(self) -> tuple[list[dict[str, Any]], int]:
        """Hand out the new lines, oldest first, and how many were lost before them."""
        self.collect()
        lines: list[dict[str, Any]] = []
        size = 0
        while self._lines and size < _MAX_REPLY_BYTES:
            lines.append(self._lines.popleft())
            size += len(lines[-1]["text"]) + 100
        dropped, self._dropped = self._dropped, 0
        return lines, dropped

    def close(self) -> None:
        """Remove the instance; safe to call twice."""
        if self._pipe >= 0:
            os.close(self._pipe)
            self._pipe = -1
        if os.path.isdir(self._folder):
            try:
                os.rmdir(self._folder)
            except OSError as error:  # someone reads it: a later agent removes it, see `sweep`
                sys.stderr.write(f"{self._folder} stayed: {error}\n")

    def _add(self, line: str) -> None:
        lost = _LOST.fullmatch(line.strip())
        if lost:
            self._dropped += int(lost["count"])
            return
        parsed = parse(line)
        if parsed is not None:
            if parsed["comm"] == _UNKNOWN_COMM:
                parsed["comm"] = _comm(parsed["pid"])
            self._lines.append(parsed)
        elif self._lines and line:  # a line break within one printk
            self._lines[-1]["text"] += "\n" + line
        while len(self._lines) > _MAX_LINES:
            self._lines.popleft()
            self._dropped += 1


def parse(line: str) -> dict[str, Any] | None:
    """One line of trace_pipe; None when it is not the beginning of a bpf_printk."""
    match = _LINE.fullmatch(line)
    if match is None:
        return None
    return {
        "time_s": float(match["time"]),
        "cpu": int(match["cpu"]),
        "pid": int(match["pid"]),
        "comm": match["comm"],
        "text": match["text"],
    }


def sweep(tracing: str) -> None:
    """Remove the instances that agents left behind which were killed."""
    try:
        names = os.listdir(f"{tracing}/instances")
    except OSError:  # no right to look: then none of them is ours
        return
    for name in names:
        match = re.fullmatch(_PREFIX + r"(\d+)-\d+", name)
        if match and not os.path.exists(f"/proc/{match[1]}"):
            try:
                os.rmdir(f"{tracing}/instances/{name}")
            except OSError:  # busy: another agent sweeps it, or someone reads it
                continue


def _comm(pid: int) -> str:
    try:
        with open(f"/proc/{pid}/comm", errors="replace") as file:
            return file.read().rstrip("\n")
    except OSError:  # it has ended
        return _UNKNOWN_COMM


def _write(path: str, text: str) -> None:
    with open(path, "w") as file:
        file.write(text)
