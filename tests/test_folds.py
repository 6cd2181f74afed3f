"""Folds: divisions of the same stored counts, each with splits, pairs and fitted attributes of its own."""

import json
import pickle

import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from handmade_experiment import N_CELLS, handmade, run_build
from scweave.commands.evaluate import evaluate_run
from scweave.commands.jobs import Job
from scweave.generators.attributes import highly_variable
from scweave.graphs.dataset import MultiomeGraphs
from scweave.graphs.errors import InputError
from scweave.graphs.loader import GraphLoader
from scweave.graphs.store import Store, checksum, verify
from scweave.models.checkpoint import load_model, open_for
from scweave.train import run

FOLDS = 4


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    folder = tmp_path_factory.mktemp("folds")
    run_build(folder, handmade(), window=1000, folds=FOLDS)
    return folder / "dataset"


def test_every_cell_is_tested_once(dataset):
    splits = [Store(dataset, fold).table("cells")["split"].to_numpy() for fold in range(FOLDS)]
    tested = np.stack([split == "test" for split in splits])
    assert (tested.sum(0) == 1).all()
    assert all(set(split) == {"train", "validation", "test"} for split in splits)
    assert (splits[0] != Store(dataset).table("cells")["split"]).any()


@pytest.mark.parametrize("fold", [None, *range(FOLDS)])
def test_pairs_stay_inside_the_splits_of_the_fold(dataset, fold):
    store = Store(dataset, fold)
    split, pairs = store.table("cells")["split"].to_numpy(), store.table("pairs")
    assert (split[pairs["rna"]] == pairs["split"]).all()
    assert (split[pairs["atac"]] == pairs["split"]).all()
    assert (pairs["match"] == 1).sum() == N_CELLS


@pytest.mark.parametrize("fold", [None, *range(FOLDS)])
def test_variability_is_fitted_on_the_training_cells_of_the_fold(dataset, fold):
    graphs = MultiomeGraphs(dataset, fold=fold)
    train = np.flatnonzero(graphs.cells["split"] == "train")
    matrix = sparse.csr_matrix(graphs.rna_rows.matrix(train).toarray())
    expected, _ = highly_variable(lambda: [matrix], n_genes=len(graphs.genes))
    pd.testing.assert_frame_equal(graphs.genes.frame[list(expected)], expected)
    assert np.allclose(graphs.genes.means, expected["means"])


def test_counts_are_stored_once(dataset):
    assert len(list(dataset.glob("*_values.npy"))) == 2
    assert {path.name for path in dataset.glob("fold2_*")} == {
        f"fold2_{name}.parquet" for name in ("cells", "genes", "pairs")
    }


def test_a_fold_is_kept_by_parts_copies_and_workers(dataset):
    graphs = MultiomeGraphs(dataset, view="pairs", fold=1)
    expected = Store(dataset, 1).table("pairs")
    part = graphs.part("pairs", "test")
    assert part.fold == 1
    assert (
        part.pairs_of(range(len(part)))[0].tolist() == expected["rna"][expected["split"] == "test"].tolist()
    )
    again = pickle.loads(pickle.dumps(graphs))
    assert again.fold == 1
    assert again.genes.frame.equals(graphs.genes.frame)
    batches = [
        [batch["gene"].id.tolist() for batch in GraphLoader(part, 4, attributes=["means"], num_workers=n)]
        for n in (0, 1)
    ]
    assert batches[0] == batches[1]


def test_a_fold_that_is_not_there_is_told(dataset, random_dataset):
    with pytest.raises(
        InputError, match=r"has folds 0 to 3, not fold 4\. Choose another, or build with --folds K"
    ):
        MultiomeGraphs(dataset, fold=4)
    with pytest.raises(InputError, match="has no folds, not fold 0"):
        MultiomeGraphs(random_dataset, fold=0)


def test_a_pair_across_the_splits_of_a_fold_is_found(tmp_path):
    run_build(tmp_path, handmade(), window=1000, folds=2)
    folder = tmp_path / "dataset"
    assert verify(folder)["cells"] == N_CELLS
    store = Store(folder, 1)
    pairs, split = store.table("pairs"), store.table("cells")["split"].to_numpy()
    pairs.loc[0, "atac"] = np.flatnonzero(split != pairs["split"][0])[0]
    pairs.to_parquet(folder / "fold1_pairs.parquet", index=False)
    manifest = json.loads((folder / "dataset.json").read_text())
    manifest["checksums"]["fold1_pairs.parquet"] = checksum(folder / "fold1_pairs.parquet")
    (folder / "dataset.json").write_text(json.dumps(manifest))
    with pytest.raises(InputError, match="a pair joins cells of different splits"):
        verify(folder)


def test_a_model_is_evaluated_on_the_fold_it_was_trained_on(dataset, tmp_path):
    job = Job(
        dataset,
        tmp_path / "run",
        "crossrec",
        "published",
        epochs=1,
        batch_size=8,
        settings=("width=8",),
        fold=2,
    )
    metrics = run(job, progress=False)
    assert metrics["fold"] == 2
    assert json.loads((tmp_path / "run" / "config.json").read_text())["arguments"]["fold"] == 2
    loaded = load_model(tmp_path / "run")
    cells, _ = open_for(loaded, dataset, split="test")
    split = Store(dataset, 2).table("cells")["split"].to_numpy()
    assert cells.pairs_of(range(len(cells)))[0].tolist() == np.flatnonzero(split == "test").tolist()
    again = evaluate_run(tmp_path / "run", dataset, tmp_path / "again.json", progress=False)
    assert again == metrics


def test_cells_that_a_model_has_seen_are_recognised_in_another_dataset(dataset, tmp_path):
    job = Job(dataset, tmp_path / "run", "crossrec", "published", epochs=1, settings=("width=8",), fold=1)
    run(job, progress=False)
    run_build(tmp_path / "again", handmade(), window=1000, seed=5, negatives="both")
    again = MultiomeGraphs(tmp_path / "again" / "dataset")
    assert open_for(load_model(tmp_path / "run"), again.root)[0].fold is None
    tested = set(again.cells.loc[again.cells["split"] == "test", "barcode"])
    before = MultiomeGraphs(dataset, fold=1).cells
    seen = tested & set(before.loc[before["split"] != "test", "barcode"])
    told = f"{len(seen)} of {len(tested)} test cells of .* were seen when the model in .*run was trained"
    with pytest.raises(InputError, match=told):
        evaluate_run(tmp_path / "run", tmp_path / "again" / "dataset", tmp_path / "m.json", progress=False)
    assert not (tmp_path / "m.json").exists()


def test_keys_of_rows_follow_their_counts(dataset):
    rows = MultiomeGraphs(dataset).atac_rows
    keys = rows.keys(np.arange(N_CELLS))
    matrix = rows.matrix(np.arange(N_CELLS)).toarray()
    same = (matrix[:, None] == matrix[None]).all(-1)
    assert ((keys[:, None] == keys[None]) == same).all()
    assert (rows.keys([5, 2, 5]) == keys[[5, 2, 5]]).all()
    assert rows.keys([]).tolist() == []
