"""Objects of Go's library: its own test programs, those that libbpf takes and those that are one clear error."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
import rights

import ebpf_magic as em
from ebpf_magic.errors import EbpfMagicError, LoadError, VerifierError
from ebpf_magic.hosts import registry
from ebpf_magic.session import Session

pytestmark = [pytest.mark.live, pytest.mark.any_host, pytest.mark.needs("xdp")]
GO = Path(__file__).parents[1] / "unit" / "data" / "go"


def load(name: str) -> Session:
    session = em.load_object(GO / name, on=rights.host_name(), attach=False, allow_change=True)
    assert isinstance(session, Session)
    return session


def test_a_program_that_calls_its_own_function_for_each_entry() -> None:
    with load("subprog_reloc.o") as session:
        assert session.run("fp_relocation", data=bytes(64)).retval == 42
        assert session.maps["hash_map"].df()["value"].to_dict() == {bytes(4): (42).to_bytes(8, "little")}


def test_a_map_without_a_program_is_typed_and_filled() -> None:
    with load("map_spin_lock.o") as session:
        assert session.programs.empty
        frame = pd.DataFrame({"cnt": [-3, 5], "lock.val": [0, 0]}, index=[1, 2])
        session.maps["spin_lock_map"].update(frame)
        assert session.maps["spin_lock_map"].df()["cnt"].sort_index().to_dict() == {1: -3, 2: 5}


@pytest.mark.parametrize(
    ("name", "kind", "says"),
    [
        ("strings.o", VerifierError, "cannot call GPL-restricted function from non-GPL compatible program"),
        ("fwd_decl.o", LoadError, "failed to find BTF for extern 'fwd'"),
        ("btf_map_init.o", LoadError, 'unknown section SEC("socket/tail") (near: socket'),
    ],
)
def test_what_libbpf_or_the_kernel_does_not_take_is_one_error(name: str, kind: type[EbpfMagicError], says: str) -> None:
    with pytest.raises(kind) as caught:
        load(name)
    assert says in str(caught.value)
    assert em.sessions() == []
    assert registry.get(rights.host_name()).alive
