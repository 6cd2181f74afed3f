"""A small regulatory map in which everything is known of some links and little of others, and its folder."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from scweave.graphs.dataset import MultiomeGraphs
from scweave.interpret.maps import RegulatoryMap


def small_map(dataset: Path, *, seed: int = 0) -> RegulatoryMap:
    """The map of an untrained model, with made-up significance, effects, links across chromosomes, and sites."""
    from test_attention import make_model

    graphs = MultiomeGraphs(dataset)
    found = RegulatoryMap.of(make_model(graphs), graphs, progress=False)
    rng = np.random.default_rng(seed)
    links = pd.concat([found.links, across(found, rng)], ignore_index=True)
    n = len(links)
    links = links.assign(
        zscore=gaps(rng, rng.normal(size=n)),
        pvalue=gaps(rng, rng.random(n)),
        qvalue=gaps(rng, rng.random(n)),
        effect=gaps(rng, rng.normal(size=n)),
        score=rng.integers(1, 40, n) / 64,  # many ties
    )
    order = np.lexsort((-links["score"], links["cell_type"].cat.codes))
    return replace(found, links=links.iloc[order].reset_index(drop=True), sites=sites(found, rng))


def across(found: RegulatoryMap, rng: np.random.Generator) -> pd.DataFrame:
    """Links to genes of other chromosomes, or without one."""
    some = found.links.iloc[rng.choice(len(found.links), 60, replace=False)].copy()
    genes = found.genes.iloc[rng.integers(0, len(found.genes), 60)].reset_index(drop=True)
    apart = genes["chrom"].isna().to_numpy() | (genes["chrom"].to_numpy() != some["chrom"].to_numpy(object))
    some["gene"] = pd.Categorical(genes["gene"], categories=found.links["gene"].cat.categories)
    some["tss"] = genes["tss"].array
    some["distance"] = pd.array([pd.NA] * 60, "Int64")
    return some[apart].drop_duplicates(["gene", "peak", "cell_type"])


def gaps(rng: np.random.Generator, values: np.ndarray) -> np.ndarray:
    return np.where(rng.random(len(values)) < 0.2, np.nan, values)


def sites(found: RegulatoryMap, rng: np.random.Generator) -> pd.DataFrame:
    """Sites of five TFs, of which two have the names of genes in other cases."""
    peak = rng.integers(0, len(found.peaks), 150)
    start = found.peaks["start"].to_numpy()[peak]
    return pd.DataFrame(
        {
            "peak": pd.Categorical.from_codes(peak, found.peaks["peak"].tolist()),
            "tf": pd.Categorical.from_codes(rng.integers(0, 5, 150), ["G3", "G5", "JUN", "FOS::JUN", "CTCF"]),
            "start": start,
            "end": start + 12,
            "strand": pd.Categorical(rng.choice(["+", "-"], 150)),
            "score": rng.integers(1, 90, 150) / 8,
            "pvalue": rng.random(150),
        }
    )


def write_folder(found: RegulatoryMap, folder: Path) -> Path:
    """Write a map as `scweave map` does."""
    folder.mkdir()
    found.to_parquet(folder / "links.parquet")
    found.cells.reset_index().to_parquet(folder / "types.parquet", index=False)
    tables = {"genes": found.genes, "peaks": found.peaks, "sites": found.sites}
    values = {"openness": found.openness, "expression": found.expression}
    for name, table in {**tables, **values}.items():
        if table is not None:
            table.to_parquet(folder / f"{name}.parquet", index=False)
    return folder


def plain(links: pd.DataFrame) -> list[dict]:
    """Rows as dicts, None where null."""
    rows = links.astype(object).where(links.notna(), None)
    return rows.to_dict("records")
