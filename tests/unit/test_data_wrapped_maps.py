"""Map declarations that Rust has wrapped: laid open, and nothing else touched; damage is one error."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ebpf_magic.data.btf import Btf
from ebpf_magic.data.elf import BtfError, Elf
from ebpf_magic.data.wrapped_maps import unwrapped

DATA = Path(__file__).parent / "data"
RUST = (DATA / "rust" / "counts_btf.bpf.o").read_bytes()


def variable(raw: bytes, name: str) -> tuple[int, int]:
    """Type id of a variable, and of what it is of."""
    btf = Btf.from_elf(raw)
    found = btf.names(14)[name]
    return found, btf.type(found).ref


def pointed(raw: bytes, name: str, type_id: int) -> bytes:
    """Make a variable one of another type."""
    btf, section = Btf.from_elf(raw), Elf(raw).section(".BTF")
    assert section is not None
    out = bytearray(raw)
    struct.pack_into("<I", out, section.offset + 24 + 4 * btf.type(btf.names(14)[name]).at - 4, type_id)
    return bytes(out)


def test_each_map_is_its_declaration() -> None:
    specs = Btf.from_elf(unwrapped(RUST)).map_specs()
    assert {name: (spec.type_id, spec.max_entries) for name, spec in specs.items()} == {
        "CALLS": (1, 1024),
        "TOTALS": (6, 4),
        "AYA_LOGS": (4, 0),
    }
    calls = specs["CALLS"]
    assert calls.key is not None
    assert calls.value is not None
    assert [column.name for column in calls.value.columns][:3] == ["count", "last", "name[0]"]
    assert (calls.key.dtype.itemsize, calls.value.dtype.itemsize) == (4, 32)


def test_only_the_types_of_three_variables_change() -> None:
    made = unwrapped(RUST)
    assert len(made) == len(RUST)
    assert sum(before != after for before, after in zip(RUST, made, strict=True)) == 3
    assert unwrapped(made) is made


@pytest.mark.parametrize("name", ["kinds.bpf.o", "types.bpf.o", "aya.bpf.o", "aya_btf.bpf.o"])
def test_what_is_not_wrapped_is_left_alone(name: str) -> None:
    raw = (DATA / name).read_bytes()
    assert unwrapped(raw) is raw


def test_a_struct_that_holds_itself_is_damage() -> None:
    btf = Btf.from_elf(RUST)
    wrapper = btf.type(variable(RUST, "CALLS")[1])
    out, section = bytearray(RUST), Elf(RUST).section(".BTF")
    assert section is not None
    member_type = section.offset + 24 + 4 * wrapper.at + 4
    struct.pack_into("<I", out, member_type, variable(RUST, "CALLS")[1])
    with pytest.raises(BtfError, match="wrapped without an end"):
        unwrapped(bytes(out))


def test_a_map_of_no_struct_is_for_the_reader_of_maps_to_refuse() -> None:
    odd = pointed(RUST, "CALLS", variable(RUST, "STEP")[1])
    assert variable(unwrapped(odd), "CALLS")[1] == variable(RUST, "STEP")[1]
    with pytest.raises(BtfError, match="map CALLS is not declared as a struct"):
        Btf.from_elf(unwrapped(odd)).map_specs()


@settings(max_examples=400, deadline=None)
@given(st.data())
def test_damage_is_one_error(data: st.DataObject) -> None:
    damaged = bytearray(RUST)
    for _ in range(data.draw(st.integers(1, 8))):
        damaged[data.draw(st.integers(0, len(RUST) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(RUST)))
    try:
        unwrapped(bytes(damaged[:cut]) if data.draw(st.booleans()) else bytes(damaged))
    except BtfError as error:
        assert error.why
