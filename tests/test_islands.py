"""Islands against tables counted by pandas, whatever peaks the data set has."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from random_dataset import write_random_dataset
from scweave.graphs.dataset import MultiomeGraphs
from scweave.graphs.errors import InputError
from scweave.graphs.schema import SOURCE
from scweave.models.annotation.islands import Islands, check_covered
from scweave.models.layers.profiles import Profiles

WIDTH = 1000


def table(graphs: MultiomeGraphs, cells, width: int = WIDTH) -> pd.DataFrame:
    """Value by cell, chromosome and bin, as the paper says it."""
    counts = graphs.atac_rows.matrix(cells).toarray()
    peaks = graphs.peaks.frame
    long = pd.DataFrame(counts.T).assign(chrom=peaks["chrom"].astype(str), bin=peaks["start"] // width)
    mean = long.groupby(["chrom", "bin"]).mean()
    return np.ceil(mean).clip(upper=5)


def read(islands: Islands, graphs: MultiomeGraphs, cells, source: int = 0) -> pd.DataFrame:
    found = islands.read(Profiles.of(graphs.atac_rows, np.asarray(cells)), source)
    dense = np.zeros((len(islands), len(cells)))
    dense[found.ids, found.cell] = found.counts
    names = [islands.chromosomes[c] for c in islands.chrom]
    return pd.DataFrame(dense, index=pd.MultiIndex.from_arrays([names, islands.bin.numpy()]))


def test_values_are_means_of_peaks_rounded_up_and_clipped(random_dataset):
    graphs = MultiomeGraphs(random_dataset)
    islands, cells = Islands.of([graphs], WIDTH, tss=False), np.arange(len(graphs.cells))
    expected = table(graphs, cells)
    assert expected.to_numpy().max() == 5
    found = read(islands, graphs, cells).sort_index()
    assert found.index.tolist() == expected.index.tolist()
    np.testing.assert_array_equal(found.to_numpy(), expected.to_numpy())


def test_islands_are_read_from_batches_as_from_rows(random_dataset):
    graphs = MultiomeGraphs(random_dataset)
    islands = Islands.of([graphs], WIDTH, tss=False)
    cells = np.array([7, 3, 3, 12])  # the third has no counts
    found, expected = islands(graphs.batch(cells)), islands.read(Profiles.of(graphs.atac_rows, cells))
    assert all(
        torch.equal(getattr(found, name), getattr(expected, name)) for name in ("ids", "counts", "ptr")
    )
    assert len(found) == 4
    assert all((found.ids[a:b].diff() > 0).all() for a, b in zip(found.ptr[:-1], found.ptr[1:], strict=True))


def test_the_tss_filter_keeps_islands_in_which_a_gene_of_the_data_set_starts(random_dataset):
    graphs = MultiomeGraphs(random_dataset)
    islands = Islands.of([graphs], WIDTH, tss=True)
    genes = graphs.genes.frame.dropna(subset=["chrom", "tss"])
    starts = set(zip(genes["chrom"], genes["tss"].astype(int) // WIDTH, strict=True))
    peaks = graphs.peaks.frame
    ours = {(islands.chromosomes[c], int(b)) for c, b in zip(islands.chrom, islands.bin, strict=True)}
    assert ours == starts & set(zip(peaks["chrom"].astype(str), peaks["start"] // WIDTH, strict=True))


def renamed(frame: pd.DataFrame) -> pd.DataFrame:
    """The chromosomes spelled without chr, as another file may have them."""
    return frame.assign(chrom=frame["chrom"].astype(str).str.removeprefix("chr"))


def test_other_peaks_in_other_order_and_spelling_are_found_by_their_place(random_dataset):
    graphs = MultiomeGraphs(random_dataset)
    islands = Islands.of([graphs], WIDTH, tss=False)
    cells = np.arange(9)
    expected = read(islands, graphs, cells)
    order = np.random.default_rng(0).permutation(len(graphs.peaks))
    islands.place([renamed(graphs.peaks.frame.iloc[order])], islands.chromosomes)
    counts = graphs.atac_rows.matrix(cells)[:, order].tocsr()
    counts.sort_indices()
    profiles = Profiles(
        *(torch.from_numpy(x) for x in (counts.indices.astype(np.int64), counts.data)),
        torch.from_numpy(counts.indptr).long(),
    )
    found = islands.read(profiles)
    dense = np.zeros((len(islands), len(cells)))
    dense[found.ids, found.cell] = found.counts
    np.testing.assert_array_equal(dense, expected.to_numpy())


def test_several_data_sets_have_the_islands_of_all_and_are_read_by_source(tmp_path, random_dataset):
    first = MultiomeGraphs(random_dataset)
    second = MultiomeGraphs(write_random_dataset(tmp_path / "other", window=True, n_peaks=60, seed=3))
    islands, cells = Islands.of([first, second], WIDTH, tss=False), np.arange(8)
    for source, graphs in enumerate((first, second)):
        own = read(islands, graphs, cells, source)
        expected = table(graphs, cells).reindex(own.index, fill_value=0)
        np.testing.assert_array_equal(own.to_numpy(), expected.to_numpy())
    batch = second.batch(cells)
    batch[SOURCE] = torch.tensor(1)
    assert torch.equal(islands(batch).ids, islands.read(Profiles.of(second.atac_rows, cells), 1).ids)


@given(
    st.lists(st.tuples(st.integers(0, 2), st.integers(0, 3_000_000_000)), min_size=2, max_size=40),
    st.integers(1, 10_000),
)
def test_every_peak_is_in_the_island_in_which_it_starts(peaks, width):
    frame = pd.DataFrame(peaks, columns=["code", "start"]).sort_values(["code", "start"], ignore_index=True)
    frame["chrom"] = frame["code"].map({0: "chr1", 1: "chrX", 2: "chrM"})
    found = frame[["code"]].assign(bin=frame["start"] // width).drop_duplicates().to_numpy()
    islands = Islands(len(found), width)
    islands.chrom.copy_(torch.from_numpy(found[:, 0].copy()))
    islands.bin.copy_(torch.from_numpy(found[:, 1].copy()))
    islands.place([renamed(frame)], ["chr1", "chrX", "chrM"])
    assert torch.equal(islands.chrom[islands.of_peak], torch.from_numpy(frame["code"].to_numpy()))
    assert torch.equal(islands.bin[islands.of_peak], torch.from_numpy((frame["start"] // width).to_numpy()))
    assert islands.n_peaks.sum() == len(frame)


def test_what_cannot_be_made_says_so(random_dataset):
    graphs = MultiomeGraphs(random_dataset)
    islands = Islands.of([graphs], WIDTH, tss=False)
    far = graphs.peaks.frame.assign(start=lambda f: f["start"] + 50_000_000)
    islands.place([far], islands.chromosomes)
    with pytest.raises(
        InputError,
        match=r"0 of 90 peaks \(0.0%\) lie in 0 of the model's .* islands \(0.0%\), fewer than 30%",
    ):
        check_covered(islands, graphs)
    peak = graphs.peaks.frame.iloc[0]
    graphs.genes.frame["chrom"] = str(peak["chrom"])
    graphs.genes.frame["tss"] = pd.array([peak["start"]] * len(graphs.genes), "Int64")
    with pytest.raises(
        InputError, match=r"has 1 islands of 1,000 bp with a transcription start site.*smaller --set"
    ):
        Islands.of([graphs], WIDTH, tss=True)
    graphs.genes.frame["tss"] = pd.array([pd.NA] * len(graphs.genes), "Int64")
    with pytest.raises(InputError, match=r"places no gene.*--set tss=false"):
        Islands.of([graphs], WIDTH, tss=True)


def test_cells_are_known_by_their_islands_whatever_their_peaks(random_dataset):
    graphs = MultiomeGraphs(random_dataset)
    islands, cells = Islands.of([graphs], WIDTH, tss=False), np.arange(len(graphs.cells))
    before = islands.keys(graphs, cells, least=5)
    islands.place(
        [graphs.peaks.frame.assign(start=lambda f: f["start"] // WIDTH * WIDTH)], islands.chromosomes
    )
    assert np.array_equal(before, islands.keys(graphs, cells, least=5))
    sizes = islands.read(Profiles.of(graphs.atac_rows, cells)).ptr.diff().numpy()
    assert np.array_equal(before == 0, sizes < 5)
    assert len(np.unique(before[before != 0])) == (before != 0).sum()


def test_chromosomes_of_all_data_sets_have_islands(tmp_path, random_dataset):
    first = MultiomeGraphs(random_dataset)
    second = MultiomeGraphs(write_random_dataset(tmp_path / "other", window=True, seed=3))
    second.store.manifest["chromosomes"].append("chr9")
    frame = second.peaks.frame
    frame["chrom"] = frame["chrom"].astype(object).where(frame.index < len(frame) - 20, "9")
    islands = Islands.of([first, second], WIDTH, tss=False)
    assert islands.chromosomes[-1] == "chr9"
    assert (islands.of_peak >= 0).all()
