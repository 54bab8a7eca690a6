"""Which of a kernel's modules the guest loads, and in which order."""

from __future__ import annotations

from pathlib import Path

from ebpf_magic.errors import NoHostError
from ebpf_magic.kernels import Kernel

# What the guest's files and the agent's line come over, then what may follow once the agent starts. A name that is
# neither a module nor built in is left out: kernels are cut differently (virtio_pci_modern_dev came with v5.13).
FIRST = ("virtio_pci", "virtio_mmio", "virtio_console", "9pnet_virtio", "9p")
SECOND = ("virtio_blk", "crc32c_generic", "ext4", "veth", "sch_ingress", "cls_bpf")
IMAGE = ("virtio_blk", "crc32c_generic", "ext4", "overlay")
_SIGNED = b"~Module signature appended~\n"
_MUST = {
    "9p": ("no 9p file system", "CONFIG_9P_FS"),
    "9pnet_virtio": ("no 9p over virtio", "CONFIG_NET_9P_VIRTIO"),
    "virtio_console": ("no virtio-serial ports", "CONFIG_VIRTIO_CONSOLE"),
}


class Modules:
    """The modules of one kernel, by name, from its modules.dep and modules.builtin.

    Parameters
    ----------
    kernel : Kernel
        The kernel.
    """

    def __init__(self, kernel: Kernel) -> None:
        self._kernel = kernel
        self._needs: dict[str, list[str]] = {}
        self._paths: dict[str, str] = {}
        for line in _lines(kernel.modules / "modules.dep"):
            path, _, needs = line.partition(":")
            name = name_of(path)
            self._paths[name] = path
            self._needs[name] = needs.split()
        self._builtin = {name_of(line) for line in _lines(kernel.modules / "modules.builtin")}

    def order(self, wanted: tuple[str, ...]) -> list[Path]:
        """Return the files to load, first to last, for the wanted modules and all they need."""
        paths: dict[str, None] = {}
        for name in wanted:
            if name in self._paths:
                # modules.dep names them from the last to be loaded to the first.
                paths.update(dict.fromkeys([*reversed(self._needs[name]), self._paths[name]]))
        return [self._kernel.modules / path for path in paths]

    def check(self) -> None:
        """Refuse a kernel that cannot be our guest.

        Raises
        ------
        NoHostError
            The kernel has no 9p, or no virtio-serial port.
        """
        if not self._paths and not self._builtin:
            return  # an empty modules.dep: all is built in, says who made that kernel
        for name, (problem, option) in _MUST.items():
            if name not in self._paths and name not in self._builtin:
                raise NoHostError(
                    f"boot kernel {self._kernel.release}",
                    f"it has {problem}: {name} is neither among its modules nor built in",
                    f"Take another (`ebpf-magic kernel list`), or build it with {option}.",
                )


def unsigned(module: bytes) -> bytes:
    """Return a module without its signature, which takes an emulated guest a third of a second to check.

    A kernel that insists on signatures (CONFIG_MODULE_SIG_FORCE) refuses it; those of distributions do not, unless they
    were started by Secure Boot.
    """
    # struct module_signature of include/linux/module_signature.h: its last field is the signature's length, big-endian.
    if not module.endswith(_SIGNED):
        return module
    end = len(module) - len(_SIGNED)
    length = int.from_bytes(module[end - 4 : end], "big")
    return module[: max(end - 12 - length, 0)]


def name_of(path: str) -> str:
    """Return a module's name as the kernel says it, of its path."""
    return path.strip().rpartition("/")[2].partition(".ko")[0].replace("-", "_")


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text("utf-8").splitlines()
    except FileNotFoundError:  # modules.builtin came with v2.6.33; a kernel of one's own may have neither
        return []
    except OSError as error:
        raise NoHostError("boot a kernel", f"{path} cannot be read: {error.strerror}") from None
