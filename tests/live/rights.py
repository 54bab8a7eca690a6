"""The host under test, and what live tests need root for: done by this process where it may, else by `sudo -n`.

EBPF_MAGIC_TEST_HOST names another host, such as vm:6.1: then the tests marked `any_host` run, all of them on one guest.
"""

from __future__ import annotations

import functools
import os
import subprocess
from typing import Any

import pytest

from ebpf_magic.agent import kernel_list
from ebpf_magic.agent.fault import Fault
from ebpf_magic.errors import NoHostError
from ebpf_magic.hosts.base import AgentHost
from ebpf_magic.hosts.local import local, sudo

_SUDO = ["sudo", "-n", "--"]
_NAMED = os.environ.get("EBPF_MAGIC_TEST_HOST", "")
IN_VM = _NAMED.startswith("vm")


def host_name() -> str:
    """The host that live tests use: `local` if it can load a program here, else `sudo`; if neither can, skip."""
    if _NAMED:
        return _NAMED
    name, problems = _first_that_works()
    if not name:
        pytest.skip(f"no programs can be loaded here: {problems}")
    return name


def start(pass_fds: bool = True) -> AgentHost:
    """Start an agent on that host; the caller closes it, which a guest outlives."""
    if IN_VM:
        return guest()
    return {"local": local, "sudo": sudo}[host_name()](pass_fds)


def guest() -> AgentHost:
    """Give the guest that all tests share, booted when it is first asked for or the one before has died."""
    from ebpf_magic.hosts import registry

    return registry.get(_NAMED)


@functools.cache
def lacks() -> dict[str, str]:
    """Tell the features (of `agent/features.py`) that the host under test does not have, and why."""
    host = start()
    try:
        checks = host.features()
    finally:
        if not IN_VM:
            host.close()
    return {
        row["name"].removesuffix(" programs").removesuffix(" maps"): row["detail"] for row in checks if not row["ok"]
    }


def prefix() -> list[str]:
    """What makes a command run with the rights of that host's agent."""
    return _SUDO if host_name() == "sudo" else []


def output(*command: str) -> str:
    """Run a command with the agent's rights, for what /proc tells of an agent to its own user alone."""
    return subprocess.run([*prefix(), *command], stdout=subprocess.PIPE, text=True, check=True).stdout


def kill(pid: int, number: int) -> None:
    """Send an agent a signal: a plain user may not send one to a process of root's."""
    if host_name() == "sudo":
        output("kill", f"-{int(number)}", str(pid))
    else:
        os.kill(pid, number)


def list_kernel() -> dict[str, Any]:
    """Every program and map in the kernel and who holds it; none where no right to list them can be had."""
    if IN_VM:
        return guest().list_kernel()
    if _first_that_works()[0] == "sudo":
        return _witness().list_kernel()
    try:
        pages = list(kernel_list.pages())
    except Fault:  # without the right to list them there is no right to load them either
        return {"programs": [], "maps": []}
    return {what: [row for page in pages for row in getattr(page, what)] for what in ("programs", "maps")}


def end_witness() -> None:
    """End the agent that lists for a plain user, if one was started."""
    if _witness.cache_info().currsize:
        _witness().close()


@functools.cache
def _witness() -> AgentHost:
    """An agent that only lists, one for all tests: to start one twice a test takes longer than most tests do."""
    return sudo()


@functools.cache
def _first_that_works() -> tuple[str, str]:
    problems = []
    for make in (local, sudo):
        try:
            host = make()
        except NoHostError as error:
            problems.append(str(error))
        else:
            host.close()
            return host.name, ""
    return "", "; ".join(problems)
