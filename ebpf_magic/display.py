"""What a notebook shows of a session: its card and its live views, and what stays of them when it ends."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from ebpf_magic.card import CardFeed
from ebpf_magic.data.rates import Rates
from ebpf_magic.errors import EbpfMagicError
from ebpf_magic.live import Task, ticker
from ebpf_magic.views import CardView, HistogramView, TableView, View
from ebpf_magic.views.panel import Panel

if TYPE_CHECKING:
    import pandas as pd

    from ebpf_magic.bpf_map import Map
    from ebpf_magic.session import Session

_MARKS = (50.0, 90.0, 99.0)
_CARD_INTERVAL_S = 1.0
_CARD_VIEW_INTERVAL_S = 0.5


class Live:
    """Views of a session that keep moving while other cells run.

    When the session ends, each output that shows it becomes a picture and a table that need no widget and no kernel.

    Parameters
    ----------
    session : Session
        Its end is the views' end; with views of several sessions, that of the last.
    view : View
        What is shown.
    sample : callable
        Reads the data and hands it to the view.
    interval_s : float
        Seconds between two samples.
    """

    def __init__(self, session: Session, view: View, sample: Callable[[], None], interval_s: float) -> None:
        self._sessions = [session]
        self._feeds = [(sample, interval_s)]
        self._panel = Panel(view)
        self._tasks: list[Task] = []
        self._displays: list[str] = []
        self._over = False
        self._lock = threading.RLock()

    def above(self, other: Live) -> Live:
        """Put another's views below these, as one output."""
        self._sessions += [session for session in other._sessions if session not in self._sessions]
        self._feeds += other._feeds
        self._panel = Panel(*self._panel.views, *other._panel.views)
        return self

    @property
    def view(self) -> View:
        """The (first) view."""
        return self._panel.views[0]

    def start(self) -> None:
        """Begin to move, once; done by displaying it."""
        with self._lock:
            if self._tasks or self._over:
                return
            self._sample()
            self._tasks = [ticker.add(sample, interval_s, self._failed) for sample, interval_s in self._feeds]
        for session in self._sessions:
            session.on_end(self._one_ended)

    def stop(self) -> None:
        """Stop moving; the outputs become what was last seen."""
        self._finish()

    def text(self) -> str:
        """Return the state now as text."""
        if not self._tasks and not self._over:
            self._sample()
        return self._panel.text()

    def __repr__(self) -> str:
        return self.text()

    def _ipython_display_(self) -> None:
        from IPython.display import display

        if not self._panel.has_page:
            print(self.text())
            return
        self.start()
        with self._lock:
            handle = display(self._panel.show(), raw=True, display_id=True)
            if handle is not None and not self._over:
                self._displays.append(handle.display_id)

    def _sample(self) -> None:
        for sample, _ in self._feeds:
            sample()

    def _one_ended(self) -> None:
        if not self._running():
            self._finish()

    def _running(self) -> bool:
        return any(session.state == "running" for session in self._sessions)

    def _finish(self) -> None:
        with self._lock:
            if self._over:
                return
            self._over = True
        for task in self._tasks:
            task.cancel()
        for sample, _ in self._feeds:
            try:
                sample()
            except EbpfMagicError as error:  # its agent is gone: what was last seen stays
                self._warn(f"a live view shows what it last saw: {error}")
        self._freeze()

    def _failed(self, error: Exception) -> None:
        self._warn(f"a live view ended: {error}")
        if len(self._sessions) > 1 and self._running():  # the other hosts' views go on
            return
        with self._lock:
            over, self._over = self._over, True
        if not over:
            self._freeze()

    def _warn(self, text: str) -> None:
        for session in self._sessions:
            session.warnings.append(text)

    def _freeze(self) -> None:
        if self._displays:
            from IPython.display import update_display

            bundle = self._panel.bundle()
            for display_id in self._displays:
                update_display(bundle, raw=True, display_id=display_id)
        self._panel.close()


class ProgressLine:
    """A line of output for each host that is waited for (``vm:6.1: booting ...``); made by the first call."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._handle: Any = None
        self._lines: dict[str, str] = {}

    def __call__(self, text: str) -> None:
        """Say this of that host from now on."""
        from IPython.display import display

        with self._lock:
            self._lines[text.partition(": ")[0]] = text
            bundle = {"text/plain": "\n".join(self._lines.values())}
            if self._handle is None:
                self._handle = display(bundle, raw=True, display_id=True)
            else:
                self._handle.update(bundle, raw=True)


def show_card(session: Session) -> None:
    """Display a session's card, and below it the live view of its first map."""
    _card(session)._ipython_display_()


def show_cards(sessions: Sequence[Session]) -> None:
    """Display the cards of a cell that runs on several hosts, each with its first map."""
    first, *others = (_card(session) for session in sessions)
    for other in others:
        first = first.above(other)
    first._ipython_display_()


def _card(session: Session) -> Live:
    view = CardView(on_stop=session.stop)
    feed = CardFeed(session)
    live = Live(session, view, lambda: view.update(feed.state()), _CARD_INTERVAL_S)
    first = next((item for item in session.maps.values() if not item.unreadable), None)
    return live if first is None else live.above(first.live(interval_s=_CARD_VIEW_INTERVAL_S))


def table_view(source: Map, name: str, top: int, by: str | None) -> tuple[View, Callable[[], None]]:
    """Return the table of a map, and what samples the map into it."""
    view = TableView(name, by=by, top=top)
    rates = Rates()
    state: dict[str, pd.DataFrame] = {}

    def sample() -> None:
        frame = source.df()
        # The last reading of a session that has ended is often the one before it again: then its rates stay.
        if not source.ended or "read" not in state or not frame.equals(state["read"]):
            state["read"], state["shown"] = frame, rates.add(frame, frame.attrs["ended_ns"])
        view.update(state["shown"], warnings=source.notes(len(frame)))

    return view, sample


def histogram_view(source: Map, name: str) -> tuple[View, Callable[[], None]]:
    """Return the histogram of a map, and what samples the map into it."""
    view = HistogramView(name, source.unit)

    def sample() -> None:
        found = source.histogram()
        marks, errors = {}, {}
        if found.total:  # of no values there are no percentiles
            values, bounds = found.quantiles(_MARKS)
            marks = dict(zip(_MARKS, values.tolist(), strict=True))
            errors = dict(zip(_MARKS, bounds.tolist(), strict=True))
        view.update(found.counts, marks, found.max_value, warnings=source.notes(0), errors=errors)

    return view, sample
