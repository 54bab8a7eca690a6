"""One thread that does a host's round trips, one at a time."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from typing import Any

# Those in line before have deadlines of their own; this is for one whose caller has gone.
_QUEUE_S = 120.0


class Outcome:
    """What a job will have given."""

    def __init__(self, job: Callable[[], Any]) -> None:
        self._job: Callable[[], Any] | None = job
        self._begun = threading.Event()
        self._done = threading.Event()
        self._value: Any = None
        self._error: BaseException | None = None

    def run(self) -> None:
        """Do the job, on the worker's thread."""
        job, self._job = self._job, None
        assert job is not None
        self._begun.set()
        try:
            self._value = job()
        except BaseException as error:  # handed to the caller by result()
            self._error = error
        finally:
            self._done.set()

    def wait(self, timeout_s: float) -> bool:
        """Wait until the job is done, so long from when it begins; whether it is."""
        return self._begun.wait(_QUEUE_S) and self._done.wait(timeout_s)

    def result(self) -> Any:
        """Give what the job gave; raise what it raised."""
        if self._error is not None:
            try:
                raise self._error
            finally:
                self._error = None  # no cycle through the traceback
        return self._value


class Worker:
    """A daemon thread with a queue; `close` lets it finish what it has begun."""

    def __init__(self, name: str) -> None:
        self._jobs: queue.SimpleQueue[Outcome | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, name=name, daemon=True)
        self._thread.start()

    def submit(self, job: Callable[[], Any]) -> Outcome:
        """Put a job in line."""
        outcome = Outcome(job)
        self._jobs.put(outcome)
        return outcome

    def close(self) -> None:
        """End the thread; safe to call twice, and from the thread itself."""
        self._jobs.put(None)
        if self._thread is not threading.current_thread():
            self._thread.join(5)

    def _work(self) -> None:
        while (outcome := self._jobs.get()) is not None:
            outcome.run()
            del outcome
