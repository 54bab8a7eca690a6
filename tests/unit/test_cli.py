"""The command line: what it refuses, and how it says so."""

from __future__ import annotations

import sys
from pathlib import Path

import pandas as pd
import pytest

from ebpf_magic.cli import main


def _doctor_that_finds(rows: list[tuple[str, bool, str, str]], monkeypatch: pytest.MonkeyPatch) -> None:
    frame = pd.DataFrame(rows, columns=["check", "ok", "found", "mend"]).set_index("check")
    # The package's attribute of that name is the function.
    module = sys.modules["ebpf_magic.doctor"]
    monkeypatch.setattr(module, "doctor", lambda on: frame)


def test_doctor_prints_the_way_to_mend(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    _doctor_that_finds([("clang", False, "missing", "apt install clang"), ("BTF", True, "there", "")], monkeypatch)
    assert main(["doctor"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "no  clang  missing",
        "           -> apt install clang",
        "ok  BTF    there",
    ]


def test_doctor_fails_where_nothing_can_run(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    _doctor_that_finds([("a host that can load programs", False, "not root", "sudo")], monkeypatch)
    assert main(["doctor"]) == 1
    assert "not root" in capsys.readouterr().out


def test_demo_of_a_notebook_that_is_not_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["demo", str(tmp_path / "none.ipynb"), "--output", str(tmp_path)]) == 1
    assert "no such notebook" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("arguments", [[], ["fly"], ["doctor", "--frobnicate"]])
def test_what_it_does_not_know_is_refused(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as refused:
        main(arguments)
    assert refused.value.code == 2
    assert "usage: ebpf-magic" in capsys.readouterr().err
