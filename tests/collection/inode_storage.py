"""Opens of a file of its own, counted in what hangs on its inode."""

SHOWS = "map: inode_storage"
NEEDS = ("lsm", "inode_storage")
OPTIONS = {"allow_change": True}
WORK = """python3 -c '
import os, tempfile
fd, path = tempfile.mkstemp()
for turn in range(50): os.close(os.open(path, os.O_RDONLY))
print(path)'"""


def prove(session, sh):
    path = sh(WORK).strip()
    try:
        # And the one that made it.
        assert session.maps["opens"].lookup(path)["value"] == 51
    finally:
        sh(f"rm {path}")
    return "51 opens of one inode"
