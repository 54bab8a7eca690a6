"""A kernel package's modules: which are worth keeping, how one is read, and the index that modprobe goes by."""

from __future__ import annotations

import ctypes
import gzip
import lzma
import re
from pathlib import Path

from ebpf_magic.data.elf import BtfError, Elf

_SUFFIX = re.compile(r"\.ko(\.(gz|xz|zst))?$")
# Of the drivers, those for what a virtual machine has, and those without hardware; all that is no driver is kept,
# but sound.
_DRIVERS = re.compile(
    r"(block|virtio|vhost|md|dax|nvdimm|char/virtio_console|char/hw_random/(virtio-rng|rng-core)|firmware/qemu_fw_cfg"
    r"|scsi/(scsi_mod|scsi_common|sd_mod|sg|virtio_scsi|scsi_debug)|cdrom/cdrom|misc/pvpanic|input/evdev"
    r"|net/(dummy|ifb|veth|tun|tap|vrf|nlmon|vsockmon|macsec|macvlan|macvtap|vxlan|geneve|gtp|bareudp|netconsole"
    r"|net_failover|virtio_net|ipvlan|bonding|team|wireguard|netdevsim|amt|netkit))(/|\.ko)"
)


def is_kept(path: str) -> bool:
    """Whether a module, by its path below `kernel/`, is of use in a virtual machine."""
    kind, _, rest = path.partition("/")
    return kind != "sound" and (kind != "drivers" or _DRIVERS.match(rest) is not None)


def name_of(path: Path) -> str:
    """Return a module's name as the kernel says it: dashes are underscores."""
    return _SUFFIX.sub("", path.name).replace("-", "_")


def read_module(path: Path) -> bytes:
    """Read a module, unpacked if it is packed.

    Raises
    ------
    ValueError
        When what it is packed with cannot be read here, or it is damaged.
    """
    raw = path.read_bytes()
    try:
        match path.suffix:
            case ".xz":
                return lzma.decompress(raw)
            case ".gz":
                return gzip.decompress(raw)
            case ".zst":
                return unpack_zstd(raw)
    except (lzma.LZMAError, EOFError, gzip.BadGzipFile) as error:
        raise ValueError(f"{path} is damaged: {error}") from None
    return raw


def write_index(folder: Path) -> None:
    """Write modules.dep and modules.alias, as depmod does: the packages leave that to their installation.

    A module that needs one that was not kept is removed. What Python alone cannot unpack (zstd) is unpacked on disk.
    """
    paths: dict[str, Path] = {}
    needs: dict[str, list[str]] = {}
    aliases: dict[str, list[str]] = {}
    for path in sorted(folder.rglob("*.ko*")):
        if path.suffix == ".zst":
            path = _unpack_on_disk(path)
        about = _modinfo(read_module(path))
        name = name_of(path)
        paths[name] = path
        needs[name] = [each.replace("-", "_") for each in ",".join(about.get("depends", [])).split(",") if each]
        aliases[name] = about.get("alias", [])
    while lacking := [name for name, wanted in needs.items() if any(each not in needs for each in wanted)]:
        for name in lacking:
            paths.pop(name).unlink()
            del needs[name]
    lines = []
    for name, path in paths.items():
        wanted = [str(paths[each].relative_to(folder)) for each in _loaded_before(name, needs)]
        lines.append(" ".join([f"{path.relative_to(folder)}:", *wanted]))
    _write(folder / "modules.dep", lines)
    _write(folder / "modules.alias", [f"alias {alias} {name}" for name in paths for alias in aliases[name]])


def _write(path: Path, lines: list[str]) -> None:
    path.write_text("".join(f"{line}\n" for line in lines), "utf-8")


def _loaded_before(name: str, needs: dict[str, list[str]]) -> list[str]:
    """Return all that a module needs; to be loaded from the last to the first, as modules.dep has it."""
    order: list[str] = []

    def visit(module: str, above: tuple[str, ...]) -> None:
        for each in needs[module]:
            if each not in order and each not in above:
                visit(each, (*above, module))
                order.append(each)

    visit(name, ())
    return order[::-1]


def _modinfo(raw: bytes) -> dict[str, list[str]]:
    """Return what a module says of itself: each key's values."""
    try:
        section = Elf(raw).data(".modinfo") or b""
    except BtfError:
        return {}
    found: dict[str, list[str]] = {}
    for entry in section.split(b"\0"):
        key, _, value = entry.decode("utf-8", "replace").partition("=")
        found.setdefault(key, []).append(value)
    return found


def _unpack_on_disk(path: Path) -> Path:
    plain = path.with_suffix("")
    plain.write_bytes(read_module(path))
    path.unlink()
    return plain


def unpack_zstd(raw: bytes, size: int | None = None) -> bytes:
    """Unpack zstd with the library that apt and dpkg bring; Python has one of its own from 3.14 on.

    `size` is that of the unpacked, where the frame does not tell it.
    """
    try:
        library = ctypes.CDLL("libzstd.so.1")
    except OSError as error:
        raise ValueError(f"zstd's library is missing ({error}); `apt install libzstd1`") from None
    library.ZSTD_getFrameContentSize.restype = ctypes.c_uint64
    library.ZSTD_getFrameContentSize.argtypes = [ctypes.c_char_p, ctypes.c_size_t]
    library.ZSTD_decompress.restype = ctypes.c_size_t
    library.ZSTD_decompress.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_char_p, ctypes.c_size_t]
    library.ZSTD_isError.argtypes = [ctypes.c_size_t]
    size = library.ZSTD_getFrameContentSize(raw, len(raw)) if size is None else size
    if size > 1 << 30:  # the two largest numbers say "unknown" and "no zstd at all"
        raise ValueError("a module's zstd frame does not tell its size")
    room = ctypes.create_string_buffer(max(1, size))
    done = library.ZSTD_decompress(room, size, raw, len(raw))
    if library.ZSTD_isError(done):
        raise ValueError("a module's zstd frame is damaged")
    return room.raw[:done]
