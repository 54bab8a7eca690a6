"""A build's own folder."""

from __future__ import annotations

import shutil
import tempfile
from functools import cached_property
from pathlib import Path


class PrivateFolder:
    """A folder of one build's own, made when first asked for and removed at its end.

    A cell that the waiting compiler takes needs none; making and removing one costs as much as loading it.
    """

    @cached_property
    def path(self) -> Path:
        """Where it is."""
        return Path(tempfile.mkdtemp(prefix="ebpf_magic-")).resolve()

    def __enter__(self) -> PrivateFolder:
        return self

    def __exit__(self, *error: object) -> None:
        if "path" in vars(self):
            shutil.rmtree(self.path, ignore_errors=True)
