"""What every subcommand shares: examples in the help, results for people or programs."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from typing import Any


def example(*texts: str) -> str:
    """Return commands as the examples that end a help text."""
    return "\n\n".join(f"**Example:** `{text}`" for text in texts)


def tell(content: Any, as_json: bool, human: Callable[[], None]) -> None:
    """Print a result as one line of JSON, or as people read it."""
    if as_json:
        print(json.dumps(content, ensure_ascii=False))
    else:
        human()


def print_lines(lines: Iterable[str]) -> None:
    """Print lines."""
    for line in lines:
        print(line)
