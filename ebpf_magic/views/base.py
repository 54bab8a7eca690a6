"""What all views share: one binary frame an update, flow control, and what is left when the widget is gone.

A frame is 16 bytes (``<III4x``: number of the frame, whether an acknowledgement is wanted, length of the JSON
text), the JSON text padded with blanks to a multiple of 8, then the arrays it names. It is the value of the
widget's only data trait, so a page that is loaded again finds the latest one.
"""

from __future__ import annotations

import html
import json
import math
import struct
import time
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from threading import Lock
from typing import Any, ClassVar

_HEADER = struct.Struct("<III4x")
_UPDATE = {"method": "update", "state": {}, "buffer_paths": [["data"]]}
WIDGET_MIME = "application/vnd.jupyter.widget-view+json"


def pack(state: Mapping[str, Any], arrays: Mapping[str, tuple[str, bytes]] | None = None) -> bytes:
    """Return the body of a frame: JSON and raw arrays.

    Parameters
    ----------
    state : mapping
        What JSON can say. Not-a-number is not among it.
    arrays : mapping of str to (str, bytes), optional
        Raw little-endian arrays of 8-byte items with their NumPy type, ``"<u8"`` or ``"<f8"``.

    Returns
    -------
    bytes
        Length of the JSON text in 4 bytes, the text, the arrays.
    """
    named = arrays or {}
    layout = [[name, kind, len(raw) // 8] for name, (kind, raw) in named.items()]
    text = json.dumps({**state, "arrays": layout}, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    encoded = text.encode("utf-8", "replace")
    encoded += b" " * (-len(encoded) % 8)
    return b"".join([len(encoded).to_bytes(4, "little"), encoded, *(raw for _, raw in named.values())])


def unpack(frame: bytes) -> tuple[int, bool, dict[str, Any], dict[str, bytes]]:
    """Take a whole frame apart again, as base.js does: number, acknowledgement wanted, state, raw arrays."""
    seq, wanted, length = _HEADER.unpack_from(frame)
    state: dict[str, Any] = json.loads(frame[_HEADER.size : _HEADER.size + length])
    arrays = {}
    offset = _HEADER.size + length
    for name, _, count in state.pop("arrays"):
        arrays[name] = frame[offset : offset + 8 * count]
        offset += 8 * count
    return seq, bool(wanted), state, arrays


class Flow:
    """When a frame may go: at most twenty unacknowledged, and seldom while nothing is heard.

    The server keeps messages for an absent page without bound, and a busy kernel without subshells hears
    nothing. Then one frame goes every 2 s, every 4 s, up to every 60 s.

    Parameters
    ----------
    clock : callable
        Seconds, monotonic.
    """

    WINDOW = 20
    FIRST_PAUSE_S = 2.0
    LONGEST_PAUSE_S = 60.0

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._pause_s = self.FIRST_PAUSE_S
        self._sent_at_s = -math.inf
        self.sent = 0
        self.acknowledged = 0

    @property
    def full(self) -> bool:
        """Whether as many frames as allowed are unacknowledged."""
        return self.sent - self.acknowledged >= self.WINDOW

    def ready(self) -> bool:
        """Return whether a frame may go now."""
        return not self.full or self._clock() - self._sent_at_s >= self._pause_s

    def send(self) -> None:
        """Count one frame as sent."""
        if self.full:
            self._pause_s = min(2 * self._pause_s, self.LONGEST_PAUSE_S)
        self.sent += 1
        self._sent_at_s = self._clock()

    def acknowledge(self, seq: int) -> None:
        """Count all frames up to number `seq` as seen by a page."""
        seen = min(seq, self.sent)
        if seen > self.acknowledged:
            self.acknowledged = seen
            self._pause_s = self.FIRST_PAUSE_S


def _assets(suffix: str, *stems: str) -> str:
    return "\n".join(Path(__file__).with_name(stem + suffix).read_text(encoding="utf-8") for stem in stems)


@cache
def _widget_class(stem: str) -> type[Any]:
    import anywidget  # 0.1 s that only a notebook needs
    import traitlets

    # What the trait stands for is `frame`: sending is then one call, with no comparison of the old and the new bytes.
    members = {
        "__module__": __name__,
        "_esm": _assets(".js", "base", stem),
        "_css": _assets(".css", "base", stem),
        "frame": b"",
        "data": traitlets.Bytes().tag(sync=True, to_json=lambda _value, widget: widget.frame),
    }
    # The class name is what anywidget keeps the style sheets apart by.
    return type(f"{stem.capitalize()}Widget", (anywidget.AnyWidget,), members)


class View:
    """Something to look at: a widget while a page shows it, text in a terminal, a bundle at the end.

    Parameters
    ----------
    clock : callable
        Seconds, monotonic; for flow control.
    """

    _stem: ClassVar[str]

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._lock = Lock()
        self._flow = Flow(clock)
        self._body = pack({})
        self._pending = False
        self._widget: Any = None
        self._closed = False

    @property
    def widget(self) -> Any:
        """The anywidget, made when it is first asked for."""
        with self._lock:
            if self._widget is None:
                self._flow.send()
                widget = _widget_class(self._stem)(data=b"")
                widget.frame = self._frame(self._flow.sent)
                widget.send_state("data")
                widget.on_msg(self._heard)
                # ipykernel 7.4 hands a page's message to the shell that last sent on the comm: a cell's, which is
                # busy. Without this method it goes where the page sent it: to a subshell, which is not.
                widget.comm._reply_subshell_for = None
                self._widget = widget
            return self._widget

    def deliver(self, body: bytes) -> None:
        """Make `body` (of :func:`pack`) the state the page shows, now or as soon as the flow allows. Thread-safe.

        The same body once more costs nothing.
        """
        with self._lock:
            if body == self._body:
                return
            self._body = body
            if self._widget is None or self._closed:
                return
            if self._flow.ready():
                self._send()
            else:
                self._pending = True
                self._widget.frame = self._frame(self._flow.sent + 1)

    def text(self) -> str:
        """Return the latest state as plain text."""
        raise NotImplementedError

    def html(self) -> str:
        """Return the latest state as HTML with inline styles only."""
        raise NotImplementedError

    def bundle(self) -> dict[str, Any]:
        """Return the latest state as a mime bundle that needs no widget and no kernel."""
        return {"text/plain": self.text(), "text/html": self.html()}

    def close(self) -> None:
        """Close the widget, where there is one; the last state stays readable. Safe to call twice."""
        with self._lock:
            widget, closed, self._closed = self._widget, self._closed, True
        if widget is not None and not closed:
            widget.layout.close()
            widget.close()

    def _frame(self, seq: int) -> bytes:
        wanted = seq - self._flow.acknowledged >= Flow.WINDOW
        return _HEADER.pack(seq, wanted, int.from_bytes(self._body[:4], "little")) + self._body[4:]

    def _send(self) -> None:
        self._flow.send()
        self._pending = False
        self._widget.frame = frame = self._frame(self._flow.sent)
        # What send_state("data") does, without looking through the widget's state first.
        self._widget.comm.send(data=_UPDATE, buffers=[frame])

    def _heard(self, _widget: Any, content: Any, _buffers: Any) -> None:
        if not isinstance(content, dict):
            return
        seq = content.get("ack")
        if isinstance(seq, int):
            with self._lock:
                self._flow.acknowledge(seq)
                if self._pending and not self._closed and self._flow.ready():
                    self._send()
        else:
            self._on_message(content)

    def _on_message(self, content: dict[str, Any]) -> None:
        """Take a message of the page that is not an acknowledgement; on the thread that comm messages come on."""

    def _has_page(self) -> bool:
        import comm  # comes with ipywidgets

        channel = self.widget.comm
        return not isinstance(channel, comm.DummyComm) and getattr(channel, "kernel", True) is not None

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, Any]:
        if self._closed:
            return self.bundle()
        plain = {"text/plain": self.text()}
        if not self._has_page():
            return plain
        return {**plain, WIDGET_MIME: {"version_major": 2, "version_minor": 0, "model_id": self.widget.model_id}}

    def __repr__(self) -> str:
        return self.text()


# JupyterLab keeps inline styles in an untrusted notebook and drops style elements, so every cell carries its own.
_CELL = "padding:2px 12px 2px 0;white-space:nowrap;border:0;"


def html_table(header: Sequence[str], rows: Sequence[Sequence[str]], left: int = 1) -> str:
    """Return an HTML table of text, escaped; the first `left` columns are aligned left, the others right."""

    def cells(tag: str, texts: Sequence[str], style: str) -> str:
        return "".join(
            f'<{tag} style="{_CELL}{style}text-align:{_side(column, left)}">{html.escape(text)}</{tag}>'
            for column, text in enumerate(texts)
        )

    body = "".join(f"<tr>{cells('td', row, '')}</tr>" for row in rows)
    return f"<table><thead><tr>{cells('th', header, 'font-weight:600;')}</tr></thead><tbody>{body}</tbody></table>"


def _side(column: int, left: int) -> str:
    return "left" if column < left else "right"


def html_line(text: str, style: str = "") -> str:
    """Return one escaped line of text as a block."""
    return f'<div style="{style}">{html.escape(text)}</div>'


def text_table(header: Sequence[str], rows: Sequence[Sequence[str]], left: int = 1) -> str:
    """Return a table as plain text; the first `left` columns are aligned left, the others right."""
    table = [list(header), *(list(row) for row in rows)]
    widths = [max(len(row[column]) for row in table) for column in range(len(header))]
    return "\n".join(
        "  ".join(
            text.ljust(width) if column < left else text.rjust(width)
            for column, (text, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in table
    )
