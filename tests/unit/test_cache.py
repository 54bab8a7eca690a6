"""The cache folder: right, or absent, never wrong."""

from __future__ import annotations

import os
import stat
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import pytest

from ebpf_magic import cache


@pytest.fixture(autouse=True)
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "ebpf_magic"


def test_round_trip_in_a_private_folder(own_folder: Path) -> None:
    assert cache.get("objects", "key") is None
    cache.put("objects", "key", b"\x7fELF\nand more\n")
    assert cache.get("objects", "key") == b"\x7fELF\nand more\n"
    assert stat.S_IMODE((own_folder / "objects").stat().st_mode) == 0o700
    assert stat.S_IMODE((own_folder / "objects/key").stat().st_mode) == 0o600
    assert os.listdir(own_folder / "objects") == ["key"]


def test_a_folder_others_can_write_is_closed_to_them(own_folder: Path) -> None:
    own_folder.mkdir(mode=0o777)
    own_folder.chmod(0o777)
    cache.put("objects", "key", b"x")
    assert stat.S_IMODE(own_folder.stat().st_mode) == 0o700


@pytest.mark.parametrize("damage", [b"", b"\n", b"0" * 64 + b"\nx", None])
def test_a_damaged_entry_counts_as_absent(own_folder: Path, damage: bytes | None) -> None:
    cache.put("objects", "key", b"content")
    entry = own_folder / "objects/key"
    entry.write_bytes(entry.read_bytes()[:-1] if damage is None else damage)
    assert cache.get("objects", "key") is None
    assert not entry.exists()
    cache.put("objects", "key", b"again")
    assert cache.get("objects", "key") == b"again"


def test_the_entries_used_longest_ago_go_first(own_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(cache._LIMITS, "objects", 1000)
    for i, name in enumerate("abc"):
        cache.put("objects", name, bytes(235))  # and 65 of checksum
        os.utime(own_folder / "objects" / name, ns=(i, i))
    assert cache.get("objects", "a") is not None
    cache.put("objects", "d", bytes(235))
    assert sorted(os.listdir(own_folder / "objects")) == ["a", "c", "d"]


def test_no_folder_no_harm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    cache.put("objects", "key", b"x")
    assert cache.get("objects", "key") is None
    assert cache.folder("prelude") is None
    assert cache.put_file("prelude", "a.pch", b"x") is None


def test_a_relative_cache_home_is_not_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "here")
    monkeypatch.setenv("HOME", "/somewhere")
    assert cache.root() == Path("/somewhere/.cache/ebpf_magic")


def test_parts_of_a_key_do_not_run_into_each_other() -> None:
    assert cache.digest("ab", "c") != cache.digest("a", "bc")
    assert cache.digest("1:a") != cache.digest("a")
    assert cache.digest("a", b"b") == cache.digest("a", "b")


def _write_and_read(seed: int) -> list[bytes | None]:
    seen: list[bytes | None] = []
    for _ in range(50):
        cache.put("objects", "shared", bytes([seed]) * 50_000)
        seen.append(cache.get("objects", "shared"))
    return seen


def test_several_processes_at_once(own_folder: Path) -> None:
    with ProcessPoolExecutor(4, mp_context=get_context("spawn")) as pool:
        for seen in pool.map(_write_and_read, range(1, 5)):
            for content in seen:
                # Whole, and of one writer.
                assert content is not None
                assert len(content) == 50_000
                assert len(set(content)) == 1
    assert os.listdir(own_folder / "objects") == ["shared"]
