"""The thread that does a host's round trips."""

from __future__ import annotations

import threading
import time

import pytest

from ebpf_magic.hosts.worker import Worker


def test_gives_what_the_job_gave_or_raised() -> None:
    worker = Worker("test")
    good, bad = worker.submit(lambda: 42), worker.submit(lambda: 1 // 0)
    assert good.wait(10)
    assert good.result() == 42
    assert bad.wait(10)
    with pytest.raises(ZeroDivisionError):
        bad.result()
    worker.close()


def test_time_in_line_does_not_count_against_the_deadline() -> None:
    worker = Worker("test")
    slow = worker.submit(lambda: time.sleep(2))
    quick = worker.submit(lambda: "done")
    assert quick.wait(1.5)
    assert slow.wait(0)
    worker.close()


def test_deadline_of_a_job_that_has_begun() -> None:
    worker = Worker("test")
    never = threading.Event()
    stuck = worker.submit(never.wait)
    assert not stuck.wait(0.05)
    never.set()
    worker.close()
