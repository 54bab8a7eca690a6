"""Frames to raw entries: what `map_frame` reads comes back as the same bytes; what does not fit is refused whole."""

from __future__ import annotations

import dataclasses
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ebpf_magic.data.btf import Btf, Column, Layout
from ebpf_magic.data.maps import encode, encode_keys, map_frame
from ebpf_magic.errors import NoSuchNameError, UsageError

SPECS = Btf.from_elf((Path(__file__).parent / "data" / "kinds.bpf.o").read_bytes()).map_specs()


def plain(keys: Any, values: Any) -> pd.DataFrame:
    return pd.DataFrame({"value": values}, index=pd.Index(keys, name="key"))


def refused(name: str, frame: pd.DataFrame, type: str = "hash") -> str:
    with pytest.raises(UsageError) as caught:
        encode(SPECS[name], type, frame, 2)
    return str(caught.value)


# There and back


@given(st.lists(st.tuples(st.integers(0, 2**32 - 1), st.integers(0, 2**64 - 1)), unique_by=lambda row: row[0]))
def test_plain_numbers_come_back(rows: list[tuple[int, int]]) -> None:
    keys = b"".join(struct.pack("<I", key) for key, _ in rows)
    values = b"".join(struct.pack("<Q", value) for _, value in rows)
    frame = map_frame(SPECS["plain"], "hash", keys, values, len(rows), 2)
    assert encode(SPECS["plain"], "hash", frame, 2) == (keys, values, len(rows))


def test_structs_come_back_with_zero_for_padding() -> None:
    keys = struct.pack("<I16s", 1, b"bash") + struct.pack("<I16s", 2, "é".encode())
    values = struct.pack("<2Q", 3, 4)
    frame = map_frame(SPECS["by_struct"], "hash", keys, values, 2, 2)
    assert encode(SPECS["by_struct"], "hash", frame, 2) == (keys, values, 2)
    padded = map_frame(SPECS["padding"], "hash", struct.pack("<B7sQ", 1, b"garbage", 2), b"\x05", 1, 2)
    assert encode(SPECS["padding"], "hash", padded, 2) == (struct.pack("<B7xQ", 1, 2), b"\x05", 1)


def test_every_kind_of_field_comes_back() -> None:
    spec = SPECS["all_kinds"]
    raw = np.zeros(3, spec.value.dtype)
    rng = np.random.default_rng(1)
    for column in spec.value.columns:
        field = raw[column.path]
        if column.kind in ("int", "pointer", "bool"):
            limits = (0, 1) if column.kind == "bool" else (np.iinfo(field.dtype).min, np.iinfo(field.dtype).max)
            field[...] = rng.integers(*limits, 3, dtype=field.dtype, endpoint=True)
        elif column.kind == "float":
            field[...] = [0.5, np.nan, -np.inf]
        elif column.kind == "char":
            field[...] = [b"", b"full len", b"x"]
        elif column.kind == "enum":
            field[...] = [0, 1, 123]
        else:
            field[...] = np.void(bytes(range(256)) * 2 + b"12345678")
    frame = map_frame(spec, "hash", struct.pack("<3Q", 1, 2, 3), raw.tobytes(), 3, 2)
    assert encode(spec, "hash", frame, 2) == (struct.pack("<3Q", 1, 2, 3), raw.tobytes(), 3)


def test_columns_and_levels_in_any_order_and_type() -> None:
    index = pd.MultiIndex.from_tuples([("sh", 7)], names=["comm", "pid"])
    keys, values, count = encode(SPECS["by_struct"], "hash", pd.DataFrame({"value": [5.0]}, index=index), 2)
    assert (keys, values, count) == (struct.pack("<I16s", 7, b"sh"), struct.pack("<Q", 5), 1)
    frame = pd.DataFrame({"tail": [3], "body": pd.array([2], dtype="Int64"), "head": [True]}, index=[0])
    assert encode(SPECS["packed"], "array", frame, 2)[1] == struct.pack("<BQH", 1, 2, 3)
    frame = plain(["STOPPED", "8"], ["SMALL", "9"])
    assert encode(SPECS["states"], "hash", frame, 2) == (struct.pack("<2I", 4, 8), struct.pack("<2Q", 1, 9), 2)


def test_an_empty_frame_writes_nothing() -> None:
    assert encode(SPECS["plain"], "hash", plain([], []), 2) == (b"", b"", 0)


def test_bytes_without_types() -> None:
    assert encode(None, "hash", plain([b"ab", b"cd"], [b"123", b"\0\0\0"]), 2) == (b"abcd", b"123\0\0\0", 2)
    with pytest.raises(UsageError, match="column 'key', key b'cde': b'cde' is not 2 bytes"):
        encode(None, "hash", plain([b"ab", b"cde"], [b"1", b"2"]), 2)


# Per CPU


def test_a_sum_goes_to_the_first_cpu() -> None:
    keys, values, count = encode(SPECS["per_cpu_small"], "percpu_array", plain([0, 3], [5, 6]), 3)
    assert (keys, count) == (struct.pack("<2I", 0, 3), 2)
    assert values == struct.pack("<6Q", 5, 0, 0, 6, 0, 0)
    frame = map_frame(SPECS["per_cpu_small"], "percpu_array", keys, values, 2, 3)
    assert frame["value"].to_dict() == {0: 5, 3: 6}


def test_each_cpu_comes_back() -> None:
    keys, values = struct.pack("<2I", 8, 9), struct.pack("<4Q", 1, 2, 3, 4)
    frame = map_frame(SPECS["per_cpu_small"], "percpu_array", keys, values, 2, 2, per_cpu=True)
    assert encode(SPECS["per_cpu_small"], "percpu_array", frame, 2) == (keys, values, 2)
    shuffled = frame.iloc[[3, 0, 2, 1]]
    expected = (struct.pack("<2I", 9, 8), struct.pack("<4Q", 3, 4, 1, 2), 2)
    assert encode(SPECS["per_cpu_small"], "percpu_array", shuffled, 2) == expected


def test_cpus_that_are_missing_double_or_unknown() -> None:
    keys, values = struct.pack("<2I", 8, 9), struct.pack("<4Q", 1, 2, 3, 4)
    frame = map_frame(SPECS["per_cpu_small"], "percpu_array", keys, values, 2, 2, per_cpu=True)
    assert "row (9, 0) has no row for CPU 1" in refused("per_cpu_small", frame.iloc[:3], "percpu_array")
    assert "more than one row for CPU 0" in refused("per_cpu_small", frame.iloc[[0, 0, 1]], "percpu_array")
    far = frame.rename(index={1: 2}, level="cpu")
    assert "row (8, 2): CPUs are 0 to 1" in refused("per_cpu_small", far, "percpu_array")


# What does not fit


@pytest.mark.parametrize(
    ("value", "why"),
    [
        (-1, "-1 is not from 0 to 18446744073709551615"),
        (2**64, "18446744073709551616 is not from 0 to 18446744073709551615"),
        (2.0**64, "1.8446744073709552e+19 is not from 0 to"),
        (1.5, "1.5 is not an integer"),
        (float("nan"), "there is no value"),
        (float("inf"), "inf is not an integer"),
        (None, "there is no value"),
        ("7", "7 is not an integer"),
        (pd.NA, "there is no value"),
    ],
)
def test_numbers_that_do_not_fit(value: Any, why: str) -> None:
    frame = plain([10, 20], pd.Series([1, value], index=[10, 20]))
    message = refused("plain", frame)
    assert message.startswith("update map plain: column 'value', row 20: ")
    assert why in message
    assert refused("plain", plain([10, 20], np.array([1, value], object))).startswith(
        "update map plain: column 'value'"
    )


def test_a_key_that_does_not_fit() -> None:
    assert "column 'key', key 4294967296: 4294967296 is not from 0 to 4294967295" in refused(
        "plain", plain([2**32], [1])
    )
    index = pd.MultiIndex.from_tuples([(1, "far too long a name")], names=["pid", "comm"])
    message = refused("by_struct", pd.DataFrame({"value": [1]}, index=index))
    assert "column 'comm', key (1, 'far too long a name'): 'far too long a name' is 19 bytes long" in message


@pytest.mark.parametrize("text", ["a\0b", "é" * 9, 5, None, "\ud800"])
def test_texts_that_do_not_fit(text: Any) -> None:
    frame = pd.DataFrame({"value": [1, 2]}, index=pd.Index(["ok", text], name="key", dtype=object))
    assert refused("names", frame).startswith("update map names: column 'key', key")


def test_enums_that_do_not_fit() -> None:
    assert "'WHAT' is none of RUNNING, SLEEPING, STOPPED, ZOMBIE" in refused("states", plain(["WHAT"], ["SMALL"]))
    assert "'-5' is not from 0 to 4294967295" in refused("states", plain(["-5"], ["SMALL"]))
    assert "1.5 is none of" in refused("states", plain([1.5], ["SMALL"]))


def test_floats_that_do_not_fit() -> None:
    spec = dataclasses.replace(SPECS["plain"], value=float_layout())
    assert encode(spec, "hash", plain([1, 2], [1, 0.5]), 2)[1] == struct.pack("<2f", 1, 0.5)
    for value in (1e300, "x"):
        with pytest.raises(UsageError, match="column 'value', row 1"):
            encode(spec, "hash", plain([1], [value]), 2)


def test_a_signalling_nan_comes_back() -> None:
    spec = dataclasses.replace(SPECS["plain"], value=float_layout())
    raw = bytes.fromhex("0000817f")
    frame = map_frame(spec, "hash", bytes(4), raw, 1, 2)
    assert encode(spec, "hash", frame, 2)[1] == raw


def float_layout() -> Layout:
    return Layout(np.dtype("<f4"), (Column("", "", "float"),))


def test_columns_too_few_or_too_many() -> None:
    with pytest.raises(NoSuchNameError, match="the frame has no column 'value'") as caught:
        encode(SPECS["plain"], "hash", pd.DataFrame({"valeu": [1]}, index=pd.Index([1], name="key")), 2)
    assert "It has: valeu." in str(caught.value)
    extra = plain([1], [2]).assign(value_delta=3)
    assert "no field for column 'value_delta'" in refused("plain", extra)
    double = pd.concat([plain([1], [2]), plain([1], [3])], axis=1)
    assert "column 'value' stands twice" in refused("plain", double)


def test_an_index_of_another_shape_or_name() -> None:
    assert "its key has 2 columns (pid, comm), the index has 1 levels" in refused("by_struct", plain([1], [2]))
    assert "its key is key; the index is named pid" in refused("plain", plain([1], [2]).rename_axis("pid"))
    assert encode(SPECS["plain"], "hash", plain([1], [2]).rename_axis(None), 2)[2] == 1


def test_a_key_that_stands_twice() -> None:
    assert "the key 5 stands twice" in refused("plain", plain([5, 6, 5], [1, 2, 3]))
    assert "stands twice" in refused("per_cpu_small", plain([5, 5], [1, 2]), "percpu_array")


# Keys alone


@pytest.mark.parametrize(
    "keys", [[5, 6], (5, 6), np.array([5, 6]), pd.Index([5, 6]), pd.Series([5, 6]), {5: "x", 6: "y"}, range(5, 7)]
)
def test_keys_of_many_forms(keys: Any) -> None:
    assert encode_keys(SPECS["plain"], keys) == (struct.pack("<2I", 5, 6), 2)


def test_one_key() -> None:
    assert encode_keys(SPECS["plain"], 5) == (struct.pack("<I", 5), 1)
    assert encode_keys(SPECS["names"], "bash") == (b"bash".ljust(16, b"\0"), 1)
    assert encode_keys(SPECS["names"], ["bash", "sh"])[1] == 2
    assert encode_keys(SPECS["by_struct"], (7, "sh")) == (struct.pack("<I16s", 7, b"sh"), 1)
    assert encode_keys(None, b"raw") == (b"raw", 1)
    assert encode_keys(SPECS["plain"], []) == (b"", 0)
    assert encode_keys(SPECS["plain"], pd.Index([])) == (b"", 0)


def test_keys_of_several_parts() -> None:
    packed = struct.pack("<I16s", 7, b"sh") + struct.pack("<I16s", 8, b"ls")
    assert encode_keys(SPECS["by_struct"], [(7, "sh"), (8, "ls")]) == (packed, 2)
    frame = map_frame(SPECS["by_struct"], "hash", packed, bytes(16), 2, 2)
    assert encode_keys(SPECS["by_struct"], frame.index) == (packed, 2)
    assert encode_keys(SPECS["by_struct"], frame.index[:1]) == (packed[:20], 1)
    with pytest.raises(UsageError, match=r"delete from map by_struct: key 1 \(5\) is not a tuple of 2 \(pid, comm\)"):
        encode_keys(SPECS["by_struct"], [(7, "sh"), 5])


def test_keys_that_do_not_fit() -> None:
    with pytest.raises(UsageError, match=r"delete from map plain: column 'key', key -1: -1 is not from 0"):
        encode_keys(SPECS["plain"], [1, -1])
