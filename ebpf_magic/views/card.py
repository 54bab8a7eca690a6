"""The card of a session: what runs, since when, what it costs, what was lost, and a Stop button."""

from __future__ import annotations

import html
import math
import time
from collections.abc import Callable, Mapping
from typing import Any

from ebpf_magic.views import units
from ebpf_magic.views.base import View, html_line, html_table, pack, text_table

_MUTED = "color:#808080;font-size:90%;"
_WARNING = "color:#b8730b;"
_DOTS = {"running": "#2f9e6e", "stopped": "#8a8a8a", "failed": "#d64545", "recorded": "#8a8a8a"}
_LOG_TAIL = 20


class CardView(View):
    """What a session says about itself.

    Parameters
    ----------
    on_stop : callable, optional
        Called once when Stop is pressed, on the thread that comm messages come on; without one there is no button.
    clock : callable
        Seconds, monotonic; for flow control.
    """

    _stem = "card"

    def __init__(
        self, on_stop: Callable[[], object] | None = None, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        super().__init__(clock=clock)
        self._on_stop = on_stop
        self._stopping = False
        self._stop_error = ""
        self._state: dict[str, Any] = {}
        self._deliver_state()

    def update(self, state: Mapping[str, Any]) -> None:
        """Show `state` from now on.

        Parameters
        ----------
        state : mapping
            ``name``, ``host``, ``engine``, ``state`` ("running", "stopped", "failed"), ``message``,
            ``stages`` [{name, ms, detail}],
            ``programs`` [{name, section, target, insns, verified_insns, jited_bytes, runs, runs_per_s,
            ns_per_run, cpu_share, hook_ns_estimate, hook_share, missed_runs}],
            ``maps`` [{name, type, entries, max_entries, memory_bytes, refused, note}],
            ``lost``, ``warnings``, ``notes``, ``log_lines`` [str], ``cost`` {program_share, hook_share}.
            Shares are of one core. ``lost`` and ``warnings`` are shown as warnings, ``notes`` quietly. What is
            missing, None or not-a-number is not shown.
        """
        self._state = _clean(state)
        self._deliver_state()

    def text(self) -> str:
        """Return the latest state as plain text."""
        blocks = [self._headline(), self._stages()]
        blocks += [text_table(header, rows, left) for header, rows, left in (self._programs(), self._maps()) if rows]
        lines = [*self._troubles(), *self._state.get("notes", []), *self._state.get("log_lines", [])]
        return "\n".join([*(block for block in blocks if block), *lines])

    def html(self) -> str:
        """Return the latest state as HTML."""
        state = self._state
        dot = f'<span style="color:{_DOTS.get(state.get("state", ""), "#8a8a8a")}">●</span>'
        where = html.escape(" · ".join(self._words()))
        name = html.escape(state.get("name", ""))
        parts = [f'<div>{dot} <b>{name}</b> <span style="{_MUTED}">{where}</span></div>']
        parts += [html_line(line, _MUTED) for line in (self._stages(), self._cost()) if line]
        parts += [html_table(header, rows, left) for header, rows, left in (self._programs(), self._maps()) if rows]
        parts += [html_line(f"⚠ {line}", _WARNING) for line in self._troubles()]
        parts += [html_line(line, _MUTED) for line in state.get("notes", [])]
        if lines := state.get("log_lines", [])[-_LOG_TAIL:]:
            parts.append(f"<pre>{html.escape(chr(10).join(lines))}</pre>")
        return "".join(parts)

    def _words(self) -> list[str]:
        return [str(self._state[key]) for key in ("state", "host", "engine", "message") if self._state.get(key)]

    def _headline(self) -> str:
        cost = self._cost()
        return f"{self._state.get('name', '')}: {', '.join(self._words())}" + (f"\n{cost}" if cost else "")

    def _stages(self) -> str:
        return " → ".join(
            f"{stage.get('name', '')} {units.human((stage.get('ms') or 0) * 1e6, 'ns')}"
            + (f" ({stage['detail']})" if stage.get("detail") else "")
            for stage in self._state.get("stages", [])
        )

    def _cost(self) -> str:
        cost = self._state.get("cost") or {}
        said = (("program_share", "program time", "measured"), ("hook_share", "hook cost", "estimated"))
        shares = [(name, units.number(cost, key), how) for key, name, how in said]
        known = [f"{name} {units.percent(share)} ({how})" for name, share, how in shares if share is not None]
        return f"{', '.join(known)} of one core" if known else ""

    def _programs(self) -> tuple[list[str], list[list[str]], int]:
        header = [
            "program",
            "target",
            "insns",
            "verified",
            "JITed",
            "runs",
            "program time (measured)",
            "hook cost (estimated)",
        ]
        return header, [_program(row) for row in self._state.get("programs", [])], 2

    def _maps(self) -> tuple[list[str], list[list[str]], int]:
        return ["map", "type", "entries", "memory", ""], [_map(row) for row in self._state.get("maps", [])], 2

    def _troubles(self) -> list[str]:
        stop = [self._stop_error] if self._stop_error else []
        return [*self._state.get("lost", []), *self._state.get("warnings", []), *stop]

    def _deliver_state(self) -> None:
        button = {"can_stop": self._on_stop is not None, "stopping": self._stopping}
        told = {"troubles": self._troubles(), "stop_failed": bool(self._stop_error)}
        self.deliver(pack({**self._state, **button, **told}))

    def _on_message(self, content: dict[str, Any]) -> None:
        if content.get("stop") is not True or self._on_stop is None or self._stopping:
            return
        self._stopping, self._stop_error = True, ""
        self._deliver_state()
        try:
            self._on_stop()
        except Exception as error:
            self._stopping, self._stop_error = False, f"stop failed: {error}"
            self._deliver_state()
            raise


def _clean(value: Any) -> Any:
    """Return what JSON can carry: NumPy's numbers as Python's, None for not-a-number."""
    if isinstance(value, Mapping):
        return {str(key): _clean(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_clean(item) for item in value]
    if hasattr(value, "item"):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value if isinstance(value, (str, int, float, type(None))) else str(value)


def _count(row: Mapping[str, Any], key: str, unit: str = "") -> str:
    value = units.number(dict(row), key)
    return units.UNKNOWN if value is None else units.human(value, unit)


def _program(row: Mapping[str, Any]) -> list[str]:
    hook = units.number(dict(row), "hook_ns_estimate")
    return [
        str(row.get("name", "")),
        str(row.get("target") or row.get("section", "")),
        _count(row, "insns"),
        _count(row, "verified_insns"),
        _count(row, "jited_bytes", "bytes"),
        _count(row, "runs"),
        _count(row, "ns_per_run", "ns"),
        "not known" if hook is None else f"{units.human(hook, 'ns')} a hit",
    ]


def _map(row: Mapping[str, Any]) -> list[str]:
    entries = _count(row, "entries")
    # An array has all its entries from the start: full says nothing there.
    if row.get("max_entries") and "array" not in str(row.get("type")):
        entries += f" of {_count(row, 'max_entries')}"
    refused = f"{_count(row, 'refused')} refused" if row.get("refused") else ""
    note = ", ".join(word for word in (str(row.get("note") or ""), refused) if word)
    return [str(row.get("name", "")), str(row.get("type", "")), entries, _count(row, "memory_bytes", "bytes"), note]
