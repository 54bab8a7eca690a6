"""One thread that moves everything that moves: live views, cards, and the watch on what the agent stopped."""

from __future__ import annotations

import heapq
import itertools
import threading
import time
from collections.abc import Callable

# A task never takes more than this share of the time: when one reading is slow, the next one waits longer.
_MAX_SHARE = 0.1


class Task:
    """A function called again and again on the live thread until it is cancelled.

    Parameters
    ----------
    call : callable
        What to do; an exception ends the task and is handed to `on_error`.
    interval_s : float
        Seconds from one call to the next, stretched when the call itself is slow.
    on_error : callable
        Receives the exception that ended the task.
    """

    def __init__(self, call: Callable[[], None], interval_s: float, on_error: Callable[[Exception], None]) -> None:
        self._call = call
        self._on_error = on_error
        self.interval_s = interval_s
        self.took_s = 0.0
        self._busy = threading.RLock()
        self._cancelled = False

    @property
    def pause_s(self) -> float:
        """Seconds until the next call: the interval, or longer so that the task stays below its share."""
        return max(self.interval_s, self.took_s / _MAX_SHARE)

    def cancel(self) -> None:
        """Never call again; a call under way on another thread is waited for."""
        self._cancelled = True
        with self._busy:
            pass

    def step(self) -> bool:
        """Call once; False when there is no next time."""
        with self._busy:
            if self._cancelled:
                return False
            began = time.perf_counter()
            try:
                self._call()
            except Exception as error:
                self._cancelled = True
                self._on_error(error)
            self.took_s = time.perf_counter() - began
            return not self._cancelled


class Ticker:
    """Runs tasks on one daemon thread that lives only while there are any."""

    def __init__(self) -> None:
        self._due: list[tuple[float, int, Task]] = []
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._order = itertools.count()

    def add(self, call: Callable[[], None], interval_s: float, on_error: Callable[[Exception], None]) -> Task:
        """Call `call` every `interval_s` seconds, the first time at once."""
        task = Task(call, interval_s, on_error)
        with self._changed:
            heapq.heappush(self._due, (time.monotonic(), next(self._order), task))
            if self._thread is None:
                self._thread = threading.Thread(target=self._loop, name="ebpf_magic-live", daemon=True)
                self._thread.start()
            self._changed.notify()
        return task

    def _loop(self) -> None:
        while True:
            with self._changed:
                while self._due and (wait := self._due[0][0] - time.monotonic()) > 0:
                    self._changed.wait(wait)
                if not self._due:
                    self._thread = None
                    return
                _, _, task = heapq.heappop(self._due)
            if task.step():
                with self._changed:
                    heapq.heappush(self._due, (time.monotonic() + task.pause_s, next(self._order), task))


ticker = Ticker()
