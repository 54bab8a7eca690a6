"""Every page fault by process and page: 500 new pages are touched, and each faults once."""

SHOWS = "program: perf_event"
NEEDS = ("perf_event",)
OPTIONS = {"attach": {"on_fault": "page-faults:1"}}
WORK = """
import ctypes, mmap, os
pages = mmap.mmap(-1, 500 * 4096, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
pages.madvise(mmap.MADV_NOHUGEPAGE)
for page in range(500):
    pages[page * 4096] = 1
print(os.getpid(), ctypes.addressof(ctypes.c_char.from_buffer(pages)) >> 12)
"""


def prove(session, sh):
    pid, first = map(int, sh(f"python3 -I -S -c '{WORK}'").split())
    faults = session.maps["faults"].df()["value"]
    touched = faults[faults.index.isin([(pid, page) for page in range(first, first + 500)])]
    assert (len(touched), touched.max()) == (500, 1)
    return "500 pages, each once"
