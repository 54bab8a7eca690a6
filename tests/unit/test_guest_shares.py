"""What the guest sees of this machine: what it needs, and never the home with its keys."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from ebpf_magic.hosts.guest import shares

PACKAGE = str(Path(shares.__file__).resolve().parents[2])


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home with keys in it."""
    home = tmp_path / "people" / "ada"
    (home / ".ssh").mkdir(parents=True)
    (home / "work" / "deep").mkdir(parents=True)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.delenv("SUDO_USER", raising=False)
    return home


def holds(root: shares.Root, path: Path) -> bool:
    return any(str(path) == share.path or str(path).startswith(f"{share.path}/") for share in root.shares)


def test_the_working_folder_is_shared_and_fresh(home: Path) -> None:
    root = shares.machine(str(home / "work"))
    assert shares.Share(str(home / "work"), fresh=True) in root.shares
    assert root.folder == str(home / "work")
    assert root.notes == []
    assert not holds(root, home / ".ssh")
    assert shares.Share("/usr") in root.shares


@pytest.mark.parametrize("where", [".", "..", "../..", "/", ".ssh", ".config/x"])
def test_the_home_and_what_holds_it_is_not_shared(home: Path, where: str) -> None:
    folder = os.path.normpath(home / where)
    root = shares.machine(folder)
    assert not holds(root, home / ".ssh")
    assert root.folder == "/root"
    assert folder in root.notes[0] and ("home" in root.notes[0] or "hidden" in root.notes[0])


def test_another_users_home_is_not_shared(home: Path) -> None:
    theirs = home.parent / "bob"
    (theirs / ".ssh").mkdir(parents=True)
    root = shares.machine(str(theirs))
    assert not holds(root, theirs)
    assert "it holds keys, in .ssh" in root.notes[0]


def test_an_environment_around_the_home_is_not_shared(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "prefix", str(home))
    monkeypatch.setattr(sys, "base_prefix", str(home.parent))
    assert not holds(shares.machine(str(home / "work")), home / ".ssh")


def test_an_environment_in_the_home_is_shared_alone(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "prefix", str(home / ".venv"))
    root = shares.machine(str(home / "work"))
    assert holds(root, home / ".venv")
    assert not holds(root, home / ".ssh")


@pytest.mark.parametrize("folder", ["/etc", "/tmp", "/root", "/proc/self", "/sys/kernel", "/dev/shm", "/run"])
def test_what_the_guest_has_of_its_own_is_not_hidden(home: Path, folder: str) -> None:
    assert shares.refusal(folder)


def test_a_name_that_cannot_be_passed_on_is_refused(home: Path) -> None:
    assert "characters" in shares.refusal(str(home / "work" / "a\nb"))
    assert "characters" in shares.refusal(str(home / "work" / "a "))
    assert shares.refusal(str(home / "work" / "über uns")) == ""


def test_a_folder_within_another_is_shared_once(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "prefix", str(home / "work" / "venv"))
    root = shares.machine(str(home / "work"), also=["/usr/share"])
    paths = [share.path for share in root.shares]
    assert str(home / "work" / "venv") not in paths
    assert "/usr/share" not in paths
    assert len(paths) == len(set(paths))
    assert any(PACKAGE == path or PACKAGE.startswith(f"{path}/") for path in paths)


def test_a_working_folder_under_usr_is_fresh_all_the_same(home: Path) -> None:
    root = shares.machine("/usr/share")
    assert shares.Share("/usr/share", fresh=True) in root.shares
    assert [share.path for share in root.shares].index("/usr") == 0


def test_links_at_the_top_are_links_in_the_guest(home: Path) -> None:
    root = shares.machine(str(home / "work"))
    for name in ("bin", "lib"):
        if os.path.islink(f"/{name}"):
            assert root.links[f"/{name}"] == os.readlink(f"/{name}")
        else:
            assert shares.Share(f"/{name}") in root.shares


def test_an_image_takes_nothing_of_this_machine_but_the_package_and_the_work(home: Path) -> None:
    root = shares.image(home / "disk.img", folder=str(home / "work"))
    assert root.image == str(home / "disk.img")
    assert {share.path for share in root.shares} == {PACKAGE, str(home / "work")}
    assert root.links == {}
