"""The views in a real page, fed with data whose every value is known."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Locator, expect

pytestmark = pytest.mark.browser

# After step n of the feed: row k has n*(k+1) and the histogram 10*n values of 1,000 ns, n of 1,000,000 ns.
FEED = """
import threading, time
import numpy as np, pandas as pd
from IPython.display import display
from ebpf_magic.data.histogram import bucket_index
from ebpf_magic.views import CardView, HistogramView, TableView

EVIL = "<img src=x onerror=window.evil=1>"
stopped_on = []
def stop():
    stopped_on.append(threading.current_thread() is threading.main_thread())
card = CardView(on_stop=stop)
table = TableView("opens " + EVIL, top=3)
hist = HistogramView("latency", "ns")
step = 0
over = threading.Event()
def push():
    global step
    step += 1
    index = pd.MultiIndex.from_arrays([range(5), ["a", "b", "c", EVIL, "e"]], names=["pid", "comm"])
    values = np.arange(1, 6, dtype=np.uint64) * np.uint64(step)
    table.update(pd.DataFrame({"value": values, "value_delta": values // np.uint64(step),
                               "time_ns": values[::-1] * np.uint64(1000)}, index=index), ["a note"], ["2 refused"])
    counts = np.zeros(976, np.uint64)
    counts[bucket_index([1000, 1000000])] = (10 * step, step)
    hist.update(counts, {50: 1000.0, 90: 1000.0, 99: 1000000.0}, 1015807.0)
    card.update({"name": "opens", "host": "local", "engine": "libbpf", "state": "stopped" if stopped_on else "running",
        "stages": [{"name": "compiled", "ms": 41.2, "detail": EVIL}],
        "programs": [{"name": "on_open", "target": "syscalls/sys_enter_openat", "runs": step, "runs_per_s": 10.0,
                      "ns_per_run": 152.0, "hook_ns_estimate": 210.0}],
        "maps": [{"name": "counts", "type": "hash", "entries": 5, "max_entries": 10, "memory_bytes": 4096}],
        "lost": ["5 lost " + EVIL], "log_lines": [f"line {step} " + EVIL],
        "cost": {"program_share": 0.01, "hook_share": 0.02}})
def feed():
    while not over.wait(0.1):
        push()
push()
"""
SHOW = "for view in (card, hist, table): display(view)"
START = "feeder = threading.Thread(target=feed, daemon=True); feeder.start()"
BUSY = "for _ in range({tenths}): time.sleep(0.1)\nprint('the cell', 'is over')"

Lab = Callable[..., Any]


def runs(page: Any) -> int:
    return int(page.locator(".em-programs td").nth(2).inner_text().replace(",", ""))


def total(page: Any) -> int:
    found = re.match(r"([\d,]+) values", page.locator(".em-histogram .em-footer").inner_text())
    assert found
    return int(found[1].replace(",", ""))


def rows(page: Any) -> list[list[str]]:
    return [row.split("\t") for row in page.locator(".em-table tbody").inner_text().split("\n")]


def bars(page: Any) -> Locator:
    return page.locator(".em-plot rect")


def test_views_move_while_a_cell_runs_and_stop_reaches_the_busy_kernel(lab: Lab, tmp_path: Path) -> None:
    notebook = lab([FEED, SHOW, START, BUSY.format(tenths=150), "over.set(); print(stopped_on)"])
    page = notebook.page
    notebook.run_all()
    expect(page.locator(".em-card")).to_be_visible(timeout=30_000)
    expect(notebook.cell(3).locator(".jp-InputPrompt")).to_have_text("[*]:", timeout=10_000)

    # Ten frames a second arrive: that takes acknowledgements which the busy kernel hears.
    before = (runs(page), total(page), int(rows(page)[0][2]))
    page.wait_for_timeout(3000)
    after = (runs(page), total(page), int(rows(page)[0][2]))
    steps = after[0] - before[0]
    assert steps >= 12
    assert abs((after[1] - before[1]) / 11 - steps) <= 3
    assert abs((after[2] - before[2]) / 5 - steps) <= 3
    notebook.screenshot(tmp_path / "busy.png")

    page.get_by_role("button", name="Stop", exact=True).click()
    expect(page.locator(".em-card .em-where")).to_contain_text("stopped", timeout=4000)
    expect(page.locator(".em-stop")).to_be_hidden()
    expect(notebook.cell(3).locator(".jp-InputPrompt")).to_have_text("[*]:")
    # Called once, and not on the main thread, which is in the cell.
    notebook.wait_for_output("[False]", cell=4)


def test_the_table(lab: Lab) -> None:
    notebook = lab([FEED, SHOW])
    page = notebook.page
    notebook.run_all()
    expect(page.locator(".em-table tbody tr")).to_have_count(3, timeout=30_000)
    evil = "<img src=x onerror=window.evil=1>"
    assert rows(page) == [
        ["4", "e", "5", "+5", "1 µs"],
        ["3", evil, "4", "+4", "2 µs"],
        ["2", "c", "3", "+3", "3 µs"],
    ]
    assert page.locator(".em-table-view .em-footer").inner_text().split("\n") == [
        "2 refused",
        "3 of 5 rows",
        "a note",
    ]
    expect(page.locator(".em-table tbody tr").first.locator("td").nth(4)).to_have_attribute("title", "1,000 ns")
    assert page.locator(".em-table th[aria-sort=descending]").inner_text().startswith("value")

    # By keyboard: the kernel chooses other rows.
    page.get_by_role("button", name="time_ns", exact=True).focus()
    page.keyboard.press("Enter")
    expect(page.locator(".em-table tbody tr").first).to_contain_text("5 µs")
    assert [row[0] for row in rows(page)] == ["0", "1", "2"]
    page.get_by_role("button", name="time_ns", exact=True).click()
    expect(page.locator(".em-table th[aria-sort=ascending]")).to_contain_text("time_ns")
    expect(page.locator(".em-table tbody tr").first).to_contain_text("e")
    assert [row[0] for row in rows(page)] == ["4", "3", "2"]

    # Nothing a process is called becomes part of the page.
    assert page.evaluate("window.evil") is None
    expect(page.locator(".em-view img")).to_have_count(0)


def test_a_row_that_stays_is_the_same_element(lab: Lab) -> None:
    notebook = lab([FEED, SHOW, "push()"])
    page = notebook.page
    notebook.page.locator(".jp-Cell").first.click()
    for _ in range(2):
        page.keyboard.press("Shift+Enter")
    expect(page.locator(".em-table tbody tr")).to_have_count(3, timeout=30_000)
    page.evaluate(
        "document.querySelectorAll('.em-table tbody tr, .em-plot rect').forEach((node) => (node.mine = true))"
    )
    page.keyboard.press("Shift+Enter")
    expect(page.locator(".em-table tbody tr").first).to_contain_text("10")
    kept = "[...document.querySelectorAll('.em-table tbody tr, .em-plot rect')].every((node) => node.mine)"
    assert page.evaluate(kept)


def test_the_histogram(lab: Lab) -> None:
    notebook = lab([FEED, SHOW])
    page = notebook.page
    notebook.run_all()
    expect(page.locator(".em-plot svg")).to_be_visible(timeout=30_000)
    marks = page.locator(".em-mark text").all_text_contents()
    assert sorted(marks) == ["max 1.02 ms", "p50 1 µs", "p90 1 µs", "p99 1 ms"]
    assert total(page) == 11

    def ticks() -> list[str]:
        return page.locator(".em-plot .em-tick[text-anchor=middle]").all_text_contents()

    assert "10 µs" in ticks() and "100 µs" in ticks()
    expect(page.locator(".em-plot")).to_contain_text("ns, log scale")
    tall = [float(bar.get_attribute("height") or 0) for bar in bars(page).all()]
    assert sum(height > 0 for height in tall) == 2
    assert tall[0] / tall[-1] == pytest.approx(10, rel=0.02)

    y_axis = page.get_by_role("group", name="y axis")
    y_axis.get_by_role("button", name="log").click()
    tall = [float(bar.get_attribute("height") or 0) for bar in bars(page).all()]
    assert 2 < tall[0] / tall[-1] < 9
    expect(y_axis.get_by_role("button", name="log")).to_have_attribute("aria-pressed", "true")

    x_axis = page.get_by_role("group", name="x axis")
    x_axis.get_by_role("button", name="linear").click()
    expect(page.locator(".em-plot")).to_contain_text("ns, linear scale")
    assert ticks()[0] == "0"
    widths = {round(float(bar.get_attribute("width") or 0)) for bar in bars(page).all()}
    assert max(widths) - min(widths) <= 1

    x_axis.get_by_role("button", name="log").click()
    bars(page).first.hover(force=True)
    tip = page.locator(".em-tip")
    expect(tip).to_contain_text("10 values · 90.9 %")
    expect(tip).to_contain_text("90.9 % up to here")
    page.mouse.move(5, 5)
    expect(tip).to_be_hidden()
    page.locator(".em-plot svg").focus()
    page.keyboard.press("ArrowRight")
    expect(tip).to_contain_text("10 values")


def overlaps(boxes: list[dict[str, float]]) -> bool:
    return any(
        a["x"] < b["x"] + b["width"]
        and b["x"] < a["x"] + a["width"]
        and a["y"] < b["y"] + b["height"]
        and b["y"] < a["y"] + a["height"]
        for index, a in enumerate(boxes)
        for b in boxes[:index]
    )


def test_labels_do_not_overlap(lab: Lab) -> None:
    cases = ["[1000, 1000, 1001, 1002]", "[10, 20, 30, 40]", "[10**9] * 4", "[0, 10**6, 10**6 + 1, 10**6]"]
    show = """
hist = HistogramView("latency", "ns"); values = {values}
counts = np.bincount(bucket_index(values), minlength=976).astype(np.uint64)
hist.update(counts, dict(zip((50, 90, 99), sorted(values))), max(values)); display(hist)
"""
    notebook = lab([FEED, *(show.format(values=values) for values in cases)])
    notebook.run_all()
    for index in range(1, 1 + len(cases)):
        cell = notebook.cell(index)
        cell.scroll_into_view_if_needed()
        expect(cell.locator(".em-mark text")).to_have_count(4, timeout=30_000)
        for locator in (cell.locator(".em-mark text"), cell.locator(".em-tick")):
            boxes = [text.bounding_box() for text in locator.all()]
            assert not overlaps([box for box in boxes if box]), cases[index - 1]


def test_the_card(lab: Lab) -> None:
    notebook = lab([FEED, SHOW])
    page = notebook.page
    notebook.run_all()
    card = page.locator(".em-card")
    expect(card).to_be_visible(timeout=30_000)
    for word in (
        "opens",
        "running · local · libbpf",
        "compiled",
        "41.2 ms",
        "program time 1.0 % (measured)",
        "hook cost 2.0 % (estimated)",
        "152 ns",
        "210 ns",
        "5 of 10",
        "4 KiB",
        "5 lost <img",
    ):
        expect(card).to_contain_text(word)
    expect(card.locator(".em-details")).to_be_hidden()
    card.get_by_text("Details").click()
    expect(card.locator(".em-details")).to_be_visible()
    assert page.evaluate("window.evil") is None


def test_stop_says_so_when_the_kernel_cannot_hear(lab: Lab) -> None:
    # As with an older kernel: what a page sends waits until the cell has ended.
    deaf = "card.widget.comm._reply_subshell_for = lambda data, default: None"
    notebook = lab([FEED, SHOW, deaf, BUSY.format(tenths=60), "print(stopped_on)"])
    page = notebook.page
    notebook.run_all()
    expect(notebook.cell(3).locator(".jp-InputPrompt")).to_have_text("[*]:", timeout=30_000)
    stop = page.locator(".em-stop")
    stop.click()
    expect(stop).to_have_text("Stopping…")
    expect(stop).to_be_disabled()
    expect(page.locator(".em-hint")).to_have_text("stops when the running cell ends", timeout=4000)
    notebook.wait_for_output("the cell is over", cell=3)
    expect(page.locator(".em-hint")).to_have_text("", timeout=4000)


def test_a_page_loaded_again_shows_the_latest_state(lab: Lab) -> None:
    notebook = lab([FEED, SHOW, START])
    page = notebook.page
    notebook.run_all()
    expect(page.locator(".em-card")).to_be_visible(timeout=30_000)
    before = runs(page)
    notebook.save()
    notebook.reload()
    expect(page.locator(".em-card")).to_be_visible(timeout=30_000)
    expect(bars(page).first).to_be_attached()
    assert runs(page) > before
    page.wait_for_timeout(500)
    assert total(page) > 11 * before
    # It moves on.
    now = runs(page)
    page.wait_for_timeout(1500)
    assert runs(page) >= now + 5


def test_a_dark_theme_has_light_ink(lab: Lab, tmp_path: Path) -> None:
    light: dict[str, float] = {}
    for theme in ("light", "dark"):
        notebook = lab([FEED, SHOW], theme=theme)
        notebook.run_all()
        expect(notebook.page.locator(".em-card")).to_be_visible(timeout=30_000)
        ink = notebook.page.locator(".em-name").evaluate("(node) => getComputedStyle(node).color")
        light[theme] = sum(float(part) for part in re.findall(r"[\d.]+", ink)[:3])
        notebook.screenshot(tmp_path / f"{theme}.png")
    assert light["light"] < 200 < 500 < light["dark"]


@pytest.mark.parametrize("trusted", [True, False])
def test_the_end_is_a_picture_and_a_table_that_need_no_kernel(lab: Lab, trusted: bool, tmp_path: Path) -> None:
    show = "handles = [display(view, display_id=True) for view in (card, hist, table)]"
    end = """
from IPython.display import update_display
for view, handle in zip((card, hist, table), handles):
    update_display(view.bundle(), raw=True, display_id=handle.display_id)
    view.close()
print("it has", "ended")
"""
    notebook = lab([FEED, show, end])
    notebook.run_all()
    notebook.wait_for_output("it has ended", cell=2)
    saved = notebook.save()
    bundles = [output["data"] for output in saved.cells[1].outputs]
    assert len(bundles) == 3
    assert not any("widget" in mime for bundle in bundles for mime in bundle)
    assert "image/png" in bundles[1]

    if not trusted:
        # A file from somewhere else is not signed: JupyterLab strips its HTML of what could do harm.
        other = notebook.file.with_name(f"from-elsewhere-{notebook.path}")
        shutil.copy(notebook.file, other)
        source = other.read_text()
        other.write_text(source.replace("it has ended", "it has ended elsewhere"))
        notebook.show(other.name)
    else:
        notebook.reopen()
    page = notebook.page
    picture = notebook.cell(1).locator("img")
    expect(picture).to_have_count(1)
    expect(picture).to_be_visible()
    assert picture.evaluate("(image) => image.complete && image.naturalWidth") == 1440
    outputs = notebook.outputs(1)
    expect(outputs.nth(0)).to_contain_text("program time 1.0 % (measured), hook cost 2.0 % (estimated) of one core")
    expect(outputs.nth(1).locator("table")).to_contain_text("p99")
    cell = outputs.nth(2).locator("td").nth(2)
    expect(cell).to_have_text("5")
    assert cell.evaluate("(node) => getComputedStyle(node).textAlign") == "right"
    expect(page.get_by_text("Error displaying widget")).to_have_count(0)
    assert page.evaluate("window.evil") is None
    picture.scroll_into_view_if_needed()
    notebook.screenshot(tmp_path / "reopened.png")
