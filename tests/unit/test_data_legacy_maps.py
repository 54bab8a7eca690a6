"""Old map declarations, as Rust's aya writes them, made into what libbpf takes; and damage, which is one error."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ebpf_magic.data.btf import Btf
from ebpf_magic.data.elf import BtfError, Elf
from ebpf_magic.data.legacy_maps import EMPTY_BTF, modernised

DATA = Path(__file__).parent / "data"
PLAIN = (DATA / "aya.bpf.o").read_bytes()
WITH_BTF = (DATA / "aya_btf.bpf.o").read_bytes()


@pytest.mark.parametrize("raw", [PLAIN, WITH_BTF], ids=["without BTF", "with BTF"])
def test_maps_are_declared_anew(raw: bytes) -> None:
    made = modernised(raw)
    specs = Btf.from_elf(made).map_specs()
    assert {name: (spec.type_id, spec.max_entries) for name, spec in specs.items()} == {
        "COUNTS": (1, 1024),
        "TOTAL": (2, 1),
        "PINNED": (1, 16),
    }
    for spec in specs.values():
        assert spec.key is not None
        assert spec.value is not None
        assert (spec.key.dtype.itemsize, spec.value.dtype.itemsize) == (4, 8)


@pytest.mark.parametrize("raw", [PLAIN, WITH_BTF], ids=["without BTF", "with BTF"])
def test_symbols_move_with_their_maps(raw: bytes) -> None:
    elf = Elf(modernised(raw))
    names = [section.name for section in elf.sections]
    assert ".maps" in names
    assert "maps" not in names
    stride = 48
    assert {name: elf.symbols[name] for name in ("COUNTS", "TOTAL", "PINNED")} == {
        "COUNTS": (".maps", 0, stride),
        "TOTAL": (".maps", stride, stride),
        "PINNED": (".maps", 2 * stride, stride),
    }
    assert elf.symbols["count"] == Elf(raw).symbols["count"]
    code = "tracepoint/syscalls/sys_enter_getppid"
    assert elf.data(code) == Elf(raw).data(code)


def test_what_there_was_of_types_stays() -> None:
    before, after = Btf.from_elf(WITH_BTF), Btf.from_elf(modernised(WITH_BTF))
    named = [before.type(number) for number in range(len(before)) if before.type(number).name]
    assert [after.type(number).name for number in range(len(before))].count("maps") == 0
    assert {each.name for each in named} - {"maps"} <= {after.type(number).name for number in range(len(after))}
    assert after.line_info("tracepoint/syscalls/sys_enter_getppid")


def test_only_aya_s_layout_pins() -> None:
    btf = Btf.from_elf(modernised(PLAIN))
    pinning = [number for number in range(len(btf)) if "pinning" in [m.name for m in members(btf, number)]]
    assert len(pinning) == 1


def members(btf: Btf, number: int) -> list:
    found = btf.type(number)
    return btf.members(found) if found.kind == 4 else []


def test_an_object_without_old_maps_is_left_alone() -> None:
    raw = (DATA / "kinds.bpf.o").read_bytes()
    assert modernised(raw) is raw


def test_the_empty_btf_is_empty() -> None:
    btf = Btf(EMPTY_BTF)
    assert len(btf) == 1
    assert btf.map_specs() == {}


def test_too_short_a_declaration_names_the_map() -> None:
    raw = bytearray(PLAIN)
    elf = Elf(PLAIN)
    offset = struct.unpack_from("<Q", PLAIN, 40)[0]
    index = next(number for number, section in enumerate(elf.sections) if section.name == "maps")
    struct.pack_into("<Q", raw, offset + index * 64 + 32, 2 * 28 + 8)  # sh_size: the third map is cut short
    with pytest.raises(BtfError, match="map PINNED is declared by 8 bytes"):
        modernised(bytes(raw))


@settings(max_examples=400, deadline=None)
@given(st.data(), st.sampled_from([PLAIN, WITH_BTF]))
def test_damage_is_one_error(data: st.DataObject, raw: bytes) -> None:
    damaged = bytearray(raw)
    for _ in range(data.draw(st.integers(1, 8))):
        damaged[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(raw)))
    try:
        modernised(bytes(damaged[:cut]) if data.draw(st.booleans()) else bytes(damaged))
    except BtfError as error:
        assert error.why
