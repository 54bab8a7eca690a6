"""Differences between frames, computed by hand."""

from __future__ import annotations

import numpy as np
import pandas as pd

from ebpf_magic.data.maps import Rates

SECOND = 1_000_000_000


def frame(totals: dict[object, int], dtype: type = np.uint64) -> pd.DataFrame:
    index = pd.Index(list(totals), name="key")
    return pd.DataFrame({"value": np.array(list(totals.values()), dtype)}, index=index)


def test_the_first_frame_has_no_rate() -> None:
    found = Rates().add(frame({1: 5, 2: 7}), 99)
    assert list(found.columns) == ["value", "value_delta", "value_per_s"]
    assert found["value_delta"].tolist() == [5, 7]
    assert found["value_per_s"].isna().all()
    assert found["value_per_s"].dtype == np.float64


def test_the_same_keys() -> None:
    rates = Rates()
    rates.add(frame({1: 5, 2: 7}), 10 * SECOND)
    found = rates.add(frame({1: 6, 2: 7}), 12 * SECOND)
    assert found["value_delta"].tolist() == [1, 0]
    assert found["value_per_s"].tolist() == [0.5, 0.0]
    assert found["value_delta"].dtype == np.uint64


def test_keys_come_go_and_move() -> None:
    rates = Rates()
    rates.add(frame({1: 5, 2: 7, 3: 9}), 0)
    found = rates.add(frame({3: 19, 4: 4, 1: 5}), 2 * SECOND)
    assert found["value_delta"].to_dict() == {3: 10, 4: 4, 1: 0}
    assert found["value_per_s"].to_dict() == {3: 5.0, 4: 2.0, 1: 0.0}
    found = rates.add(frame({}), 3 * SECOND)
    assert len(found) == 0 and list(found.columns) == ["value", "value_delta", "value_per_s"]
    assert rates.add(frame({3: 2}), 4 * SECOND)["value_delta"].tolist() == [2]


def test_a_counter_that_was_cleared_starts_again() -> None:
    rates = Rates()
    rates.add(frame({1: 2**64 - 1, 2: 50}), 0)
    assert rates.add(frame({1: 3, 2: 49}), SECOND)["value_delta"].tolist() == [3, 49]


def test_signed_numbers_may_fall_below_zero() -> None:
    rates = Rates()
    rates.add(frame({1: -5, 2: 10, 3: -(2**31)}, np.int32), 0)
    found = rates.add(frame({1: -8, 2: -1, 3: 2**31 - 1}, np.int32), SECOND)
    assert found["value_delta"].tolist() == [-3, -11, 2**32 - 1]


def test_large_numbers_lose_nothing() -> None:
    rates = Rates()
    rates.add(frame({1: 2**60}), 0)
    assert rates.add(frame({1: 2**60 + 1, 2: 2**63 + 1}), SECOND)["value_delta"].tolist() == [1, 2**63 + 1]


def test_only_numbers_get_rates_and_attrs_stay() -> None:
    source = pd.DataFrame(
        {
            "calls": np.array([1], np.uint64),
            "comm": pd.array(["a"], dtype="str"),
            "state": pd.Categorical(["x"]),
            "seen": [True],
            "raw": [b"x"],
        },
        index=pd.MultiIndex.from_tuples([(1, "a")], names=["pid", "comm"]),
    )
    source.attrs["read"] = "batch"
    found = Rates().add(source, 1)
    assert list(found.columns) == ["calls", "calls_delta", "calls_per_s", "comm", "state", "seen", "raw"]
    assert found.attrs == {"read": "batch"}
    assert list(source.columns) == ["calls", "comm", "state", "seen", "raw"]


def test_struct_keys_are_matched_by_all_their_parts() -> None:
    def by_who(rows: list[tuple[int, str, int]]) -> pd.DataFrame:
        index = pd.MultiIndex.from_tuples([row[:2] for row in rows], names=["pid", "comm"])
        return pd.DataFrame({"value": np.array([row[2] for row in rows], np.uint64)}, index=index)

    rates = Rates()
    rates.add(by_who([(1, "a", 5), (2, "a", 6), (1, "b", 7)]), 0)
    found = rates.add(by_who([(1, "b", 17), (1, "a", 6), (2, "b", 1)]), SECOND)
    assert found["value_delta"].tolist() == [10, 1, 1]


def test_keys_that_look_the_same_are_matched_in_their_order() -> None:
    rates = Rates()
    index = pd.MultiIndex.from_tuples([(1, "a"), (1, "a"), (2, "b")], names=["pid", "comm"])
    rates.add(pd.DataFrame({"value": [1, 10, 100]}, index=index), 0)
    found = rates.add(pd.DataFrame({"value": [2, 12, 103]}, index=index[[0, 1, 2]]), SECOND)
    assert found["value_delta"].tolist() == [1, 2, 3]
    found = rates.add(pd.DataFrame({"value": [105, 2, 13]}, index=index[[2, 0, 1]]), SECOND)
    assert found["value_delta"].tolist() == [2, 0, 1]


def test_no_time_has_passed() -> None:
    rates = Rates()
    rates.add(frame({1: 1}), 5)
    found = rates.add(frame({1: 3}), 5)
    assert found["value_delta"].tolist() == [2]
    assert found["value_per_s"].isna().all()


def test_the_frame_before_is_not_kept_changeable() -> None:
    rates = Rates()
    first = rates.add(frame({1: 1}), 0)
    first["value_delta"] += 100
    assert rates.add(frame({1: 3}), SECOND)["value_delta"].tolist() == [2]
