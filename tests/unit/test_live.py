"""The one thread that moves the views."""

from __future__ import annotations

import threading
import time

from ebpf_magic.live import Ticker


def _fail(error: Exception) -> None:
    raise AssertionError(error)


def test_task_is_called_again_and_again_until_cancelled() -> None:
    ticker = Ticker()
    third = threading.Event()
    calls = []

    def call() -> None:
        calls.append(threading.get_ident())
        if len(calls) >= 3:
            third.set()

    task = ticker.add(call, 0.001, _fail)
    assert third.wait(10)
    task.cancel()
    seen = len(calls)
    time.sleep(0.05)
    assert len(calls) == seen
    assert set(calls) != {threading.get_ident()}


def test_error_ends_the_task_and_reaches_its_owner() -> None:
    ticker = Ticker()
    caught: list[Exception] = []
    over = threading.Event()

    def explode() -> None:
        raise ValueError("no")

    def keep(error: Exception) -> None:
        caught.append(error)
        over.set()

    ticker.add(explode, 0.001, keep)
    assert over.wait(10)
    time.sleep(0.05)
    assert [str(error) for error in caught] == ["no"]


def test_slow_task_waits_longer_so_that_it_keeps_below_its_share() -> None:
    ticker = Ticker()
    done = threading.Event()

    def slow() -> None:
        time.sleep(0.05)
        done.set()

    task = ticker.add(slow, 0.001, _fail)
    assert done.wait(10)
    task.cancel()
    assert task.pause_s >= 0.5


def test_thread_ends_with_the_last_task_and_starts_again() -> None:
    ticker = Ticker()
    for _ in range(2):
        once = threading.Event()
        ticker.add(once.set, 0.001, _fail).cancel()
        task = ticker.add(once.set, 0.001, _fail)
        assert once.wait(10)
        task.cancel()
        deadline = time.monotonic() + 10
        while ticker._thread is not None and time.monotonic() < deadline:
            time.sleep(0.005)
        assert ticker._thread is None


def test_task_may_cancel_itself() -> None:
    ticker = Ticker()
    calls = []
    ready = threading.Event()

    def call() -> None:
        ready.wait(10)
        calls.append(1)
        task.cancel()

    task = ticker.add(call, 0.001, _fail)
    ready.set()
    time.sleep(0.1)
    assert calls == [1]
