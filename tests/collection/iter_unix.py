"""Unix sockets: the workload binds 3 names in a folder of its own, and says their inodes."""

from __future__ import annotations

SHOWS = "program: iter/unix"
NEEDS = ("iter",)
OPTIONS = {}
_WORK = (
    "import os, socket, tempfile, time; folder = tempfile.mkdtemp(); "
    "made = [socket.socket(socket.AF_UNIX) for _ in range(3)]; "
    "[each.bind(folder + '/' + str(n)) for n, each in enumerate(made)]; "
    "print(folder, *(os.fstat(each.fileno()).st_ino for each in made), flush=True); "
    "[os.unlink(folder + '/' + str(n)) for n in range(3)]; os.rmdir(folder); time.sleep(600)"
)


def prove(session, sh):
    command = session.agent_host.sh(f'exec python3 -I -S -c "{_WORK}"', background=True)
    try:
        while not command.output().endswith("\n"):
            assert command.poll() is None
        folder, *inodes = command.output().split()
        frame = session.iter["named"].df()
        mine = frame[frame["name"].str.startswith(f"{folder}/")].sort_values("name")
        assert mine["name"].tolist() == [f"{folder}/{number}" for number in range(3)]
        assert mine["inode"].tolist() == list(map(int, inodes))
    finally:
        command.kill()
    return "3 sockets"
