"""The part of a report on a map of peak-gene links: what it is, what supports it, and its browser."""

from __future__ import annotations

from ..maps import RegulatoryMap
from .browser_part import browser_part
from .evidence_part import evidence_part
from .map_data import map_data
from .markup import facts, folded, notes
from .sources import Source

_READING = (
    "score: attention beyond an even share among the gene's peaks, times how open the peak is in the type, relative to"
    " the type where it is most open.",
    "effect: by how much the link changes the gene's predicted ln expression, from the mean training cell to the mean"
    " cell of the type.",
    "z, p and q: against peaks matched on accessibility, GC and distance, where the map has them.",
    "cells: those in which the peak is open and the gene expressed. Distances are from the TSS to the peak's centre;"
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
    }
    parts = [
        facts(told),
        folded("Arguments of the map", facts(arguments)),
        folded("Versions", facts(source.config.get("versions", {}))),
        evidence_part(source),
        "<h3>Map browser</h3>",
        folded("How to read it", notes(_READING)),
        browser_part(number, content),
    ]
    return "".join(parts), regulatory, content["shown"]
