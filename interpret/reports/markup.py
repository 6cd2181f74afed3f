"""Small pieces of HTML in which everything that comes from files is escaped."""

from __future__ import annotations

import base64
import html
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ...graphs.errors import InputError

_PNG = b"\x89PNG\r\n\x1a\n"


def escape(value: Any) -> str:
    """Return text that is safe between tags and inside quoted attributes."""
    return html.escape(str(value), quote=True)


def data_block(name: str, content: Any) -> str:
    """Return JSON that a script reads by its id; numbers that are not finite become null."""
    text = json.dumps(finite(content), ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    for mark in "<>&\u2028\u2029":  # so that nothing in it can end the element
        text = text.replace(mark, f"\\u{ord(mark):04x}")
    return f'<script type="application/json" id="{escape(name)}">{text}</script>'


def finite(content: Any) -> Any:
    """Return JSON content with null for numbers that are not finite."""
    if isinstance(content, float):
        return content if math.isfinite(content) else None
    if isinstance(content, Mapping):
        return {str(key): finite(value) for key, value in content.items()}
    if isinstance(content, list | tuple):
        return [finite(value) for value in content]
    return content


def number(value: Any, digits: int = 3) -> str:
    """Return a figure as people read it: whole numbers with commas, others rounded, a dash for what is unknown."""
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return "–"
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value)
    if isinstance(value, int):
        return f"{value:,}"
    if value and abs(value) < 10**-digits:
        return f"{value:.1e}"
    return f"{value:,.{digits}f}"


def table(
    columns: Sequence[str],
    rows: Iterable[Sequence[str]],
    *,
    caption: str = "",
    name: str = "",
    heads: bool = True,
) -> str:
    """Return a table of cells that are HTML already.

    Parameters
    ----------
    columns
        Headings, as HTML.
    rows
        Cells of each row, as HTML.
    caption
        Sentence above the table, as HTML.
    name
        Class of the table.
    heads
        Whether the first cell of a row names it.
    """
    told = f"<caption>{caption}</caption>" if caption else ""
    head = "".join(f'<th scope="col">{column}</th>' for column in columns)
    body = "".join(f"<tr>{_cells(row, heads)}</tr>" for row in rows)
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="table"><table class="{escape(name)}">{told}'
        f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def _cells(row: Sequence[str], heads: bool) -> str:
    first = f'<th scope="row">{row[0]}</th>' if heads else f"<td>{row[0]}</td>"
    return first + "".join(f"<td>{cell}</td>" for cell in row[1:])


def facts(pairs: Mapping[str, Any]) -> str:
    """Return names and values side by side; what is None or empty is left out."""
    told = {name: value for name, value in pairs.items() if value not in (None, "", [], {})}
    return '<dl class="facts">' + "".join(_fact(name, value) for name, value in told.items()) + "</dl>"


def _fact(name: str, value: Any) -> str:
    if isinstance(value, list | tuple):
        value = ", ".join(map(str, value))
    shown = (
        value
        if isinstance(value, str)
        else number(value, 6).rstrip("0").rstrip(".")
        if isinstance(value, float)
        else number(value)
    )
    return f"<div><dt>{escape(name)}</dt><dd>{escape(shown)}</dd></div>"


def notes(lines: Sequence[str]) -> str:
    """Return what a reader has to know, as a list."""
    if not lines:
        return ""
    return '<ul class="notes">' + "".join(f"<li>{escape(line)}</li>" for line in lines) + "</ul>"


def folded(title: str, content: str, *, open_: bool = False) -> str:
    """Return content that a click shows."""
    return f"<details{' open' if open_ else ''}><summary>{escape(title)}</summary>{content}</details>"


def picture(path: Path, words: str, *, wide: bool = False) -> str:
    """Return a PNG file as part of the page; wide ones take all of its width.

    Raises
    ------
    InputError
        The file is no PNG, or cannot be read.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}. Make it again.") from error
    if not content.startswith(_PNG) or b"IEND" not in content[-16:]:
        raise InputError(f"{path} is no whole PNG picture. Make it again, or remove it.")
    told = base64.b64encode(content).decode()
    return (
        f'<figure class="picture{" wide" if wide else ""}"><img alt="{escape(words)}" src="data:image/png;base64,{told}">'
        f"<figcaption>{escape(words)}</figcaption></figure>"
    )
