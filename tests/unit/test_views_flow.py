"""Frames and flow control: a window of unacknowledged frames, the latest state only, a back-off in silence."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any

import pytest

from ebpf_magic.views import base
from ebpf_magic.views.base import Flow, View, pack, unpack


class Clock:
    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


class Comm:
    kernel = object()

    def __init__(self, send: Callable[[bytes], None]) -> None:
        self._send = send

    def send(self, data: Any, buffers: list[bytes]) -> None:
        assert data == {"method": "update", "state": {}, "buffer_paths": [["data"]]}
        self._send(*buffers)


class FakeWidget:
    """Keeps what would go to the page."""

    def __init__(self, data: bytes) -> None:
        self.frame = data
        self.sent: list[bytes] = []
        self.comm = Comm(self.sent.append)
        self.layout = self
        self.closed = 0
        self.model_id = "model"

    def send_state(self, key: str) -> None:
        assert key == "data"
        self.sent.append(self.frame)

    def on_msg(self, callback: Any) -> None:
        self.callback = callback

    def hear(self, content: Any) -> None:
        self.callback(self, content, [])

    def close(self) -> None:
        self.closed += 1


class Plain(View):
    _stem = "plain"

    def text(self) -> str:
        return "plain text"

    def html(self) -> str:
        return "<b>html</b>"


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def view(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> Iterator[Plain]:
    monkeypatch.setattr(base, "_widget_class", lambda stem: FakeWidget)
    yield Plain(clock=clock)


def said(frame: bytes) -> Any:
    return unpack(frame)[2]["n"]


def test_a_frame_survives_packing() -> None:
    raw = (7).to_bytes(8, "little") + (2**64 - 1).to_bytes(8, "little")
    body = pack({"title": "π <b>", "n": [1, None]}, {"counts": ("<u8", raw), "more": ("<f8", b"\0" * 8)})
    seq, wanted, state, arrays = unpack(
        (5).to_bytes(4, "little") + (1).to_bytes(4, "little") + body[:4] + bytes(4) + body[4:]
    )
    assert (seq, wanted) == (5, True)
    assert state == {"title": "π <b>", "n": [1, None]}
    assert arrays == {"counts": raw, "more": b"\0" * 8}


def test_arrays_start_at_a_multiple_of_eight() -> None:
    for length in range(9):
        body = pack({"t": "x" * length}, {"a": ("<u8", b"\1" * 8)})
        assert (len(body) - 4) % 8 == 0


def test_not_a_number_is_refused() -> None:
    with pytest.raises(ValueError):
        pack({"n": float("nan")})


def test_a_name_that_is_not_unicode_does_not_stop_a_view() -> None:
    assert b"?" in pack({"t": "\udcff"})


def test_a_window_of_frames_goes_and_the_next_waits(view: Plain) -> None:
    view.deliver(pack({"n": 0}))
    widget = view.widget
    for n in range(1, Flow.WINDOW + 3):
        view.deliver(pack({"n": n}))
    assert [said(frame) for frame in widget.sent] == list(range(Flow.WINDOW))
    # Only the last of the window asks for an acknowledgement.
    assert [unpack(frame)[1] for frame in widget.sent] == [False] * (Flow.WINDOW - 1) + [True]
    # A page that is loaded now finds the latest state all the same.
    assert said(widget.frame) == Flow.WINDOW + 2


def test_what_did_not_change_is_not_sent(view: Plain) -> None:
    widget = view.widget
    for _ in range(5):
        view.deliver(pack({"n": 1}))
    assert [said(frame) for frame in widget.sent[1:]] == [1]


def test_an_acknowledgement_lets_the_latest_go(view: Plain) -> None:
    widget = view.widget
    for n in range(1, Flow.WINDOW + 3):
        view.deliver(pack({"n": n}))
    widget.hear({"ack": Flow.WINDOW})
    assert [said(frame) for frame in widget.sent[1:]] == [*range(1, Flow.WINDOW), Flow.WINDOW + 2]
    widget.hear({"ack": Flow.WINDOW})
    assert len(widget.sent) == Flow.WINDOW + 1


def test_with_a_page_that_answers_every_update_goes(view: Plain, clock: Clock) -> None:
    widget = view.widget
    for n in range(50):
        view.deliver(pack({"n": n}))
        seq, wanted, _, _ = unpack(widget.sent[-1])
        if wanted:
            widget.hear({"ack": seq})
        clock.now_s += 0.1
    assert [said(frame) for frame in widget.sent[1:]] == list(range(50))


def test_without_acknowledgements_it_backs_off_to_one_a_minute(view: Plain, clock: Clock) -> None:
    widget = view.widget
    times = []
    for step in range(1600):
        before = len(widget.sent)
        view.deliver(pack({"n": step}))
        if len(widget.sent) > before:
            times.append(clock.now_s - 100)
        clock.now_s += 0.25
    at_once, seldom = times[: Flow.WINDOW - 1], times[Flow.WINDOW - 2 :]
    assert at_once == [0.25 * step for step in range(Flow.WINDOW - 1)]
    assert [after - before for before, after in pairwise(seldom)][:8] == [2, 4, 8, 16, 32, 60, 60, 60]


def test_an_acknowledgement_ends_the_back_off(clock: Clock) -> None:
    flow = Flow(clock)
    for _ in range(3 * Flow.WINDOW):
        clock.now_s += 100
        flow.send()
    flow.acknowledge(flow.sent)
    for _ in range(Flow.WINDOW):
        assert flow.ready()
        flow.send()
    assert not flow.ready()
    clock.now_s += Flow.FIRST_PAUSE_S
    assert flow.ready()


def test_an_acknowledgement_of_the_future_counts_what_was_sent(clock: Clock) -> None:
    flow = Flow(clock)
    flow.send()
    flow.acknowledge(99)
    assert flow.acknowledged == 1
    flow.acknowledge(0)
    assert flow.acknowledged == 1


@pytest.mark.parametrize("content", [None, "ack", {"ack": "2"}, {}, [1]])
def test_noise_from_a_page_is_ignored(view: Plain, content: Any) -> None:
    widget = view.widget
    widget.hear(content)
    assert len(widget.sent) == 1


def test_without_a_page_there_is_no_widget(view: Plain) -> None:
    view.deliver(pack({"n": 1}))
    assert view._widget is None
    view.close()


def test_closing_twice_closes_once_and_leaves_the_bundle(view: Plain) -> None:
    widget = view.widget
    view.close()
    view.close()
    view.deliver(pack({"n": 9}))
    assert widget.closed == 2  # the widget and its layout
    assert view._repr_mimebundle_() == {"text/plain": "plain text", "text/html": "<b>html</b>"}


def test_a_page_gets_a_widget_and_text(view: Plain) -> None:
    bundle = view._repr_mimebundle_()
    assert bundle["text/plain"] == "plain text"
    assert bundle[base.WIDGET_MIME]["model_id"] == "model"


def test_without_a_kernel_it_is_text(view: Plain, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Comm, "kernel", None)
    assert view._repr_mimebundle_() == {"text/plain": "plain text"}


def test_importing_is_light() -> None:
    code = "import sys, ebpf_magic.views; print(sys.modules.keys() & {'anywidget', 'ipywidgets', 'matplotlib'})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "set()"


def test_a_plain_python_shows_text() -> None:
    code = (
        "from ebpf_magic.views import TableView; import pandas as pd; view = TableView('t');"
        "view.update(pd.DataFrame({'value': [3]}, index=pd.Index([1], name='pid')));"
        "print(list(view._repr_mimebundle_()), '3' in repr(view))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "['text/plain'] True"
