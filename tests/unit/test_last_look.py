"""What a live table shows when its session has ended."""

from __future__ import annotations

from typing import cast

import pandas as pd

from ebpf_magic.bpf_map import Map
from ebpf_magic.display import table_view


class Readings:
    """A map of one entry and its table; as much of a map as the table asks for."""

    def __init__(self) -> None:
        self.ended = False
        self.value = self.ended_ns = 0
        self.view, self.sample = table_view(cast(Map, self), "counts", 20, None)

    def df(self) -> pd.DataFrame:
        frame = pd.DataFrame({"value": [self.value]}, index=pd.Index([7], name="key"))
        frame.attrs["ended_ns"] = self.ended_ns
        return frame

    def notes(self, _entries: int) -> list[str]:
        return []

    def look(self) -> list[str]:
        """Read the map once more, and give the table's only row."""
        self.sample()
        return self.view.text().splitlines()[2].split()


def test_what_came_after_the_last_look_is_in_it() -> None:
    source = Readings()
    assert source.look()[:2] == ["7", "0"]
    source.value, source.ended_ns, source.ended = 23, 10**9, True
    assert source.look() == ["7", "23", "+23", "23/s"]


def test_where_nothing_came_the_rates_before_stay() -> None:
    source = Readings()
    source.look()
    source.value, source.ended_ns = 23, 10**9
    assert source.look() == ["7", "23", "+23", "23/s"]
    source.ended_ns, source.ended = 2 * 10**9, True
    assert source.look() == ["7", "23", "+23", "23/s"]
