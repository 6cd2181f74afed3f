"""One self-contained HTML file on trained models and their maps, which opens anywhere and asks the network for nothing."""

from __future__ import annotations

import os
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from ..graphs.errors import InputError
from ..graphs.whole import new_file, refuse_existing, versions
from .reports.map_data import MAX_LINKS
from .reports.map_part import map_part
from .reports.page import Part, page
from .reports.peaks_part import peaks_part
from .reports.run_part import run_part
from .reports.sources import Source, find_source
from .reports.study_part import study_part

_WORDS: Final = {"run": "run", "map": "regulatory map", "peaks": "map of peaks", "study": "study"}


def write_report(
    sources: Sequence[Path],
    out: Path,
    *,
    title: str | None = None,
    max_links: int = MAX_LINKS,
) -> dict[str, Any]:
    """Write a report on runs, maps and studies as one HTML file.

    A run has its arguments, curves, metrics beside baselines and confusion matrix; a map of peak-gene links has what
    supports it and a browser (search a gene, choose cell types, see arcs and links, save the table); an annotator's map
    has its strongest peaks. Only the folders given are read, not those that they name.

    Parameters
    ----------
    sources
        Folders of `scweave train`, `scweave map` and `scweave study`, in the order of the page.
    out
        HTML file to write; it must not exist.
    title
        Of the page; made of the folders' names when None.
    max_links
        Links of a map that the page has at most: the strongest of each gene and cell type. The page says how many.

    Returns
    -------
    ``out``, ``bytes``, and ``parts``: of each folder ``folder, kind`` and, of maps, ``links, links_in_page``.

    Raises
    ------
    InputError
        ``out`` exists or cannot be written, or a folder is none of these, or its files are damaged.

    Examples
    --------
    >>> write_report([Path("runs/crossrec"), Path("runs/maps")], Path("report.html"))  # doctest: +SKIP
    """
    out = Path(out)
    refuse_existing(out)
    _check_place(out)
    if not sources:
        raise InputError("there is nothing to report on. Pass the folder of a run, a map or a study.")
    if max_links < 1:
        raise InputError(f"--max-links {max_links}: choose 1 or more.")
    found = [find_source(Path(source)) for source in sources]
    parts, told, n_colours = [], [], 0
    for number, source in enumerate(found):
        content, about, types = _content(source, number, max_links)
        parts.append(
            Part(
                f"part-{number}",
                f"{_WORDS[source.kind].capitalize()} {source.name}",
                str(source.folder),
                content,
            )
        )
        told.append({"folder": str(source.folder), "kind": source.kind, **about})
        n_colours = max(n_colours, types)
    text = page(title or _title(found), _subtitle(found), parts, n_colours=n_colours)
    with new_file(out) as partial:
        partial.write_bytes(text.encode("utf-8", "replace"))
    return {"out": str(out), "bytes": out.stat().st_size, "parts": told}


def _content(source: Source, number: int, max_links: int) -> tuple[str, dict[str, Any], int]:
    """Return a folder's part of the page, what the summary says of it, and how many colours it needs."""
    if source.kind == "map":
        content, regulatory, shown = map_part(source, number, max_links)
        return content, {"links": len(regulatory.links), "links_in_page": shown}, len(regulatory.cells)
    draw = {"run": run_part, "peaks": peaks_part, "study": study_part}[source.kind]
    return draw(source), {}, 0


def _title(sources: Sequence[Source]) -> str:
    return "scweave report: " + ", ".join(dict.fromkeys(source.name for source in sources))


def _subtitle(sources: Sequence[Source]) -> str:
    """Say when the page was made, with what, and from which data and seed."""
    made = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
    told = [f"made {made} with scweave {versions()['scweave']}"]
    prints = dict.fromkeys(filter(None, map(_fingerprint, sources)))
    seeds = dict.fromkeys(
        str(source.config["seed"]) for source in sources if source.config.get("seed") is not None
    )
    for name, values in (("data set fingerprint", prints), ("seed", seeds)):
        if values:
            told.append(f"{name}{'s' if len(values) > 1 else ''} {', '.join(values)}")
    return " · ".join(told)


def _fingerprint(source: Source) -> str:
    told = source.config.get("dataset_fingerprint") or source.config.get("dataset")
    return str(told.get("fingerprint", "") if isinstance(told, dict) else told or "")


def _check_place(out: Path) -> None:
    """Refuse a file that cannot be written before anything is read."""
    if out.suffix.lower() not in (".html", ".htm"):
        raise InputError(f"{out}: a report is written as .html. Pass {out.with_suffix('.html')}.")
    if not out.parent.is_dir():
        raise InputError(f"cannot write {out}: {out.parent} is no folder. Create it or choose another --out.")
    if not os.access(out.parent, os.W_OK):
        raise InputError(f"cannot write {out}: you may not write to {out.parent}. Choose another --out.")
