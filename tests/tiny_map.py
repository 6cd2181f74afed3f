"""A small regulatory map on disk, whose every link is known."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from scweave.graphs.whole import write_json
from scweave.interpret.links.table import SCHEMA

CELL_TYPES = ("Astro", "L2/3 IT", "Sst")
_WIDTH = 500
_SPACING = 8_000
_N_PEAKS = 25


@dataclass(frozen=True)
class TinyMap:
    """A map's folder, and the tables that lie in it."""

    folder: Path
    links: pd.DataFrame
    genes: pd.DataFrame
    peaks: pd.DataFrame
    openness: pd.DataFrame
    expression: pd.DataFrame

    def of(self, gene: str, *cell_types: str) -> pd.DataFrame:
        """The links of a gene in some types."""
        links = self.links
        return links[
            (links["gene"] == gene) & links["cell_type"].isin(cell_types or links["cell_type"].unique())
        ]


def write_tiny_map(
    folder: Path,
    *,
    cell_types: Sequence[str] = CELL_TYPES,
    gene: str = "Gad1",
    nulls: bool = True,
    exons: bool = True,
    sites: bool = True,
) -> TinyMap:
    """Write a map of four genes, 27 peaks and the given cell types into a new folder.

    ``gene`` (+ strand, TSS at chr1:100,000) and ``Gad2`` (− strand, TSS at chr1:160,000) have links, ``gene`` in each
    type also one from chr2; ``Sox2`` has none, and ``Lost`` has no place. The last type has links of ``gene`` only.

    Parameters
    ----------
    folder
        Folder to make.
    cell_types
        Names of the types; type i has 100 - 10 i cells.
    gene
        Name of the first gene.
    nulls
        Whether links have z, p and q; the first link of each gene and type has none of them.
    exons, sites
        Whether the map has these tables.
    """
    folder.mkdir(parents=True)
    genes, peaks = _genes(gene), _peaks()
    links = _links(genes, peaks, cell_types, nulls)
    rng = np.random.default_rng(0)
    openness = _values(rng.uniform(0, 0.4, (len(peaks), len(cell_types))), cell_types)
    expression = _values(rng.uniform(0, 3, (len(genes), len(cell_types))), cell_types)
    pq.write_table(pa.Table.from_pandas(links, schema=SCHEMA, preserve_index=False), folder / "links.parquet")
    cells = [100 - 10 * i for i in range(len(cell_types))]
    pd.DataFrame({"cell_type": list(cell_types), "cells": cells}).to_parquet(folder / "types.parquet")
    tables = {"genes": genes, "peaks": peaks, "openness": openness, "expression": expression}
    if exons:
        tables["exons"] = pd.DataFrame(
            {
                "gene": [gene, gene, "Gad2"],
                "chrom": "chr1",
                "start": [100_000, 110_000, 159_000],
                "end": [101_000, 110_500, 160_001],
            }
        )
    if sites:
        tables["sites"] = _sites(peaks)
    for name, table in tables.items():
        table.to_parquet(folder / f"{name}.parquet", index=False)
    config = {
        "arguments": {"run": "runs/tiny", "dataset": "data/tiny"},
        "cells": "all cells",
        "model": {"kind": "crossrec", "mode": "default", "genome": "tiny"},
        "dataset_fingerprint": "0123456789abcdef",
        "versions": {},
    }
    write_json(folder / "config.json", config)
    write_json(folder / "summary.json", {"links": len(links), "genes": 4, "peaks": len(peaks)})
    return TinyMap(folder, links, genes, peaks, openness, expression)


def _genes(first: str) -> pd.DataFrame:
    whole = {
        name: pd.array(values, dtype="Int64")
        for name, values in {
            "start": [100_000, 140_000, 50_000, None],
            "end": [120_000, 160_001, 52_000, None],
            "tss": [100_000, 160_000, 50_000, None],
        }.items()
    }
    names = [first, "Gad2", "Sox2", "Lost"]
    table = {
        "gene": names,
        "symbol": names,
        "chrom": ["chr1", "chr1", "chr2", None],
        **whole,
        "strand": ["+", "-", "+", None],
    }
    return pd.DataFrame(table)


def _peaks() -> pd.DataFrame:
    start = np.r_[20_000 + _SPACING * np.arange(_N_PEAKS), 10_000, 60_000]
    table = pd.DataFrame({"chrom": ["chr1"] * _N_PEAKS + ["chr2"] * 2, "start": start, "end": start + _WIDTH})
    table.insert(
        0, "peak", table["chrom"] + ":" + table["start"].astype(str) + "-" + table["end"].astype(str)
    )
    return table.assign(
        accessibility=np.linspace(0.01, 0.3, len(table)), gc=np.linspace(0.3, 0.6, len(table))
    )


def _links(genes: pd.DataFrame, peaks: pd.DataFrame, cell_types: Sequence[str], nulls: bool) -> pd.DataFrame:
    rows = []
    for t, cell_type in enumerate(cell_types):
        for g in (0, 1) if t + 1 < len(cell_types) or len(cell_types) == 1 else (0,):
            chosen = [p for p in range(2, _N_PEAKS - 2) if (p + t) % 3 and (p * 7 + g) % 4]
            rows += [_row(genes.iloc[g], peaks.iloc[p], cell_type, t, rank) for rank, p in enumerate(chosen)]
        rows.append(_row(genes.iloc[0], peaks.iloc[_N_PEAKS], cell_type, t, 30))
    links = pd.DataFrame(rows)
    if not nulls:
        links[["zscore", "pvalue", "qvalue"]] = np.nan
    return links.sort_values(["cell_type", "score"], ascending=[True, False], ignore_index=True)[
        list(SCHEMA.names)
    ]


def _row(gene: pd.Series, peak: pd.Series, cell_type: str, t: int, rank: int) -> dict[str, object]:
    near = gene["chrom"] == peak["chrom"]
    centre = (peak["start"] + peak["end"]) // 2
    distance = (centre - gene["tss"]) * (1 if gene["strand"] == "+" else -1)
    known = rank > 0
    return {
        "gene": gene["gene"],
        "peak": peak["peak"],
        "chrom": peak["chrom"],
        "start": peak["start"],
        "end": peak["end"],
        "tss": gene["tss"],
        "distance": distance if near else None,
        "score": 0.8 / (1 + (rank * 5 + t * 3) % 17),
        "zscore": 4.0 - 0.3 * rank if known else np.nan,
        "pvalue": (rank + 1) / 60 if known else np.nan,
        "qvalue": (rank + 1) / 50 if known else np.nan,
        "cell_type": cell_type,
        "n_cells": rank + 3 * t,
        "effect": 0.1 * rank - 0.5,
        "cell": None,
    }


def _sites(peaks: pd.DataFrame) -> pd.DataFrame:
    rows = [
        (peak, tf, start + 10 * i, start + 10 * i + 8, "+", 9.0 - i, 1e-5 * (i + 1))
        for peak, start in zip(peaks["peak"][:12], peaks["start"][:12], strict=True)
        for i, tf in enumerate(("Dlx1", "Lhx6"))
    ]
    return pd.DataFrame(rows, columns=["peak", "tf", "start", "end", "strand", "score", "pvalue"])


def _values(values: np.ndarray, cell_types: Sequence[str]) -> pd.DataFrame:
    return pd.DataFrame(values.astype(np.float32), columns=list(cell_types))
