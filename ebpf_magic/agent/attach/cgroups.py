"""Programs in a control group: what its processes send, open, connect, set and ask."""

from __future__ import annotations

import errno as errnos
import os
import re
from typing import TYPE_CHECKING, Any

from .. import bpf_links, cgroups, kinds, near, privileges, tracefs
from ..fault import Fault
from .functions import would_be_called
from .handles import Context, Handle
from .links import OwnLink
from .refused import refused

if TYPE_CHECKING:
    from ..declared import Program

_ELSEWHERE = re.compile(r"^/proc/\d+/root")  # what the agent sees through another process
_MOUNT = "Mount it: mount -t cgroup2 none /sys/fs/cgroup."


def in_cgroup(context: Context, program: Program, target: str) -> list[Handle]:
    """Attach to a cgroup, by its path or by its path below the cgroup2 mount; raises `Fault`."""
    what = f"attach {program.kind} {target}"
    about: dict[str, Any] = {"program": program.name, "target": target}
    if program.section == "cgroup/skb":
        why = "its section does not say which way the packets go"
        raise Fault("attach", what, why, 'Write SEC("cgroup_skb/ingress") or SEC("cgroup_skb/egress").', **about)
    if program.kind == "lsm_cgroup":
        would_be_called(program, target)
    path = _find(what, target, about)
    directory = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fd = bpf_links.link_create(context.library.bpf_program__fd(program.pointer), directory, program.attach_type)
    except OSError as error:
        if error.errno == errnos.EPERM and not privileges.missing(kinds.KINDS[program.kind].needs):
            why = "a program is attached to it or to a cgroup above it that lets none be added"
            raise Fault("attach", what, why, "`bpftool cgroup tree` shows it.", errno=error.errno, **about) from None
        reasons = {
            errnos.E2BIG: "it has as many programs as the kernel allows (64)",
            errnos.EINVAL: "this kernel cannot attach such a program to a cgroup",
            errnos.ENODEV: "the cgroup has been removed",
        }
        raise refused(program, what, target, error.errno or 0, [], reasons) from None
    finally:
        os.close(directory)
    return [OwnLink(fd)]


def mounted() -> str:
    """Folder where cgroup2 is mounted, for this process alone where it was not; raises OSError where it cannot be."""
    found = cgroups.mount_point()
    if found:
        return found
    problem = tracefs.mount("cgroup2")
    if problem:
        raise OSError(errnos.ENOENT, problem)
    return tracefs.MOUNTS["cgroup2"]


def _find(what: str, target: str, about: dict[str, Any]) -> str:
    try:
        root = mounted()
    except OSError as error:
        raise Fault("attach", what, str(error.strerror), _MOUNT, **about) from None
    path, shown = os.path.normpath(target), _ELSEWHERE.sub("", root)  # as who wrote the target sees it
    if f"{path}/".startswith(f"{shown}/"):
        relative = path[len(shown) :]
    elif os.path.exists(path) and path != "/" and os.path.isabs(path):
        why = f"{path} is no cgroup of version 2; those are below {shown}"
        raise Fault("attach", what, why, "`cat /proc/PID/cgroup` tells a process's, behind 0::.", **about)
    else:  # as /proc/PID/cgroup writes it
        relative = path
    relative = os.path.normpath(relative.strip("/") or ".")
    found = os.path.normpath(f"{root}/{relative}")
    if relative.startswith("..") or not os.path.isdir(found):
        raise Fault("attach", what, f"no such cgroup below {shown}", near=_near(root, relative), **about)
    return found


def _near(root: str, relative: str) -> list[str]:
    """Cgroups beside the one that is not there: in the deepest folder of its path that is."""
    above, _, name = relative.rpartition("/")
    while above and not os.path.isdir(f"{root}/{above}"):
        above, _, name = above.rpartition("/")
    with os.scandir(f"{root}/{above}") as entries:
        names = [entry.name for entry in entries if entry.is_dir()]
    return [f"{above}/{found}".lstrip("/") for found in near.close(name, names)]
