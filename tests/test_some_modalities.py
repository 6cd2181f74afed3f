"""MultiomeGraphs.only: a dataset of both modalities, as if one had never been measured."""

from __future__ import annotations

import pickle
from concurrent.futures import ProcessPoolExecutor
from copy import copy
from multiprocessing import get_context

import numpy as np
import pytest
import torch

from scweave.graphs.dataset import MultiomeGraphs
from scweave.graphs.errors import InputError
from scweave.graphs.loader import GraphLoader
from scweave.graphs.schema import ACCESSIBILITY, EXPRESSION
from tiny_pairs import read_elsewhere

CASES = {"rna": ("gene", "peak"), "atac": ("peak", "gene")}
VALUES = {"gene": EXPRESSION, "peak": ACCESSIBILITY}


def same_nodes(found, expected, node):
    for name in ("id", VALUES[node], "ptr", "batch"):
        assert torch.equal(found[node][name], expected[node][name]), name


def without_nodes(batch, node, n):
    assert batch[node].id.shape == batch[node][VALUES[node]].shape == (0,)
    assert batch[node].ptr.tolist() == [0] * (n + 1)


@pytest.mark.parametrize("kept", CASES)
@pytest.mark.parametrize("dataset", ["random_dataset", "chromosome_dataset"])
def test_the_other_modality_has_no_counts(request, dataset, kept):
    whole = MultiomeGraphs(request.getfixturevalue(dataset))
    part = whole.only([kept])
    present, absent = CASES[kept]
    order = [5, 0, 3, 5]
    expected, found = whole.batch(order), part.batch(order)
    same_nodes(found, expected, present)
    without_nodes(found, absent, 4)
    for name in ("cell_type", "rna", "atac", "match"):
        assert torch.equal(found["cell"][name], expected["cell"][name]), name
    assert found.num_graphs == 4
    for kind in found.edge_types:
        if absent in kind:
            assert found[kind].edge_index.shape == (2, 0), kind
        else:
            assert torch.equal(found[kind].edge_index, expected[kind].edge_index), kind
    one = part[3]
    assert one[absent].num_nodes == 0 and one[present].num_nodes == whole[3][present].num_nodes
    for name in ("rna_rows", "atac_rows"):
        rows, own = getattr(part, name), getattr(whole, name)
        assert (rows.n_rows, rows.n_columns) == (own.n_rows, own.n_columns)
        assert rows.matrix(np.arange(rows.n_rows)).nnz == (
            own.matrix(np.arange(own.n_rows)).nnz if name.startswith(kept) else 0
        )


@pytest.mark.parametrize("kept", CASES)
def test_the_first_dataset_stays_as_it_was(random_dataset, kept):
    whole = MultiomeGraphs(random_dataset)
    before = whole.batch(range(6))
    part = whole.only([kept])
    assert (whole.modalities, part.modalities) == (("rna", "atac"), (kept,))
    for node in ("gene", "peak"):
        same_nodes(whole.batch(range(6)), before, node)
    assert part.fingerprint == whole.fingerprint
    both = whole.only(["atac", "rna"])
    assert both.modalities == ("rna", "atac")
    for node in ("gene", "peak"):
        same_nodes(both.batch(range(6)), before, node)
    assert part.only([kept]).modalities == (kept,)
    assert whole.only([]).modalities == ()
    without_nodes(whole.only([]).batch(range(2)), "gene", 2)


@pytest.mark.parametrize("kept", CASES)
def test_parts_subsets_copies_and_other_processes_keep_it(random_dataset, kept):
    present, absent = CASES[kept]
    whole = MultiomeGraphs(random_dataset, split="train")
    graphs = whole.only([kept])
    chosen = np.array([4, 1, 6, 2])
    some = graphs.index_select(chosen)
    for found, expected in (
        (graphs.part(split="test"), whole.part(split="test")),
        (graphs.part("pairs", "train"), whole.part("pairs", "train")),
        (some, whole.index_select(chosen)),
        (whole.index_select(chosen).only([kept]), whole.index_select(chosen)),
        (some.part(), whole.part()),
        (pickle.loads(pickle.dumps(some)), whole.index_select(chosen)),
        (copy(graphs), whole),
    ):
        assert found.modalities == (kept,) and len(found) == len(expected)
        every = range(len(found))
        same_nodes(found.batch(every), expected.batch(every), present)
        without_nodes(found.batch(every), absent, len(found))
    batches = [[b[present].id.tolist() for b in GraphLoader(some, 2, num_workers=n)] for n in (0, 1)]
    assert batches[0] == batches[1]
    assert sum(b[absent].num_nodes for b in GraphLoader(some, 2, num_workers=1)) == 0


def test_a_spawned_process_opens_what_is_left(random_dataset):
    graphs = MultiomeGraphs(random_dataset).only(["atac"])
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        modalities, genes, peaks = pool.submit(read_elsewhere, graphs).result(timeout=60)
    assert modalities == ("atac",) and genes == []
    assert peaks == graphs.batch(range(4))["peak"].id.tolist()


def test_what_was_not_measured_is_told(random_dataset):
    graphs = MultiomeGraphs(random_dataset)
    for part, wanted, missing in (
        (graphs, ["protein"], "PROTEIN"),
        (graphs.only(["rna"]), ["rna", "atac"], "ATAC"),
        (graphs.only(["atac"]), ["rna"], "RNA"),
    ):
        with pytest.raises(InputError, match=f"has no {missing}") as told:
            part.only(wanted)
        assert "\n" not in str(told.value)
    with pytest.raises(InputError, match=r"telling needs RNA and ATAC, and .* has no RNA"):
        graphs.only(["atac"]).require(["rna", "atac"], "telling")
