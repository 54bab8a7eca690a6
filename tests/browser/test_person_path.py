"""A person's path through JupyterLab with a real probe: run, watch it move, stop, save, restart, reopen."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import nbformat
import pytest
from conftest import Notebook
from playwright.sync_api import expect

from ebpf_magic.views.base import WIDGET_MIME

pytestmark = [pytest.mark.browser, pytest.mark.live]

PROBE = """%%ebpf calls
HASH(counts, u32, u64);
HIST(latency, "ns");
HASH(start, u32, u64);
SEC("tracepoint/syscalls/sys_enter_getppid") int enter(void *ctx) {
    COUNT(counts, TID());
    START(start, TID());
    return 0;
}
SEC("tracepoint/syscalls/sys_exit_getppid") int leave(void *ctx) {
    u64 ns = ELAPSED_NS(start, TID());
    if (ns) OBSERVE(latency, ns);
    return 0;
}"""
BUSY = """import os, time
made = 0
until = time.monotonic() + 120
while time.monotonic() < until and calls.state == "running":
    for _ in range(100): os.getppid()
    made += 100
    time.sleep(0.05)
print("made", made, "seen", calls.maps["latency"].histogram().total)"""
LOAD, CARD, CHART, WORK = range(4)


@pytest.fixture
def notebook(lab: Callable[..., Notebook]) -> Notebook:
    return lab(
        ["%load_ext ebpf_magic", PROBE, "calls.maps['latency'].live(interval_s=0.2)", BUSY],
        size=(1280, 1500),
        name="person",
    )


def values(text: str) -> int:
    found = re.search(r"([\d,]+) values", text)
    assert found, text
    return int(found[1].replace(",", ""))


def test_run_watch_stop_save_restart_reopen(notebook: Notebook, tmp_path: Path) -> None:
    notebook.run_all()
    card = notebook.cell(CARD).locator(".em-card")
    expect(card).to_contain_text("running", timeout=60_000)
    expect(card).to_contain_text("attached")

    # The last cell is busy; chart, card and table move all the same.
    expect(notebook.cell(WORK).locator(".jp-InputPrompt")).to_contain_text("*")
    chart = notebook.cell(CHART).locator(".em-view").first
    expect(chart).to_contain_text("p99", timeout=30_000)
    programs = card.locator(".em-programs tbody")
    table = notebook.cell(CARD).locator(".em-view:not(.em-card) tbody")
    seen = [(moving, moving.inner_text()) for moving in (chart, programs, table)]
    for moving, text in seen:
        expect(moving).not_to_have_text(text, use_inner_text=True, timeout=15_000)
    expect(notebook.cell(WORK).locator(".jp-InputPrompt")).to_contain_text("*")
    notebook.screenshot(tmp_path / "running.png")

    # Stop reaches the kernel while its cell runs.
    card.locator("button.em-stop").click()
    _, made, _, total = notebook.wait_for_output("made", WORK).inner_text().split()
    assert 0 < int(made) <= int(total) + 10_000  # what was made between the press and the end is not seen
    for cell in (CARD, CHART):
        expect(notebook.cell(cell).locator(".em-view")).to_have_count(0, timeout=30_000)
    expect(notebook.outputs(CARD)).to_contain_text(["stopped"])
    notebook.screenshot(tmp_path / "stopped.png")

    saved = notebook.save()
    for cell in (CARD, CHART):
        for output in saved.cells[cell].outputs:
            assert WIDGET_MIME not in output.get("data", {})
    picture = saved.cells[CHART].outputs[0]["data"]
    assert "image/png" in picture
    assert values(picture["text/html"]) == int(total)

    notebook.restart()
    notebook.reopen()
    shown = notebook.cell(CHART)
    image = shown.locator(".jp-OutputArea-output img")
    expect(image).to_be_visible()
    assert image.evaluate("(node) => node.naturalWidth") > 300
    assert values(shown.inner_text()) == values(picture["text/html"])
    expect(notebook.cell(CARD)).to_contain_text("stopped")
    expect(notebook.page.locator("text=Error displaying widget")).to_have_count(0)
    notebook.screenshot(tmp_path / "reopened.png")


def test_error_stops_run_all_and_names_the_line(lab: Callable[..., Notebook]) -> None:
    notebook = lab(
        ["%load_ext ebpf_magic", "%%ebpf bad\nint f(void *ctx) {\n    return nonsense;\n}", "print('went on')"]
    )
    notebook.run_all()
    output = notebook.wait_for_output("CompileError", 1, timeout_ms=60_000)
    expect(output).to_contain_text("return nonsense;")
    expect(output).not_to_contain_text("Traceback")
    notebook.wait_for_idle()
    expect(notebook.outputs(2)).to_have_count(0)


def test_saved_notebook_is_valid(notebook: Notebook) -> None:
    notebook.run_all()
    expect(notebook.cell(CARD).locator(".em-card")).to_contain_text("running", timeout=60_000)
    notebook.cell(CARD).locator("button.em-stop").click()
    notebook.wait_for_output("made", WORK)
    nbformat.validate(notebook.save())
