"""What a live view costs: CPU time of a real ipykernel and its agent, with a page that acknowledges like a browser."""

from __future__ import annotations

import queue
import struct
import subprocess
import time
from typing import Any

import psutil
from jupyter_client.blocking import BlockingKernelClient
from jupyter_client.manager import KernelManager

PERIOD_S = 6.0
SETTLE_S = 2.0
INTERVAL_S = 0.1
ANSWER_TIMEOUT_S = 60

START = f"""
session = ebpf_magic.run('''
HIST(latency, "ns");
SEC("tracepoint/syscalls/sys_enter_getpgid")
int on_call(void *ctx) {{ OBSERVE(latency, (u32)bpf_get_prandom_u32() >> (PID() & 7)); return 0; }}
''', name="watched")
view = session.maps["latency"].live(interval_s={INTERVAL_S})
"""


class Page:
    """The browser's part of the widget protocol: takes the frames, acknowledges those that ask for it."""

    def __init__(self, client: BlockingKernelClient) -> None:
        self._client = client
        self.frames = 0

    def run(self, code: str) -> None:
        """Run a cell and wait until the kernel is idle again."""
        asked = self._client.execute(code)
        deadline = time.monotonic() + ANSWER_TIMEOUT_S
        while time.monotonic() < deadline:
            message = self._next(1.0)
            if message is None or message["parent_header"].get("msg_id") != asked:
                continue
            if message["msg_type"] == "error":
                raise RuntimeError("\n".join(message["content"]["traceback"]))
            if message["msg_type"] == "status" and message["content"]["execution_state"] == "idle":
                return
        raise RuntimeError("the kernel did not answer")

    def look_on(self, seconds: float) -> None:
        """Do what a page does while nobody touches it."""
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            self._next(left)

    def _next(self, timeout_s: float) -> dict[str, Any] | None:
        try:
            message: dict[str, Any] = self._client.get_iopub_msg(timeout=timeout_s)
        except queue.Empty:
            return None
        if message["msg_type"] == "comm_msg":
            self._frame(message)
        return message

    def _frame(self, message: dict[str, Any]) -> None:
        content = message["content"]
        if ["data"] not in content["data"].get("buffer_paths", []):
            return
        number, wanted = struct.unpack_from("<II", message["buffers"][0])
        self.frames += 1
        if wanted:
            data = {"method": "custom", "content": {"ack": number}}
            answer = self._client.session.msg("comm_msg", {"comm_id": content["comm_id"], "data": data})
            self._client.shell_channel.send(answer)


def cpu_time_s(process: psutil.Process) -> float:
    """CPU seconds of a process and all its children so far."""
    total = 0.0
    for one in [process, *process.children(recursive=True)]:
        times = one.cpu_times()
        total += times.user + times.system
    return total


def share(page: Page, process: psutil.Process) -> tuple[float, float]:
    """CPU time as a share of one core, and frames a second, over one period."""
    page.look_on(SETTLE_S)
    frames, began, before = page.frames, time.monotonic(), cpu_time_s(process)
    page.look_on(PERIOD_S)
    took = time.monotonic() - began
    return (cpu_time_s(process) - before) / took, (page.frames - frames) / took


def live_cpu_share(rounds: int) -> tuple[float, float, float]:
    """Share of one core with the view moving, with nothing running, and frames a second; least of several rounds."""
    manager = KernelManager(kernel_name="python3")
    # Being interrupted is how a kernel is asked to end; it says so.
    manager.start_kernel(stderr=subprocess.DEVNULL)
    client = manager.blocking_client()
    client.start_channels()
    try:
        client.wait_for_ready(timeout=ANSWER_TIMEOUT_S)
        page = Page(client)
        process = psutil.Process(manager.provisioner.pid)
        page.run("import ebpf_magic, pandas\n%load_ext ebpf_magic")
        busy, idle, rates = [], [], []
        for _ in range(rounds):
            idle.append(share(page, process)[0])
            page.run(START + "view")
            moving, rate = share(page, process)
            busy.append(moving)
            rates.append(rate)
            page.run("session.stop()")
        return min(busy), min(idle), max(rates)
    finally:
        client.stop_channels()
        manager.shutdown_kernel()
