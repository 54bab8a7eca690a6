"""Which compiler is taken; the compilers here are shell scripts that say what they are."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from ebpf_magic.build import toolchain
from ebpf_magic.build.toolchain import find_toolchain
from ebpf_magic.errors import ToolchainError


@pytest.fixture(autouse=True)
def bare_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Leave nothing on the path but what a test puts there, and no ziglang."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv("EBPF_MAGIC_CLANG", raising=False)
    monkeypatch.setattr(toolchain, "_zig", lambda: None)
    return folder


def compiler(path: Path, version: str = "Debian clang version 14.0.6", targets: str = "    bpf        - BPF") -> Path:
    path.write_text(
        f'#!/bin/sh\n[ "$1" = clang ] && shift\n'
        f"case $1 in --version) echo '{version}';; *) echo 'Registered:'; echo '{targets}';; esac\n"
        f"echo x >> {path}.asked\n"
    )
    path.chmod(0o755)
    return path


def times_asked(path: Path) -> int:
    log = Path(f"{path}.asked")
    return len(log.read_text().split()) if log.exists() else 0


def test_nothing_there_says_what_to_install() -> None:
    with pytest.raises(ToolchainError) as caught:
        find_toolchain()
    assert "apt install clang" in str(caught.value)
    assert 'pip install "ebpf-magic[zig]"' in str(caught.value)


def test_the_first_that_will_do_on_the_path(bare_path: Path) -> None:
    compiler(bare_path / "clang", "Debian clang version 11.0.1")
    compiler(bare_path / "clang-19", "clang version 19.1.0", targets="    x86 - 32-bit")
    good = compiler(bare_path / "clang-16", "Ubuntu clang version 16.0.6 (1)")
    found = find_toolchain()
    assert (found.kind, found.path, found.major) == ("clang", str(good), 16)
    assert found.command == [str(good)]


def test_why_none_will_do(bare_path: Path) -> None:
    compiler(bare_path / "clang", "Debian clang version 11.0.1")
    compiler(bare_path / "clang-19", "clang version 19.1.0", targets="    x86 - 32-bit")
    compiler(bare_path / "clang-18", "gcc (Debian) 12")
    with pytest.raises(ToolchainError) as caught:
        find_toolchain()
    assert "11.0.1, and 14 or later is needed" in str(caught.value)
    assert "cannot make BPF" in str(caught.value)
    assert "is no clang" in str(caught.value)


def test_named_before_variable_before_path(bare_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    compiler(bare_path / "clang")
    by_variable = compiler(bare_path / "mine")
    by_name = compiler(bare_path / "yours")
    monkeypatch.setenv("EBPF_MAGIC_CLANG", "mine")
    assert find_toolchain().path == str(by_variable)
    assert find_toolchain("yours").path == str(by_name)
    assert find_toolchain(str(by_name)).path == str(by_name)


@pytest.mark.parametrize("way", ["argument", "variable"])
def test_a_named_one_that_is_not_there_is_an_error(bare_path: Path, monkeypatch: pytest.MonkeyPatch, way: str) -> None:
    compiler(bare_path / "clang")
    if way == "variable":
        monkeypatch.setenv("EBPF_MAGIC_CLANG", "/no/such")
    with pytest.raises(ToolchainError, match="/no/such: there is no such program"):
        find_toolchain("/no/such" if way == "argument" else None)


def test_a_named_one_that_will_not_do_is_an_error(bare_path: Path) -> None:
    compiler(bare_path / "old", "clang version 9.0.0")
    with pytest.raises(ToolchainError, match=r"9\.0\.0, and 14 or later is needed"):
        find_toolchain("old")
    (bare_path / "broken").write_text("#!/no/such/interpreter\n")
    (bare_path / "broken").chmod(0o755)
    with pytest.raises(ToolchainError, match="is no clang"):
        find_toolchain("broken")


def test_a_compiler_is_asked_once_until_it_changes(bare_path: Path) -> None:
    good = compiler(bare_path / "clang")
    assert find_toolchain() == find_toolchain()
    assert times_asked(good) == 2
    compiler(good, "clang version 18.1.0")
    os.utime(good, (1, 1))
    assert find_toolchain().major == 18
    assert times_asked(good) == 4


def test_zig_comes_last(bare_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    zig = compiler(bare_path / "zig", "clang version 22.1.8")
    monkeypatch.setattr(toolchain, "_zig", lambda: str(zig))
    found = find_toolchain()
    assert (found.kind, found.major) == ("zig", 22)
    assert found.command[:2] == [str(zig), "clang"]
    compiler(bare_path / "clang")
    assert find_toolchain().kind == "clang"
    assert find_toolchain("zig").kind == "zig"


def test_the_environment_cannot_change_what_is_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CPATH", "/evil")
    monkeypatch.setenv("CCC_OVERRIDE_OPTIONS", "+-DX")
    monkeypatch.setenv("LC_ALL", "de_DE.UTF-8")
    environment = toolchain.environment()
    assert "CPATH" not in environment
    assert "CCC_OVERRIDE_OPTIONS" not in environment
    assert environment["LC_ALL"] == "C"


@pytest.mark.skipif(sys.platform != "linux", reason="the process limits are Linux's")
def test_a_compiler_that_never_ends_is_ended(bare_path: Path, tmp_path: Path) -> None:
    import time

    from ebpf_magic.build.clang import Clang
    from ebpf_magic.build.headers import Headers
    from ebpf_magic.build.private import PrivateFolder
    from ebpf_magic.errors import CompileError

    (bare_path / "slow").write_text("#!/bin/sh\n/bin/sleep 1000 & echo $! > pid\n/bin/sleep 1000\n")
    (bare_path / "slow").chmod(0o755)
    chain = toolchain.Toolchain("clang", str(bare_path / "slow"), "clang version 14", "x")
    folder = PrivateFolder()
    folder.path = tmp_path
    clang = Clang(chain, Headers(None, tmp_path, ()), "x86", folder, time.monotonic() + 3)
    with pytest.raises(CompileError, match="was not done"):
        clang.run()
    child = int((tmp_path / "pid").read_text())
    deadline = time.monotonic() + 60
    while Path(f"/proc/{child}").exists() and time.monotonic() < deadline:
        if "Z" in Path(f"/proc/{child}/stat").read_text().rpartition(")")[2].split()[0]:
            break
        time.sleep(0.01)
    else:
        assert not Path(f"/proc/{child}").exists()
