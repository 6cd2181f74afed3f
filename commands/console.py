"""What every subcommand shares: options by one name, examples in the help, results for people or programs."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from typing import Annotated, Any

import typer

Json = Annotated[bool, typer.Option("--json", help="Print one machine-readable line.")]
Seed = Annotated[int, typer.Option(min=0, max=2**32 - 1, help="Decides every random choice.")]
Debug = Annotated[bool, typer.Option(help="Show the traceback of an error (may stand anywhere).")]
Quiet = Annotated[bool, typer.Option("--quiet", help="No progress bars.")]


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
