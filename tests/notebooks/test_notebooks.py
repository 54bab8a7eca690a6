"""Every notebook runs from top to bottom, and leaves a page whose pictures need no widget and no network."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from ebpf_magic.demo import FIRST_NOTEBOOK, run_demo

NOTEBOOKS = sorted((Path(__file__).parents[2] / "notebooks").glob("*.ipynb"))


def test_the_first_notebook_is_where_the_demo_looks() -> None:
    assert FIRST_NOTEBOOK in NOTEBOOKS


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_runs_from_top_to_bottom(notebook: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    before = notebook.read_bytes()
    status = run_demo(notebook, tmp_path)
    printed = capfd.readouterr()
    assert status == 0, printed.err
    assert str(tmp_path / f"{notebook.stem}.html") in printed.out
    assert notebook.read_bytes() == before


def test_the_demo_says_what_it_saw_and_keeps_the_chart(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert run_demo(FIRST_NOTEBOOK, tmp_path) == 0
    said = capfd.readouterr().out
    counted = re.search(r"the kernel counted (\d+) opens", said)
    assert counted is not None and int(counted[1]) >= 200
    assert re.search(r"timed [\d,]+ syncs: half took at most [\d.]+ µs", said)
    page = (tmp_path / f"{FIRST_NOTEBOOK.stem}.html").read_text()
    assert "data:image/png;base64," in page
    assert "jupyter.widget-view" not in page


def test_a_notebook_that_fails_is_a_failure_and_leaves_its_page(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    import nbformat

    cells = [nbformat.v4.new_code_cell("print('so far')"), nbformat.v4.new_code_cell("raise ValueError('no further')")]
    notebook = tmp_path / "fails.ipynb"
    nbformat.write(nbformat.v4.new_notebook(cells=cells), notebook)
    assert run_demo(notebook, tmp_path / "out") == 1
    printed = capfd.readouterr()
    assert "so far" in printed.out
    assert "ValueError: no further" in printed.err
    assert "no further" in (tmp_path / "out" / "fails.html").read_text()
