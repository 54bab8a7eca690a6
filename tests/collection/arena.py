"""A page that a program allocates and writes, read back byte by byte."""

import struct

SHOWS = "map: arena"
NEEDS = ("syscall", "arena")
OPTIONS = {}


def prove(session, sh):
    assert session.run("fill").retval == 0
    # Pointers into an arena keep their lower half where processes map it.
    offset = int(session.maps["page"].df().loc[0, "value"]) & 0xFFFF_FFFF
    squares = struct.unpack("<8Q", session.maps["memory"].read(offset, 64))
    assert squares == tuple(number**2 for number in range(8))
    return "8 numbers of one page"
