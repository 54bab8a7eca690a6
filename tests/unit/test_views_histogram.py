"""The histogram view: its bars never split a bucket, its labels never overlap, its bundle needs no widget."""

from __future__ import annotations

import base64
import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ebpf_magic.data.histogram import BUCKETS, bucket_index, lows
from ebpf_magic.views import HistogramView, units
from ebpf_magic.views.base import unpack
from ebpf_magic.views.bins import log_bars
from ebpf_magic.views.chart import linear_ticks, log_ticks, short
from ebpf_magic.views.labels import overlapping, place

EVIL = "<img src=x onerror=alert(1)> $x_2$"


def counted(*values: int) -> np.ndarray:
    return np.bincount(bucket_index(np.array(values, dtype=np.uint64)), minlength=BUCKETS).astype(np.uint64)


def state(view: HistogramView) -> tuple[dict, np.ndarray]:
    body = view._body
    _, _, said, arrays = unpack(bytes(8) + body[:4] + bytes(4) + body[4:])
    return said, np.frombuffer(arrays["counts"], "<u8")


def test_only_the_occupied_range_is_sent() -> None:
    view = HistogramView("t", "ns")
    view.update(counted(100, 100, 5000), {50: 100.0, 99: 5000.0}, 5119)
    said, counts = state(view)
    first = int(bucket_index(100))
    assert said["first"] == first
    assert len(counts) == int(bucket_index(5000)) - first + 1
    assert (counts[0], counts[-1], counts.sum()) == (2, 1, 3)
    assert said["marks"] == [["p50", 100.0], ["p99", 5000.0], ["max", 5119.0]]


def test_empty() -> None:
    view = HistogramView("t", "ns")
    said, counts = state(view)
    assert (said["first"], len(counts)) == (0, 0)
    assert view.text() == "t\nno values yet"
    assert set(view.bundle()) == {"text/plain", "text/html"}


@given(st.lists(st.integers(0, 2**64 - 1), min_size=1, max_size=40), st.sampled_from([4, 2, 1]))
def test_bars_are_whole_buckets_and_lose_nothing(values: list[int], per_doubling: int) -> None:
    counts = counted(*values)
    bars = log_bars(counts, per_doubling)
    assert bars.counts.sum() == len(values)
    assert (np.diff(bars.edges) > 0).all()
    edges = {*lows().astype(float).tolist(), 2.0**64}
    assert set(bars.edges.tolist()) <= edges
    for value in {float(lows()[bucket]) for bucket in np.flatnonzero(counts)}:
        bar = int(np.searchsorted(bars.edges, value, side="right")) - 1
        inside = (lows() >= bars.edges[bar]) & (lows() < bars.edges[bar + 1])
        assert bars.counts[bar] >= counts[inside].max()
    if bars.width:
        assert set(np.diff(bars.edges).tolist()) == {bars.width}


def test_bars_on_a_logarithmic_axis_are_of_nearly_one_width() -> None:
    counts = np.ones(BUCKETS, dtype=np.uint64)
    counts[:80] = 0
    counts[500:] = 0
    widths = np.diff(np.log2(log_bars(counts).edges))
    assert widths.max() / widths.min() < 1.25


def test_the_labels_of_lines_close_together_do_not_overlap() -> None:
    for lines in ([(300, 80)] * 4, [(100, 80), (101, 80), (102, 80), (103, 80)], [(590, 90), (595, 90), (599, 90)]):
        assert not overlapping(place([(float(x), float(width)) for x, width in lines], 0, 600))


@given(st.lists(st.tuples(st.floats(0, 700), st.floats(50, 110)), max_size=4))
def test_labels_never_overlap(lines: list[tuple[float, float]]) -> None:
    placed = place(sorted(lines), 0, 700)
    assert [spot.x for spot in placed] == [x for x, _ in sorted(lines)]
    assert not overlapping(placed)
    assert all(spot.left >= 0 and spot.right <= 700 for spot in placed)


def test_without_space_there_is_still_an_answer() -> None:
    assert len(place([(10.0, 500.0)] * 4, 0, 100)) == 4


def test_ticks() -> None:
    assert log_ticks(100, 10**8, "ns") == [10.0**power for power in range(2, 9)]
    assert log_ticks(900, 110_000, "ns") == [1e3, 2e3, 5e3, 1e4, 2e4, 5e4, 1e5]
    assert log_ticks(0.5, 9, "") == [0, 1, 2, 5]
    assert log_ticks(512, 2**20, "bytes") == [2.0**power for power in (10, 12, 14, 16, 18, 20)]
    assert linear_ticks(0, 1000, "ns", 5) == [0, 200, 400, 600, 800, 1000]
    assert len(log_ticks(1, 2.0**64, "ns")) <= 10


@pytest.mark.parametrize(
    ("value", "unit", "said"),
    [
        (0, "ns", "0 ns"),
        (1000, "ns", "1 µs"),
        (2500, "ns", "2.5 µs"),
        (10**7, "ns", "10 ms"),
        (3 * 2**20, "bytes", "3 MiB"),
        (1500, "", "1.5k"),
    ],
)
def test_ticks_in_words(value: float, unit: str, said: str) -> None:
    assert short(value, unit) == said


@pytest.mark.parametrize(
    ("value", "unit", "said"),
    [
        (999, "ns", "999 ns"),
        (999.9, "ns", "1.00 µs"),
        (1532, "ns", "1.53 µs"),
        (1536, "bytes", "1.50 KiB"),
        (12345, "", "12,345"),
        (12.345, "", "12.3"),
        (7, "pages", "7 pages"),
        (7.2e12, "ns", "7,200 s"),
        (float("nan"), "ns", units.UNKNOWN),
    ],
)
def test_values_in_words(value: float, unit: str, said: str) -> None:
    assert units.human(value, unit) == said


def test_the_bundle_is_a_picture_and_a_table_without_a_widget() -> None:
    view = HistogramView(EVIL, "ns")
    values = np.random.default_rng(5).lognormal(9, 1, 5000).astype(np.uint64)
    view.update(counted(*values.tolist()), {50: 8100.0, 90: 29_000.0, 99: 83_000.0}, 400_000, [EVIL], errors={50: 250})
    bundle = view.bundle()
    assert set(bundle) == {"text/plain", "text/html", "image/png"}
    picture = base64.b64decode(bundle["image/png"], validate=True)
    assert picture[:8] == b"\x89PNG\r\n\x1a\n"
    assert struct.unpack(">II", picture[16:24]) == (1440, 600)
    page = bundle["text/html"]
    assert f'src="data:image/png;base64,{bundle["image/png"]}"' in page
    assert page.count("<img") == 1
    for word in ("8.10 µs", "250 ns", "83 µs", "400 µs", "5,000 values", "&lt;img src=x"):
        assert word in page
    assert "<script" not in page and "<style" not in page


@pytest.mark.parametrize("values", [[0], [7], [0, 1, 2, 3], [2**64 - 1], [0, 2**64 - 1], [1000, 1000], [4096, 4200]])
def test_any_values_make_a_picture(values: list[int]) -> None:
    view = HistogramView("t", "bytes")
    view.update(counted(*values), {50: float(values[0])}, float(values[-1]))
    assert view.bundle()["image/png"]
    assert f"{len(values)} values" in view.text()


def test_text_says_how_many_were_where() -> None:
    view = HistogramView("lat", "ns")
    view.update(counted(*[1000] * 3, 1900), {50: 1000.0}, 1919)
    lines = view.text().splitlines()
    assert lines[0] == "lat"
    assert sum(int(line.split()[5].replace(",", "")) for line in lines[1:-2]) == 4
    assert lines[-2:] == ["p50 1 µs  max 1.92 µs", "4 values"]


def test_the_counts_are_copied() -> None:
    view = HistogramView("t", "ns")
    counts = counted(5)
    view.update(counts, {}, None)
    counts[:] = 0
    assert "1 values" in view.text()
