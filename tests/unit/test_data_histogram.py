"""Buckets against their definition, and percentiles against `numpy.percentile` on the same values."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ebpf_magic.data import histogram
from ebpf_magic.data.btf import Btf
from ebpf_magic.data.histogram import (
    BUCKETS,
    Histogram,
    bucket_index,
    from_percpu,
    from_rows,
    histogram_frame,
    percentiles_by,
    percpu_frame,
)
from ebpf_magic.errors import MapError, UsageError

SPECS = Btf.from_elf((Path(__file__).parent / "data" / "kinds.bpf.o").read_bytes()).map_specs()
TOP = 2**64 - 1
EDGES = sorted({min(max((1 << power) + step, 0), TOP) for power in range(65) for step in (-2, -1, 0, 1, 2)})
# All of u64, evenly by magnitude, with the edges of the powers of two.
VALUES = st.one_of(
    st.integers(0, 40), st.sampled_from(EDGES), st.integers(0, 64).flatmap(lambda bits: st.integers(0, (1 << bits) - 1))
)
PERCENTS = st.one_of(st.sampled_from([0, 1, 7, 25, 50, 90, 99, 99.9, 100]), st.floats(0, 100))


def of(values: Sequence[int], unit: str = "ns") -> Histogram:
    counts = np.bincount(bucket_index(np.array(values, np.uint64)), minlength=BUCKETS).astype(np.uint64)
    return Histogram(counts, unit)


def by_definition(value: int) -> int:
    """The formula of the interface, word by word, on Python's integers."""
    if value < 16:
        return value
    power = len(bin(value)) - 3
    return (power - 3) * 16 + ((value >> (power - 4)) & 15)


def test_buckets_cover_all_of_u64_without_gap() -> None:
    lows, highs = histogram.lows().tolist(), histogram.highs().tolist()
    assert len(lows) == len(highs) == BUCKETS == 976
    assert (lows[0], highs[-1]) == (0, TOP)
    assert lows[1:] == [high + 1 for high in highs[:-1]]
    for bucket, (low, high) in enumerate(zip(lows, highs, strict=True)):
        assert by_definition(low) == by_definition(high) == bucket
        assert high - low <= low / 16
    assert lows[:33] == [*range(33)] and highs[32] == 33


@given(st.lists(VALUES, min_size=1))
def test_bucket_of_a_value(values: list[int]) -> None:
    expected = [by_definition(value) for value in values]
    assert [histogram.index(value) for value in values] == expected
    assert bucket_index(np.array(values, np.uint64)).tolist() == expected
    assert bucket_index(np.array(EDGES, np.uint64)).tolist() == [by_definition(value) for value in EDGES]


@settings(max_examples=400)
@given(st.lists(VALUES, min_size=1, max_size=80), st.lists(PERCENTS, min_size=1, max_size=5))
def test_the_true_percentile_lies_within_the_bound(values: list[int], percents: list[float]) -> None:
    found = of(values).percentiles(percents)
    assert found.index.tolist() == percents
    truth = np.percentile(np.array(values, np.uint64), percents, method="inverted_cdf")
    for value, error, true in zip(found["value_ns"], found["error_ns"], truth.tolist(), strict=True):
        # Exactly, not in floating point: both are whole numbers.
        assert float(value).is_integer() and float(error).is_integer()
        assert int(value) - int(error) <= true <= int(value) + int(error)
        assert error <= value / 32
        if true < 32:
            assert (value, error) == (true, 0)


def test_percentiles_of_many_values() -> None:
    values = np.random.default_rng(3).lognormal(12, 3, 200_000).astype(np.uint64)
    percents = [0, 0.1, 1, 10, 50, 90, 99, 99.9, 99.99, 100]
    found = of(values.tolist()).percentiles(percents)
    truth = np.percentile(values, percents, method="inverted_cdf")
    assert (abs(found["value_ns"] - truth) <= found["error_ns"]).all()


def test_counts_above_what_a_float_can_hold() -> None:
    counts = np.zeros(BUCKETS, np.uint64)
    counts[3] = counts[5] = 2**62 + 1
    assert Histogram(counts).total == 2**63 + 2
    assert Histogram(counts).percentiles([0, 25, 75, 100])["value"].tolist() == [3, 3, 5, 5]


def test_without_values() -> None:
    empty = Histogram(np.zeros(BUCKETS, np.uint64), "us")
    assert (empty.total, empty.max_value) == (0, 0)
    assert empty.percentiles([50, 99]).isna().all().all()
    assert list(empty.percentiles([50]).columns) == ["value_us", "error_us"]
    assert len(empty.frame()) == 0


def test_the_frame_has_occupied_buckets() -> None:
    frame = of([3, 3, 40, TOP]).frame()
    expected = pd.DataFrame(
        {"high_ns": np.array([3, 41, TOP], np.uint64), "count": np.array([2, 1, 1], np.uint64)},
        index=pd.Index(np.array([3, 40, 31 << 59], np.uint64), name="low_ns"),
    )
    pd.testing.assert_frame_equal(frame, expected)
    assert (of([3, 40]).max_value, of([3, 40]).total) == (41, 2)
    bare = of([3], unit="").frame()
    assert (bare.index.name, list(bare.columns)) == ("low", ["high", "count"])


@pytest.mark.parametrize("percent", [-1, 100.5, float("nan")])
def test_percentiles_that_are_none(percent: float) -> None:
    with pytest.raises(UsageError, match="is not between 0 and 100"):
        of([1]).percentiles([50, percent])


def test_repr_says_how_many() -> None:
    assert repr(of([1, 2, 40])) == "<Histogram of 3 values, at most 41 ns>"


def test_cpus_are_added_up() -> None:
    cells = np.random.default_rng(5).integers(0, 2**40, (3, BUCKETS), dtype=np.uint64)
    found = from_percpu(cells.tobytes(), 3, "ns")
    assert found.counts.tolist() == [sum(row) for row in cells.T.tolist()]
    assert found.counts.dtype == np.uint64
    with pytest.raises(MapError, match="bytes came"):
        from_percpu(cells.tobytes()[:-1], 3)


def test_cpus_side_by_side() -> None:
    cells = np.zeros((2, BUCKETS), np.uint64)
    cells[0, 3], cells[1, 3], cells[1, 40] = 5, 6, 7
    frame = percpu_frame(cells.tobytes(), 2, "ns")
    assert list(frame.index.names) == ["low_ns", "cpu"]
    assert frame["count"].to_dict() == {(3, 0): 5, (3, 1): 6, (int(histogram.lows()[40]), 1): 7}
    assert frame["high_ns"].tolist() == [3, 3, int(histogram.highs()[40])]


# By key


def pack_by_who(rows: list[tuple[int, str, int, int]]) -> tuple[bytes, bytes, int]:
    keys = np.zeros(len(rows), SPECS["latency_by_who"].key.dtype)
    for number, (pid, comm, bucket, _) in enumerate(rows):
        keys[number] = (pid, comm.encode(), bucket)
    return keys.tobytes(), np.array([row[3] for row in rows], np.uint64).tobytes(), len(rows)


def test_rows_by_key_are_sorted_and_named() -> None:
    raw = pack_by_who([(9, "b", 40, 1), (2, "z", 3, 5), (9, "a", 16, 2), (9, "b", 2, 7), (1, "a", 0, 0)])
    frame = histogram_frame(SPECS["latency_by_who"], *raw)
    assert list(frame.index.names) == ["pid", "comm", "low_us"]
    low40, high40 = int(histogram.lows()[40]), int(histogram.highs()[40])
    assert frame.index.tolist() == [(2, "z", 3), (9, "a", 16), (9, "b", 2), (9, "b", low40)]
    assert frame["high_us"].tolist() == [3, 16, 2, high40]
    assert frame["count"].tolist() == [5, 2, 7, 1]
    assert [str(dtype) for dtype in frame.dtypes] == ["uint64", "uint64"]
    assert frame.loc[(9, "b")]["count"].tolist() == [7, 1]
    assert frame.index.is_monotonic_increasing


def test_all_keys_together() -> None:
    raw = pack_by_who([(9, "b", 40, 1), (2, "z", 3, 5), (9, "a", 40, 2)])
    found = from_rows(SPECS["latency_by_who"], *raw)
    assert (found.total, found.unit) == (8, "us")
    assert (found.counts[40], found.counts[3]) == (3, 5)


@settings(max_examples=200)
@given(
    st.dictionaries(st.integers(0, 2**32 - 1), st.lists(VALUES, min_size=1, max_size=20), max_size=6),
    st.lists(PERCENTS, min_size=1, max_size=4),
    st.randoms(use_true_random=False),
)
def test_percentiles_of_each_key(groups: dict[int, list[int]], percents: list[float], random: object) -> None:
    spec = SPECS["latency_by_pid"]
    rows = [
        (pid, bucket, count)
        for pid, values in groups.items()
        for bucket, count in enumerate(of(values).counts.tolist())
        if count
    ]
    random.shuffle(rows)
    keys = np.array([row[:2] for row in rows], np.uint32).tobytes()
    counts = np.array([row[2] for row in rows], np.uint64).tobytes()
    found = percentiles_by(spec, keys, counts, len(rows), percents)
    assert list(found.index.names) == ["key", "percentile"]
    assert found.index.tolist() == [(pid, percent) for pid in sorted(groups) for percent in percents]
    expected = [of(groups[pid], "").percentiles(percents) for pid in sorted(groups)]
    if expected:
        assert found["value"].tolist() == pd.concat(expected)["value"].tolist()
        assert found["error"].tolist() == pd.concat(expected)["error"].tolist()


def test_no_rows() -> None:
    spec = SPECS["latency_by_who"]
    assert len(histogram_frame(spec, b"", b"", 0)) == 0
    assert len(percentiles_by(spec, b"", b"", 0)) == 0
    assert from_rows(spec, b"", b"", 0).total == 0


def test_a_map_that_is_no_histogram() -> None:
    with pytest.raises(UsageError, match="its key is not a struct of key and bucket"):
        histogram_frame(SPECS["plain"], b"", b"", 0)
    with pytest.raises(UsageError, match="not a struct"):
        from_rows(dataclasses.replace(SPECS["plain"], key=None), b"", b"", 0)
    with pytest.raises(MapError, match="a bucket above 975"):
        from_rows(SPECS["latency_by_who"], *pack_by_who([(1, "a", 976, 1)]))
