"""Programs on a network interface, in the packet filter, and in a network namespace; each held by a link."""

from __future__ import annotations

import errno as errnos
import fcntl
import os
from typing import TYPE_CHECKING, Any

from .. import bpf_links, kinds, near
from ..fault import Fault
from .handles import Context, Handle
from .interfaces import index_of
from .links import OwnLink
from .refused import refused

if TYPE_CHECKING:
    from ..declared import Program

_GENERIC = 1 << 1  # XDP_FLAGS_SKB_MODE
# Refusals that the generic mode would not change.
_FINAL = frozenset({errnos.EBUSY, errnos.EEXIST, errnos.EPERM, errnos.EACCES, errnos.ENODEV})
_FAMILIES = {"ipv4": 2, "ipv6": 10}  # NFPROTO_IPV4, NFPROTO_IPV6
_HOOKS = {"pre_routing": 0, "local_in": 1, "forward": 2, "local_out": 3, "post_routing": 4}
_NAMED = "/run/netns"
_NS_GET_NSTYPE, _CLONE_NEWNET = 0xB703, 0x40000000


def xdp(context: Context, program: Program, target: str) -> list[Handle]:
    """Attach to an interface, where its driver cannot run XDP by the kernel's generic way; raises `Fault`."""
    index = index_of(program, target, target)
    prog_fd = context.library.bpf_program__fd(program.pointer)
    note = ""
    try:
        try:
            fd = bpf_links.link_create(prog_fd, index, kinds.ON_XDP)
        except OSError as error:
            if error.errno in _FINAL:
                raise
            why = os.strerror(error.errno or 0)
            note = (
                f"{program.name} runs on {target} in XDP's generic mode, which is slower: the driver refused it ({why})"
            )
            fd = bpf_links.link_create(prog_fd, index, kinds.ON_XDP, _GENERIC)
    except OSError as error:
        reasons = {
            errnos.EBUSY: "another XDP program is attached to this interface, and it takes one only",
            errnos.EEXIST: "another XDP program is attached to this interface in another mode",
            errnos.ENODEV: "the interface is gone",
            errnos.EINVAL: "the interface refused it (its MTU, its queues, or LRO may be in the way)",
        }
        raise refused(program, f"attach xdp {target}", target, error.errno or 0, [], reasons) from None
    return [OwnLink(fd, note=note)]


def netfilter(context: Context, program: Program, target: str) -> list[Handle]:
    """Attach to ``FAMILY:HOOK[:PRIORITY]`` of the agent's network namespace; raises `Fault`."""
    what = f"attach netfilter {target}"
    about: dict[str, Any] = {"program": program.name, "target": target}
    family, _, rest = target.partition(":")
    hook, _, number = rest.partition(":")
    for word, known in ((family, _FAMILIES), (hook, _HOOKS)):
        if word not in known:
            raise Fault(
                "attach",
                what,
                f"it is written FAMILY:HOOK[:PRIORITY], and {word!r} is none of {', '.join(known)}",
                f"Such as --attach {program.name}=netfilter:ipv4:local_in.",
                near=near.close(word, known),
                **about,
            )
    try:
        priority = int(number or "0")
        if not -(1 << 31) <= priority < 1 << 31:
            raise ValueError(number)
    except ValueError:
        raise Fault("attach", what, f"a priority is a number of 32 bits, not {number!r}", **about) from None
    prog_fd = context.library.bpf_program__fd(program.pointer)
    try:
        fd = bpf_links.link_create(prog_fd, 0, kinds.ON_NETFILTER, more=(_FAMILIES[family], _HOOKS[hook], priority, 0))
    except OSError as error:
        reasons = {
            errnos.EBUSY: f"another program has priority {priority} at this hook: {family}:{hook}:1 has another",
            errnos.ERANGE: f"the kernel keeps priority {priority} for itself",
            errnos.EAFNOSUPPORT: f"this kernel has no {family} packet filter",
        }
        raise refused(program, what, target, error.errno or 0, [], reasons) from None
    return [OwnLink(fd, has_target=False)]


def in_namespace(context: Context, program: Program, target: str) -> list[Handle]:
    """Attach to a network namespace, by path or by the name that ip-netns gave it; to the agent's own by default."""
    what = f"attach {program.kind} {target}".rstrip()
    path = "/proc/self/ns/net" if target in ("", "self") else target if "/" in target else f"{_NAMED}/{target}"
    namespace = _open(path)
    if namespace is None:
        names = os.listdir(_NAMED) if os.path.isdir(_NAMED) else []
        raise Fault(
            "attach",
            what,
            f"{path} is no network namespace" if os.path.exists(path) else f"no such network namespace: {path}",
            f"Named ones: {', '.join(names)}." if names else "`ip netns` lists those that have a name.",
            near=near.close(os.path.basename(path), names),
            program=program.name,
            target=target,
        )
    try:
        fd = bpf_links.link_create(context.library.bpf_program__fd(program.pointer), namespace, program.attach_type)
    except OSError as error:
        taken = "another program is attached to this network namespace, and it takes one only"
        reasons = {
            errnos.E2BIG: taken if program.kind == "flow_dissector" else "it has as many programs as the kernel allows",
            errnos.EEXIST: "the initial network namespace or one below it has a flow dissector, which excludes others"
            if program.kind == "flow_dissector"
            else taken,
        }
        raise refused(program, what, target, error.errno or 0, [], reasons) from None
    finally:
        os.close(namespace)
    return [OwnLink(fd)]


def _open(path: str) -> int | None:
    """Descriptor of a network namespace; None where there is none."""
    # Where the agent has mounts of its own, a name given since then may be there for its parent only.
    for seen in (path, f"/proc/{os.getppid()}/root{path}"):
        try:
            fd = os.open(seen, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)  # no waiting for a pipe's other end
        except OSError:
            continue
        try:
            if fcntl.ioctl(fd, _NS_GET_NSTYPE) == _CLONE_NEWNET:
                return fd
        except OSError:  # ENOTTY: it is something else
            pass
        os.close(fd)
    return None
