"""An XDP program of user space's own headers, tested without a wire: 2 of 10 packets are dropped."""

SHOWS = "program: xdp, with user space's headers"
NEEDS = ("xdp",)
OPTIONS = {"attach": False, "allow_change": True}


def packet(port, size):
    ethernet = bytes(12) + b"\x08\x00"
    ip = bytes([0x45, 0, 0, 0, 0, 0, 0, 0, 64, 17, 0, 0, 127, 0, 0, 1, 127, 0, 0, 1])
    return (ethernet + ip + bytes(2) + port.to_bytes(2, "big") + bytes(4)).ljust(size, b"\0")


def prove(session, sh):
    packets = [packet(40123 if number % 4 == 1 else 40124, 60 + number) for number in range(9)] + [bytes(60)]
    verdicts = session.run("count_by_verdict", data=packets)["verdict"]
    assert [name[4:] for name in verdicts] == ["PASS", "DROP", "PASS", "PASS", "PASS", "DROP", *["PASS"] * 4]
    rows = session.maps["counters"].df()
    assert rows["packets"].tolist() == [0, 2, 8, 0, 0]
    assert rows["bytes"].tolist() == [0, 61 + 65, sum(60 + n for n in (0, 2, 3, 4, 6, 7, 8)) + 60, 0, 0]
    return "2 of 10 packets dropped"
