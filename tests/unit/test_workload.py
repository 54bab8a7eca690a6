"""Workloads: what they do and say, where nothing has to be seen in the kernel."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ebpf_magic import workload


def run(*arguments: str, capsys: pytest.CaptureFixture[str]) -> tuple[int, str, str]:
    status = workload.main(arguments)
    return status, *capsys.readouterr()


@pytest.mark.parametrize("kind", ["file", "fork", "disk", "net", "cpu"])
def test_does_as_many_rounds_as_asked(kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, out, err = run(kind, "--count", "7", "--folder", str(tmp_path), "--json", capsys=capsys)
    assert (status, err) == (0, "")
    told = json.loads(out)
    assert told["kind"] == kind
    assert told["comm"] == f"workload-{kind}"
    assert next(iter(told["counts"].values())) == 7
    assert list(tmp_path.iterdir()) == []


def test_a_file_is_opened_as_often_as_the_kernel_counted(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"x" * 4096)
    before = _reads()
    counts = workload.file_work(workload.Rounds(500, None), str(tmp_path / "file"))
    assert counts == {"openat": 500, "read": 500, "close": 500, "read_bytes": 500 * 512}
    assert _reads() - before >= 500


def test_disk_writes_what_it_says(tmp_path: Path) -> None:
    path = tmp_path / "blocks"
    path.write_bytes(bytes(3 * 4096))
    fd = os.open(path, os.O_WRONLY)
    try:
        counts = workload.disk_work(workload.Rounds(2, None), fd, 4096, 3)
    finally:
        os.close(fd)
    assert counts["written_bytes"] == 8192
    assert path.read_bytes() == b"w" * 8192 + bytes(4096)


def test_time_ends_it_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = str(tmp_path)
    status, out, _ = run("file", "--seconds", "0.05", "--folder", folder, "--json", capsys=capsys)
    assert status == 0
    assert json.loads(out)["counts"]["openat"] > 0
    assert list(workload.Rounds(1000, 1e-9)) == []
    assert len(list(workload.Rounds(3, 60.0))) == 3


def test_says_it_in_words(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _, out, _ = run("disk", "--count", "3", "--block", "8K", "--folder", str(tmp_path), capsys=capsys)
    assert out.startswith("workload-disk (process ")
    assert "24,576 bytes written in 3 blocks of 8,192" in out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["file", "--folder", "/no/such/folder"], "No such file or directory"),
        (["net", "--netns", "no-such-namespace"], "no-such-namespace"),
        (["net", "--address", "198.51.100.77"], "Cannot assign requested address"),
    ],
)
def test_says_what_went_wrong(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    status, out, err = run(*arguments, capsys=capsys)
    assert (status, out) == (1, "")
    assert err.startswith(f"ebpf-magic workload {arguments[0]}: ")
    assert message in err


def test_a_worker_that_is_killed_is_an_error() -> None:
    worker = workload.Worker("workload-test", lambda: os.kill(os.getpid(), signal.SIGKILL) or {})
    with pytest.raises(OSError, match="it was killed"):
        worker.result()


def test_a_worker_s_error_is_the_caller_s() -> None:
    def work() -> workload.Counts:
        raise OSError("no more of it")

    with pytest.raises(OSError, match="no more of it"):
        workload.Worker("workload-test", work).result()


@pytest.mark.parametrize(
    "arguments", [[], ["swim"], ["file", "--count", "0"], ["disk", "--block", "1T"], ["cpu", "--seconds", "-1"]]
)
def test_what_cannot_be_meant_is_refused(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as refused:
        workload.main(arguments)
    assert refused.value.code == 2
    assert "usage: workload" in capsys.readouterr().err


def test_a_bare_interpreter_runs_it(tmp_path: Path) -> None:
    command = [sys.executable, "-I", "-S", workload.__file__, "fork", "--count", "3", "--folder", str(tmp_path)]
    done = subprocess.run(command, cwd="/", env={}, capture_output=True, text=True, check=True)
    assert "3 forks and execs" in done.stdout


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_it_leaves_nothing(number: signal.Signals, tmp_path: Path) -> None:
    command = [sys.executable, "-I", "-S", workload.__file__, "cpu", "--seconds", "300", "--folder", str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as running:
        children = Path(f"/proc/{running.pid}/task/{running.pid}/children")
        while not (worker := children.read_text().split()):
            time.sleep(0.01)
        running.send_signal(number)
        out, err = running.communicate(timeout=60)
    assert (running.returncode, out, err) == (128 + number, b"", b"")
    assert list(tmp_path.iterdir()) == []
    assert not Path(f"/proc/{worker[0]}").exists()


def _reads() -> int:
    return int(Path("/proc/self/io").read_text().split("syscr: ")[1].split()[0])
