"""Kinds of programs, as C: how their sections are written, what they are given, and one that works."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from ebpf_magic import cell_texts, kernel_types
from ebpf_magic.agent.kinds import KINDS
from ebpf_magic.data import c_types, kinds
from ebpf_magic.describing.description import Description

if TYPE_CHECKING:
    from ebpf_magic.hosts.base import AgentHost


class _Form(NamedTuple):
    """A program of a kind that lets everything pass: its context, what it returns, and where it goes."""

    context: str
    result: str
    attach: str = ""
    before: str = ""


_SOCKETS = (
    "struct {\n\t__uint(type, BPF_MAP_TYPE_SOCKHASH);\n\t__uint(max_entries, 64);\n\t__type(key, u32);\n"
    '\t__type(value, u64);\n} sockets SEC(".maps");'
)
_CGROUP = "cgroup:/"
_FORMS = {
    "perf_event": _Form("struct bpf_perf_event_data", "0", "cpu-clock:99hz"),
    "syscall": _Form("void", "0"),
    "xdp": _Form("struct xdp_md", "XDP_PASS", "xdp:lo"),
    "xdp_devmap": _Form("struct xdp_md", "XDP_PASS"),
    "xdp_cpumap": _Form("struct xdp_md", "XDP_PASS"),
    "tc": _Form("struct __sk_buff", "-1; /* TC_ACT_UNSPEC: as if it were not there */", "tc:lo:ingress"),
    "netfilter": _Form("struct bpf_nf_ctx", "1; /* NF_ACCEPT */", "netfilter:ipv4:local_in"),
    "sk_lookup": _Form("struct bpf_sk_lookup", "SK_PASS"),
    "flow_dissector": _Form("struct __sk_buff", "BPF_FLOW_DISSECTOR_CONTINUE"),
    "socket": _Form("struct __sk_buff", "0; /* bytes to keep: it only looks */", "socket:lo"),
    "sk_skb": _Form("struct __sk_buff", "SK_PASS", "map:sockets", _SOCKETS),
    "sk_msg": _Form("struct sk_msg_md", "SK_PASS", "map:sockets", _SOCKETS),
    "sk_reuseport": _Form("struct sk_reuseport_md", "SK_PASS"),
    "cgroup_skb": _Form("struct __sk_buff", "1; /* let it pass */", _CGROUP),
    "cgroup_sock": _Form("struct bpf_sock", "1; /* allow it */", _CGROUP),
    "cgroup_sock_addr": _Form("struct bpf_sock_addr", "1; /* allow it */", _CGROUP),
    "cgroup_device": _Form("struct bpf_cgroup_dev_ctx", "1; /* allow it */", _CGROUP),
    "cgroup_sysctl": _Form("struct bpf_sysctl", "1; /* allow it */", _CGROUP),
    "cgroup_sockopt": _Form("struct bpf_sockopt", "1; /* allow it */", _CGROUP),
    "sock_ops": _Form("struct bpf_sock_ops", "1", _CGROUP),
    "lsm_cgroup": _Form("u64", "1; /* allow it */", _CGROUP),
}
# Where their target is not one that every kernel has, or depends on what runs.
_WITHOUT_TARGET = frozenset({"sk_reuseport"})
_LISTENS = frozenset({"perf_event", "syscall"})


def of_form(host: AgentHost, kind: str, section: str = "") -> Description:
    """Describe a kind whose target does not stand in the section; `section` is how that is written, if not as usual."""
    about, form = KINDS[kind], _FORMS.get(kind)
    text = heading(kind)
    if form is None:
        return Description("attach", kind, text)
    btf = kernel_types.of(host)
    struct = btf.names(kinds.STRUCT).get(form.context.removeprefix("struct "))
    if struct:
        text += f"\n{c_types.definition(btf, struct)}"
    written = section or about.sections[0]
    options: dict[str, object] = {} if kind in _LISTENS else {"allow_change": True}
    if kind in _WITHOUT_TARGET:
        options["attach"] = False
    elif form.attach:
        options["attach"] = {"on_it": form.attach}
    source = cell_texts.of_form(written.replace("HOOK", "socket_bind"), form.context, form.result, form.before)
    return Description("attach", kind, text, source, options)


def heading(kind: str) -> str:
    """Say how the sections of a kind are written, where its programs go, and what it takes."""
    about = KINDS[kind]
    sections = ", ".join(f'SEC("{section}")' for section in about.sections)
    where = f"\n   goes to such as {about.example}" if about.example else ""
    return f"/* {sections}{where}\n   needs {', '.join(f'CAP_{name}' for name in about.needs)} */"


def of_section(section: str) -> str:
    """Name the kind whose section is written just so; empty when it is none's."""
    return next((name for name, about in KINDS.items() if section in about.sections), "")
