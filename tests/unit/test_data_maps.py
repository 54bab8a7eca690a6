"""Raw entries to frames: bytes packed by hand with `struct`, so that the expected frame is known beforehand."""

from __future__ import annotations

import dataclasses
import struct
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from ebpf_magic.data.btf import Btf, MapSpec
from ebpf_magic.data.maps import map_frame
from ebpf_magic.errors import MapError

SPECS = Btf.from_elf((Path(__file__).parent / "data" / "kinds.bpf.o").read_bytes()).map_specs()
U64 = SPECS["plain"].value
PLAIN_U64 = dataclasses.replace(SPECS["plain"], key=U64)


def who(pid: int, comm: bytes) -> bytes:
    return struct.pack("<I16s", pid, comm)


def u64s(*numbers: int) -> bytes:
    return struct.pack(f"<{len(numbers)}Q", *numbers)


def test_numbers_keep_their_type() -> None:
    keys, values = struct.pack("<3I", 5, 2**32 - 1, 0), u64s(1, 2**64 - 1, 3)
    frame = map_frame(SPECS["plain"], "hash", keys, values, 3, 2)
    expected = pd.DataFrame(
        {"value": np.array([1, 2**64 - 1, 3], np.uint64)},
        index=pd.Index(np.array([5, 2**32 - 1, 0], np.uint32), name="key"),
    )
    pd.testing.assert_frame_equal(frame, expected)


def test_plain_numbers_are_not_copied_and_wire_bytes_can_be_written_to() -> None:
    values = bytearray(u64s(1, 2))
    frame = map_frame(PLAIN_U64, "hash", bytearray(u64s(8, 9)), values, 2, 1)
    assert np.shares_memory(frame["value"].to_numpy(), np.frombuffer(values, np.uint64))
    frame = map_frame(PLAIN_U64, "hash", u64s(8, 9), u64s(1, 2), 2, 1)
    frame.loc[9, "value"] = 7
    assert frame["value"].tolist() == [1, 7]


def test_a_buffer_at_an_odd_address() -> None:
    raw = memoryview(bytearray(b"\0" + u64s(8, 9)))[1:]
    frame = map_frame(PLAIN_U64, "hash", raw, raw, 2, 1)
    assert frame["value"].to_dict() == {8: 8, 9: 9}
    assert frame.loc[9, "value"] == 9


def test_a_struct_key_becomes_levels() -> None:
    keys = who(30, b"zsh") + who(10, b"a name of 16 chr") + who(20, b"zsh") + who(10, b"zsh")
    frame = map_frame(SPECS["by_struct"], "hash", keys, u64s(1, 2, 3, 4), 4, 2)
    expected = pd.DataFrame(
        {"value": np.array([1, 2, 3, 4], np.uint64)},
        index=pd.MultiIndex.from_arrays(
            [np.array([30, 10, 20, 10], np.uint32), ["zsh", "a name of 16 chr", "zsh", "zsh"]], names=["pid", "comm"]
        ),
    )
    pd.testing.assert_frame_equal(frame, expected)
    assert frame.index.levels[0].dtype == np.uint32
    assert all(level.is_monotonic_increasing for level in frame.index.levels)
    assert frame.loc[(20, "zsh"), "value"] == 3
    pd.testing.assert_frame_equal(frame.sort_index(), expected.sort_index())
    assert frame.sort_index().loc[15:30]["value"].tolist() == [3, 1]
    assert frame.groupby("comm")["value"].sum().to_dict() == {"a name of 16 chr": 2, "zsh": 8}


def test_a_struct_of_one_field_names_index_and_column() -> None:
    frame = map_frame(SPECS["one_field"], "hash", u64s(7), u64s(9), 1, 2)
    assert (frame.index.name, list(frame.columns)) == ("inode", ["inode"])
    assert frame["inode"].to_dict() == {7: 9}


def test_no_entries_keep_names_and_types() -> None:
    frame = map_frame(SPECS["by_struct"], "hash", b"", b"", 0, 2)
    assert (len(frame), list(frame.index.names), frame["value"].dtype) == (0, ["pid", "comm"], np.uint64)
    frame = map_frame(SPECS["per_cpu"], "percpu_hash", b"", b"", 0, 2)
    assert (len(frame), frame["calls"].dtype, frame["least"].dtype) == (0, np.uint64, np.int64)
    assert len(map_frame(SPECS["per_cpu"], "percpu_hash", b"", b"", 0, 2, per_cpu=True)) == 0
    assert len(map_frame(None, "hash", b"", b"", 0, 2)) == 0
    for spec in SPECS.values():
        if not spec.name.startswith("with_") and spec.name != "all_kinds":
            assert len(map_frame(spec, "hash", b"", b"", 0, 2)) == 0


def test_without_types_both_are_bytes() -> None:
    frame = map_frame(None, "hash", b"ab\0cd\0", b"\0\x01\xff\x02", 2, 2)
    assert frame["value"].to_dict() == {b"ab\0": b"\0\x01", b"cd\0": b"\xff\x02"}
    frame = map_frame(SPECS["sizes"], "hash", b"abcdef", b"0123456789", 1, 2)
    assert frame["value"].to_dict() == {b"abcdef": b"0123456789"}
    frame = map_frame(MapSpec("x"), "percpu_hash", b"k", b"1234567\0abcdefg\0", 1, 2, per_cpu=True)
    assert frame["value"].to_dict() == {(b"k", 0): b"1234567\0", (b"k", 1): b"abcdefg\0"}


def test_nested_fields_arrays_and_unused_padding() -> None:
    spec = SPECS["all_kinds"]
    raw = bytearray(648)
    struct.pack_into("<BbHhxxIiQq", raw, 0, 255, -1, 65535, -2, 2**32 - 1, -3, 2**64 - 1, -(2**63))
    struct.pack_into("<?bxxIQ", raw, 32, True, 65, 4, 1)
    struct.pack_into("<HhI4s3I4B8s8s", raw, 48, 1, -1, 7, b"\5\0\0\0", 1, 2, 3, 4, 5, 6, 7, b"one", b"two\0rest")
    struct.pack_into("<HhHh", raw, 92, 11, -11, 12, -12)
    struct.pack_into("<fxxxxdQ", raw, 624, 0.5, -0.25, 2**63)
    frame = map_frame(spec, "hash", u64s(1), bytes(raw), 1, 2)
    row = frame.iloc[0].to_dict()
    assert row.pop("long_array") == bytes(520)
    assert row == {
        "a_u8": 255, "a_s8": -1, "a_u16": 65535, "a_s16": -2, "a_u32": 2**32 - 1, "a_s32": -3, "a_u64": 2**64 - 1,
        "a_s64": -(2**63), "flag": True, "letter": 65, "state": "STOPPED", "wide": "SMALL", "in.low": 1, "in.high": -1,
        "anon_a": 7, "one_way": 5, "numbers[0]": 1, "numbers[1]": 2, "numbers[2]": 3, "grid[0][0]": 4, "grid[0][1]": 5,
        "grid[1][0]": 6, "grid[1][1]": 7, "names[0]": "one", "names[1]": "two", "many[0].low": 11, "many[0].high": -11,
        "many[1].low": 12, "many[1].high": -12, "single": 0.5, "twice": -0.25, "pointer": "0x8000000000000000",
    }  # fmt: skip
    assert frame["flag"].dtype == bool
    assert frame["single"].dtype == np.float32


def test_packed_structs() -> None:
    values = struct.pack("<BQH", 1, 2, 3) + struct.pack("<BQH", 4, 5, 6)
    frame = map_frame(SPECS["packed"], "array", struct.pack("<2I", 0, 1), values, 2, 2)
    assert frame.to_numpy().tolist() == [[1, 2, 3], [4, 5, 6]]


def test_padding_of_a_key_does_not_show() -> None:
    keys = struct.pack("<B7sQ", 1, b"garbage", 2) + struct.pack("<B7xQ", 1, 2)
    frame = map_frame(SPECS["padding"], "hash", keys, b"\x05\x06", 2, 2)
    assert frame.index.tolist() == [(1, 2), (1, 2)]


def test_an_array_as_value() -> None:
    frame = map_frame(SPECS["vectors"], "hash", struct.pack("<H", 3), u64s(1, 2, 3, 4), 1, 2)
    assert frame.iloc[0].to_dict() == {"value[0]": 1, "value[1]": 2, "value[2]": 3, "value[3]": 4}


def test_enums_are_categories_and_unknown_values_stay() -> None:
    keys = struct.pack("<5I", 4, 0, 77, 0xFFFFFFFF, 1)
    frame = map_frame(SPECS["states"], "hash", keys, u64s(1, 1, 5, 1, 2**64 - 1), 5, 2)
    assert frame.index.tolist() == ["STOPPED", "RUNNING", "77", "ZOMBIE", "SLEEPING"]
    assert isinstance(frame.index, pd.CategoricalIndex)
    assert frame["value"].tolist() == ["SMALL", "SMALL", "5", "SMALL", str(2**64 - 1)]
    assert isinstance(frame["value"].dtype, pd.CategoricalDtype)
    assert frame.loc["77", "value"] == "5"


def test_too_few_bytes_are_refused() -> None:
    with pytest.raises(MapError, match=r"read map plain: 2 values of 8 bytes were expected, 15 bytes came"):
        map_frame(SPECS["plain"], "hash", bytes(8), bytes(15), 2, 2)
    with pytest.raises(MapError, match="keys"):
        map_frame(SPECS["plain"], "hash", bytes(7), bytes(16), 2, 2)


# Text


def text_frame(*keys: bytes) -> pd.DataFrame:
    values = struct.pack(f"<{len(keys)}q", *range(len(keys)))
    return map_frame(SPECS["names"], "hash", b"".join(key.ljust(16, b"\0") for key in keys), values, len(keys), 2)


def test_text_is_cut_at_nul_and_other_bytes_are_shown() -> None:
    frame = text_frame(b"", b"bash", b"caf\xc3\xa9", b"\xff\xc3", b"\xe2\x82", b"sixteen letters!", b"a\\b\n\t")
    assert frame.index.tolist() == ["", "bash", "café", "\\xff\\xc3", "\\xe2\\x82", "sixteen letters!", "a\\b\n\t"]
    assert pd.api.types.is_string_dtype(frame.index)
    assert frame["value"].tolist() == list(range(7))


def test_what_stands_behind_the_nul_is_no_part_of_the_text() -> None:
    frame = text_frame(b"bash\0old", b"bash", b"\0\0\0\0\0\0\0\0\0left", b"bash\0\xff")
    assert frame.index.tolist() == ["bash", "bash", "", "bash"]
    keys = who(1, b"sh\0x") + who(2, b"sh") + who(1, b"\\xff") + who(1, b"\xff")
    index = map_frame(SPECS["by_struct"], "hash", keys, u64s(1, 2, 3, 4), 4, 2).index
    assert index.tolist() == [(1, "sh"), (2, "sh"), (1, "\\xff"), (1, "\\xff")]
    assert index.levels[1].is_unique


def test_many_texts_each_row_its_own() -> None:
    rng = np.random.default_rng(7)
    count = 50_000
    pids = rng.integers(0, 2**32, count, dtype=np.uint32)
    comms = [b"%x" % number for number in rng.integers(0, 2**60, count)]
    keys = b"".join(struct.pack("<I16s", *key) for key in zip(pids.tolist(), comms, strict=True))
    frame = map_frame(SPECS["by_struct"], "hash", keys, np.arange(count, dtype=np.uint64).tobytes(), count, 2)
    assert frame.index.get_level_values("pid").tolist() == pids.tolist()
    assert frame.index.get_level_values("comm").tolist() == [comm.decode() for comm in comms]
    assert frame["value"].tolist() == list(range(count))


# Per CPU


def numbers(calls: int, least: int, mean: float, small: int, comm: bytes, state: int, seen: bool) -> bytes:
    return struct.pack("<QixxxxdI16sI?7x", calls, least, mean, small, comm, state, seen)


CPU_KEYS = who(1, b"a") + who(2, b"b")
CPU_VALUES = (
    numbers(1, -5, 0.5, 2**32 - 1, b"", 0, False)
    + numbers(2**64 - 1, 3, 0.25, 5, b"second", 4, True)
    + numbers(0, 0, 0.0, 0, b"", 0, False)
    + numbers(7, 2, 1.0, 1, b"", 0, False)
    + numbers(1, -2, 2.0, 2, b"first", 1, False)
    + numbers(1, -2, 4.0, 3, b"later", 4, False)
)


def test_cpus_are_added_up() -> None:
    frame = map_frame(SPECS["per_cpu"], "percpu_hash", CPU_KEYS, CPU_VALUES, 2, 3)
    assert frame.index.tolist() == [(1, "a"), (2, "b")]
    assert frame["calls"].tolist() == [0, 9]  # wraps as the kernel's u64 does
    assert frame["least"].tolist() == [-2, -2]
    assert frame["mean"].tolist() == [0.75, 7.0]
    assert frame["small"].tolist() == [2**32 + 4, 6]  # a sum of u32 has room
    assert frame["comm"].tolist() == ["second", "first"]
    assert frame["state"].tolist() == ["STOPPED", "SLEEPING"]
    assert frame["seen"].tolist() == [True, False]
    assert [str(frame[name].dtype) for name in ("calls", "least", "mean", "small")] == [
        "uint64", "int64", "float64", "uint64"
    ]  # fmt: skip


def test_each_cpu_is_a_row() -> None:
    frame = map_frame(SPECS["per_cpu"], "percpu_hash", CPU_KEYS, CPU_VALUES, 2, 3, per_cpu=True)
    assert list(frame.index.names) == ["pid", "comm", "cpu"]
    assert frame.index.tolist() == [(pid, comm, cpu) for pid, comm in ((1, "a"), (2, "b")) for cpu in range(3)]
    assert frame["calls"].tolist() == [1, 2**64 - 1, 0, 7, 1, 1]
    assert frame["small"].dtype == np.uint32
    assert frame["comm"].tolist() == ["", "second", "", "", "first", "later"]


def test_small_values_are_filled_up_for_each_cpu() -> None:
    values = struct.pack("<I4xI4xI4xI4x", 1, 2, 3, 4)
    keys = struct.pack("<2I", 0, 1)
    assert map_frame(SPECS["per_cpu_small"], "percpu_array", keys, values, 2, 2)["value"].tolist() == [3, 7]
    frame = map_frame(SPECS["per_cpu_small"], "percpu_array", keys, values, 2, 2, per_cpu=True)
    assert frame["value"].to_dict() == {(0, 0): 1, (0, 1): 2, (1, 0): 3, (1, 1): 4}


@pytest.mark.parametrize("cpus", [1, 2, 8, 9, 128])
def test_any_number_of_cpus(cpus: int) -> None:
    cells = np.random.default_rng(cpus).integers(0, 2**63, (100, cpus), dtype=np.uint64)
    keys = np.arange(100, dtype=np.uint64)
    frame = map_frame(PLAIN_U64, "percpu_hash", keys.tobytes(), cells.tobytes(), 100, cpus)
    assert frame["value"].tolist() == [sum(row) % 2**64 for row in cells.tolist()]


def test_per_cpu_is_for_per_cpu_maps_only() -> None:
    frame = map_frame(PLAIN_U64, "hash", u64s(1), u64s(2), 1, 4, per_cpu=True)
    assert frame["value"].to_dict() == {1: 2}
