"""A session's variables over what an agent sent: also when it sent too little."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from ebpf_magic.data.btf import Btf
from ebpf_magic.errors import MapError, NoSuchNameError
from ebpf_magic.variables import Variables

TYPES = Btf.from_elf((Path(__file__).parent / "data" / "types.bpf.o").read_bytes())
SIZES = {".bss": 800, ".data": 4, ".data.mine": 4, ".rodata": 12}


def variables(sizes: dict[str, int]) -> Variables:
    sections: Any = {
        name: SimpleNamespace(
            sample=lambda size=size: SimpleNamespace(values=memoryview(bytes(size))),
            handle=SimpleNamespace(info=SimpleNamespace(flags=1 << 10)),
        )
        for name, size in sizes.items()
    }
    session: Any = SimpleNamespace(name="s", state="running")
    return Variables(session, TYPES, sections)


def test_they_are_a_mapping_with_a_frame_and_a_text() -> None:
    found = variables(SIZES)
    assert list(found) == ["counters", "server", "custom", "limit", "folded"]
    assert "limit" in found and "nothing" not in found
    assert {name: found[name] for name in ("limit", "server")} == {"limit": 0, "server": "0.0.0.0"}
    assert len(found.df()) == 100 + 1 + 1 + 1 + 2
    assert "server = '0.0.0.0'" in repr(found)
    with pytest.raises(NoSuchNameError, match=r"read variable 'limits' of s: no such variable \(near: limit\)"):
        found["limits"]


def test_a_section_that_the_kernel_does_not_have_has_no_variables() -> None:
    assert list(variables({".rodata": 12})) == ["limit", "folded"]
    assert repr(variables({})) == "<Variables of s: none>"
    assert len(variables({}).df()) == 0


def test_too_few_bytes_are_an_error_of_ours() -> None:
    with pytest.raises(MapError, match=r"read variable limit of s: \.rodata has 3 bytes, the variable ends at 4"):
        variables({**SIZES, ".rodata": 3})["limit"]
