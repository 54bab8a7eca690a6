"""Shell commands where the newest session runs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from ebpf_magic import register
from ebpf_magic.arguments import checked
from ebpf_magic.errors import UsageError
from ebpf_magic.hosts import registry
from ebpf_magic.hosts import shell as commands
from ebpf_magic.hosts.base import AgentHost

if TYPE_CHECKING:
    from ebpf_magic.hosts.shell import Command

# Here a command is a child of this process, with its rights: no agent is needed.
_HERE = ("local", "sudo")


@checked
def sh(
    command: str,
    on: str | AgentHost | Sequence[str | AgentHost] | None = None,
    *,
    background: bool = False,
    timeout_s: float | None = None,
    on_output: Callable[[str], object] | None = None,
    progress: Callable[[str], None] | None = None,
) -> Command | list[Command]:
    """Run a shell command where a session runs: in a VM as its root, elsewhere as this process's user.

    What it writes is printed as it comes, the first 256 KiB and the last 64 KiB of it. Ctrl-C interrupts the command
    and its children. A command that has ended takes with it what it left running in its process group.

    Parameters
    ----------
    command : str
        For ``/bin/sh -c``; it runs in the notebook's folder (in a VM, where that is shared; else in ``/root``). An
        ``&`` at its end puts it in the background.
    on : str or host, or a sequence of them, optional
        A host, such as ``vm:6.1``; several run it one after the other. Without it, the host or hosts of the newest
        session; without a session, this machine.
    background : bool
        Return at once; the command goes on until it ends, is killed, or its VM or this process ends.
    timeout_s : float, optional
        End a command that takes longer; not for one in the background.
    on_output : callable, optional
        Called with pieces of text instead of printing them; in the background, on another thread.
    progress : callable, optional
        Told in a few words what is waited for while a host starts.

    Returns
    -------
    Command or list of Command
        With ``poll()``, ``wait()``, ``output()``, ``interrupt()`` and ``kill()``; a list for several hosts.

    Raises
    ------
    CommandError
        The exit status is not 0 (``.status``, ``.log``), it took too long, or it could not be started.
    """
    hosts = _hosts(on, progress)
    done = []
    for host in hosts:
        if len(hosts) > 1 and not background:
            (on_output or commands.show)(f"{host.name if host else 'local'}:\n")
        run = host.sh if host else commands.run  # a guest waits until it has its disk and its network
        done.append(run(command, background=background, timeout_s=timeout_s, on_output=on_output))
    return done[0] if len(done) == 1 else done


def _hosts(
    on: str | AgentHost | Sequence[str | AgentHost] | None, progress: Callable[[str], None] | None
) -> list[AgentHost | None]:
    if on is None:
        newest = register.sessions()[-1:]
        return [member.agent_host for session in newest for member in session.members] or [None]
    found: list[AgentHost | None] = []
    wanted = [on] if isinstance(on, (str, AgentHost)) else list(on)
    if not wanted:
        raise UsageError(f"run on {on!r}", "name one host or several", 'Such as on=["vm:6.1", "vm:6.12"].')
    for each in wanted:
        if isinstance(each, AgentHost):
            found.append(each)
        else:
            found.append(None if each in _HERE else registry.get(each, progress))
    return found
