"""Gene annotation of a simulated genome as a GTF, and its motifs and sites as other programs read them."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from .factors import Motifs, Sites

_MOST_EXONS: Final = 8
_EXON_BP: Final = (100, 200)  # shortest and longest exon of a gene with introns
_BP_PER_EXON: Final = 400  # of a gene, at least: introns are no shorter than exons, together
_SITES: Final = 100  # that a motif stands for in MEME's format


def make_exons(genes: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
    """Draw 1-8 exons a gene, the first from its TSS on and the last up to its other end.

    Parameters
    ----------
    genes : DataFrame
        ``start, end`` (0-based half-open) of ``Layout.genes``.
    rng : Generator
        Source of the draws.

    Returns
    -------
    DataFrame
        ``gene`` (row), ``start, end`` (0-based half-open), sorted by gene and start.
    """
    start = genes["start"].to_numpy(np.int64)
    body = genes["end"].to_numpy(np.int64) - start
    number = np.clip(rng.integers(1, _MOST_EXONS + 1, len(genes)), 1, np.maximum(body // _BP_PER_EXON, 1))
    exon = rng.integers(_EXON_BP[0], _EXON_BP[1] + 1, (len(genes), _MOST_EXONS))
    weight = rng.exponential(size=exon.shape) + 0.1
    column = np.arange(_MOST_EXONS)
    used, gaps = column < number[:, None], column < number[:, None] - 1
    exon = np.where(used, exon, 0)
    exon[number == 1, 0] = body[number == 1]
    weight = np.where(gaps, weight, 0.0)
    share = np.cumsum(weight, axis=1) / np.maximum(weight.sum(axis=1, keepdims=True), 1e-12)
    before = np.rint((body - exon.sum(axis=1))[:, None] * share).astype(np.int64)  # bp of introns so far
    first = (
        np.cumsum(exon, axis=1)
        - exon
        + np.concatenate([np.zeros((len(genes), 1), np.int64), before], 1)[:, :-1]
    )
    gene, which = np.nonzero(used)
    at = start[gene] + first[gene, which]
    return pd.DataFrame({"gene": gene, "start": at, "end": at + exon[gene, which]})


def write_gtf(path: Path, genes: pd.DataFrame, exons: pd.DataFrame) -> None:
    """Write gene, transcript and exon lines, gzipped, 1-based closed as GTF asks; the same bytes each time."""
    gene = 'gene_id "' + genes["gene_id"] + '"; '
    named = 'gene_name "' + genes["symbol"] + '"; gene_biotype "' + genes["biotype"] + '";'
    transcript = gene + 'transcript_id "' + genes["gene_id"].str.replace("SIMG", "SIMT") + '"; '
    number = exons.groupby("gene").cumcount()
    forward = (genes["strand"] == "+").to_numpy()[exons["gene"]]
    last = exons.groupby("gene")["start"].transform("size") - number - 1
    told = pd.Series(np.where(forward, number, last) + 1).astype(str)
    rows = exons["gene"].to_numpy()
    told = transcript.iloc[rows].reset_index(drop=True) + 'exon_number "' + told + '"; '
    told += named.iloc[rows].reset_index(drop=True)
    whole = [
        _lines(genes, "gene", gene + named),
        _lines(genes, "transcript", transcript + named),
        _lines(
            genes.iloc[rows].reset_index(drop=True).assign(start=exons["start"], end=exons["end"]),
            "exon",
            told,
        ),
    ]
    place = np.concatenate([np.arange(len(genes)), np.arange(len(genes)), rows])
    lines = pd.concat(whole, ignore_index=True).iloc[np.argsort(place, kind="stable")]
    write_gzip(path, "##description: simulated genes, one transcript each\n" + "\n".join(lines) + "\n")


def _lines(genes: pd.DataFrame, feature: str, attributes: pd.Series[str]) -> pd.Series[str]:
    start, end = (genes["start"] + 1).astype(str), genes["end"].astype(str)
    left = genes["chrom"] + f"\tscweave\t{feature}\t" + start + "\t" + end
    return left + "\t.\t" + genes["strand"] + "\t.\t" + attributes


def write_meme(path: Path, factors: list[str], motifs: Motifs) -> None:
    """Write the motifs in MEME's minimal format, so that any motif scanner reads them."""
    parts = ["MEME version 4\n\nALPHABET= ACGT\n\nstrands: + -\n"]
    parts.append("Background letter frequencies\nA 0.25 C 0.25 G 0.25 T 0.25\n")
    for name, valid, rows in zip(factors, motifs.valid, motifs.frequencies, strict=True):
        head = f"letter-probability matrix: alength= 4 w= {int(valid.sum())} nsites= {_SITES} E= 0"
        table = "\n".join(" ".join(f"{share:.6f}" for share in row) for row in rows[valid])
        parts.append(f"MOTIF {name} {name}\n{head}\n{table}\n")
    path.write_text("\n".join(parts))


def write_sites(path: Path, peaks: pd.DataFrame, factors: list[str], sites: Sites) -> None:
    """Write the sites as BED6, gzipped: chrom, start, end, TF, strength in thousandths, strand."""
    table = pd.DataFrame(
        {
            "chrom": peaks["chrom"].to_numpy()[sites.peak],
            "start": sites.start,
            "end": sites.start + sites.length,
            "name": np.array(factors, dtype=object)[sites.factor],
            "score": np.rint(1000 * sites.strength).astype(np.int64),
            "strand": np.where(sites.reverse, "-", "+"),
        }
    )
    code: NDArray[np.int64] = peaks["code"].to_numpy()[sites.peak]
    order = np.lexsort((sites.start, code))
    write_gzip(path, table.iloc[order].to_csv(sep="\t", header=False, index=False, lineterminator="\n"))


def write_gzip(path: Path, text: str) -> None:
    """Write text, gzipped, the same bytes each time."""
    with path.open("wb") as raw, gzip.GzipFile(filename="", mode="wb", fileobj=raw, mtime=0) as file:
        file.write(text.encode())
