"""A program that is run by hand: it adds 40 and 2 in its context."""

import struct

SHOWS = "program: syscall"
NEEDS = ("syscall",)
OPTIONS = {}


def prove(session, sh):
    result = session.run("add", ctx=struct.pack("<3Q", 40, 2, 0))
    assert (result.retval, struct.unpack("<3Q", result.ctx)) == (7, (40, 2, 42))
    return "40 + 2 = 42"
