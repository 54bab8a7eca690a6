"""JupyterLab in headless Chromium: opens notebooks, presses what a person presses, leaves nothing behind.

``lab`` opens a notebook given as the sources of its cells::

    def test_it_moves(lab):
        notebook = lab(["import time", "time.sleep(1); print('done')"])
        notebook.run_all()
        notebook.wait_for_output("done", cell=1)

Server, kernels and browser live in a home folder of their own, which goes away with them.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import nbformat
import pytest
from playwright.sync_api import Browser, BrowserContext, Locator, Page, expect, sync_playwright

REPOSITORY = Path(__file__).parents[2]
CHROMIUM = "/usr/bin/chromium"
START_TIMEOUT_S = 60
STOP_TIMEOUT_S = 20
# Chromium otherwise asks outside hosts for updates and lists.
QUIET = [
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


class LabServer:
    """One JupyterLab on a free port, with a home of its own."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.root = home / "notebooks"
        self.root.mkdir()
        self._settings = home / "settings"
        self._token = secrets.token_hex(16)
        self._log = home / "server.log"
        self.setting("@jupyterlab/apputils-extension/notification", {"fetchNews": "false", "checkForUpdates": False})
        options = {
            "ip": "127.0.0.1",
            "port": 0,
            "open_browser": False,
            "allow_root": True,
            "root_dir": str(self.root),
        }
        folders = {name: str(home / name.lower()) for name in ("JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "IPYTHONDIR")}
        self._runtime = home / "runtime"
        environment = {
            **os.environ,
            **folders,
            "HOME": str(home),
            "XDG_CACHE_HOME": str(home / "cache"),
            "JUPYTER_RUNTIME_DIR": str(self._runtime),
            "JUPYTERLAB_SETTINGS_DIR": str(self._settings),
            "JUPYTER_TOKEN": self._token,
            "PYTHONPATH": os.pathsep.join(filter(None, [str(REPOSITORY), os.environ.get("PYTHONPATH")])),
        }
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [
                    *(sys.executable, "-m", "jupyter", "lab"),
                    *(f"--ServerApp.{name}={value}" for name, value in options.items()),
                ],
                env=environment,
                cwd=home,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self._address = self._find()

    def _find(self) -> str:
        """Wait for the file in which the server says where it is, and until it answers."""
        deadline = time.monotonic() + START_TIMEOUT_S
        while time.monotonic() < deadline and self._process.poll() is None:
            for file in self._runtime.glob("jpserver-*.json"):
                try:
                    address = str(json.loads(file.read_text())["url"])
                    self._address = address
                    self.api("GET", "api/status")
                    return address
                except (ValueError, OSError):
                    pass
            time.sleep(0.1)
        log = self._log.read_text(errors="replace")
        self.stop()
        raise RuntimeError(f"JupyterLab did not start:\n{log}")

    def api(self, method: str, path: str) -> Any:
        request = urllib.request.Request(
            self._address + path, method=method, headers={"Authorization": f"token {self._token}"}
        )
        with urllib.request.urlopen(request, timeout=10) as answer:
            body = answer.read()
        return json.loads(body) if body else None

    def setting(self, plugin: str, value: dict[str, Any]) -> None:
        file = self._settings / f"{plugin}.jupyterlab-settings"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(value))

    def url(self, path: str) -> str:
        # A workspace of its own for each page: nothing is opened again from the page before.
        workspace = secrets.token_hex(4)
        return f"{self._address}lab/workspaces/{workspace}/tree/{path}?token={self._token}"

    def connected(self, path: str, idle: bool = True) -> bool:
        """Whether a page is connected to the notebook's kernel and, unless said, the kernel waits for work."""
        kernels = [session["kernel"] for session in self.api("GET", "api/sessions") if session["path"] == path]
        states = ("idle",) if idle else ("idle", "busy")
        return any(kernel["connections"] > 0 and kernel["execution_state"] in states for kernel in kernels)

    def end_kernel(self, path: str) -> None:
        for session in self.api("GET", "api/sessions"):
            if session["path"] == path:
                self.api("DELETE", f"api/sessions/{session['id']}")

    def stop(self) -> None:
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
            try:
                self._process.wait(STOP_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                os.killpg(self._process.pid, signal.SIGKILL)
                self._process.wait()


class Notebook:
    """A notebook open in a page; ``page`` is Playwright's, for everything not offered here."""

    def __init__(self, server: LabServer, context: BrowserContext, path: str) -> None:
        self._server = server
        self._context = context
        self.path = path
        self.file = server.root / path
        self.page: Page
        self._open()

    def _open(self) -> None:
        self.page = self._context.new_page()
        self.page.on("dialog", lambda dialog: dialog.accept())
        self.page.goto(self._server.url(self.path))
        self._wait_until_ready()

    def _wait_until_ready(self, idle: bool = True) -> None:
        expect(self.page.locator(".jp-Notebook .jp-Cell").first).to_be_visible(timeout=60_000)
        # A notebook looks idle before its kernel is there, and asks for one when it is run then.
        deadline = time.monotonic() + 60
        while not self._server.connected(self.path, idle):
            assert time.monotonic() < deadline, "the notebook got no kernel"
            self.page.wait_for_timeout(50)
        if idle:
            self.wait_for_idle(60_000)

    def wait_for_idle(self, timeout_ms: float = 30_000) -> None:
        indicator = self.page.locator(".jp-Notebook-ExecutionIndicator[data-status='idle']")
        expect(indicator.first).to_be_attached(timeout=timeout_ms)

    def menu(self, *path: str) -> None:
        """Choose from the menu bar: ``menu("Run", "Run All Cells")``."""
        self.page.locator(".lm-MenuBar-item").filter(has_text=path[0]).first.click()
        for label in path[1:]:
            entries = self.page.locator(".lm-Menu-item:visible")
            entries.filter(
                has=self.page.locator(f".lm-Menu-itemLabel:text-is({json.dumps(label, ensure_ascii=False)})")
            ).first.click()

    def run_all(self) -> None:
        self.menu("Run", "Run All Cells")

    def cell(self, index: int) -> Locator:
        return self.page.locator(".jp-Notebook .jp-Cell").nth(index)

    def outputs(self, cell: int | None = None) -> Locator:
        """The outputs of one cell, or of all."""
        return (self.page if cell is None else self.cell(cell)).locator(".jp-OutputArea-output")

    def wait_for_output(self, text: str, cell: int | None = None, timeout_ms: float = 30_000) -> Locator:
        """Wait until an output contains `text`, and return it."""
        output = self.outputs(cell).filter(has_text=text).first
        expect(output).to_be_visible(timeout=timeout_ms)
        return output

    def screenshot(self, path: str | Path) -> Path:
        file = Path(path)
        file.parent.mkdir(parents=True, exist_ok=True)
        self.page.screenshot(path=file)
        return file

    def save(self) -> nbformat.NotebookNode:
        """Save as a person does, wait until it is on the disk, and return what is there."""
        self.page.locator(".jp-Notebook").click(position={"x": 2, "y": 2})
        with self.page.expect_response(
            lambda answer: answer.request.method == "PUT" and "/api/contents/" in answer.url
        ):
            self.page.keyboard.press("Control+s")
        return nbformat.read(self.file, as_version=4)

    def restart(self) -> None:
        """Restart the kernel through its menu."""
        self.menu("Kernel", "Restart Kernel…")
        self.page.locator(".jp-Dialog button.jp-mod-warn, .jp-Dialog button.jp-mod-accept").last.click()
        expect(self.page.locator(".jp-Dialog")).to_have_count(0)
        self.page.wait_for_timeout(500)
        self.wait_for_idle()

    def reload(self, idle: bool = True) -> None:
        """Load the page again; the kernel runs on, and may be busy with `idle` False."""
        self.page.reload()
        self._wait_until_ready(idle)

    def reopen(self, end_kernel: bool = True) -> None:
        """Close the page and, unless said, the kernel, and open the notebook in a new page."""
        self.page.close()
        if end_kernel:
            self._server.end_kernel(self.path)
        self._open()

    def show(self, path: str) -> None:
        """Close the page and open another notebook of the same folder instead."""
        self.page.close()
        self._server.end_kernel(self.path)
        self.path, self.file = path, self._server.root / path
        self._open()

    def close(self) -> None:
        self._context.close()
        self._server.end_kernel(self.path)


@pytest.fixture(scope="session")
def lab_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LabServer]:
    home = tmp_path_factory.mktemp("lab")
    server = LabServer(home)
    yield server
    server.stop()
    shutil.rmtree(home, ignore_errors=True)


@pytest.fixture(scope="session")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    home = tmp_path_factory.mktemp("browser")
    arguments = [*QUIET, *(["--no-sandbox"] if os.geteuid() == 0 else [])]
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(
            executable_path=CHROMIUM, args=arguments, env={**os.environ, "HOME": str(home)}
        )
        yield chromium
        chromium.close()
    shutil.rmtree(home, ignore_errors=True)


@pytest.fixture
def lab(lab_server: LabServer, browser: Browser) -> Iterator[Callable[..., Notebook]]:
    """Open a notebook given as a list of cell sources: ``lab(cells, theme="light", size=(1280, 900))``."""
    opened: list[Notebook] = []

    def open_notebook(
        cells: Sequence[str], *, theme: str = "light", size: tuple[int, int] = (1280, 900), name: str = ""
    ) -> Notebook:
        chosen = {"light": "JupyterLab Light", "dark": "JupyterLab Dark"}[theme]
        lab_server.setting("@jupyterlab/apputils-extension/themes", {"theme": chosen})
        notebook = nbformat.v4.new_notebook(
            cells=[nbformat.v4.new_code_cell(source) for source in cells],
            metadata={"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}},
        )
        path = f"{name or secrets.token_hex(4)}.ipynb"
        nbformat.write(notebook, lab_server.root / path)
        context = browser.new_context(viewport={"width": size[0], "height": size[1]})
        opened.append(Notebook(lab_server, context, path))
        return opened[-1]

    yield open_notebook
    for notebook in opened:
        notebook.close()
