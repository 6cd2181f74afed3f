"""The interactive browser of a map: its controls as HTML, its data as JSON; the script does the rest."""

from __future__ import annotations

from typing import Any, Final

from .markup import data_block, escape

WINDOWS: Final = (
    ("10 kb", 10_000),
    ("50 kb", 50_000),
    ("100 kb", 100_000),
    ("250 kb", 250_000),
    ("all links", 0),
)
_COLUMNS: Final = (
    ("peak", "peak", ""),
    ("type", "cell type", ""),
    ("distance", "distance (bp)", "of the peak's centre from the TSS; negative is upstream"),
    ("score", "score", "attention beyond an even share, times relative openness"),
    ("effect", "effect", "change of the gene's predicted ln expression by the link"),
    ("zscore", "z", "of the pair against matched peaks of other chromosomes; the same in every type"),
    ("qvalue", "q", "share of false discoveries among pairs at least as sure; the same in every type"),
    ("cells", "cells", "with the peak open and the gene expressed"),
    ("sharing", "types", "cell types that have the same link"),
)


def browser_part(number: int, content: dict[str, Any]) -> str:
    """Return the browser of the map that is the so-manieth of the page."""
    name = f"map{number}"
    return (
        f'<section class="browser" id="{name}" data-source="{name}-data" aria-label="map browser">'
        f"{_told(content)}<noscript><p>The browser needs JavaScript; the tables above do not.</p></noscript>"
        f'<div class="panes"><div class="side">{_search(name)}{_types(name)}{_gene_list(name)}</div>'
        f'<div class="main">{_toolbar(name)}{_locus(name)}{_links(name)}</div></div>'
        f'<div class="tip" role="status" hidden></div></section>{data_block(name + "-data", content)}'
    )


def _told(content: dict[str, Any]) -> str:
    shown, total = content["shown"], content["total"]
    if shown == total:
        what = f"All {total:,} links of the map are in this page."
    else:
        what = f"{shown:,} of the map's {total:,} links are in this page: the strongest of each gene and cell type."
    if content["openness"] is None:
        what += " How open peaks are in each type is not."
    return f'<p class="told" data-role="shown">{escape(what)}</p>'


def _search(name: str) -> str:
    return (
        f'<div class="search"><label for="{name}-gene">Gene</label>'
        f'<input id="{name}-gene" type="text" role="combobox" autocomplete="off" spellcheck="false"'
        f' aria-expanded="false" aria-autocomplete="list" aria-controls="{name}-options"'
        f' aria-describedby="{name}-message" placeholder="name of a gene" data-role="gene">'
        f'<ul id="{name}-options" role="listbox" aria-label="genes" data-role="options" hidden></ul>'
        f'<p id="{name}-message" class="message" role="status" aria-live="polite" data-role="message"></p></div>'
    )


def _types(name: str) -> str:
    return (
        '<fieldset class="choice"><legend>Cell types</legend>'
        '<div class="buttons"><button type="button" data-role="all">all</button>'
        '<button type="button" data-role="none">none</button>'
        '<button type="button" data-role="linked" title="types in which the gene has links">linked</button></div>'
        '<div class="boxes" data-role="types"></div></fieldset>'
    )


def _gene_list(name: str) -> str:
    return (
        f'<div class="list"><label for="{name}-order">Genes by</label>'
        f'<select id="{name}-order" data-role="order"><option value="best">strongest link</option>'
        '<option value="different">difference between types</option><option value="links">number of links</option>'
        '<option value="name">name</option></select>'
        '<ol data-role="genes"></ol><button type="button" data-role="more">more</button></div>'
    )


def _toolbar(name: str) -> str:
    options = "".join(f'<option value="{bp}">{words}</option>' for words, bp in WINDOWS)
    return (
        '<div class="toolbar" role="group" aria-label="view and filters">'
        f'<label>window ± <select data-role="window">{options}<option value="-1" hidden>own</option></select></label>'
        '<span class="buttons"><button type="button" data-role="in" aria-label="zoom in">+</button>'
        '<button type="button" data-role="out" aria-label="zoom out">−</button>'
        '<button type="button" data-role="left" aria-label="move left">◀</button>'
        '<button type="button" data-role="right" aria-label="move right">▶</button></span>'
        f'<label>score ≥ <input type="number" min="0" step="any" data-role="min-score" value=""></label>'
        f'<label data-role="q-label">q ≤ <input type="number" min="0" max="1" step="any" data-role="max-q" value=""></label>'
        '<label title="in which the peak is open and the gene expressed">cells ≥ <input type="number" min="0" step="1"'
        ' data-role="min-cells" value=""></label>'
        '<button type="button" data-role="reset">reset</button></div>'
    )


def _locus(name: str) -> str:
    return (
        '<div class="head"><h4 data-role="title">Choose a gene</h4><p data-role="facts"></p></div>'
        '<div class="locus" data-role="locus" tabindex="0" aria-label="locus: + and − zoom, arrow keys move">'
        '<svg role="img" aria-label="links of the gene"></svg></div>'
        '<p class="told">Arcs: links, wider and darker the higher the score. Bars below a line: share of the type\'s cells'
        " in which a peak is open. Numbers under peaks: cell types that share the link.</p>"
        '<p class="told" data-role="beyond" aria-live="polite"></p>'
    )


def _links(name: str) -> str:
    heads = "".join(
        f'<th scope="col" data-key="{key}" aria-sort="none"><button type="button" title="{escape(words)}">'
        f"{escape(title)}</button></th>"
        for key, title, words in _COLUMNS
    )
    return (
        '<div class="saves"><span data-role="count" aria-live="polite"></span>'
        '<button type="button" data-role="save-shown">save these links (CSV)</button>'
        '<button type="button" data-role="save-gene">save all links of the gene (CSV)</button></div>'
        '<div class="scroll" tabindex="0" role="region" aria-label="links shown"><table class="links" data-role="table">'
        f"<thead><tr>{heads}</tr></thead><tbody></tbody></table></div>"
        '<button type="button" data-role="rows" hidden></button>'
    )
