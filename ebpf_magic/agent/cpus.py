"""CPUs: how many values a per-CPU map has, and where to open perf events."""

from __future__ import annotations


def possible() -> int:
    """Possible CPUs: the number of values of a per-CPU map."""
    return max(_listed("possible")) + 1


def online() -> list[int]:
    """Numbers of the CPUs that are online."""
    return _listed("online")


def _listed(which: str) -> list[int]:
    with open(f"/sys/devices/system/cpu/{which}") as text:
        return parse(text.read())


def parse(text: str) -> list[int]:
    """Numbers in a list like ``0-3,8``."""
    result: list[int] = []
    for part in text.strip().split(","):
        if part:
            first, _, last = part.partition("-")
            result.extend(range(int(first), int(last or first) + 1))
    return result
