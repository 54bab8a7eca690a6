"""What works here, what does not, and the command that mends it."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd

    from ebpf_magic.hosts.base import AgentHost


def doctor(on: str = "auto") -> pd.DataFrame:
    """Examine this machine: the notebook's side, each host, and each program type tried for real.

    Parameters
    ----------
    on : str
        The host whose kernel is examined.

    Returns
    -------
    pandas.DataFrame
        Index ``check``; columns ``ok`` (bool), ``found`` (what is there) and ``mend`` (what to do where it is not).
    """
    import pandas as pd

    rows = [*_notebook_side(), *_virtual_machines(), *_hosts(on)]
    frame = pd.DataFrame(rows, columns=["check", "ok", "found", "mend"]).set_index("check")
    frame["ok"] = frame["ok"].astype(bool)
    return frame


def _notebook_side() -> list[tuple[str, bool, str, str]]:
    import importlib.metadata
    import platform

    from ebpf_magic import build
    from ebpf_magic.errors import ToolchainError

    rows = [("python", True, platform.python_version(), "")]
    for package in ("ipykernel", "ipywidgets", "anywidget", "pandas", "numpy", "matplotlib"):
        try:
            rows.append((package, True, importlib.metadata.version(package), ""))
        except importlib.metadata.PackageNotFoundError:
            rows.append((package, False, "missing", f"pip install {package}"))
    try:
        found = build.find_toolchain()
        rows.append(("compiler", True, f"{found.kind} {found.version} ({found.path})", ""))
    except ToolchainError as error:
        rows.append(("compiler", False, error.why, error.hint))
    return rows


def _virtual_machines() -> list[tuple[str, bool, str, str]]:
    """Tell what there is to boot a kernel without root; nothing is booted for it."""
    from ebpf_magic import kernels
    from ebpf_magic.errors import HostError
    from ebpf_magic.hosts.guest import qemu

    rows: list[tuple[str, bool, str, str]] = []
    try:
        rows.append(("qemu", True, _version_of(qemu.find()), ""))
        rows.append(("acceleration", True, qemu.acceleration(), ""))
    except HostError as error:
        rows.append(("qemu", False, error.why, error.hint))
    found = kernels.listed()
    names = ", ".join(f"{kernel.release} ({kernel.source})" for kernel in found)
    rows.append(("kernels", bool(found), names or "none fetched yet", "ebpf-magic kernel fetch 6.1 (needs no root)"))
    try:
        rows.append(("busybox", True, f"static ({kernels.busybox()})", ""))
    except HostError as error:
        rows.append(("busybox", False, error.why, error.hint))
    return rows


def _version_of(path: str) -> str:
    import re
    import subprocess

    try:
        said = subprocess.run([path, "--version"], capture_output=True, text=True, timeout=10, check=False).stdout
    except (OSError, subprocess.TimeoutExpired):
        said = ""
    version = re.search(r"version (\S+)", said)
    return f"{version[1] if version else 'of unknown version'} ({path})"


def _hosts(on: str) -> list[tuple[str, bool, str, str]]:
    from ebpf_magic.errors import EbpfMagicError, NoHostError
    from ebpf_magic.hosts import registry
    from ebpf_magic.hosts.local import local

    rows: list[tuple[str, bool, str, str]] = []
    for name in registry.names():
        try:
            host = registry.start(name)
        except EbpfMagicError as error:
            rows.append((f"host {name}", False, f"{error.what}: {error.why}", error.hint))
        else:
            rows.append((f"host {name}", True, f"kernel {host.info.release}, {host.info.machine}", ""))
            host.close()
    try:
        return [*rows, *_features(registry.get(on))]
    except NoHostError:
        rows.append(("a host that can load programs", False, "none here", "one of the hosts above"))
    try:
        # It cannot load programs, but it can still tell what is missing.
        host = local(needs_load=False)
    except EbpfMagicError as error:
        return [*rows, ("agent", False, error.why, error.hint)]
    try:
        return [*rows, *_features(host)]
    finally:
        host.close()


def _features(host: AgentHost) -> list[tuple[str, bool, str, str]]:
    return [
        (f"{host.name}: {check['name']}", bool(check["ok"]), str(check["detail"]), str(check["hint"]))
        for check in host.features()
    ]
