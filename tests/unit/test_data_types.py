"""What data/types.bpf.c has: bit fields, unions, wide integers, forms; read, and written back unchanged."""

from __future__ import annotations

import dataclasses
import ipaddress
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ebpf_magic.data import forms, histogram, wide
from ebpf_magic.data.btf import Btf, Layout, MapSpec
from ebpf_magic.data.forms import FORMS
from ebpf_magic.data.maps import encode, encode_keys, map_frame
from ebpf_magic.data.rates import Rates
from ebpf_magic.errors import EbpfMagicError, NoSuchNameError, UsageError

BTF = Btf.from_elf((Path(__file__).parent / "data" / "types.bpf.o").read_bytes())
SPECS = BTF.map_specs()


def spec_of(name: str, value: Layout | None = None) -> MapSpec:
    """A declaration with a plain u32 key and the value of another."""
    return dataclasses.replace(SPECS[name], key=SPECS["tight"].key, value=value or SPECS[name].value)


def read(spec: MapSpec, *values: bytes) -> pd.DataFrame:
    keys = struct.pack(f"<{len(values)}I", *range(len(values)))
    return map_frame(spec, "hash", keys, b"".join(values), len(values), 2)


def write(spec: MapSpec, frame: pd.DataFrame) -> bytes:
    return encode(spec, "hash", frame, 2)[1]


def refused(spec: MapSpec, frame: pd.DataFrame) -> str:
    with pytest.raises(UsageError) as caught:
        write(spec, frame)
    return str(caught.value)


# Bit fields


def field(raw: bytes, first: int, width: int, signed: bool) -> int:
    """A bit field by plain arithmetic on one large integer."""
    found = (int.from_bytes(raw, "little") >> first) & ((1 << width) - 1)
    return found - (1 << width) if signed and found >> (width - 1) else found


@given(st.lists(st.binary(min_size=21, max_size=21), min_size=1, max_size=8))
def test_bit_fields_that_lie_across_bytes_and_words(values: list[bytes]) -> None:
    spec = spec_of("tight")
    frame = read(spec, *values)
    where = {"head": (0, 3, False), "across": (3, 62, False), "behind": (65, 7, True), "huge": (72, 90, True)}
    assert list(frame.columns) == list(where)
    for name, (first, width, signed) in where.items():
        assert frame[name].tolist() == [field(value, first, width, signed) for value in values]
    assert [frame[name].dtype for name in where] == [np.uint8, np.uint64, np.int64, object]
    mask = (1 << 162) - 1
    assert write(spec, frame) == b"".join((int.from_bytes(v, "little") & mask).to_bytes(21, "little") for v in values)


@pytest.mark.parametrize("size", [1, 2, 4, 8, 16])
@given(data=st.data())
def test_any_bit_field_is_taken_and_put_back(size: int, data: st.DataObject) -> None:
    bits = wide.Bits(data.draw(st.integers(0, 7)), data.draw(st.integers(1, 8 * size)), data.draw(st.booleans()), size)
    rows = data.draw(st.lists(st.binary(min_size=bits.touched_bytes, max_size=bits.touched_bytes), max_size=5))
    raw = np.frombuffer(b"".join(rows), f"V{bits.touched_bytes}")
    numbers = wide.take(raw, bits)
    assert numbers.dtype == bits.dtype
    assert numbers.tolist() == [field(row, bits.shift, bits.width, bits.signed) for row in rows]
    low, high = bits.limits
    assert all(low <= number <= high for number in numbers.tolist())
    back = np.zeros((len(rows), bits.touched_bytes + 2), np.uint8)
    wide.put(back, 1, numbers, bits)
    mask = ((1 << bits.width) - 1) << bits.shift
    expected = [int.from_bytes(row, "little") & mask for row in rows]
    assert [int.from_bytes(row.tobytes(), "little") >> 8 for row in back] == expected


def test_bit_fields_of_every_kind() -> None:
    columns = {column.name: column for column in SPECS["with_bits"].value.columns}
    assert [columns[name].kind for name in ("three", "flag", "level", "last")] == ["int", "bool", "enum", "int"]
    raw = np.zeros(1, SPECS["with_bits"].value.dtype)
    frame = read(spec_of("with_bits"), raw.tobytes())
    frame.loc[0, ["three", "five", "most", "low", "long_one", "last"]] = [7, -16, 131071, 15, -(1 << 58), -(1 << 27)]
    frame["flag"], frame["level"] = [True], ["HIGH"]
    written = write(spec_of("with_bits"), frame)
    assert struct.unpack_from("<I", written)[0] == 7 | 16 << 3 | 131071 << 15
    again = read(spec_of("with_bits"), written)
    assert again.iloc[0].to_dict() == {
        "three": 7, "five": -16, "most": 131071, "low": 15, "long_one": -(1 << 58), "flag": True, "level": "HIGH",
        "last": -(1 << 27),
    }  # fmt: skip
    assert isinstance(again["level"].dtype, pd.CategoricalDtype)
    assert "column 'three', row 0: 8 is not from 0 to 7" in refused(spec_of("with_bits"), again.assign(three=8))
    assert "column 'five', row 0: -17 is not from -16 to 15" in refused(spec_of("with_bits"), again.assign(five=-17))
    assert "'16' is not from 0 to 15" in refused(spec_of("with_bits"), again.assign(level="16"))


# Wide integers and enums


@given(st.lists(st.tuples(st.integers(-(2**127), 2**127 - 1), st.integers(0, 2**128 - 1)), max_size=6))
def test_128_bits(rows: list[tuple[int, int]]) -> None:
    spec = spec_of("wide_ones")
    values = [a.to_bytes(16, "little", signed=True) + b.to_bytes(16, "little") + bytes(16) for a, b in rows]
    frame = read(spec, *values)
    assert frame["negative"].tolist() == [a for a, _ in rows]
    assert frame["large"].tolist() == [b for _, b in rows]
    assert write(spec, frame) == b"".join(values)


def test_128_bits_that_do_not_fit() -> None:
    frame = read(spec_of("wide_ones"), bytes(48))
    assert f"{2**128} is not from 0 to {2**128 - 1}" in refused(spec_of("wide_ones"), frame.assign(large=2**128))
    assert "-1 is not from 0" in refused(spec_of("wide_ones"), frame.assign(large=-1))
    assert write(spec_of("wide_ones"), frame.assign(large=np.array([7], np.uint8)))[16:32] == (7).to_bytes(16, "little")


def test_a_key_of_128_bits_and_enums_of_64() -> None:
    keys = (2**100).to_bytes(16, "little") + (5).to_bytes(16, "little")
    values = [bytes(32) + struct.pack("<Qq", 0x1234567890, -0x1234567890), bytes(32) + struct.pack("<Qq", 9, 0)]
    frame = map_frame(SPECS["wide_ones"], "hash", keys, b"".join(values), 2, 2)
    assert frame.index.tolist() == [2**100, 5]
    assert frame["wide"].tolist() == ["HUGE", "9"]
    assert frame["below"].tolist() == ["DEEP", "NONE"]
    assert encode(SPECS["wide_ones"], "hash", frame, 2) == (keys, b"".join(values), 2)
    assert encode_keys(SPECS["wide_ones"], [2**100])[0] == keys[:16]


def test_sums_of_128_bits_wrap_as_the_kernel_s_do() -> None:
    half = (2**126).to_bytes(16, "little", signed=True) + (2**127 + 1).to_bytes(16, "little") + bytes(16)
    frame = map_frame(SPECS["per_cpu_wide"], "percpu_hash", bytes(4), half + half, 1, 2)
    assert frame.iloc[0][["negative", "large"]].tolist() == [-(2**127), 2]
    frame = map_frame(SPECS["per_cpu_wide"], "percpu_hash", b"", b"", 0, 2)
    assert (len(frame), frame["large"].dtype) == (0, object)


# Unions


EITHER = struct.pack("<If4s", 1, 0.5, b"\x01\x02\x03\x04")


def test_each_member_of_a_union_is_a_column_and_marked() -> None:
    frame = read(spec_of("with_union"), EITHER)
    row = frame.iloc[0].to_dict()
    assert (row["as.number"], row["as.real"], row["as.halves.low"], row["as.halves.high"]) == (
        0x3F000000,
        0.5,
        0,
        0x3F00,
    )
    assert (row["as.text"], row["one_way"], row["other_way[3]"]) == ("", 0x04030201, 4)
    assert frame.attrs["unions"] == {
        "as": ["as.number", "as.real", "as.text", "as.halves.low", "as.halves.high"],
        "(union at byte 8)": ["one_way", *(f"other_way[{i}]" for i in range(4))],
    }
    alone = read(spec_of("union_alone"), struct.pack("<Q", 0x1FF))
    assert (alone.iloc[0].to_dict(), alone.attrs["unions"]) == (
        {"whole": 0x1FF, "part": 0xFF}, {"value": ["whole", "part"]}
    )  # fmt: skip


@given(st.lists(st.binary(min_size=12, max_size=12), min_size=1, max_size=6))
def test_unions_are_written_back_unchanged_whatever_their_bytes(values: list[bytes]) -> None:
    spec = spec_of("with_union")
    assert write(spec, read(spec, *values)) == b"".join(values)
    keys = map_frame(SPECS["with_union"], "hash", b"".join(values), b"".join(values), len(values), 2).index
    assert encode_keys(SPECS["with_union"], keys)[0] == b"".join(values)


def test_one_member_of_a_union_is_enough_and_two_must_agree() -> None:
    spec = spec_of("with_union")
    frame = read(spec, EITHER, EITHER)
    lean = frame[["tag", "as.real", "one_way"]].assign(**{"as.real": [0.5, 2.0]})
    assert write(spec, lean) == EITHER + struct.pack("<If4s", 1, 2.0, b"\x01\x02\x03\x04")
    halves = frame[["tag", "as.halves.low", "as.halves.high", "one_way"]]
    assert write(spec, halves) == EITHER * 2
    message = refused(spec, frame.assign(**{"as.real": [0.5, 2.0]}))
    assert "column 'as.real', row 1: the members of the union (as) say different things; leave out" in message
    with pytest.raises(NoSuchNameError, match=r"the frame has no column 'as.number'"):
        write(spec, frame[["tag", "as.halves.low", "one_way"]])
    with pytest.raises(NoSuchNameError, match=r"the frame has no column 'tag'"):
        write(spec, frame[["as.number", "one_way"]])


def test_a_union_is_of_one_cpu() -> None:
    values = struct.pack("<I4s4s4x", 3, b"", b"") + struct.pack("<If4s4x", 4, 0.5, b"\0\0\1\0")
    frame = map_frame(SPECS["per_cpu_union"], "percpu_hash", bytes(4), values, 1, 2)
    row = frame.iloc[0].to_dict()
    assert (row["tag"], row["as.number"], row["as.real"], row["one_way"]) == (7, 0x3F000000, 0.5, 1 << 16)


# Forms


def network(**changed: Any) -> bytes:
    parts = {
        "by_type": bytes([10, 0, 0, 1]), "source": bytes([10, 0, 0, 2]), "octets": bytes([10, 0, 0, 3]),
        "by_typedef": bytes([255, 255, 255, 255]), "two": bytes([1, 2, 3, 4, 5, 6, 7, 8]),
        "six": ipaddress.IPv6Address("2001:db8::1").packed, "raw_six": ipaddress.IPv6Address("::ffff:10.0.0.9").packed,
        "h_source": bytes(range(6)), "mac": bytes([0xFF] * 6),
    }  # fmt: skip
    raw = b"".join({**parts, **changed}.values())
    raw = raw.ljust(SPECS["network"].value.dtype.fields["sport"][1], b"\0")
    raw += struct.pack(">HHI4s", 443, 80, 1, bytes([192, 168, 0, 1]))
    raw = raw.ljust(SPECS["network"].value.dtype.fields["cookie"][1], b"\0") + struct.pack(">Q", 2**63 + 1)
    return raw + struct.pack("<I4xQQQ", 8 << 20 | 1, 1234, 77, 0x1F)


def test_every_form_is_shown_and_taken_back() -> None:
    spec = spec_of("network").with_cgroups({77: "/user.slice"})
    frame = read(spec, network())
    assert frame.iloc[0].to_dict() == {
        "by_type": "10.0.0.1", "source": "10.0.0.2", "octets": "10.0.0.3", "by_typedef": "255.255.255.255",
        "two[0]": "1.2.3.4", "two[1]": "5.6.7.8", "six": "2001:db8::1", "raw_six": "::ffff:10.0.0.9",
        "h_source": "00:01:02:03:04:05", "mac": "ff:ff:ff:ff:ff:ff", "sport": 443, "dport": 80, "seq": 1,
        "daddr": "192.168.0.1", "cookie": 2**63 + 1, "dev": "8:1", "ino": 1234, "cgroup": "/user.slice",
        "flags": "0x1f",
    }  # fmt: skip
    assert frame["sport"].dtype == np.uint16 and frame["cookie"].dtype == np.uint64
    assert write(spec, frame) == network()
    assert frame.attrs["shown"]["cgroup"] == "cgroup"
    assert set(frame.attrs["shown"]) == set(frame.columns)


@settings(max_examples=50)
@given(st.lists(st.binary(min_size=120, max_size=120), min_size=1, max_size=5))
def test_any_bytes_in_any_form_come_back(values: list[bytes]) -> None:
    spec = spec_of("network").with_cgroups({77: "/user.slice"})
    fields = SPECS["network"].value.dtype
    covered = np.zeros(120, np.uint8)
    for name in fields.names:
        at = fields.fields[name][1]
        covered[at : at + fields[name].itemsize] = 0xFF
    expected = b"".join((np.frombuffer(value, np.uint8) & covered).tobytes() for value in values)
    assert write(spec, read(spec, *values)) == expected


def test_keys_and_values_in_a_form_that_the_map_s_tag_says() -> None:
    spec = SPECS["tagged"].with_cgroups({5: "/a", 6: "/b"})
    keys = bytes([10, 0, 0, 1, 9, 0, 0, 1])
    frame = map_frame(spec, "hash", keys, struct.pack("<2Q", 6, 7), 2, 2)
    assert frame["value"].to_dict() == {"10.0.0.1": "/b", "9.0.0.1": "7"}
    assert encode(spec, "hash", frame, 2) == (keys, struct.pack("<2Q", 6, 7), 2)
    assert encode_keys(spec, "9.0.0.1") == (keys[4:], 1)
    assert encode_keys(spec, ipaddress.ip_address("10.0.0.1")) == (keys[:4], 1)


def test_levels_of_addresses_are_sorted_and_shared() -> None:
    key = dataclasses.replace(SPECS["network"].value)
    spec = dataclasses.replace(SPECS["network"], key=key, value=SPECS["tagged"].value)
    rows = [network(by_type=bytes([10, 0, 0, n])) for n in (9, 10, 9)]
    frame = map_frame(spec, "hash", b"".join(rows), bytes(24), 3, 2)
    assert frame.index.get_level_values("by_type").tolist() == ["10.0.0.9", "10.0.0.10", "10.0.0.9"]
    assert frame.index.levels[0].tolist() == ["10.0.0.10", "10.0.0.9"]
    assert all(level.is_monotonic_increasing for level in frame.index.levels)


def test_a_histogram_by_address() -> None:
    keys = bytes([10, 0, 0, 1]) + struct.pack("<I", 3)
    frame = histogram.histogram_frame(SPECS["latency"], keys, struct.pack("<Q", 5), 1)
    assert frame["count"].to_dict() == {("10.0.0.1", 3): 5}


@pytest.mark.parametrize(
    ("column", "value", "why"),
    [
        ("source", "10.0.0.256", "'10.0.0.256' is not an IPv4 address"),
        ("source", 7, "7 is not an address: write it as text"),
        ("six", "10.0.0.1", "'10.0.0.1' is not an IPv6 address"),
        ("mac", "00:01:02:03:04", "'00:01:02:03:04' is not a MAC address such as"),
        ("dev", "8:1048576", "'8:1048576' has a minor number above 1048575"),
        ("dev", "sda", "'sda' is not a device number such as 8:1"),
        ("dev", "4096:0", "4294967296 is not from 0 to 4294967295"),
        ("cgroup", "/nowhere", "there is no cgroup /nowhere"),
        ("cgroup", "nowhere", "'nowhere' is not a cgroup's path or id"),
        ("flags", "0x1ffffffffffffffff", "is not from 0 to 18446744073709551615"),
        ("flags", "many", "'many' is not a number such as 0x1f"),
        ("dport", 65536, "65536 is not from 0 to 65535"),
    ],
)
def test_what_is_no_form_of_its_column_is_refused(column: str, value: Any, why: str) -> None:
    frame = read(spec_of("network"), network())
    message = refused(spec_of("network"), frame.assign(**{column: [value]}))
    assert message.startswith(f"update map network: column {column!r}, row 0: ")
    assert why in message


def test_numbers_are_taken_where_a_form_is_of_a_number() -> None:
    frame = read(spec_of("network"), network()).assign(
        cgroup=[5], dev=[np.int64(9)], flags=[255], mac="0A-00-00-00-00-01"
    )
    again = read(spec_of("network"), write(spec_of("network"), frame)).iloc[0]
    assert again[["cgroup", "dev", "flags", "mac"]].tolist() == ["5", "0:9", "0xff", "0a:00:00:00:00:01"]


def test_what_names_something_is_neither_added_nor_compared() -> None:
    frame = map_frame(SPECS["per_cpu_network"], "percpu_hash", bytes(4), network() * 2, 1, 2)
    assert frame.iloc[0][["dport", "ino", "source"]].tolist() == [80, 1234, "10.0.0.2"]
    rates = Rates().add(frame, 1)
    assert list(rates.columns) == list(frame.columns)


def test_two_cgroups_of_one_path_are_one_label() -> None:
    spec = dataclasses.replace(SPECS["tagged"], key=SPECS["network"].value).with_cgroups({77: "/a", 78: "/a"})
    rows = network() + network()[:-16] + struct.pack("<QQ", 78, 0x1F)
    frame = map_frame(spec, "hash", rows, bytes(16), 2, 2)
    assert frame.index.get_level_values("cgroup").tolist() == ["/a", "/a"]
    assert frame.index.levels[-2].tolist() == ["/a"]


@pytest.mark.parametrize("form", [name for name, form in FORMS.items() if form.texts])
@given(data=st.data())
def test_texts_of_a_form_are_parsed_to_what_they_were_made_of(form: str, data: st.DataObject) -> None:
    size = data.draw(st.sampled_from(FORMS[form].sizes))
    raw = data.draw(st.binary(min_size=size, max_size=size))
    value: Any = raw if FORMS[form].order == "bytes" else int.from_bytes(raw, "little")
    names = {1: "/", 2: "/a"}
    (text,) = FORMS[form].texts([value], names)
    assert FORMS[form].parse(text, names) == value


@pytest.mark.parametrize(
    ("typedefs", "struct_name", "member", "size", "form"),
    [
        (["__be16"], "", "sport", 2, "be"), (["__be32"], "", "seq", 4, "be"), (["__be32"], "", "skc_daddr", 4, "ipv4"),
        ([], "in_addr", "x", 4, "ipv4"), ([], "in_addr", "x", 8, ""), ([], "in6_addr", "x", 16, "ipv6"),
        (["dev_t", "__kernel_dev_t"], "", "d", 4, "dev"), (["dev_t"], "", "d", 8, ""), (["ino_t"], "", "i", 8, "inode"),
        ([], "unsigned char", "h_dest", 6, "mac"), ([], "unsigned char", "h_dest", 4, ""),
        (["u32"], "", "saddr", 4, ""),
    ],
)  # fmt: skip
def test_names_that_make_a_form_certain(
    typedefs: list[str], struct_name: str, member: str, size: int, form: str
) -> None:
    assert forms.of_names(typedefs, struct_name, member, size) == form


@pytest.mark.parametrize("name", SPECS)
def test_no_entries_keep_names_and_types(name: str) -> None:
    spec = SPECS[name]
    for type in ("hash", "percpu_hash"):
        frame = map_frame(spec, type, b"", b"", 0, 2)
        assert len(frame) == 0 and len(frame.columns) == len(spec.value.columns)
        assert encode(spec, type, frame, 2) == (b"", b"", 0)


# Declarations


def test_a_form_that_does_not_fit_says_so() -> None:
    type_id = next(i for i in range(1, len(BTF)) if BTF.type(i).name == "u64")
    for show, error, why in (
        ("ipv5", NoSuchNameError, r"show a value as 'ipv5': no such form \(near: ipv"),
        ("ipv4", UsageError, "show a value as 'ipv4': that takes 4 bytes, it has 8"),
    ):
        with pytest.raises(error, match=why):
            BTF.layout(type_id, {"": show})
    struct_id = next(i for i in range(1, len(BTF)) if BTF.type(i).name == "wide_ones")
    with pytest.raises(UsageError, match="that is for an integer"):
        BTF.layout(struct_id, {"": "hex"})


def test_pointers_functions_and_what_is_only_declared() -> None:
    frame = read(spec_of("odd"), struct.pack("<3Q", 0, 2**64 - 1, 0xFFFF888000000000))
    assert frame.iloc[0].tolist() == ["0x0", "0xffffffffffffffff", "0xffff888000000000"]
    opaque = next(i for i in range(1, len(BTF)) if BTF.type(i).name == "opaque")
    function = next(i for i in range(1, len(BTF)) if BTF.type(i).name == "on_event")
    assert BTF.layout(opaque) is None and BTF.layout(function) is None and BTF.layout(0) is None
    frame = map_frame(MapSpec("x", key=SPECS["tight"].key), "hash", bytes(4), b"blob", 1, 2)
    assert frame["value"].tolist() == [b"blob"]


def test_nothing_but_padding_is_bytes() -> None:
    frame = read(spec_of("timers"), bytes(range(16)))
    assert frame["value"].tolist() == [bytes(range(16))]


def test_variables_with_their_forms_and_long_arrays() -> None:
    (counters,) = BTF.variables(".bss")
    assert (len(counters.layout.columns), counters.layout.columns[99].name) == (100, "[99]")
    (server,) = BTF.variables(".data")
    assert server.layout.columns[0].show == "ipv4"
    assert [(each.name, each.is_folded) for each in BTF.variables(".rodata")] == [("limit", False), ("folded", True)]
    assert BTF.data_sections == [".bss", ".data", ".data.mine", ".maps", ".rodata", "license"]


def test_half_floats_and_those_of_no_known_format() -> None:
    body = np.array([1, 16 << 24, 2, 1, 16 << 24, 16, 1, (4 << 24) | 2, 20, 1, 1, 0, 3, 2, 32], "<u4").tobytes()
    header = np.array([0x0001EB9F, 24, 0, len(body), len(body), 5], "<u4").tobytes()
    layout = Btf(header + body + b"\0a\0b\0").layout(3)
    assert layout is not None
    spec = spec_of("odd", layout)
    raw = np.array([1.5], np.float16).tobytes() + b"\0\0" + bytes(range(16))
    frame = read(spec, raw)
    assert frame.iloc[0].to_dict() == {"a": 1.5, "b": bytes(range(16))}
    assert frame["a"].dtype == np.float32
    assert write(spec, frame) == raw
    assert "70000.0 is too large for float16" in refused(spec, frame.assign(a=70000.0))


def test_old_bit_fields_and_impossible_ones() -> None:
    # Before BTF had bits in members, the integer itself said where they lie: 12 bits from bit 4 of a u32.
    strings = b"\0a\0"
    for word, expected in (((4 << 16) | 12, 0x234), (33, BtfFault), (0, BtfFault)):
        body = np.array([1, 1 << 24, 4, word, 1, (4 << 24) | 1, 4, 1, 1, 0], "<u4").tobytes()
        header = np.array([0x0001EB9F, 24, 0, len(body), len(body), len(strings)], "<u4").tobytes()
        btf = Btf(header + body + strings)
        if expected is BtfFault:
            with pytest.raises(EbpfMagicError, match="bits does not fit its type"):
                btf.layout(2)
        else:
            frame = read(spec_of("odd", btf.layout(2)), struct.pack("<I", 0x12345))
            assert frame["a"].tolist() == [expected]


class BtfFault:
    """Stands for an error."""
