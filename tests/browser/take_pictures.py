"""Take the README's pictures: the first notebook's cells in a real JupyterLab, on the running kernel.

Run it from the repository: ``.venv/bin/python tests/browser/take_pictures.py``.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import nbformat
from conftest import CHROMIUM, QUIET, REPOSITORY, LabServer, Notebook
from playwright.sync_api import Locator, expect, sync_playwright

IMAGES = REPOSITORY / "notebooks" / "images"
BUSY = "%ebpf sh ebpf-magic workload file --seconds 5 & ebpf-magic workload disk --seconds 60"


def main() -> None:
    """Open, run, look, keep."""
    cells = nbformat.read(REPOSITORY / "notebooks" / "01-first-probe.ipynb", as_version=4).cells
    probes = [cell.source for cell in cells if cell.source.startswith("%%ebpf")]
    sources = ["%load_ext ebpf_magic", *probes, "syncs.maps['latency'].live(interval_s=0.2)", BUSY]
    document = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source) for source in sources])
    document.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
    with tempfile.TemporaryDirectory() as home, sync_playwright() as playwright:
        server = LabServer(Path(home))
        nbformat.write(document, server.root / "pictures.ipynb")
        arguments = [*QUIET, *(["--no-sandbox"] if os.geteuid() == 0 else [])]
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=arguments, env={**os.environ, "HOME": home})
        context = browser.new_context(viewport={"width": 1100, "height": 2200}, device_scale_factor=1.5)
        notebook = Notebook(server, context, "pictures.ipynb")
        try:
            notebook.page.locator(".jp-SideBar .lm-TabBar-tab[data-id='filebrowser']").click()
            notebook.run_all()
            chart = notebook.cell(3)
            expect(chart).to_contain_text("p99", timeout=60_000)
            notebook.page.wait_for_timeout(6000)
            keep(notebook.cell(1), "opens")
            keep(chart, "latency")
            notebook.cell(2).locator("button.em-stop").click()
            notebook.wait_for_idle()
        finally:
            notebook.close()
            browser.close()
            server.stop()


def keep(cell: Locator, name: str) -> None:
    """Keep the picture of one cell with its output."""
    IMAGES.mkdir(exist_ok=True)
    cell.screenshot(path=IMAGES / f"{name}.png")


if __name__ == "__main__":
    main()
