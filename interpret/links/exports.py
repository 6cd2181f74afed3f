"""Maps in the formats of others: parquet, BEDPE, UCSC interact, GraphML and AnnData."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

import networkx as nx
import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq
from anndata import AnnData
from scipy import sparse

from ...graphs.errors import InputError
from ...graphs.whole import new_file
from ..figures.palette import type_colours
from .categories import codes_of
from .table import SCHEMA

if TYPE_CHECKING:
    from ..maps import RegulatoryMap

Objects = npt.NDArray[np.object_]

BEDPE_COLUMNS: Final = (
    "chrom1", "start1", "end1", "chrom2", "start2", "end2", "name", "score", "strand1", "strand2",
    "cell_type", "distance", "n_cells", "effect", "zscore", "pvalue", "qvalue",
)  # fmt: skip
# http://genome.ucsc.edu/goldenPath/help/interact.html
INTERACT_COLUMNS: Final = (
    "chrom", "chromStart", "chromEnd", "name", "score", "value", "exp", "color",
    "sourceChrom", "sourceStart", "sourceEnd", "sourceName", "sourceStrand",
    "targetChrom", "targetStart", "targetEnd", "targetName", "targetStrand",
)  # fmt: skip
_TRACK: Final = (
    'track type=interact name="Peak-gene links" description="Peaks linked to genes" '
    "interactDirectional=true useScore=on maxHeightPixels=200:100:50 visibility=full"
)
_LAYERS: Final = ("n_cells", "effect", "zscore", "pvalue", "qvalue")
_ROWS: Final = 1 << 20  # written at a time
_HIGHEST: Final = 1000  # score of a track


def write_parquet(regulatory_map: RegulatoryMap, path: str | Path) -> int:
    """Write links with the columns of ``links.parquet``.

    Parameters
    ----------
    regulatory_map
        Map.
    path
        File to write; one that is there is replaced.

    Returns
    -------
    Number of links written.

    Raises
    ------
    InputError
        The file cannot be written.

    Examples
    --------
    >>> write_parquet(found.filter(top=5), "strong.parquet")  # doctest: +SKIP
    """
    links = regulatory_map.links
    with _whole(path) as file, pq.ParquetWriter(file, SCHEMA, compression="zstd") as writer:
        for begin in range(0, len(links), _ROWS):
            some = links.iloc[begin : begin + _ROWS]
            writer.write_table(pa.Table.from_pandas(some, preserve_index=False).cast(SCHEMA))
    return len(links)


def write_bedpe(regulatory_map: RegulatoryMap, path: str | Path) -> int:
    """Write links as BEDPE: the peak as first end, the TSS (1 bp) as second.

    The ten standard columns are followed by ``cell_type, distance, n_cells, effect, zscore, pvalue, qvalue``, as
    the first line says (it begins with ``#``); ``.`` where not known. The name is ``peak|gene``, strand2 the
    gene's. A link in several cell types has a line each. Links of genes without a place are left out.

    Parameters
    ----------
    regulatory_map, path
        As in `write_parquet`.

    Returns
    -------
    Number of links written.

    Raises
    ------
    InputError
        The file cannot be written.

    References
    ----------
    https://bedtools.readthedocs.io/en/latest/content/general-usage.html#bedpe-format

    Examples
    --------
    >>> write_bedpe(found.filter(cell_types="Pvalb"), "Pvalb.bedpe")  # doctest: +SKIP
    """
    links, chrom, strand = _placed(regulatory_map)
    tss = links["tss"].to_numpy(np.int64)
    peak, gene = _words(links["peak"]), _words(links["gene"])
    table = pd.DataFrame(
        {
            "chrom1": links["chrom"].to_numpy(object),
            "start1": links["start"].to_numpy(),
            "end1": links["end"].to_numpy(),
            "chrom2": chrom,
            "start2": tss,
            "end2": tss + 1,
            "name": peak + "|" + gene,
            "score": links["score"].to_numpy(),
            "strand1": ".",
            "strand2": strand,
            "cell_type": _words(links["cell_type"]),
            **{name: links[name].array for name in ("distance", *_LAYERS)},
        }
    )
    return _write_lines(path, "#" + "\t".join(BEDPE_COLUMNS), table[list(BEDPE_COLUMNS)])


def write_interact(regulatory_map: RegulatoryMap, path: str | Path) -> int:
    """Write links as a custom track of the UCSC genome browser (interact, BED5+13), sorted by position.

    The peak is the source and the TSS (1 bp) the target; ``score`` is 1000 for the strongest link of the file,
    ``value`` the link's score, ``exp`` the cell type, each with a colour of its own. Blanks in names become ``_``.
    Links across chromosomes and of genes without a place are left out. The browser knows chromosomes by UCSC's
    names; they are written as the map has them.

    Parameters
    ----------
    regulatory_map, path
        As in `write_parquet`.

    Returns
    -------
    Number of links written.

    Raises
    ------
    InputError
        The file cannot be written.

    References
    ----------
    https://genome.ucsc.edu/goldenPath/help/interact.html

    Examples
    --------
    >>> write_interact(found.filter(genes="Gad1"), "Gad1.interact")  # doctest: +SKIP
    """
    links, chrom, strand = _placed(regulatory_map)
    near = chrom == links["chrom"].to_numpy(object)
    links, chrom, strand = links[near], chrom[near], strand[near]
    start, end = links["start"].to_numpy(), links["end"].to_numpy()
    tss, score = links["tss"].to_numpy(np.int64), links["score"].to_numpy()
    peak, gene = _words(links["peak"], blank="_"), _words(links["gene"], blank="_")
    share = np.clip(score / max(score.max(initial=0.0), np.finfo(float).tiny), 0, 1)
    table = pd.DataFrame(
        {
            "chrom": chrom,
            "chromStart": np.minimum(start, tss),
            "chromEnd": np.maximum(end, tss + 1),
            "name": peak + "/" + gene,
            "score": np.rint(_HIGHEST * share).astype(np.int64),
            "value": score,
            "exp": _words(links["cell_type"], blank="_"),
            "color": _colours(regulatory_map, links),
            "sourceChrom": chrom,
            "sourceStart": start,
            "sourceEnd": end,
            "sourceName": peak,
            "sourceStrand": ".",
            "targetChrom": chrom,
            "targetStart": tss,
            "targetEnd": tss + 1,
            "targetName": gene,
            "targetStrand": strand,
        }
    )
    table = table.sort_values(["chrom", "chromStart"], kind="stable")
    return _write_lines(path, f"{_TRACK}\n#" + "\t".join(INTERACT_COLUMNS), table[list(INTERACT_COLUMNS)])


def write_graphml(regulatory_map: RegulatoryMap, path: str | Path, *, cell_type: str | None = None) -> int:
    """Write the network of `networks.to_networkx` as GraphML, for Cytoscape, Gephi or igraph.

    Parameters
    ----------
    regulatory_map, path
        As in `write_parquet`.
    cell_type
        Of this type only; of all when None.

    Returns
    -------
    Number of edges written.

    Raises
    ------
    InputError
        The file cannot be written, or the network is too large; see `networks.to_networkx`.

    Examples
    --------
    >>> write_graphml(found.filter(top=3), "network.graphml")  # doctest: +SKIP
    """
    graph = regulatory_map.to_networkx(cell_type=cell_type)
    with _whole(path) as file:
        nx.write_graphml_xml(graph, file)
    return graph.number_of_edges()


def to_anndata(regulatory_map: RegulatoryMap) -> AnnData:
    """Return links by cell types, all matrices sparse.

    Parameters
    ----------
    regulatory_map
        Map.

    Returns
    -------
    ``obs`` has a row a link, named ``gene|peak``, with gene, peak, chrom, start, end, tss and distance; ``var`` a
    row a cell type, with its cells. ``X`` holds scores, and the layers n_cells, effect, zscore, pvalue and qvalue
    what is known of them. What a matrix does not store is no link of the type, or not known: it is no zero, which
    matters for p- and q-values.

    Examples
    --------
    >>> found.to_anndata().write_h5ad("links.h5ad")  # doctest: +SKIP
    """
    links, n_peaks = regulatory_map.links, max(len(regulatory_map.peaks), 1)
    gene, peak, kind = (codes_of(links[name]) for name in ("gene", "peak", "cell_type"))
    _, first, row = np.unique(gene * n_peaks + peak, return_index=True, return_inverse=True)
    obs = links.loc[first, ["gene", "peak", "chrom", "start", "end", "tss", "distance"]]
    obs.index = pd.Index(obs["gene"].astype(object) + "|" + obs["peak"].astype(object), dtype=object)
    var = pd.DataFrame(
        {"cells": regulatory_map.cells.to_numpy()}, index=pd.Index(regulatory_map.cell_types, dtype=object)
    )
    shape = len(obs), len(var)

    def matrix(column: str) -> sparse.csr_matrix:
        known = links[column].notna().to_numpy()
        values = links.loc[known, column].to_numpy(np.float64)
        return sparse.csr_matrix((values, (row[known], kind[known])), shape=shape)

    layers = {name: matrix(name) for name in _LAYERS if links[name].notna().any()}
    return AnnData(matrix("score"), obs=obs, var=var, layers=layers)


def _placed(regulatory_map: RegulatoryMap) -> tuple[pd.DataFrame, Objects, Objects]:
    """Return the links of genes with a place, and the chromosomes and strands of their genes."""
    links, genes = regulatory_map.links, regulatory_map.genes
    chrom, strand = genes["chrom"].to_numpy(object), genes["strand"].fillna(".").to_numpy(object)
    placed = genes["chrom"].notna().to_numpy()[codes_of(links["gene"])] & links["tss"].notna().to_numpy()
    links = links[placed]
    gene = codes_of(links["gene"])
    return links, chrom[gene], strand[gene]


def _colours(regulatory_map: RegulatoryMap, links: pd.DataFrame) -> Objects:
    colours = np.array([*type_colours(regulatory_map.cell_types).values(), ""], dtype=object)
    found: Objects = colours[codes_of(links["cell_type"])]
    return found


def _words(names: pd.Series[str], blank: str = " ") -> Objects:
    """Return names with another sign for blanks, and without quotes."""
    told = (
        names.cat.categories.to_series()
        .str.replace('"', "")
        .str.replace(r"\s", blank, regex=True)
        .to_numpy(object)
    )
    found: Objects = told[codes_of(names)] if len(names) else np.zeros(0, object)
    return found


def _write_lines(path: str | Path, header: str, table: pd.DataFrame) -> int:
    """Write a header and tab-separated rows, ``.`` for what is not known."""
    options = pa_csv.WriteOptions(include_header=False, delimiter="\t", quoting_style="none")
    with _whole(path) as file, file.open("wb") as lines:
        lines.write(header.encode() + b"\n")
        for begin in range(0, len(table), _ROWS):
            some = pa.Table.from_pandas(table.iloc[begin : begin + _ROWS], preserve_index=False)
            texts = [pc.fill_null(column.cast(pa.string()), ".") for column in some.columns]
            pa_csv.write_csv(pa.table(texts, names=some.column_names), lines, options)
    return len(table)


@contextmanager
def _whole(path: str | Path) -> Iterator[Path]:
    """Give a file that appears whole or not at all, in a folder that is there."""
    path = Path(path)
    if not path.parent.is_dir():
        raise InputError(f"cannot write {path}: there is no folder {path.parent}. Make it first.")
    if path.is_dir():
        raise InputError(f"cannot write {path}: it is a folder. Name a file.")
    with new_file(path) as file:
        yield file
