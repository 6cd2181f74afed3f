"""Genes and peaks of a map: equal to plain loops over cells, whatever the chunks."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest

from scweave.graphs.dataset import MultiomeGraphs
from scweave.interpret.links import nodes
from scweave.interpret.links.type_links import cells_by_type


@pytest.fixture
def graphs(random_dataset):
    return MultiomeGraphs(random_dataset)


def dense(rows, cells):
    """{feature: count} of each cell."""
    return [dict(zip(*(x.tolist() for x in rows.gather([cell])[:2]), strict=True)) for cell in cells]


def test_genes_and_peaks_are_those_of_the_dataset(graphs):
    genes, peaks = nodes.gene_table(graphs), nodes.peak_table(graphs)
    assert tuple(genes.columns) == nodes.GENE_COLUMNS
    assert tuple(peaks.columns) == nodes.PEAK_COLUMNS
    frame = graphs.genes.frame
    for name in ("gene", "symbol", "chrom", "strand"):
        assert genes[name].tolist() == [None if pd.isna(x) else x for x in frame[name]]
    unplaced = genes["chrom"].isna()
    assert unplaced.any() and genes["tss"].isna().equals(unplaced)
    assert genes["start"].isna().all()  # this dataset does not tell where genes end
    assert genes["tss"].dtype == genes["start"].dtype == "Int64"
    pd.testing.assert_frame_equal(peaks[["peak", "chrom", "start", "end"]], graphs.peaks.frame)


@pytest.mark.parametrize("chunk", [1, 7, 1024])
@pytest.mark.parametrize("split", [None, "test"])
def test_openness_and_expression_equal_plain_loops(random_dataset, monkeypatch, chunk, split):
    monkeypatch.setattr(nodes, "_CELLS", chunk)
    graphs = MultiomeGraphs(random_dataset, split=split)
    groups = cells_by_type(graphs)
    opened, expressed = nodes.openness(graphs, groups), nodes.expression(graphs, groups)
    assert list(opened.columns) == list(expressed.columns) == [name for name, _ in groups]
    assert opened.index.tolist() == graphs.peaks.frame["peak"].tolist()
    assert expressed.index.tolist() == graphs.genes.frame["gene"].tolist()
    assert set(opened.dtypes) == set(expressed.dtypes) == {np.dtype(np.float32)}
    for name, positions in groups:
        cells = [int(graphs.pairs_of([p])[0][0]) for p in positions]
        rna, atac = dense(graphs.rna_rows, cells), dense(graphs.atac_rows, cells)
        for p in range(len(graphs.peaks)):
            assert opened[name].iloc[p] == pytest.approx(sum(p in cell for cell in atac) / len(cells))
        for g in range(len(graphs.genes)):
            logs = [math.log(1 + 1e4 * cell.get(g, 0) / max(sum(cell.values()), 1)) for cell in rna]
            assert expressed[name].iloc[g] == pytest.approx(sum(logs) / len(cells), rel=1e-6)


def test_accessibility_is_that_of_all_cells_mapped(random_dataset):
    graphs = MultiomeGraphs(random_dataset, split="train")[[3, 1, 0]]
    cells = dense(graphs.atac_rows, graphs.pairs_of([0, 1, 2])[1].tolist())
    expected = [sum(p in cell for cell in cells) / 3 for p in range(len(graphs.peaks))]
    np.testing.assert_allclose(nodes.peak_table(graphs)["accessibility"], expected)


def test_gc_counts_known_bases_alone(graphs):
    for row, gc in zip(graphs.peaks.sequence.tolist(), nodes.peak_table(graphs)["gc"], strict=True):
        known = [base for base in row if base != 4]
        assert gc == sum(base in (1, 2) for base in known) / len(known)


def test_without_dna_gc_is_null(graphs):
    graphs.peaks.tensors.pop("sequence")
    assert nodes.peak_table(graphs)["gc"].isna().all()


def test_no_cells_give_zeros(graphs):
    none = [("nobody", np.zeros(0, np.int64))]
    assert (nodes.openness(graphs, none) == 0).all(axis=None)
    assert (nodes.expression(graphs, none) == 0).all(axis=None)
