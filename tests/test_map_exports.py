"""Networks and files of maps: equal to plain loops, and the same when they are read again."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace

import anndata
import networkx as nx
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from scweave.graphs.errors import InputError
from scweave.interpret.links import network_edges, networks
from scweave.interpret.links.exports import BEDPE_COLUMNS, INTERACT_COLUMNS
from scweave.interpret.links.network_edges import tf_gene_edges
from scweave.interpret.links.networks import communities, hubs
from small_map import plain, small_map

LINK = ("score", "effect", "distance", "n_cells", "zscore", "qvalue")


@pytest.fixture(scope="module")
def found(random_dataset):
    return small_map(random_dataset)


def best(found, cell_type=None):
    """(peak, gene) -> its row of the highest score, and all its types in order."""
    rows, types = {}, defaultdict(list)
    for row in plain(found.links):
        key = row["peak"], row["gene"]
        if cell_type in (None, row["cell_type"]):
            types[key].append(row["cell_type"])
            if key not in rows or row["score"] > rows[key]["score"]:
                rows[key] = row
    return rows, types


def best_sites(found):
    """(tf, peak) -> scores of its sites."""
    sites = defaultdict(list)
    for row in plain(found.sites):
        sites[row["tf"], row["peak"]].append(row["score"])
    return sites


def known(row, names):
    return {name: row[name] for name in names if row[name] is not None}


@pytest.mark.parametrize("cell_type", [None, "A", "unlabelled"])
def test_the_network_equals_plain_dicts(found, cell_type):
    graph = found.to_networkx(cell_type=cell_type)
    rows, types = best(found, cell_type)
    edges = {}
    for key, row in rows.items():
        edges[key] = known(row, LINK)
        if cell_type is None:
            edges[key] |= {"cell_type": row["cell_type"], "cell_types": "; ".join(types[key])}
    linked = {peak for peak, _ in rows}
    for (tf, peak), scores in best_sites(found).items():
        if peak in linked:
            edges[f"tf:{tf}", peak] = {"score": max(scores), "n_sites": len(scores)}
    assert {(a, b): at for a, b, at in graph.edges(data=True)} == edges
    peaks = {row["peak"]: row for row in plain(found.peaks)}
    genes = {row["gene"]: row for row in plain(found.genes)}
    nodes = {
        name: {
            "kind": "peak",
            "name": name,
            **known(peaks[name], ("chrom", "start", "end", "accessibility", "gc")),
        }
        for name in linked
    }
    for name in {gene for _, gene in rows}:
        nodes[name] = {
            "kind": "gene",
            "name": name,
            **known(genes[name], ("symbol", "chrom", "tss", "strand")),
        }
    for tf in {tf for tf, peak in best_sites(found) if peak in linked}:
        nodes[f"tf:{tf}"] = {"kind": "tf", "name": tf}
        if tf in ("G3", "G5"):
            nodes[f"tf:{tf}"]["gene"] = tf.lower()
    assert dict(graph.nodes(data=True)) == nodes
    values = [value for _, _, at in graph.edges(data=True) for value in at.values()]
    assert {type(value) for value in values} == {float, int} | ({str} if cell_type is None else set())


def test_without_sites_the_network_has_no_tfs(found):
    graph = replace(found, sites=None).to_networkx()
    assert {kind for _, kind in graph.nodes(data="kind")} == {"peak", "gene"}


def test_an_empty_map_makes_an_empty_network(found):
    graph = found.filter(min_score=2.0).to_networkx()
    assert len(graph) == 0
    assert hubs(graph).empty and communities(graph).empty
    assert tf_gene_edges(found.filter(min_score=2.0)).empty


def test_a_network_too_large_is_refused(found, monkeypatch):
    monkeypatch.setattr(networks, "_EDGES", 10)
    with pytest.raises(InputError, match=r"has \d+ edges, too many to hold \(10\)\. Filter the map first"):
        found.to_networkx()
    with pytest.raises(InputError, match="no cell type 'C'"):
        found.to_networkx(cell_type="C")


def test_hubs_are_counted_by_hand(found):
    graph = found.to_networkx()
    table = hubs(graph, n=10_000)
    assert len(table) == len(graph)
    for row in plain(table):
        ends = [at for a, b, at in graph.edges(data=True) if row["node"] in (a, b)]
        own = ends if row["kind"] == "tf" else [at for at in ends if "n_sites" not in at]
        assert row["degree"] == len(ends)
        assert row["weighted_degree"] == pytest.approx(sum(at["score"] for at in own))
    order = [("tf", "peak", "gene").index(row["kind"]) for row in plain(table)]
    ranked = [
        (i, -row["degree"], -row["weighted_degree"]) for i, row in zip(order, plain(table), strict=True)
    ]
    assert ranked == sorted(ranked)
    few = hubs(graph, n=2)
    assert few["kind"].tolist() == ["tf"] * 2 + ["peak"] * 2 + ["gene"] * 2
    with pytest.raises(InputError, match="n is 0"):
        hubs(graph, 0)


def test_communities_find_planted_ones():
    graph = nx.DiGraph()
    for block, size in enumerate((6, 4)):
        graph.add_nodes_from((f"p{block}{i}", {"kind": "peak", "name": f"p{block}{i}"}) for i in range(size))
        graph.add_nodes_from((f"g{block}{i}", {"kind": "gene", "name": f"g{block}{i}"}) for i in range(size))
        graph.add_edges_from(
            (f"p{block}{i}", f"g{block}{j}", {"score": 1.0}) for i in range(size) for j in range(size)
        )
        graph.add_node(f"tf:{block}", kind="tf", name=str(block))
        graph.add_edges_from((f"tf:{block}", f"p{block}{i}", {"score": 90.0}) for i in range(size))
    graph.add_edge("p00", "g10", score=0.1)
    graph.add_edge("p01", "g11", score=0.0)
    table = communities(graph, seed=3).set_index("node")["community"]
    assert {node: table[node] for node in graph} == {
        node: int(graph.nodes[node]["name"].lstrip("pg")[0]) for node in graph
    }
    assert communities(graph, seed=3).equals(communities(graph, seed=3))


def test_communities_divide_all_nodes(found):
    graph = found.to_networkx()
    table = communities(graph)
    assert sorted(table["node"]) == sorted(graph)
    sizes = table["community"].value_counts().sort_index().tolist()
    assert sizes == sorted(sizes, reverse=True)
    finer = communities(graph, resolution=4.0)
    assert finer["community"].max() >= table["community"].max()


@pytest.mark.parametrize("cell_type", [None, "B"])
def test_tfs_and_genes_are_joined_through_peaks(found, cell_type):
    rows, _ = best(found, cell_type)
    expected = defaultdict(lambda: [0.0, 0])
    for (tf, site), scores in best_sites(found).items():
        for (peak, gene), row in rows.items():
            if peak == site:
                expected[tf, gene][0] += max(scores) * row["score"]
                expected[tf, gene][1] += 1
    table = tf_gene_edges(found, cell_type=cell_type)
    assert {(row["tf"], row["gene"]): row["n_peaks"] for row in plain(table)} == {
        key: n for key, (_, n) in expected.items()
    }
    for row in plain(table):
        assert row["score"] == pytest.approx(expected[row["tf"], row["gene"]][0])
    assert table["score"].is_monotonic_decreasing


def test_without_sites_tfs_and_genes_are_refused(found):
    with pytest.raises(InputError, match=r"no sites of TFs\. Map again with `scweave map --motifs`"):
        tf_gene_edges(replace(found, sites=None))


@pytest.mark.parametrize("cell_type", [None, "A"])
def test_graphml_reads_back_with_equal_attributes(found, tmp_path, cell_type):
    path = tmp_path / "network.graphml"
    graph = found.to_networkx(cell_type=cell_type)
    assert found.to_graphml(path, cell_type=cell_type) == graph.number_of_edges()
    read = nx.read_graphml(path)
    assert read.is_directed()
    assert dict(read.nodes(data=True)) == dict(graph.nodes(data=True))
    assert {(a, b): at for a, b, at in read.edges(data=True)} == {
        (a, b): at for a, b, at in graph.edges(data=True)
    }


def chromosome_of(found):
    return dict(zip(found.genes["gene"], found.genes["chrom"], strict=True))


def test_bedpe_has_a_line_a_link_of_a_placed_gene(found, tmp_path):
    path = tmp_path / "links.bedpe"
    chrom = chromosome_of(found)
    strand = dict(zip(found.genes["gene"], found.genes["strand"], strict=True))
    rows = [row for row in plain(found.links) if chrom[row["gene"]] is not None]
    assert found.to_bedpe(path) == len(rows) < len(found)
    header, *lines = path.read_text().splitlines()
    assert header == "#" + "\t".join(BEDPE_COLUMNS)
    for line, row in zip(lines, rows, strict=True):
        at = dict(zip(BEDPE_COLUMNS, line.split("\t"), strict=True))
        assert (at["chrom1"], int(at["start1"]), int(at["end1"])) == (row["chrom"], row["start"], row["end"])
        assert (at["chrom2"], int(at["start2"]), int(at["end2"])) == (
            chrom[row["gene"]],
            row["tss"],
            row["tss"] + 1,
        )
        assert at["name"] == f"{row['peak']}|{row['gene']}" and float(at["score"]) == row["score"]
        assert (at["strand1"], at["strand2"]) == (".", strand[row["gene"]])
        assert at["cell_type"] == row["cell_type"]
        for name in ("distance", "n_cells", "effect", "zscore", "pvalue", "qvalue"):
            assert (None if at[name] == "." else float(at[name])) == row[name]


def test_an_interact_track_has_the_fields_of_the_format(found, tmp_path):
    path = tmp_path / "links.interact"
    rows = [row for row in plain(found.links) if row["distance"] is not None]
    trans = [row for row in plain(found.links) if row["distance"] is None and row["tss"] is not None]
    assert trans  # left out
    assert found.to_interact(path) == len(rows)
    track, header, *lines = path.read_text().splitlines()
    assert track.startswith('track type=interact name="')
    assert header == "#" + "\t".join(INTERACT_COLUMNS)
    told = [dict(zip(INTERACT_COLUMNS, line.split("\t"), strict=True)) for line in lines]
    places = [(at["chrom"], int(at["chromStart"])) for at in told]
    assert places == sorted(places)
    highest = max(row["score"] for row in rows)
    by_key = {(row["peak"], row["gene"], row["cell_type"]): row for row in rows}
    colours = {}
    for at in told:
        row = by_key.pop((at["sourceName"], at["targetName"], at["exp"]))
        ends = row["start"], row["end"], row["tss"], row["tss"] + 1
        assert (int(at["chromStart"]), int(at["chromEnd"])) == (min(ends), max(ends))
        wanted = [at[f"{end}{side}"] for end in ("source", "target") for side in ("Start", "End")]
        assert tuple(map(int, wanted)) == ends
        assert {at["chrom"], at["sourceChrom"], at["targetChrom"]} == {row["chrom"]}
        assert float(at["value"]) == row["score"] and int(at["score"]) == round(1000 * row["score"] / highest)
        assert at["name"] == f"{row['peak']}/{row['gene']}"
        assert at["sourceStrand"] == "." and at["targetStrand"] in "+-"
        assert colours.setdefault(at["exp"], at["color"]) == at["color"] and at["color"].startswith("#")
    assert not by_key
    assert len(set(colours.values())) == len(colours) == 3


def test_names_with_blanks_make_no_further_fields(found, tmp_path):
    kinds = found.links["cell_type"].cat.rename_categories({"A": 'CD4 T\t"cell"'})
    odd = replace(
        found, links=found.links.assign(cell_type=kinds), cells=found.cells.rename({"A": 'CD4 T\t"cell"'})
    )
    odd.to_interact(tmp_path / "a")
    odd.to_bedpe(tmp_path / "b")
    assert {len(line.split()) for line in (tmp_path / "a").read_text().splitlines()[2:]} == {18}
    lines = [line.split("\t") for line in (tmp_path / "b").read_text().splitlines()[1:]]
    assert {len(line) for line in lines} == {17}
    assert {line[10] for line in lines} == {"CD4 T cell", "B", "unlabelled"}


def test_an_anndata_of_links_is_sparse_and_reads_back_equal(found, tmp_path):
    data = found.to_anndata()
    rows = plain(found.links)
    assert data.n_obs == len({(row["gene"], row["peak"]) for row in rows})
    assert data.var_names.tolist() == found.cell_types and data.var["cells"].tolist() == found.cells.tolist()
    assert set(data.layers) == {"n_cells", "effect", "zscore", "pvalue", "qvalue"}
    assert all(sparse.issparse(matrix) for matrix in (data.X, *data.layers.values()))
    for name, matrix in {"score": data.X, **data.layers}.items():
        entries = sparse.coo_matrix(matrix)
        stored = {
            (data.obs_names[i], data.var_names[j]): value
            for i, j, value in zip(entries.row, entries.col, entries.data, strict=True)
        }
        assert stored == {
            (f"{row['gene']}|{row['peak']}", row["cell_type"]): row[name]
            for row in rows
            if row[name] is not None
        }
    places = {f"{row['gene']}|{row['peak']}": row for row in rows}
    for name, row in zip(data.obs_names, plain(data.obs), strict=True):
        assert row == {column: places[name][column] for column in row}
    path = tmp_path / "links.h5ad"
    data.write_h5ad(path)
    read = anndata.read_h5ad(path)
    assert "object" not in read.obs.dtypes.astype(str).tolist()
    for column in data.obs:
        assert plain(read.obs[[column]]) == plain(data.obs[[column]])
    pd.testing.assert_frame_equal(read.var, data.var)
    for name in (None, *data.layers):
        first, second = (each.X if name is None else each.layers[name] for each in (data, read))
        for part in ("data", "indices", "indptr"):
            np.testing.assert_array_equal(getattr(first, part), getattr(second, part))


def test_an_empty_map_is_written_everywhere(found, tmp_path):
    empty = found.filter(min_score=2.0)
    for name in ("parquet", "bedpe", "interact", "graphml"):
        assert getattr(empty, f"to_{name}")(tmp_path / name) == 0
    assert len(pd.read_parquet(tmp_path / "parquet")) == 0
    assert len((tmp_path / "bedpe").read_text().splitlines()) == 1
    assert len((tmp_path / "interact").read_text().splitlines()) == 2
    assert len(nx.read_graphml(tmp_path / "graphml")) == 0
    data = empty.to_anndata()
    assert data.shape == (0, 3) and not data.layers
    data.write_h5ad(tmp_path / "h5ad")


@pytest.mark.parametrize("name", ["parquet", "bedpe", "interact", "graphml"])
def test_files_appear_whole_or_not_at_all(found, tmp_path, monkeypatch, name):
    write = getattr(found, f"to_{name}")
    with pytest.raises(InputError, match=r"there is no folder .*nowhere\. Make it first\."):
        write(tmp_path / "nowhere" / "file")
    with pytest.raises(InputError, match="it is a folder"):
        write(tmp_path)
    target = {
        "parquet": "scweave.interpret.links.exports.pq.ParquetWriter.write_table",
        "graphml": "scweave.interpret.links.exports.nx.write_graphml_xml",
    }.get(name, "scweave.interpret.links.exports.pa_csv.write_csv")

    def fail(*_args, **_options):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(target, fail)
    with pytest.raises(InputError, match="No space left on device"):
        write(tmp_path / "file")
    assert list(tmp_path.iterdir()) == []


def test_best_links_break_ties_by_the_first_type(found):
    rows, _ = best(found)
    for row in plain(network_edges.best_links(found)):
        assert row["cell_type"] == rows[row["peak"], row["gene"]]["cell_type"]
