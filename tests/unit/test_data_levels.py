"""Distinct values and codes against `numpy.unique` and a plain Python loop."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from ebpf_magic.data import levels

INTS = [np.uint8, np.int8, np.uint16, np.int16, np.uint32, np.int32, np.uint64, np.int64]


@given(st.sampled_from(INTS).flatmap(lambda dtype: hnp.arrays(dtype, st.integers(0, 60))))
def test_distinct_ints_is_unique(numbers: np.ndarray) -> None:
    distinct, codes = levels.distinct_ints(numbers)
    expected, inverse = np.unique(numbers, return_inverse=True)
    assert distinct.dtype == numbers.dtype
    assert distinct.tolist() == expected.tolist()
    assert codes.tolist() == inverse.tolist()


@pytest.mark.parametrize("kinds", [3, 1000, 100_000])
@pytest.mark.parametrize("spread", [1, 1 << 40])
def test_distinct_ints_by_every_way(kinds: int, spread: int) -> None:
    rng = np.random.default_rng(kinds)
    numbers = rng.integers(0, kinds, 100_000).astype(np.uint64) * np.uint64(spread)
    distinct, codes = levels.distinct_ints(numbers)
    assert distinct.tolist() == sorted(set(numbers.tolist()))
    assert (distinct[codes] == numbers).all()


@settings(max_examples=300)
@given(
    st.integers(1, 40).flatmap(lambda size: st.lists(st.binary(max_size=size), max_size=20).map(lambda r: (size, r)))
)
def test_texts(case: tuple[int, list[bytes]]) -> None:
    size, rows = case
    texts, codes = levels.texts_of(np.array(rows, f"S{size}"))
    expected = [row.rstrip(b"\0").split(b"\0")[0].decode("utf-8", "backslashreplace") for row in rows]
    assert [texts[code] for code in codes] == expected
    assert len(set(texts)) == len(texts)
    assert sorted(texts) == sorted(set(expected))


@given(st.lists(st.sampled_from([0, 1, 4, 5, 6, 2**31, 2**32 - 1]), max_size=30))
def test_enums(values: list[int]) -> None:
    enum = {4: "FOUR", 0: "ZERO", 2**32 - 1: "LAST", 2**40: "NEVER"}
    codes, names = levels.enum_codes(np.array(values, np.uint32), enum)
    assert [names[code] for code in codes] == [enum.get(value, str(value)) for value in values]
    assert names[:3] == ["ZERO", "FOUR", "LAST"]
    codes, names = levels.enum_codes(np.array(values, np.uint32), {})
    assert [names[code] for code in codes] == [str(value) for value in values]
