"""Numbers as people read them: the same words as base.js, for text and static HTML."""

from __future__ import annotations

import math
from typing import Any

_SCALES: dict[str, tuple[tuple[float, str], ...]] = {
    "ns": ((1.0, "ns"), (1e3, "µs"), (1e6, "ms"), (1e9, "s")),
    "bytes": ((1.0, "B"), (2.0**10, "KiB"), (2.0**20, "MiB"), (2.0**30, "GiB"), (2.0**40, "TiB")),
}
UNKNOWN = "\N{EN DASH}"
_COMPANIONS = ("_delta", "_per_s")


def column_unit(name: str) -> str:
    """Return the unit a column's name ends in: ``"ns"``, ``"bytes"`` or ``""``.

    The columns made from another one (``run_time_ns_delta``, ``run_time_ns_per_s``) have its unit.
    """
    for companion in _COMPANIONS:
        name = name.removesuffix(companion)
    return next((unit for unit in _SCALES if name == unit or name.endswith(f"_{unit}")), "")


def scale_of(value: float, unit: str) -> tuple[float, str]:
    """Return the divisor and the short name in which `value` has one to three digits before the point."""
    steps = _SCALES[unit]
    chosen = steps[0]
    for (divisor, name), below in zip(steps[1:], steps, strict=False):
        # What would be rounded up to the next unit is said in that unit: 999.9 ns is 1 µs.
        if abs(value) >= divisor - below[0] / 2:
            chosen = (divisor, name)
    return chosen


def _significant(value: float) -> str:
    size = abs(value)
    decimals = 0 if size >= 99.95 or value == int(value) else 1 if size >= 9.995 else 2
    return f"{value:,.{decimals}f}"


def human(value: float, unit: str = "") -> str:
    """Return `value` with its unit, in three digits where the unit has steps: ``1.53 µs``, ``64 KiB``, ``12,345``."""
    if not math.isfinite(value):
        return UNKNOWN
    if unit not in _SCALES:
        text = f"{value:,}" if isinstance(value, int) else _significant(value)
        return f"{text} {unit}" if unit else text
    divisor, name = scale_of(value, unit)
    return f"{_significant(value / divisor)} {name}"


def exact(value: float, unit: str = "") -> str:
    """Return `value` with all its digits and its unit in full: ``1,532 ns``."""
    text = f"{int(value):,}" if value == int(value) else f"{value:,}"
    return f"{text} {unit}" if unit else text


def percent(share: float) -> str:
    """Return a share of one as a percentage with the digits that matter: ``0.02 %``."""
    value = share * 100
    if value == 0:
        return "0 %"
    if value < 0.01:
        return "< 0.01 %"
    return f"{value:.2f} %" if value < 1 else f"{value:.1f} %" if value < 100 else f"{value:,.0f} %"


def number(mapping: dict[str, Any], key: str) -> float | None:
    """Return a number of a mapping, or None where it is missing or not known."""
    value = mapping.get(key)
    if isinstance(value, (int, float)) and math.isfinite(value):
        return value
    return None
