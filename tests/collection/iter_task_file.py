"""Open files as text: the workload opens 17 for appending and 5 for reading, and says their inodes."""

from __future__ import annotations

SHOWS = "program: iter/task_file"
NEEDS = ("iter",)
OPTIONS = {}
_WORK = (
    "import os, tempfile, time; folder = tempfile.mkdtemp(); "
    "files = [os.open(folder + '/' + str(n), os.O_CREAT | os.O_WRONLY | os.O_APPEND) for n in range(17)]; "
    "more = [os.open(folder + '/0', os.O_RDONLY) for n in range(5)]; "
    "print(*(str(os.getpid()) + ' ' + str(fd) + ' ' + str(os.fstat(fd).st_ino) for fd in files), sep='\\n'); "
    "[os.unlink(folder + '/' + str(n)) for n in range(17)]; os.rmdir(folder); print('ready', flush=True); "
    "time.sleep(600)"
)


def prove(session, sh):
    command = session.agent_host.sh(f'exec python3 -I -S -c "{_WORK}"', background=True)
    try:
        while "ready" not in command.output():
            assert command.poll() is None
        *expected, _ = command.output().splitlines()
        pid = expected[0].split()[0]
        lines = session.iter["appending"].df()["line"]
        assert lines[lines.str.startswith(f"{pid} ")].tolist() == expected
        assert len(expected) == 17
    finally:
        command.kill()
    return "17 files"
