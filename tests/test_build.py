"""The build: what is stored is what was given, by name, sorted and fitted as promised."""

import json
import tracemalloc
from dataclasses import replace

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from handmade_experiment import LENGTHS, N_CELLS, Inputs, emptied, gene_line, run_build, stored
from scweave.generators.attributes import highly_variable
from scweave.generators.build import BuildOptions, build
from scweave.generators.simulate import SimulatedFiles, simulate
from scweave.graphs.dataset import MultiomeGraphs
from scweave.graphs.store import CONFIG, MANIFEST, Store, verify

EMPTY = {"rna": "cell3", "atac": "cell5"}


@pytest.fixture(scope="module")
def simulated(tmp_path_factory) -> SimulatedFiles:
    out = tmp_path_factory.mktemp("simulated") / "s.h5mu"
    return simulate(out, cells=120, genes=40, peaks=400, types=4, rare_types=0, progress=False)


def build_simulated(files, out, **options):
    options = BuildOptions(**{"labels": "cell_type"} | options)
    return build([files.h5mu], out, gtf=files.gtf, fasta=files.fasta, options=options, progress=False)


@pytest.mark.parametrize("name", ["rna", "atac"])
def test_every_count_is_stored_under_its_cell_and_feature(handmade_dataset, made, name):
    given = getattr(made, name).to_df()
    found = stored(handmade_dataset, name)
    assert sorted(found.index) == sorted(given.index)
    assert sorted(found.columns) == sorted(given.columns)
    pd.testing.assert_frame_equal(found, given.loc[found.index, found.columns], check_names=False)


def test_labels_and_donors_follow_their_cells(handmade_dataset, made):
    cells = Store(handmade_dataset).table("cells").set_index("barcode")
    assert (cells["cell_type"] == made.rna.obs["kind"].astype(str)[cells.index]).all()
    assert cells["donor"].isna().all()
    assert (cells["n_genes"] == (made.rna.to_df() > 0).sum(axis=1)[cells.index]).all()
    assert (cells["n_peaks"] == (made.atac.to_df() > 0).sum(axis=1)[cells.index]).all()


def test_peaks_and_genes_are_sorted_by_place(handmade_dataset):
    store = Store(handmade_dataset)
    chromosomes = store.manifest["chromosomes"]
    assert chromosomes == ["chr2", "chr10", "chrM"]
    peaks, genes = store.table("peaks"), store.table("genes")
    rank = peaks["chrom"].map(chromosomes.index)
    assert (
        peaks.assign(rank=rank).sort_values(["rank", "start", "end"], kind="stable").index == peaks.index
    ).all()
    placed = genes[genes["chrom"].notna()]
    assert len(placed) == 10
    assert set(genes["gene"][10:]) == {"lost1", "lost2"}
    assert genes["tss"][10:].isna().all()
    keys = list(zip(placed["chrom"].map(chromosomes.index), placed["tss"], strict=True))
    assert keys == sorted(keys)
    assert (placed["gene"] == placed["symbol"]).all()


def test_variability_is_fitted_on_training_cells_only(handmade_dataset, made, tmp_path):
    store = Store(handmade_dataset)
    cells, genes = store.table("cells"), store.table("genes")
    train = cells.loc[cells["split"] == "train", "barcode"]
    matrix = sparse.csr_matrix(made.rna.to_df().loc[train, genes["gene"]].to_numpy())
    expected, _ = highly_variable(lambda: [matrix], n_genes=12)
    pd.testing.assert_frame_equal(genes[list(expected)], expected)
    held_out = ~made.rna.obs_names.isin(train)
    for changed, same in ((held_out, True), (~held_out, False)):
        rna = made.rna.copy()
        rna.X = sparse.csr_matrix(rna.X.multiply(np.where(changed, 5, 1)[:, None]))
        run_build(tmp_path / str(same), replace(made, rna=rna), window=1000)
        found = Store(tmp_path / str(same) / "dataset").table("genes")
        assert found.equals(genes) == same


def test_sequences_are_the_letters_of_the_fasta(handmade_dataset, made):
    store = Store(handmade_dataset)
    peaks = store.table("peaks")
    letters = ["".join("ACGTN"[code] for code in row) for row in store.array("sequences")]
    assert letters == [
        "".join(
            made.dna[chrom][at] if 0 <= at < len(made.dna[chrom]) else "N" for at in range(c - 128, c + 128)
        )
        for chrom, c in zip(peaks["chrom"], (peaks["start"] + peaks["end"]) // 2, strict=True)
    ]
    assert store.manifest["chromosome_lengths"] == LENGTHS


def test_window_edges_equal_a_double_loop(handmade_dataset):
    store = Store(handmade_dataset)
    genes, peaks = store.table("genes"), store.table("peaks")
    indptr, found, distance = (store.array(f"cis_{part}") for part in ("indptr", "peak", "distance"))
    expected = []
    for g, gene in enumerate(genes.itertuples()):
        for p, peak in enumerate(peaks.itertuples()):
            if gene.chrom == peak.chrom and peak.start < gene.tss + 1001 and peak.end > gene.tss - 1000:
                sign = -1 if gene.strand == "-" else 1
                expected.append((g, p, sign * ((peak.start + peak.end) // 2 - gene.tss)))
    owner = np.repeat(np.arange(len(genes)), np.diff(indptr))
    assert list(zip(owner, found, distance, strict=True)) == expected
    assert len(expected) > 10
    assert store.manifest["prior"] == {
        "kind": "window",
        "bp": 1000,
        "around": "tss",
        "edges": len(expected),
        "loops": 0,
    }


def test_the_chromosome_prior_is_not_stored(made, tmp_path):
    run_build(tmp_path, made, window="chromosome")
    store = Store(tmp_path / "dataset")
    assert store.manifest["prior"] == {"kind": "chromosome"}
    assert not list((tmp_path / "dataset").glob("cis_*"))
    first, last = MultiomeGraphs(tmp_path / "dataset").cis_ranges
    codes = store.table("peaks")["chrom"].to_numpy()
    for gene, begin, end in zip(store.table("genes")["chrom"], first.tolist(), last.tolist(), strict=True):
        assert (np.flatnonzero(codes == gene) == np.arange(begin, end)).all()


def test_the_manifest_says_what_was_built(handmade_dataset, made, tmp_path):
    manifest = json.loads((handmade_dataset / MANIFEST).read_text())
    assert manifest["cell_types"] == ["b cell", "t cell"]
    assert manifest["options"]["labels"] == "kind"
    assert [source["name"] for source in manifest["sources"]] == ["atac.h5ad", "rna.h5ad", "g.gtf", "g.fa"]
    assert all(len(source["checksum"]) == 32 and source["bytes"] > 0 for source in manifest["sources"])
    assert manifest["notes"][0].startswith("10 of 12 genes placed (0 by id, 10 by symbol")
    assert set(manifest["checksums"]) == {path.name for path in handmade_dataset.iterdir()} - {
        MANIFEST,
        CONFIG,
    }
    assert verify(handmade_dataset)["cells"] == N_CELLS
    report = run_build(tmp_path, made, window=1000)
    assert report.sizes == {"cells": N_CELLS, "genes": 12, "peaks": 30, "pairs": 2 * N_CELLS}
    assert (report.path, report.notes) == (tmp_path / "dataset", manifest["notes"])


def test_the_seed_decides_every_byte(simulated, tmp_path):
    sums = []
    for name, seed in (("one", 3), ("two", 3), ("other", 4)):
        build_simulated(simulated, tmp_path / name, seed=seed)
        sums.append(Store(tmp_path / name).manifest["checksums"])
    assert sums[0] == sums[1]
    changed = {name for name in sums[0] if sums[0][name] != sums[2][name]}
    assert changed == {"cells.parquet", "genes.parquet", "pairs.parquet"}


def test_a_simulated_experiment_becomes_graphs(simulated, tmp_path):
    report = build_simulated(simulated, tmp_path / "d")
    assert any("cells without counts in one modality dropped" in note for note in report.notes)
    graphs = MultiomeGraphs(tmp_path / "d", view="pairs", split="train")
    assert graphs[0]["gene"].expression.min() >= 1
    assert graphs.cell_types == [f"type_{i}" for i in range(1, 5)]


@pytest.mark.parametrize("donors", [2, 4])
def test_no_test_cell_is_seen_in_training_in_any_role(made, tmp_path, donors):
    rna = made.rna.copy()
    number = rna.obs_names.str.removeprefix("cell").astype(int)
    rna.obs["donor"] = [f"d{i // 2 % donors if i < 34 else 0}" for i in number]
    report = run_build(tmp_path, replace(made, rna=rna), donor="donor", ratio=3)
    assert any(note.startswith("test donors: d") for note in report.notes)
    store = Store(tmp_path / "dataset")
    cells, pairs = store.table("cells"), store.table("pairs")
    test = set(np.flatnonzero(cells["split"] == "test"))
    seen = pairs[pairs["split"] != "test"]
    assert not test & ({*seen["rna"]} | {*seen["atac"]})
    held = cells.loc[cells["split"] == "test", "donor"].unique()
    assert not cells.loc[cells["split"] != "test", "donor"].isin(held).any()
    assert (
        not cells.loc[cells["split"] == "train", "donor"]
        .isin([] if donors == 2 else cells.loc[cells["split"] == "validation", "donor"])
        .any()
    )


def test_donors_that_a_type_lacks_are_told(made, tmp_path):
    rna = made.rna.copy()
    rna.obs["kind"] = np.where(
        rna.obs["donor"] == "d1", rna.obs["kind"].astype(str) + " of d1", rna.obs["kind"]
    )
    rna.obs.loc[rna.obs_names[(rna.obs["donor"] == "d1").argmax()], "kind"] = "other"
    report = run_build(tmp_path, replace(made, rna=rna), donor="donor", window=1000)
    assert any(note.startswith("types without training cells: b cell of d1") for note in report.notes)


@pytest.mark.parametrize(
    ("values", "types", "note"),
    [
        ([1, 2], ["1", "2"], "column 'kind' holds int values: read as names"),
        ([True, False], ["False", "True"], "column 'kind' holds bool values: read as names"),
        ([1.0, np.nan, 2.0], ["1", "2"], "column 'kind' holds float values: read as names"),
        (["a", "b", "a", None], ["a", "b"], "10 of 40 cells have no value in 'kind'"),
        (["a", "b", "a", "nan"], ["a", "b"], "10 of 40 cells have no value in 'kind'"),
        (["a", "b", "a", ""], ["a", "b"], "10 of 40 cells have no value in 'kind'"),
    ],
)
@pytest.mark.parametrize("categorical", [False, True])
def test_labels_become_names_and_missing_ones_none(made, tmp_path, values, types, note, categorical):
    rna, atac = made.rna.copy(), made.atac.copy()
    labels = [values[i % len(values)] for i in range(N_CELLS)]
    rna.obs["kind"] = pd.Categorical(labels) if categorical else labels
    del atac.obs["kind"]
    report = run_build(tmp_path, replace(made, rna=rna, atac=atac))
    assert note in report.notes
    store = Store(tmp_path / "dataset")
    assert store.manifest["cell_types"] == types
    named = store.table("cells").set_index("barcode")["cell_type"][rna.obs_names]
    gone = pd.isna(np.array(labels, dtype=object)) | pd.Series(labels).isin(["nan", ""]).to_numpy()
    assert (named.isna().to_numpy() == gone).all()
    pairs = store.table("pairs")
    missing = store.table("cells")["cell_type"].isna().to_numpy()
    assert not missing[pairs.loc[pairs["match"] == 0, ["rna", "atac"]].to_numpy()].any()


def test_without_labels_cells_are_unlabelled(made, tmp_path):
    run_build(tmp_path, made, labels=None)
    assert MultiomeGraphs(tmp_path / "dataset").cell_types == []
    assert set(Store(tmp_path / "dataset").table("pairs")["kind"]) == {"positive", "random"}


@pytest.mark.parametrize("keep_zeros", [False, True])
def test_empty_cells_are_dropped_and_told(made, tmp_path, keep_zeros):
    rna, atac = (emptied(getattr(made, name), [cell], keep_zeros=keep_zeros) for name, cell in EMPTY.items())
    changed = replace(made, rna=rna, atac=atac)
    report = run_build(tmp_path, changed)
    assert any(
        note.startswith("2 cells without counts in one modality dropped (cell") for note in report.notes
    )
    found = stored(tmp_path / "dataset", "rna")
    assert not {"cell3", "cell5"} & set(found.index)
    expected = made.rna.to_df().loc[found.index, found.columns]
    pd.testing.assert_frame_equal(found, expected, check_names=False)


def test_chromosomes_that_the_gtf_names_take_its_spelling(made, tmp_path):
    atac = made.atac.copy()
    atac.var_names = atac.var_names.str.removeprefix("chr")
    report = run_build(tmp_path, replace(made, atac=atac))
    assert any(note.startswith("chromosomes renamed: ") for note in report.notes)
    assert Store(tmp_path / "dataset").manifest["chromosomes"] == ["M", "chr2", "chr10"]
    assert Store(tmp_path / "dataset").manifest["chromosome_lengths"] == {
        name.replace("chrM", "M"): length for name, length in LENGTHS.items()
    }


def test_memory_does_not_grow_with_cells_beyond_the_tables(tmp_path, monkeypatch):
    monkeypatch.setattr("scweave.generators.build._CHUNK", 64)
    starts = [f"chr2:{i}-{i + 1}" for i in range(400)]

    def peak_bytes(n_cells):
        rng = np.random.default_rng(0)
        rna = sparse.csr_matrix(rng.integers(0, 2, (n_cells, 400), dtype=np.int8).astype(np.float32))
        data = [ad.AnnData(rna), ad.AnnData(rna)]
        for one, features in zip(data, ([f"G{i}" for i in range(400)], starts), strict=True):
            one.obs_names, one.var_names = [f"c{i}" for i in range(n_cells)], features
        lines = "".join(gene_line("chr2", 10 * i, 10 * i + 5, "+", f"G{i}") for i in range(400))
        inputs = Inputs(*data, {"chr2": "A" * 6000}, lines)
        del rna, data
        arguments = inputs.write(tmp_path / str(n_cells))
        del inputs
        tracemalloc.start()
        options = BuildOptions(window=1000)
        build(out=tmp_path / str(n_cells) / "dataset", options=options, progress=False, **arguments)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return peak

    few, many = peak_bytes(500), peak_bytes(4500)
    assert (many - few) / 4000 < 500  # bytes a cell; its 400 counts alone take 3,200 as CSR
