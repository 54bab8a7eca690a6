"""bpftrace's side of the benchmarks: for each line on stdin, nanoseconds from its start until its probe is attached.

It runs as root where tracefs is mounted, so that nothing but bpftrace itself is in the measured time. That the probe is
attached shows in the first event it reports. 0 when it ended without one.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

END_TIMEOUT_S = 10


def to_attached_ns(event: str) -> int:
    program = f'tracepoint:{event} {{ @[pid] = count(); printf("seen\\n"); exit(); }}'
    began = time.perf_counter_ns()
    with subprocess.Popen(
        ["bpftrace", "-e", program],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
        text=True,
    ) as process:
        assert process.stdout is not None
        took = 0
        for line in process.stdout:
            if "seen" in line:
                took = time.perf_counter_ns() - began
                break
        process.stdout.read()
        try:
            process.wait(END_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
    return took


for _ in sys.stdin:
    print(to_attached_ns(sys.argv[1]), flush=True)
