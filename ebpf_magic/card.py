"""What a session's card says: gathered here, drawn by the view."""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING, Any

from ebpf_magic.errors import StoppedError
from ebpf_magic.session import target_text

if TYPE_CHECKING:
    from ebpf_magic.bpf_map import Map
    from ebpf_magic.session import Session

_LOG_TAIL = 8
# Counting the entries of a map means reading it: never for more than this share of the time.
_COUNT_SHARE = 0.01


class CardFeed:
    """Gathers the state of a session for its card, again and again.

    Parameters
    ----------
    session : Session
        The session.
    """

    def __init__(self, session: Session) -> None:
        self._session = session
        self._last_runs: dict[str, tuple[int, int, int]] = {}
        self._entries: dict[str, tuple[int, float]] = {}

    def state(self) -> dict[str, Any]:
        """Return everything the card shows, as :class:`~ebpf_magic.views.CardView` takes it."""
        session = self._session
        programs = self._programs()
        return {
            "name": session.name,
            "host": session.host,
            "engine": session.engine,
            "state": session.state,
            "message": session.message,
            "stages": [
                {"name": stage.name, "ms": stage.took_ns / 1e6, "detail": stage.detail} for stage in session.stages
            ],
            "programs": programs,
            "maps": [self._map(item) for item in session.maps.values()],
            "lost": session.lost(programs),
            "log_lines": [f"{line['comm']}-{line['pid']}: {line['text']}" for line in session.poll_log()[-_LOG_TAIL:]],
            "warnings": session.warnings,
            "notes": [_swap(session.swap_ns, session.gap_ns)] if session.swap_ns else [],
            "cost": {
                "program_share": sum(row["cpu_share"] for row in programs),
                "hook_share": sum(row["hook_share"] or 0.0 for row in programs),
            },
        }

    def _programs(self) -> list[dict[str, Any]]:
        session = self._session
        raw = session.poll_stats()
        now_ns = raw.get("time_ns", 0)
        counters = {program["name"]: program for program in raw.get("programs", [])}
        targets = {link["program"]: target_text(link) for link in session.links}
        rows = []
        for program in session.program_rows:
            name = program["name"]
            found = counters.get(name, {})
            runs, run_time_ns = found.get("runs", 0), found.get("run_time_ns", 0)
            hook_ns = found.get("hook_ns")
            per_s, share = self._rate(name, now_ns, runs, run_time_ns)
            rows.append(
                {
                    "name": name,
                    "section": program["section"],
                    "target": targets.get(name, ""),
                    "insns": program["insns"],
                    "verified_insns": program["verified_insns"],
                    "jited_bytes": program["jited_bytes"],
                    "runs": runs,
                    "runs_per_s": per_s,
                    "ns_per_run": run_time_ns / runs if runs else None,
                    "cpu_share": share,
                    "hook_ns_estimate": hook_ns,
                    "hook_share": None if hook_ns is None else per_s * hook_ns / 1e9,
                    "missed_runs": found.get("missed_runs", 0),
                }
            )
        return rows

    def _rate(self, name: str, now_ns: int, runs: int, run_time_ns: int) -> tuple[float, float]:
        """Return runs per second and share of a core: since the last look, or over the whole life once it has ended."""
        start = (self._session.since_ns, 0, 0)
        before = self._last_runs.get(name, start) if self._session.state == "running" else start
        elapsed_ns = now_ns - before[0]
        if elapsed_ns <= 0:
            return 0.0, 0.0
        self._last_runs[name] = (now_ns, runs, run_time_ns)
        return (runs - before[1]) / elapsed_ns * 1e9, (run_time_ns - before[2]) / elapsed_ns

    def _map(self, item: Map) -> dict[str, Any]:
        entries = self._count(item)
        return {
            "name": item.name,
            "type": item.type,
            "entries": entries,
            "max_entries": item.max_entries,
            "memory_bytes": item.memory_bytes,
            "refused": item.missed["full"],
            "note": _note(item, entries),
        }

    def _count(self, item: Map) -> int | None:
        """Entries of the map, counted no more often than is cheap; None where they cannot be."""
        if item.unreadable or item.type in ("queue", "stack"):
            return None
        if item.type in ("array", "percpu_array"):
            return item.max_entries
        count, again_at_s = self._entries.get(item.name, (0, 0.0))
        began_s = time.monotonic()
        if began_s >= again_at_s or item.ended:
            with contextlib.suppress(StoppedError):  # its agent ended before a last reading
                count = item.sample().count
            took_s = time.monotonic() - began_s
            self._entries[item.name] = (count, began_s + took_s / _COUNT_SHARE)
        return count


def _note(item: Map, entries: int | None) -> str:
    """Say what is to be known of a map beside its numbers."""
    words = [item.kind] if item.kind else []
    if entries is not None and item.may_have_evicted(entries):
        words = ["may have evicted"]
    if item.unreadable:
        words.append(item.unreadable)
    words += [f"{side} declared by size: shown as bytes; __type({side}, ...) says what it is" for side in item.untyped]
    if item.pin_path:
        words.append(f"pinned at {item.pin_path}: it outlives the session")
    return "; ".join(words)


def _swap(swap_ns: tuple[int, int], gap_ns: int | None) -> str:
    """Say how the new programs took over: most were attached beside the old ones, so that nothing was missed."""
    if gap_ns == 0:
        return "replaced the running session's program from one event to the next: none was missed or seen twice"
    if gap_ns is not None:
        return f"replaced the running session, which had to go first: neither was attached for {gap_ns / 1e6:.1f} ms"
    began_ms, ended_ms = (value / 1e6 for value in swap_ns)
    both = f"no gap, both were attached for {began_ms:.1f} ms"
    return f"replaced the running session: {both} (the old one was gone after {ended_ms:.0f} ms)"
