"""What a verb answers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from . import wire


class Reply(NamedTuple):
    """What a verb answers: fields, payload, and descriptors of maps."""

    fields: dict[str, Any]
    payload: Sequence[wire.Buffer] = ()
    fds: Sequence[int] = ()
