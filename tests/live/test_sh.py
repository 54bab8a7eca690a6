"""Shell commands: as this process's user, and by an agent that was started with a shell."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from IPython.core.interactiveshell import InteractiveShell
from objects import eventually

import ebpf_magic
from ebpf_magic.errors import AgentError, CommandError, StoppedError, UsageError
from ebpf_magic.hosts import local, shell
from ebpf_magic.hosts.base import AgentHost
from ebpf_magic.hosts.shell import Command

pytestmark = pytest.mark.live

Sh = Callable[..., Command]


@pytest.fixture
def agent_with_shell(monkeypatch: pytest.MonkeyPatch) -> Iterator[AgentHost]:
    """An agent on this machine that runs commands, as one in a VM does."""
    monkeypatch.setattr(local, "_START", local._START.replace("main()", "main(shell=True)"))
    host = local.local(needs_load=False)
    yield host
    host.close()


@pytest.fixture(params=["here", "agent"])
def sh(request: pytest.FixtureRequest) -> Sh:
    """The same commands both ways."""
    if request.param == "here":
        return shell.run
    host: AgentHost = request.getfixturevalue("agent_with_shell")
    return host.sh


class Pieces:
    """Collects what is handed out."""

    def __init__(self) -> None:
        self.pieces: list[tuple[float, str]] = []

    def __call__(self, text: str) -> None:
        self.pieces.append((time.monotonic(), text))

    @property
    def text(self) -> str:
        return "".join(text for _, text in self.pieces)


def test_output_comes_in_order_and_is_printed(sh: Sh, capsys: pytest.CaptureFixture[str]) -> None:
    done = sh("echo one; echo two >&2; printf 'thr\\303\\251\\n'")
    assert capsys.readouterr().out == "one\ntwo\nthré\n"
    assert done.poll() == 0
    assert done.output() == "one\ntwo\nthré\n"
    assert "exit status 0" in repr(done)


def test_output_comes_while_the_command_runs(sh: Sh) -> None:
    said = threading.Event()
    running = sh("echo ready; read -r word < /dev/null; sleep 300", background=True, on_output=lambda text: said.set())
    assert said.wait(60)
    assert running.poll() is None
    running.kill()
    assert running.wait(60) == -signal.SIGKILL
    assert running.output() == "ready\n"


def test_a_failure_is_an_error_with_the_last_lines(sh: Sh) -> None:
    shown = Pieces()
    with pytest.raises(CommandError) as caught:
        sh("seq 100; echo no such luck >&2; exit 3", on_output=shown)
    error = caught.value
    assert error.status == 3
    assert "exit status 3" in str(error)
    assert "    no such luck" in str(error)
    assert "\n    92\n" in str(error)
    assert "\n    91\n" not in str(error)
    assert error.log == shown.text == "".join(f"{number}\n" for number in range(1, 101)) + "no such luck\n"


def test_a_command_that_a_signal_ended(sh: Sh) -> None:
    with pytest.raises(CommandError, match="killed by SIGSEGV") as caught:
        sh("kill -SEGV $$")
    assert caught.value.status == -signal.SIGSEGV


def test_the_line_is_the_user_s_own(sh: Sh) -> None:
    line = "printf '%s|' \"$0\" '$1' \"it's\" `echo a b` $# ; # a comment"
    assert sh(line, on_output=Pieces()).output() == "/bin/sh|$1|it's|a|b|0|"


@pytest.mark.parametrize("line", ["", "  ", "&", "a\0b", "x" * (1 << 17)])
def test_lines_that_cannot_be_run(sh: Sh, line: str) -> None:
    with pytest.raises(CommandError):
        sh(line)


def test_a_long_line_is_run(sh: Sh) -> None:
    assert sh(f"echo {'x' * 100_000}", on_output=Pieces()).output() == "x" * 100_000 + "\n"


def test_it_runs_in_the_notebook_s_folder(sh: Sh, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert sh("pwd", on_output=Pieces()).output() == f"{tmp_path}\n"


def test_it_reads_nothing_and_has_a_shell_s_signals(sh: Sh) -> None:
    # The agent ignores SIGINT; its commands must not. (Beyond SIGSYS it is the C library's business.)
    told = sh("cat; grep SigIgn /proc/self/status", on_output=Pieces()).output().split()
    assert told[0] == "SigIgn:"
    assert int(told[1], 16) & ((1 << signal.SIGSYS) - 1) == 0


def test_much_output_keeps_its_beginning_and_its_end(sh: Sh) -> None:
    shown = Pieces()
    lines = 400_000
    done = sh(f"seq {lines}", on_output=shown)
    whole = "".join(f"{number}\n" for number in range(1, lines + 1))
    text = done.output()
    assert shown.text == text
    head, note, tail = text.partition(
        f"\n... {len(whole) - shell.HEAD_BYTES - shell.TAIL_BYTES:,} bytes left out ...\n"
    )
    assert note
    assert head == whole[: shell.HEAD_BYTES]
    assert tail == whole[-shell.TAIL_BYTES :]
    assert len(shown.pieces) < 100


def test_a_command_without_end_does_not_grow(sh: Sh) -> None:
    running = sh("yes", background=True)
    assert eventually(lambda: running._output.total_bytes > 4 << 20, 60)
    assert len(running.output()) < shell.HEAD_BYTES + shell.TAIL_BYTES + 100
    running.kill()


def test_what_takes_too_long_is_interrupted_and_ended(sh: Sh) -> None:
    shown = Pieces()
    with pytest.raises(CommandError, match=r"longer than 2 s") as caught:
        sh("trap 'echo interrupted; exit 1' INT; echo begun; sleep 300 & wait", timeout_s=2, on_output=shown)
    assert caught.value.status is None
    assert shown.text == "begun\ninterrupted\n"


def test_what_does_not_listen_is_killed(sh: Sh, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shell, "_END_S", 0.3)
    shown = Pieces()
    with pytest.raises(CommandError, match=r"longer than 2 s"):
        sh("trap '' INT TERM; echo $$; while :; do sleep 1; done", timeout_s=2, on_output=shown)
    assert int(shown.text)
    assert eventually(lambda: not Path(f"/proc/{shown.text.strip()}").exists())


def test_ctrl_c_interrupts_the_command_and_its_children(sh: Sh, tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    shown = Pieces()

    def interrupt() -> None:
        eventually(lambda: pids.exists() and len(pids.read_text().split()) == 2, 60)
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    line = f"trap 'echo last words' INT; sleep 300 & echo $$ $! > {pids}; wait; wait"
    with pytest.raises(KeyboardInterrupt):
        sh(line, on_output=shown)
    thread.join()
    assert shown.text == "last words\n"
    assert eventually(lambda: not any(Path(f"/proc/{pid}").exists() for pid in pids.read_text().split()))


def test_a_command_that_has_ended_takes_what_it_left_with_it(sh: Sh) -> None:
    pid = sh("sleep 300 & echo $!", on_output=Pieces()).output().strip()
    assert eventually(lambda: not Path(f"/proc/{pid}").exists())


def test_a_command_sees_no_child_it_did_not_start(sh: Sh) -> None:
    line = f"exec {sys.executable} -I -S -c 'import os; os.wait()'"
    with pytest.raises(CommandError) as caught:
        sh(line, on_output=Pieces(), timeout_s=60)
    assert "ChildProcessError" in caught.value.log


@pytest.mark.parametrize("line", ["sleep 0.2; echo done; exit 4 &", "sleep 0.2; echo done; exit 4 &  "])
def test_an_ampersand_puts_it_in_the_background(sh: Sh, line: str, capsys: pytest.CaptureFixture[str]) -> None:
    running = sh(line)
    assert running.poll() is None
    assert "running" in repr(running)
    assert running.wait(60) == 4
    assert running.output() == "done\n"
    assert capsys.readouterr().out == ""
    running.kill()
    running.kill()


def test_what_only_looks_like_the_background(sh: Sh) -> None:
    assert sh("echo \\&", on_output=Pieces()).output() == "&\n"
    with pytest.raises(CommandError):
        sh("true &&", on_output=Pieces())


def test_commands_do_not_hold_up_each_other(sh: Sh) -> None:
    long = [sh("sleep 300", background=True) for _ in range(5)]
    assert sh("echo hi", on_output=Pieces()).output() == "hi\n"
    assert {running.poll() for running in long} == {None}
    for running in long:
        running.kill()
    assert {running.wait(60) for running in long} == {-signal.SIGKILL}


def test_an_error_of_the_caller_ends_the_command(sh: Sh) -> None:
    def fail(text: str) -> None:
        raise RuntimeError(text)

    with pytest.raises(RuntimeError, match=r"\d+"):
        sh("echo $$; sleep 300", on_output=fail)
    running = sh("echo $$; sleep 300", background=True, on_output=fail)
    with pytest.raises(RuntimeError, match=r"\d+") as caught:
        running.wait(60)
    assert eventually(lambda: not Path(f"/proc/{str(caught.value).strip()}").exists())


def test_no_descriptor_and_no_child_stays(sh: Sh) -> None:
    sh("true")
    before = set(os.listdir("/proc/self/fd"))
    children = _children()
    for _ in range(20):
        sh("true")
        with pytest.raises(CommandError):
            sh("exit 1", on_output=Pieces())
    assert set(os.listdir("/proc/self/fd")) == before
    assert _children() == children


# By an agent


def test_an_agent_without_a_shell_runs_no_command(start_host: Callable[..., AgentHost]) -> None:
    host = start_host()
    assert not host.info.shell
    for verb in ("spawn", "take", "signal", "forget"):
        with pytest.raises(AgentError, match="no such verb"):
            host.call(verb, {"command": "c"}, [b"true"], lambda frame: None)
    done = host.sh("id -u", on_output=Pieces())  # as the user of this process, and not as the agent's
    assert (done.host, done.output()) == ("local", f"{os.getuid()}\n")


def test_a_command_in_a_vm_has_an_environment_of_its_own(
    agent_with_shell: AgentHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EM_TEST_SECRET", "x")
    text = agent_with_shell.sh("env; command -v ebpf-magic ip", on_output=Pieces()).output()
    assert "SECRET" not in text
    assert "HOME=/root\n" in text
    assert text.count("/ebpf-magic\n") == 1


def test_a_folder_that_is_not_there_is_home(agent_with_shell: AgentHost, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shell, "_folder", lambda: "/no/such/folder")
    home = "/root" if os.path.isdir("/root") else "/"
    if not os.access(home, os.X_OK):
        pytest.skip(f"{home} is another user's")
    assert agent_with_shell.sh("pwd", on_output=Pieces()).output() == f"{home}\n"


def test_with_the_agent_its_commands_end(agent_with_shell: AgentHost) -> None:
    running = agent_with_shell.sh("sleep 300", background=True)
    agent_with_shell.close()
    assert eventually(lambda: not Path(f"/proc/{running.pid}").exists())
    with pytest.raises(AgentError):
        running.wait(60)
    assert "lost with its host" in repr(running)


def test_with_a_killed_agent_its_commands_end(agent_with_shell: AgentHost) -> None:
    running = agent_with_shell.sh("sleep 300", background=True)
    os.kill(agent_with_shell.info.pid, signal.SIGKILL)
    assert eventually(lambda: _has_ended(running.pid))
    with pytest.raises(AgentError):
        running.wait(60)


@pytest.mark.parametrize(
    ("verb", "fields", "error"),
    [
        ("take", {"command": "none"}, StoppedError),
        ("signal", {"command": "none", "number": 9}, StoppedError),
        ("signal", {"command": "c", "number": 999}, UsageError),
        ("signal", {"command": "c", "number": "9"}, UsageError),
        ("spawn", {"command": "c", "folder": "/"}, UsageError),
        ("spawn", {"command": 7, "folder": "/"}, UsageError),
        ("spawn", {"command": "d", "folder": "/", "environment": {"A": 1}}, UsageError),
    ],
)
def test_requests_that_cannot_be(
    agent_with_shell: AgentHost, verb: str, fields: dict[str, object], error: type[Exception]
) -> None:
    agent_with_shell.call("spawn", {"command": "c", "folder": "/"}, [b"sleep 300"], lambda frame: None)
    with pytest.raises(error):
        agent_with_shell.call(verb, fields, [b"true"], lambda frame: None)
    agent_with_shell.call("forget", {"command": "c"}, (), lambda frame: None)
    agent_with_shell.call("forget", {"command": "c"}, (), lambda frame: None)


# By this process


def test_with_the_notebook_killed_its_commands_end() -> None:
    program = (
        "from ebpf_magic.hosts import shell; import os, time\n"
        "print(shell.run('sleep 300', background=True).pid, flush=True)\n"
        "os.fork() == 0 and time.sleep(20)\n"  # a child that lives on must not keep them
        "time.sleep(300)"
    )
    with subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", program], stdout=subprocess.PIPE, text=True
    ) as notebook:
        assert notebook.stdout
        pid = int(notebook.stdout.readline())
        assert Path(f"/proc/{pid}").exists()
        time.sleep(0.5)
        children = Path(f"/proc/{notebook.pid}/task/{notebook.pid}/children").read_text().split()
        forked = [int(child) for child in children if int(child) != pid]
        notebook.kill()
        assert eventually(lambda: not Path(f"/proc/{pid}").exists())
        for child in forked:
            with contextlib.suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL)


# In a notebook


def test_the_magic_prints_and_returns_nothing(shell: InteractiveShell, capsys: pytest.CaptureFixture[str]) -> None:
    assert shell.run_line_magic("ebpf", 'sh echo "it\'s" | tr a-z A-Z') is None
    assert capsys.readouterr().out == "IT'S\n"


def test_the_magic_raises_and_runs_in_the_background(shell: InteractiveShell) -> None:
    with pytest.raises(CommandError, match="exit status 5"):
        shell.run_line_magic("ebpf", "sh exit 5")
    with pytest.raises(CommandError, match="longer than"):
        shell.run_line_magic("ebpf", "sh --timeout 200ms sleep 300")
    running = shell.run_line_magic("ebpf", "sh sleep 300 &")
    assert isinstance(running, Command)
    running.kill()
    assert running.wait(60) == -signal.SIGKILL


def test_several_hosts_run_it_one_after_the_other(capsys: pytest.CaptureFixture[str]) -> None:
    done = ebpf_magic.sh("echo hi", on=["local", "local"])
    assert isinstance(done, list)
    assert [each.output() for each in done] == ["hi\n", "hi\n"]
    assert capsys.readouterr().out == "local:\nhi\nlocal:\nhi\n"


def _children() -> list[str]:
    found = []
    for task in os.listdir("/proc/self/task"):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # a thread that has ended meanwhile
            found += Path(f"/proc/self/task/{task}/children").read_text().split()
    return sorted(found)


def _has_ended(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True
