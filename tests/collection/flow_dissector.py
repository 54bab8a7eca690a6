"""A program that says what a packet's flow is, on 50 packets: the keys that it wrote come back."""

SHOWS = "program: flow_dissector"
NEEDS = ("flow_dissector",)
OPTIONS = {"attach": False, "allow_change": True}


def prove(session, sh):
    packet = bytes(12) + b"\x08\x00" + b"\x45" + bytes(40)
    found = session.run("dissect", data=[packet] * 50)
    assert found["verdict"].tolist() == ["BPF_OK"] * 50
    # struct bpf_flow_keys: nhoff, thoff, addr_proto (16 bits each), is_frag, is_first_frag, is_encap, ip_proto
    keys = {(int.from_bytes(out[2:4], "little") - int.from_bytes(out[:2], "little"), out[9]) for out in found["out"]}
    assert keys == {(20, 17)}
    return "50 packets dissected"
