"""One page that needs nothing else: its styles, scripts and data lie within it, and it asks the network for nothing."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from matplotlib.colors import to_hex, to_rgb

from ..figures.palette import type_colours
from .markup import escape

_HERE: Final = Path(__file__).parent
_SCRIPTS: Final = (
    "page.js",
    "map_data.js",
    "map_locus.js",
    "map_search.js",
    "map_table.js",
    "map_browser.js",
)


@dataclass(frozen=True)
class Part:
    """One folder's part of the page: anchor, heading, where it lay, and content as HTML."""

    anchor: str
    heading: str
    place: str
    content: str


def page(title: str, subtitle: str, parts: Sequence[Part], *, n_colours: int = 0) -> str:
    """Return the whole page.

    Parameters
    ----------
    title, subtitle
        Of the page, as text.
    parts
        One a folder.
    n_colours
        Cell types that are drawn in colours of their own.
    """
    script = f'(() => {{\n"use strict";\n{"".join(_file(name) for name in _SCRIPTS)}}})();'
    links = "".join(f'<li><a href="#{escape(part.anchor)}">{escape(part.heading)}</a></li>' for part in parts)
    contents = f'<nav aria-label="parts"><ol>{links}</ol></nav>' if len(parts) > 1 else ""
    return (
        f'<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">{_policy(script)}'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta name="color-scheme" content="light dark"><meta name="referrer" content="no-referrer">'
        f'<title>{escape(title)}</title><link rel="icon" href="data:,">'
        f"<style>{_file('page.css')}{_file('map.css')}{colours(n_colours)}</style></head>"
        f'<body><svg id="svg-space" width="0" height="0" aria-hidden="true"></svg>'
        f"<header><h1>{escape(title)}</h1><p>{escape(subtitle)}</p>{contents}</header>"
        f"<main>{''.join(map(_section, parts))}</main><script>{script}</script></body></html>\n"
    )


def _policy(script: str) -> str:
    """Forbid everything but the page's own script, styles and pictures: no other script runs, nothing is asked for."""
    own = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    rules = f"default-src 'none'; script-src 'sha256-{own}'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'"
    return f'<meta http-equiv="Content-Security-Policy" content="{rules}">'


def _section(part: Part) -> str:
    return (
        f'<section class="part" id="{escape(part.anchor)}"><h2>{escape(part.heading)}</h2>'
        f'<p class="place">{escape(part.place)}</p>{part.content}</section>'
    )


def _file(name: str) -> str:
    return (_HERE / name).read_text(encoding="utf-8")


def colours(n: int) -> str:
    """Return a colour for each of n cell types, that of the figures on white paper and a lighter one on dark."""
    light = list(type_colours([str(i) for i in range(n)]).values())
    dark = [_lighter(colour) for colour in light]
    told = [";".join(f"--type-{i}:{colour}" for i, colour in enumerate(some)) for some in (light, dark)]
    return f":root{{{told[0]}}}@media screen and (prefers-color-scheme:dark){{:root{{{told[1]}}}}}"


def _lighter(colour: str) -> str:
    red, green, blue = (0.65 * part + 0.35 for part in to_rgb(colour))
    return to_hex((red, green, blue))
