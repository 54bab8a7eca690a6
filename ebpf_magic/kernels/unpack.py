"""What is wanted of a Debian package, unpacked: the files alone, by the names that are expected."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path

from ebpf_magic.errors import FetchError
from ebpf_magic.kernels import modules
from ebpf_magic.kernels.packages import end

_KERNEL = re.compile(r"(?:usr/)?(boot/(?:vmlinuz|config)-[^/]+|lib/modules/[^/]+/(?:modules\.[a-z.]+|kernel/(.+)))")


def kernel_file(name: str) -> str | None:
    """Return where a file of a kernel's packages goes, None when it is not kept."""
    found = _KERNEL.fullmatch(name)
    if not found or ".." in name.split("/") or (found[2] and not modules.is_kept(found[2])):
        return None
    return found[1]


def unpack(
    package: Path, folder: Path, place: Callable[[str], str | None], report: Callable[[float], None] = lambda _: None
) -> list[Path]:
    """Unpack files of a package.

    Parameters
    ----------
    package : Path
        The .deb.
    folder : Path
        Where files go, each to the path that `place` gives for its name in the package; None leaves it out.
    report : callable
        Told which part of the package was seen (0 to 1).

    Returns
    -------
    list of Path
        What was written; only regular files are.
    """
    what = f"unpack {package.name}"
    total = max(1, _unpacked_size(package))
    written = []
    try:
        with subprocess.Popen(
            ["dpkg-deb", "--fsys-tarfile", str(package)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        ) as process:
            try:
                with tarfile.open(fileobj=process.stdout, mode="r|", errorlevel=2) as archive:
                    for member in archive:
                        target = place(member.name.removeprefix("./")) if member.isreg() else None
                        if target is not None:
                            written.append(_write(archive, member, folder / target))
                            report(min(member.offset / total, 1.0))
                assert process.stdout
                while process.stdout.read(1 << 16):  # the padding at the end
                    pass
                status = process.wait()
            finally:
                end(process)
    except tarfile.TarError as error:
        raise FetchError(what, f"it is damaged ({error})", "Fetch it again.") from None
    if status:
        raise FetchError(what, f"dpkg-deb ended with {status}", "Fetch it again.")
    report(1.0)
    return written


def _write(archive: tarfile.TarFile, member: tarfile.TarInfo, path: Path) -> Path:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    content = archive.extractfile(member)
    assert content
    with content, open(path, "xb") as file:
        shutil.copyfileobj(content, file, 1 << 20)
    if member.mode & 0o100:
        os.chmod(path, 0o700)
    return path


def _unpacked_size(package: Path) -> int:
    done = subprocess.run(["dpkg-deb", "-f", str(package), "Installed-Size"], capture_output=True, text=True)
    return int(done.stdout) * 1024 if done.stdout.strip().isdigit() else 0
