"""A batch equals what PyG would collate; a dataset reads back what was written."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from torch_geometric.data import Batch

from random_dataset import write_random_dataset
from scweave.graphs.dataset import MultiomeGraphs
from scweave.graphs.errors import InputError
from scweave.graphs.loader import GraphLoader
from scweave.graphs.schema import CIS, EXPRESSES, OPENS, SCHEMA_VERSION
from scweave.graphs.store import StoreWriter, checksum, verify


def assert_same(ours, theirs):
    assert ours.keys() == theirs.keys() if callable(ours.keys) else True
    for mine, other in zip(ours.stores, theirs.stores, strict=True):
        assert mine._key == other._key
        assert list(mine.keys()) == list(other.keys())
        for key, value in other.items():
            if isinstance(value, torch.Tensor):
                assert mine[key].dtype == value.dtype, (mine._key, key)
                assert torch.equal(mine[key], value), (mine._key, key)
            else:
                assert mine[key] == value


@pytest.mark.parametrize("view", ["cells", "pairs"])
@pytest.mark.parametrize("attributes", [(), ("chrom", "tss", "sequence")])
def test_batch_equals_pyg_collate(random_dataset, view, attributes):
    graphs = MultiomeGraphs(random_dataset, view=view)
    which = [5, 3, 11, 5, 0]
    ours = graphs.batch(which, attributes=attributes)
    theirs = Batch.from_data_list([graphs.get(i, attributes=attributes) for i in which])
    assert type(ours) is type(theirs)
    assert_same(ours, theirs)
    for mine, other in zip(ours.to_data_list(), theirs.to_data_list(), strict=True):
        assert_same(mine, other)


def test_graph_of_one_cell_holds_its_counts(random_dataset):
    graphs = MultiomeGraphs(random_dataset)
    data = graphs[7]
    dense = graphs.rna_rows.matrix([7]).toarray()[0]
    assert torch.equal(data["gene"].id, torch.from_numpy(np.flatnonzero(dense)))
    assert np.array_equal(data["gene"].expression.numpy(), dense[dense > 0])
    assert data["cell"].match.item() == 1
    assert data.validate(raise_on_error=True)
    peak, gene = data[CIS].edge_index
    assert (graphs.peaks.chrom[data["peak"].id[peak]] == graphs.genes.chrom[data["gene"].id[gene]]).all()
    centre = (graphs.peaks.start + graphs.peaks.end)[data["peak"].id[peak]] // 2
    signed = (centre - graphs.genes.tss[data["gene"].id[gene]]) * graphs.genes.strand[data["gene"].id[gene]]
    assert torch.equal(data[CIS].distance.long(), signed)


@pytest.mark.parametrize("table", [1, 200, 1 << 23])
def test_cis_edges_of_a_batch_are_those_between_its_nodes(random_dataset, monkeypatch, table):
    monkeypatch.setattr("scweave.graphs.collate._TABLE", table)  # one, two or all graphs at a time
    graphs = MultiomeGraphs(random_dataset)
    indptr, peak, distance = (graphs.store.array(f"cis_{part}") for part in ("indptr", "peak", "distance"))
    rna, atac = np.array([7, 3, 9, 9, 20]), np.array([7, 3, 8, 9, 3])
    batch = graphs.batch_of_pairs(rna, atac)
    found = [data[CIS] for data in batch.to_data_list()]
    for i, data in enumerate(batch.to_data_list()):
        genes, peaks = data["gene"].id.tolist(), data["peak"].id.tolist()
        expected = [
            (peaks.index(peak[edge]), genes.index(gene), distance[edge])
            for gene in genes
            for edge in range(indptr[gene], indptr[gene + 1])
            if peak[edge] in peaks
        ]
        edges = [*found[i].edge_index.tolist(), found[i].distance.tolist()]
        assert list(zip(*edges, strict=True)) == expected
    assert sum(len(edges.distance) for edges in found) > 10


def test_empty_cell_is_a_graph(random_dataset):
    data = MultiomeGraphs(random_dataset)[3]
    assert data["gene"].num_nodes == data["peak"].num_nodes == 0
    assert data[OPENS].edge_index.shape == (2, 0)


def test_subsets_and_splits(random_dataset):
    graphs = MultiomeGraphs(random_dataset, split="test")
    cells = graphs.cells["split"].to_numpy()
    rna, atac = graphs.pairs_of(range(len(graphs)))
    assert (cells[rna] == "test").all() and np.array_equal(rna, atac)
    part = graphs[3:6]
    assert len(part) == 3
    assert torch.equal(part[0]["gene"].id, graphs[3]["gene"].id)
    assert_same(part.batch([0, 2]), graphs.batch([3, 5]))


def test_whole_graph_and_its_limit(random_dataset, chromosome_dataset):
    for path in (random_dataset, chromosome_dataset):
        graphs = MultiomeGraphs(path)
        data = graphs.graph()
        assert data[EXPRESSES].edge_index.shape[1] == graphs.rna_rows.indptr[-1]
        assert data["gene"].num_nodes == len(graphs.genes)
        assert data.validate(raise_on_error=True)
        peak, gene = data[CIS].edge_index
        assert (graphs.peaks.chrom[peak] == graphs.genes.chrom[gene]).all()
        with pytest.raises(InputError, match=r"more than the limit of 0\.0 GB"):
            graphs.graph(limit=100)
    same = (graphs.peaks.chrom[:, None] == graphs.genes.chrom[None]).sum()
    assert peak.numel() == same  # the chromosome prior: every pair on one chromosome


def test_chromosome_prior_is_not_materialised(chromosome_dataset):
    graphs = MultiomeGraphs(chromosome_dataset)
    assert CIS not in graphs[0].edge_types
    first, last = graphs.cis_ranges
    for gene, chrom in enumerate(graphs.genes.chrom):
        own = (graphs.peaks.chrom == chrom).nonzero().squeeze(1)  # none for an unplaced gene
        assert own.tolist() == list(range(int(first[gene]), int(last[gene])))


@pytest.mark.parametrize("workers", [0, 2])
def test_loader_visits_everything_once_in_the_order_of_seed_and_epoch(random_dataset, workers):
    graphs = MultiomeGraphs(random_dataset, view="pairs", split="train")
    loader = GraphLoader(graphs, 4, shuffle=True, seed=3, num_workers=workers)
    first = torch.cat([batch["cell"].rna for batch in loader])
    again = torch.cat([batch["cell"].rna for batch in loader])
    loader.set_epoch(1)
    later = torch.cat([batch["cell"].rna for batch in loader])
    assert torch.equal(first, again) and not torch.equal(first, later)
    assert torch.equal(first.sort().values, later.sort().values)
    assert len(first) == len(graphs)


def test_another_process_opens_the_files_itself(random_dataset):
    graphs = MultiomeGraphs(random_dataset, view="pairs")[2:9]
    state = pickle.dumps(graphs)
    assert len(state) < 20_000
    assert_same(pickle.loads(state).batch([0, 3]), graphs.batch([0, 3]))


def test_unknown_names_are_told(random_dataset, tmp_path):
    with pytest.raises(InputError, match="no attribute colour"):
        MultiomeGraphs(random_dataset).get(0, attributes=["colour"])
    with pytest.raises(InputError, match="no split 'dev'"):
        MultiomeGraphs(random_dataset, split="dev")
    with pytest.raises(InputError, match="is not a scweave dataset"):
        MultiomeGraphs(tmp_path)


def test_verify_finds_a_changed_byte(tmp_path):
    path = write_random_dataset(tmp_path / "d", window=True)
    assert verify(path)["cells"] == 40
    file = path / "atac_values.npy"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(bytes(content))
    with pytest.raises(InputError, match=r"atac_values\.npy has changed"):
        verify(path)
    file.unlink()
    with pytest.raises(InputError, match=r"atac_values\.npy is missing"):
        verify(path)


@pytest.mark.parametrize(
    ("version", "word"), [(SCHEMA_VERSION + 1, "Update scweave"), (0, "Build the dataset anew")]
)
def test_other_schema_versions_are_refused_by_name(tmp_path, version, word):
    path = write_random_dataset(tmp_path / "d", window=True)
    manifest = json.loads((path / "dataset.json").read_text())
    manifest["schema_version"] = version
    (path / "dataset.json").write_text(json.dumps(manifest))
    with pytest.raises(InputError, match=f"schema {version}.*{word}"):
        MultiomeGraphs(path)


def test_a_failed_build_leaves_nothing(tmp_path):
    def fail() -> None:
        with StoreWriter(tmp_path / "d") as writer:
            writer.array("x", np.arange(3))
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert list(tmp_path.iterdir()) == []
    write_random_dataset(tmp_path / "d", window=True)
    with pytest.raises(InputError, match="exists already"):
        write_random_dataset(tmp_path / "d", window=True)
    assert [p.name for p in tmp_path.iterdir()] == ["d"]


def test_counts_widen_without_loss(tmp_path: Path):
    from scipy import sparse

    from scweave.graphs.csr import CsrWriter
    from scweave.graphs.store import _rows

    pieces = [
        np.array([[1, 0, 255]]),
        np.array([[256, 3, 0]]),
        np.array([[0, 0, 70_000]]),
        np.zeros((2, 3), int),
    ]
    writer = CsrWriter(tmp_path, "x", 3)
    for piece in pieces:
        writer.append(sparse.csr_matrix(piece))
    writer.close()
    rows = _rows(tmp_path, "x", 3)
    assert rows.values.dtype == np.uint32
    assert rows.indices.dtype == np.uint8
    assert np.array_equal(rows.matrix(range(5)).toarray(), np.vstack(pieces))
    assert np.array_equal(rows.matrix([2, 0]).toarray(), np.vstack(pieces)[[2, 0]])


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda m: m.pop("modalities"), r"dataset\.json is damaged \(it lacks modalities\)"),
        (lambda m: m.pop("checksums"), r"dataset\.json is damaged \(it lacks checksums\)"),
        (lambda m: m.update(checksums={}), r"atac_indices\.npy, .* has no checksum"),
        (lambda m: m["checksums"].pop("pairs.parquet"), r"pairs\.parquet has no checksum"),
        (lambda m: m.update(chromosomes=["chr1"]), r"genes lie on unknown chromosomes"),
    ],
)
def test_verify_finds_a_changed_manifest(tmp_path, change, told):
    path = write_random_dataset(tmp_path / "d", window=True)
    manifest = json.loads((path / "dataset.json").read_text())
    change(manifest)
    (path / "dataset.json").write_text(json.dumps(manifest))
    with pytest.raises(InputError, match=told):
        verify(path)


def test_verify_finds_prior_edges_that_leave_the_peaks(tmp_path):
    path = write_random_dataset(tmp_path / "d", window=True)
    peak = np.load(path / "cis_peak.npy")
    peak[-1] = 90
    np.save(path / "cis_peak.npy", peak)
    manifest = json.loads((path / "dataset.json").read_text())
    manifest["checksums"]["cis_peak.npy"] = checksum(path / "cis_peak.npy")
    (path / "dataset.json").write_text(json.dumps(manifest))
    with pytest.raises(InputError, match="the prior edges are inconsistent"):
        verify(path)
