"""The card: everything a session says, escaped; and its Stop button."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from ebpf_magic.views import CardView
from ebpf_magic.views.base import unpack

EVIL = "<script>alert(1)</script>"
STATE: dict[str, Any] = {
    "name": "opens",
    "host": "local",
    "engine": "libbpf",
    "state": "running",
    "message": "",
    "stages": [{"name": "compiled", "ms": 41.2, "detail": "clang 14"}, {"name": "attached", "ms": 8.0, "detail": ""}],
    "programs": [
        {
            "name": "on_open",
            "section": "tracepoint/syscalls/sys_enter_openat",
            "target": "syscalls/sys_enter_openat",
            "insns": 41,
            "verified_insns": 77,
            "jited_bytes": 231,
            "runs": np.int64(12_345),
            "runs_per_s": 1203.5,
            "ns_per_run": 152.3,
            "cpu_share": math.nan,
            "hook_ns_estimate": 210.0,
            "missed_runs": 0,
        }
    ],
    "maps": [
        {"name": "counts", "type": "hash", "entries": 231, "max_entries": 10_240, "memory_bytes": 2**20, "refused": 12},
        {
            "name": "lat",
            "type": "percpu_array",
            "entries": 976,
            "max_entries": 976,
            "memory_bytes": 15_616,
            "note": "hist",
        },
    ],
    "lost": ["counts: 12 updates refused, the map is full"],
    "warnings": ["hook cost is not known yet"],
    "notes": ["swapped in 3 ms"],
    "log_lines": ["hello"],
    "cost": {"program_share": 0.0002, "hook_share": 0.031},
}


def delivered(view: CardView) -> dict[str, Any]:
    return unpack(bytes(8) + view._body[:4] + bytes(4) + view._body[4:])[2]


def test_what_is_said() -> None:
    view = CardView()
    view.update(STATE)
    for said in (view.text(), view.html()):
        for word in (
            "opens",
            "running",
            "compiled 41.2 ms (clang 14)",
            "program time 0.02 % (measured), hook cost 3.1 % (estimated) of one core",
            "program time (measured)",
            "hook cost (estimated)",
            "12,345",
            "152 ns",
            "210 ns a hit",
            "231 of 10,240",
            "12 refused",
            "the map is full",
            "swapped in 3 ms",
            "hello",
        ):
            assert word in said, word
    # An array is always full, which says nothing.
    assert "976 of" not in view.text()


def test_what_is_not_known_is_not_a_number() -> None:
    view = CardView()
    view.update(STATE)
    program = delivered(view)["programs"][0]
    assert program["cpu_share"] is None
    assert program["runs"] == 12_345


def test_an_empty_state_is_not_an_error() -> None:
    view = CardView()
    assert isinstance(view.text(), str)
    view.update({"name": "x", "programs": [{}], "maps": [{}], "stages": [{}]})
    assert "x" in view.html()


def evil(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: evil(item) for key, item in value.items()}
    if isinstance(value, list):
        return [evil(item) for item in value]
    return EVIL if isinstance(value, str) else value


def test_html_escapes_everything() -> None:
    view = CardView()
    view.update(evil(STATE))
    assert "<script" not in view.html()
    assert view.html().count("&lt;script&gt;") > 10


def test_the_bundle_needs_no_widget() -> None:
    view = CardView()
    view.update(STATE)
    assert set(view.bundle()) == {"text/plain", "text/html"}


def test_stop_calls_once() -> None:
    calls: list[str] = []
    view = CardView(on_stop=lambda: calls.append("stop"))
    view.update(STATE)
    assert delivered(view)["can_stop"] is True
    view._on_message({"stop": True})
    view._on_message({"stop": True})
    assert calls == ["stop"]
    assert delivered(view)["stopping"] is True


@pytest.mark.parametrize("message", [{"stop": 1}, {"stop": False}, {}])
def test_only_stop_stops(message: dict[str, object]) -> None:
    view = CardView(on_stop=lambda: pytest.fail("stopped"))
    view._on_message(message)


def test_without_a_callback_there_is_no_button() -> None:
    view = CardView()
    view.update(STATE)
    view._on_message({"stop": True})
    assert delivered(view)["can_stop"] is False


def test_a_stop_that_failed_can_be_pressed_again() -> None:
    answers = iter([OSError("no <agent>"), None])

    def stop() -> None:
        if error := next(answers):
            raise error

    view = CardView(on_stop=stop)
    view.update(STATE)
    with pytest.raises(OSError, match="no <agent>"):
        view._on_message({"stop": True})
    said = delivered(view)
    assert (said["stopping"], said["stop_failed"]) == (False, True)
    assert said["troubles"][-1] == "stop failed: no <agent>"
    assert "stop failed: no &lt;agent&gt;" in view.html()
    view._on_message({"stop": True})
    assert delivered(view)["stopping"] is True
