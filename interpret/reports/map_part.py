"""The part of a report on a map of peak-gene links: what it is, what supports it, and its browser."""

from __future__ import annotations

from typing import Final

from ..maps import RegulatoryMap
from .browser_part import browser_part
from .evidence_part import evidence_part
from .map_data import map_data
from .markup import facts, folded, notes
from .sources import Source

_READING: Final = (
    "score: attention beyond an even share among the gene's peaks, times how open the peak is in the type, relative to"
    " the type where it is most open.",
    "effect: by how much the link changes the gene's predicted ln expression, from the mean training cell to the mean"
    " cell of the type.",
    "cells: those of the type in which the peak is open and the gene expressed. A link with 0 cells was seen in none: it is"
    " what the model makes of the pair. Distances are from the TSS to the peak's centre;"
    " negative is upstream.",
    "On the locus: Ctrl or Shift and the wheel zoom, dragging moves; + − and arrow keys do so, too.",
)


def map_part(source: Source, number: int, max_links: int) -> tuple[str, RegulatoryMap, int]:
    """Return the part of a page on one map, the map, and how many of its links the page has."""
    regulatory = RegulatoryMap.read(source.folder)
    content = map_data(regulatory, max_links=max_links)
    arguments, model = source.config.get("arguments", {}), source.config.get("model", {})
    told = {
        "model": model.get("kind"),
        "mode": model.get("mode"),
        "genome": model.get("genome"),
        "run": arguments.get("run"),
        "data set": arguments.get("dataset"),
        "data set fingerprint": source.config.get("dataset_fingerprint"),
        "cells": source.config.get("cells"),
        "cells mapped": int(regulatory.cells.sum()),
        "cell types": len(regulatory.cells),
        "links": len(regulatory.links),
        "genes with links": regulatory.links["gene"].nunique(),
        "peaks with links": regulatory.links["peak"].nunique(),
        "links seen in cells": int((regulatory.links["n_cells"] > 0).sum()),
    }
    parts = [
        facts(told),
        folded("Arguments of the map", facts(arguments)),
        folded("Versions", facts(source.config.get("versions", {}))),
        evidence_part(source),
        "<h3>Map browser</h3>",
        folded("How to read it", notes([*_READING, *_of_nulls(regulatory)])),
        browser_part(number, content),
    ]
    return "".join(parts), regulatory, content["shown"]


def _of_nulls(regulatory: RegulatoryMap) -> list[str]:
    """Say what z, p and q are, where the map has them."""
    if regulatory.links["zscore"].isna().all():
        return []
    gc = "gc" in regulatory.peaks and regulatory.peaks["gc"].notna().any()
    alike = "accessibility and GC content" if gc else "accessibility (there is no DNA, so not in GC content)"
    return [
        f"z, p and q: the pair against peaks of other chromosomes that are alike in {alike}. They are of the gene and"
        " the peak, the same in every cell type: a small q does not say that the link is one of this type."
    ]
