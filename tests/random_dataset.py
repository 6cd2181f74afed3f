"""Write a small dataset folder of random counts straight through the store."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from scipy import sparse

from scweave.graphs.schema import MODALITIES
from scweave.graphs.store import StoreWriter

CHROMOSOMES = ["chr1", "chr2", "chr3"]


def write_random_dataset(
    path: Path,
    *,
    window: bool,
    n_cells: int = 40,
    n_genes: int = 30,
    n_peaks: int = 90,
    seed: int = 0,
    dna: bool = True,
) -> Path:
    rng = np.random.default_rng(seed)
    genes, peaks = _genes(rng, n_genes), _peaks(rng, n_peaks)
    with StoreWriter(path) as writer:
        for name, n_columns, density in (("rna", n_genes, 0.3), ("atac", n_peaks, 0.25)):
            counts = rng.poisson(2.0, (n_cells, n_columns)) * (rng.random((n_cells, n_columns)) < density)
            counts[3] = 0  # a cell without counts
            counts[4:6, 8:] = 0  # fewer peaks than the attention's ten
            rows = writer.csr(name, n_columns)
            rows.append(sparse.csr_matrix(counts[:25]))
            rows.append(sparse.csr_matrix(counts[25:]))
            rows.close()
        split = np.array(["train", "validation", "test"])[np.arange(n_cells) % 3]
        cell_type = np.where(np.arange(n_cells) % 7 == 6, None, np.array(["A", "B"])[np.arange(n_cells) % 2])
        cells = pd.DataFrame(
            {"barcode": [f"c{i}" for i in range(n_cells)], "cell_type": cell_type, "split": split}
        )
        writer.table("cells", cells)
        writer.table("genes", genes)
        writer.table("peaks", peaks)
        writer.table("pairs", _pairs(split))
        if dna:
            writer.array("sequences", rng.integers(0, 5, (n_peaks, 16), dtype=np.uint8))
        if window:
            _write_window(writer, genes, peaks)
        prior = {"kind": "window", "bp": 3000, "around": "tss", "loops": 0}
        writer.finish(
            {
                "chromosomes": CHROMOSOMES,
                "cell_types": ["A", "B"],
                "prior": prior if window else {"kind": "chromosome"},
                "genome": None,
                "modalities": list(MODALITIES),
                "folds": 0,
                "chromosome_lengths": {},
                "options": {},
            }
        )
    return path


def _genes(rng: np.random.Generator, n: int) -> pd.DataFrame:
    chrom = np.sort(rng.integers(0, 4, n))  # code 3 is unplaced
    tss = rng.integers(0, 10_000, n)
    frame = pd.DataFrame({"code": chrom, "tss": tss}).sort_values(["code", "tss"], ignore_index=True)
    placed = frame["code"] < 3
    return pd.DataFrame(
        {
            "gene": [f"g{i}" for i in range(n)],
            "gene_id": [f"ENSG{i}" for i in range(n)],
            "symbol": [f"g{i}" for i in range(n)],
            "chrom": [CHROMOSOMES[c] if c < 3 else None for c in frame["code"]],
            "tss": frame["tss"].where(placed).astype("Int64"),
            "strand": np.where(placed, rng.choice(["+", "-"], n), None),
            "means": rng.random(n),
            "variances_norm": rng.random(n),
            "highly_variable": rng.random(n) < 0.5,
        }
    )


def _peaks(rng: np.random.Generator, n: int) -> pd.DataFrame:
    frame = pd.DataFrame({"chrom": rng.choice(CHROMOSOMES, n), "start": rng.integers(0, 10_000, n)})
    frame = frame.sort_values(["chrom", "start"], ignore_index=True)
    frame["end"] = frame["start"] + rng.integers(20, 300, n)
    frame.insert(
        0, "peak", frame["chrom"] + ":" + frame["start"].astype(str) + "-" + frame["end"].astype(str)
    )
    return frame


def _pairs(split: np.ndarray) -> pd.DataFrame:
    cell = np.arange(len(split))
    other = (cell + 3) % len(split)
    keep = split[other] == split
    match = np.repeat([1, 0], [len(cell), keep.sum()]).astype(np.int8)
    return pd.DataFrame(
        {
            "rna": np.r_[cell, cell[keep]],
            "atac": np.r_[cell, other[keep]],
            "match": match,
            "kind": np.where(match == 1, "positive", "easy"),
            "split": np.r_[split, split[keep]],
        }
    )


def _write_window(writer: StoreWriter, genes: pd.DataFrame, peaks: pd.DataFrame) -> None:
    edges = []
    for g, gene in enumerate(genes.itertuples()):
        for p, peak in enumerate(peaks.itertuples()):
            if gene.chrom is not None and gene.chrom == peak.chrom:
                centre = (peak.start + peak.end) // 2
                if abs(centre - gene.tss) < 3000:
                    edges.append((g, p, (centre - gene.tss) * (1 if gene.strand == "+" else -1)))
    gene_of, peak_of, distance = np.array(edges).T
    indptr = np.concatenate([[0], np.cumsum(np.bincount(gene_of, minlength=len(genes)))])
    writer.array("cis_indptr", indptr.astype(np.int64))
    writer.array("cis_peak", peak_of.astype(np.int32))
    writer.array("cis_distance", distance.astype(np.int32))
