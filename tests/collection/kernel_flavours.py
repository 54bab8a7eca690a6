"""A field by the name that this kernel has for it, and the kernel's version: who asks is running, 60 times."""

SHOWS = "CO-RE: flavours, __kconfig"
NEEDS = ("tracepoint",)
OPTIONS = {}
WORK = """python3 -c '
import os
fd = os.open("/dev/null", os.O_RDONLY)
for turn in range(60): os.lseek(fd, 0xe0210000, os.SEEK_SET)
print(*os.uname().release.split(".")[:2])'"""


def prove(session, sh):
    major, minor = map(int, sh(WORK).split())
    row = session.maps["answers"].df().iloc[0]
    assert row[["running", "other"]].tolist() == [60, 0]
    assert row[["has_old_name", "has_new_name", "has_no_such"]].tolist() == [False, True, False]
    assert row["version"] >> 8 == major << 8 | minor
    assert session.vars["LINUX_KERNEL_VERSION"] == row["version"]
    assert not session.vars["CONFIG_EM_NO_SUCH_SETTING"]
    return "60 threads running"
