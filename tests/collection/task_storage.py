"""Seeks by a process, counted in what hangs on its task; the process stays until it is looked at."""

SHOWS = "map: task_storage"
NEEDS = ("tracepoint", "task_storage")
OPTIONS = {}
WORK = """python3 -c '
import os, time
fd = os.open("/dev/null", os.O_RDONLY)
ready, tell = os.pipe()
pid = os.fork()
if pid == 0:
    os.setsid()
    for turn in range(400): os.lseek(fd, 0xe00c0000, os.SEEK_SET)
    os.write(tell, b"x")
    os.closerange(0, 3)
    time.sleep(60)
    os._exit(0)
os.read(ready, 1)
print(pid)'"""


def prove(session, sh):
    pid = int(sh(WORK))
    try:
        assert session.maps["seeks"].df()["value"].to_dict() == {pid: 400}
        assert session.maps["seeks"].lookup(pid)["value"] == 400
    finally:
        sh(f"kill {pid}")
    return "400 seeks at one task"
