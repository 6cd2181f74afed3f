"""A small experiment made by hand: shuffled cells and features, its genome, and its build."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
from scipy import sparse

from scweave.generators.build import BuildOptions, build
from scweave.graphs.store import Store

N_CELLS = 40
LENGTHS = {"chr2": 6000, "chr10": 5000, "chrM": 700}
LABELS = ["b cell", "t cell"] * (N_CELLS // 2)


@dataclass(frozen=True)
class Inputs:
    """A handmade experiment in memory; `write` puts it on disk."""

    rna: ad.AnnData
    atac: ad.AnnData
    dna: dict[str, str]
    gtf: str

    def write(self, folder: Path) -> dict[str, object]:
        folder.mkdir(exist_ok=True)
        self.rna.write_h5ad(folder / "rna.h5ad")
        self.atac.write_h5ad(folder / "atac.h5ad")
        (folder / "g.fa").write_text("".join(f">{name}\n{text}\n" for name, text in self.dna.items()))
        (folder / "g.gtf").write_text(self.gtf)
        inputs = [folder / "atac.h5ad", folder / "rna.h5ad"]
        return {"inputs": inputs, "gtf": folder / "g.gtf", "fasta": folder / "g.fa"}


def gene_line(chrom, start, end, strand, name):
    attributes = f'gene_id "ENS{name}"; gene_name "{name}"; gene_biotype "protein_coding";'
    return f"{chrom}\ttest\tgene\t{start + 1}\t{end}\t.\t{strand}\t.\t{attributes}\n"


def handmade(n_cells=N_CELLS):
    """Two shuffled matrices: peaks and genes in no order, cells in another order on each side."""
    rng = np.random.default_rng(7)
    genes = [(f"G{i}", str(rng.choice(["chr2", "chr10"])), 400 * i + 50, "+-"[i % 2]) for i in range(10)]
    gtf = "".join(gene_line(chrom, at, at + 200, strand, name) for name, chrom, at, strand in genes)
    starts = rng.permutation(4500)[:30]
    chroms = np.where(np.arange(30) < 28, rng.choice(["chr2", "chr10"], 30), "chrM")
    starts[28:] = [100, 5]
    peaks = [f"{chrom}:{start}-{start + 300}" for chrom, start in zip(chroms, starts, strict=True)]
    names = np.array([*(gene[0] for gene in genes), "lost1", "lost2"])[rng.permutation(12)]
    cells = np.array([f"cell{i}" for i in range(n_cells)])
    labels = np.resize(LABELS, n_cells)
    made = []
    for features in (names, np.array(peaks)):
        order = rng.permutation(n_cells)
        data = ad.AnnData(sparse.csr_matrix(rng.poisson(0.8, (n_cells, len(features))).astype(np.float32)))
        data.obs_names, data.var_names = cells[order], features
        data.obs["kind"] = pd.Categorical(labels[order], categories=["never", "b cell", "t cell"])
        data.obs["donor"] = np.where(order % 4 == 0, "d1", "d2")
        made.append(data)
    dna = {name: "".join(rng.choice(list("ACGTN"), length)) for name, length in LENGTHS.items()}
    return Inputs(*made, dna, gtf)


def run_build(folder, made, *, fasta=True, gtf=True, **options):
    """Build a handmade experiment into folder/dataset."""
    arguments = made.write(folder)
    keep = {"fasta": fasta, "gtf": gtf, "inputs": True}
    arguments = {name: value for name, value in arguments.items() if keep[name]}
    return build(
        out=folder / "dataset",
        options=BuildOptions(**{"labels": "kind"} | options),
        progress=False,
        **arguments,
    )


def emptied(data, barcodes, *, keep_zeros=False):
    data = data.copy()
    keep = ~data.obs_names.isin(barcodes)
    if keep_zeros:
        data.X.data[np.repeat(~keep, np.diff(data.X.indptr))] = 0
    else:
        data.X = sparse.csr_matrix(data.X.multiply(keep[:, None]))
        data.X.eliminate_zeros()
    return data


def stored(folder, name):
    """Counts of one modality as the dataset holds them, by barcode and feature."""
    store = Store(folder)
    features = store.table("genes")["gene"] if name == "rna" else store.table("peaks")["peak"]
    rows = store.rows(name, len(features))
    matrix = rows.matrix(np.arange(rows.n_rows)).toarray()
    return pd.DataFrame(matrix, index=store.table("cells")["barcode"], columns=list(features))


def build_one(folder, made, name, *, gtf=True, fasta=True, **options):
    files = made.write(folder)
    return build(
        [folder / f"{name}.h5ad"],
        folder / "dataset",
        gtf=files["gtf"] if gtf else None,
        fasta=files["fasta"] if fasta else None,
        options=BuildOptions(**{"labels": "kind"} | options),
        progress=False,
    )
