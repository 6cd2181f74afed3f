"""How messages name examples."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice


def few(names: Iterable[object]) -> str:
    """Join the first three names for a message."""
    listed = [str(name) for name in islice(names, 4)]
    return ", ".join(listed[:3]) + (" …" if len(listed) > 3 else "")
