"""What a build may choose: one modality, scaffolds, DNA, and the rest."""

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from handmade_experiment import N_CELLS, build_one, gene_line, run_build, stored
from scweave.commands.jobs import Job
from scweave.generators.build import BuildOptions, build
from scweave.graphs.bases import decode
from scweave.graphs.dataset import MultiomeGraphs
from scweave.graphs.errors import InputError
from scweave.graphs.loader import GraphLoader
from scweave.graphs.store import Store, verify
from scweave.train import run
from tenx_files import random_counts, write_mtx


@pytest.mark.parametrize("gtf", [True, False])
def test_atac_alone_builds_with_and_without_annotation(made, tmp_path, gtf):
    report = build_one(tmp_path, made, "atac", gtf=gtf)
    assert verify(tmp_path / "dataset")["cells"] == N_CELLS
    graphs = MultiomeGraphs(tmp_path / "dataset", split="train")
    assert graphs.modalities == ("atac",)
    assert len(graphs.genes) == (10 if gtf else 0)
    assert report.sizes["pairs"] == 0
    found = stored(tmp_path / "dataset", "atac")
    given = made.atac.to_df().loc[found.index, found.columns]
    pd.testing.assert_frame_equal(found, given, check_names=False, check_dtype=False)
    batch = next(iter(GraphLoader(graphs, 8, attributes=["chrom", "sequence"])))
    assert batch["gene"].num_nodes == 0
    assert batch["peak"].sequence.shape == (batch["peak"].num_nodes, 256)
    assert graphs[0]["cell", "opens", "peak"].edge_index.shape[1] > 0
    assert (Store(tmp_path / "dataset").manifest["prior"]["edges"] > 0) == gtf


@pytest.mark.parametrize("gtf", [True, False])
def test_rna_alone_builds_with_and_without_annotation(made, tmp_path, gtf):
    report = build_one(tmp_path, made, "rna", gtf=gtf, fasta=False)
    graphs = MultiomeGraphs(tmp_path / "dataset")
    assert (graphs.modalities, len(graphs.peaks), len(graphs)) == (("rna",), 0, N_CELLS)
    found = stored(tmp_path / "dataset", "rna")
    given = made.rna.to_df().loc[found.index, found.columns]
    pd.testing.assert_frame_equal(found, given, check_names=False, check_dtype=False)
    assert graphs.genes.frame["highly_variable"].any()
    assert int((graphs.genes.chrom >= 0).sum()) == (10 if gtf else 0)
    assert ("no gene annotation: genes have no place (RNA alone needs none)" in report.notes) != gtf
    assert graphs.graph().num_edges == int((given > 0).to_numpy().sum())


@pytest.mark.parametrize("name", ["rna", "atac"])
def test_a_model_of_both_modalities_says_so(made, tmp_path, name):
    build_one(tmp_path, made, name)
    missing = {"rna": "ATAC", "atac": "RNA"}[name]
    told = f"crossrec needs RNA and ATAC, and .*dataset has no {missing}\\. Build it from both"
    with pytest.raises(InputError, match=told):
        run(Job(tmp_path / "dataset", tmp_path / "run", "crossrec", "published"), progress=False)
    assert not (tmp_path / "run").exists()


def test_one_type_is_fine_where_no_pair_is_made(made, tmp_path):
    atac = made.atac.copy()
    atac.obs["kind"] = "b cell"
    build_one(tmp_path, replace(made, atac=atac), "atac")
    assert MultiomeGraphs(tmp_path / "dataset").cell_types == ["b cell"]


def with_scaffold(made):
    """Rename the peaks of chrM to a scaffold and put one gene there."""
    atac = made.atac.copy()
    atac.var_names = atac.var_names.str.replace("chrM", "GL000194.1")
    dna = {name.replace("chrM", "GL000194.1"): text for name, text in made.dna.items()}
    gtf = "".join(line for line in made.gtf.splitlines(keepends=True) if '"G3"' not in line)
    return replace(made, atac=atac, dna=dna, gtf=gtf + gene_line("GL000194.1", 10, 90, "+", "G3"))


@pytest.mark.parametrize("scaffolds", ["keep", "drop"])
def test_scaffolds_are_counted_and_kept_or_dropped(made, tmp_path, scaffolds):
    report = run_build(tmp_path, with_scaffold(made), scaffolds=scaffolds, window=1000)
    done = {
        "keep": "kept (--scaffolds drop leaves them out)",
        "drop": "peaks dropped, genes kept without a place",
    }[scaffolds]
    assert f"2 peaks and 1 genes are on scaffolds: {done}" in report.notes
    store = Store(tmp_path / "dataset")
    genes, peaks = store.table("genes").set_index("gene"), store.table("peaks")
    assert len(peaks) == (28 if scaffolds == "drop" else 30)
    assert peaks["chrom"].str.startswith("GL").any() == (scaffolds == "keep")
    assert pd.isna(genes["chrom"]["G3"]) == (scaffolds == "drop")
    found = stored(tmp_path / "dataset", "atac")
    given = with_scaffold(made).atac.to_df().loc[found.index, found.columns]
    pd.testing.assert_frame_equal(found, given, check_names=False, check_dtype=False)


@pytest.mark.parametrize("length", [5, 64])
def test_dna_is_centred_on_the_peak_or_begins_at_its_start(made, tmp_path, length):
    run_build(tmp_path / "centre", made, sequence_length=length)
    run_build(tmp_path / "start", made, sequence_length=length, sequence_from="start")
    for name in ("centre", "start"):
        store = Store(tmp_path / name / "dataset")
        peaks = store.table("peaks")
        for peak, letters in zip(peaks.itertuples(), decode(store.array("sequences")), strict=True):
            first = peak.start if name == "start" else (peak.start + peak.end) // 2 - length // 2
            assert letters == made.dna[peak.chrom][first : first + length]
        whole = [made.dna[p.chrom][p.start : p.end] for p in peaks.itertuples()]
        gc = [sum(map(text.count, "GC")) / sum(map(text.count, "ACGT")) for text in whole]
        assert np.allclose(peaks["gc"], gc)


def test_the_gene_body_and_loops_widen_the_prior(made, tmp_path):
    loops = tmp_path / "loops.bedpe"
    gene = {line.split('gene_name "')[1].split('"')[0]: line.split("\t") for line in made.gtf.splitlines()}
    chrom, start, end = gene["G0"][0], int(gene["G0"][3]) - 1, int(gene["G0"][4])
    far = next(name for name in made.atac.var_names if name.startswith(f"{chrom}:"))
    place = far.split(":")[1].replace("-", "\t")
    loops.write_text(f"{chrom}\t{start}\t{end}\t{chrom}\t{place}\n")
    files = made.write(tmp_path / "files")
    edges = {}
    for name, options in {
        "tss": {"window": 50},
        "body": {"window": 50, "around": "gene-body"},
        "loops": {"window": "none"},
    }.items():
        given = {"loops": loops} if name == "loops" else {}
        options = BuildOptions(labels="kind", **options)
        build(out=tmp_path / name, options=options, progress=False, **files, **given)
        graph = MultiomeGraphs(tmp_path / name).graph()
        peak, gene_id = graph["peak", "cis", "gene"].edge_index.numpy()
        edges[name] = set(zip(peak.tolist(), gene_id.tolist(), strict=True))
        assert Store(tmp_path / name).manifest["prior"]["edges"] == len(edges[name])
    assert edges["tss"] < edges["body"]
    store = Store(tmp_path / "loops")
    peaks, genes = store.table("peaks")["peak"], store.table("genes")["gene"]
    assert (far, "G0") in {(peaks[p], genes[g]) for p, g in edges["loops"]}


def test_a_dataset_may_have_no_prior(made, tmp_path):
    run_build(tmp_path, made, window="none")
    graphs = MultiomeGraphs(tmp_path / "dataset")
    assert graphs.store.manifest["prior"] == {"kind": "none", "edges": 0, "loops": 0}
    for graph in (graphs.graph(), graphs[0]):
        assert graph["peak", "cis", "gene"].edge_index.shape == (2, 0)


def test_a_preview_tells_sizes_and_writes_nothing(made, tmp_path):
    files = made.write(tmp_path / "files")
    options = BuildOptions(labels="kind", window=1000)
    told = build(dry_run=True, progress=False, out=tmp_path / "dataset", options=options, **files)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["files"]
    report = build(out=tmp_path / "dataset", options=options, progress=False, **files)
    assert told.sizes == report.sizes
    assert set(told.notes) <= set(report.notes)
    stored = [Store(tmp_path / "dataset").rows(name, n) for name, n in (("rna", 12), ("atac", 30))]
    assert told.cost["nonzeros"] == sum(len(rows.values) for rows in stored)
    size = sum(path.stat().st_size for path in (tmp_path / "dataset").iterdir())
    assert 0.1 * size < told.cost["disk_bytes"] < 2 * size
    assert "would hold 40 cells, 12 genes, 30 peaks, 80 pairs" in told.lines()[-2]


def test_the_config_tells_all_arguments(made, tmp_path):
    run_build(tmp_path, made, folds=2, unlabelled=("odd",))
    arguments = json.loads((tmp_path / "dataset" / "config.json").read_text())["arguments"]
    assert arguments["folds"] == 2
    assert arguments["unlabelled"] == ["odd"]
    assert arguments["gtf"].endswith("g.gtf")
    assert arguments["like"] is None


@pytest.mark.parametrize("window", [1000, "chromosome"])
def test_without_annotation_peaks_take_the_spelling_of_the_genes(made, tmp_path, window):
    gene = {line.split('gene_name "')[1].split('"')[0]: line.split("\t") for line in made.gtf.splitlines()}
    rna = made.rna.copy()
    rna.var["chrom"] = [gene[n][0].removeprefix("chr") if n in gene else None for n in rna.var_names]
    for column, field, minus in (("start", 3, 1), ("end", 4, 0)):
        rna.var[column] = [int(gene[n][field]) - minus if n in gene else 1 - minus for n in rna.var_names]
    rna.var["strand"] = [gene[n][6] if n in gene else None for n in rna.var_names]
    edges = []
    for name, changed, gtf in (("with", made, True), ("without", replace(made, rna=rna), False)):
        run_build(tmp_path / name, changed, window=window, gtf=gtf, fasta=False)
        graphs = MultiomeGraphs(tmp_path / name / "dataset")
        peak, gene_id = graphs.graph()["peak", "cis", "gene"].edge_index.numpy()
        names = graphs.peaks.frame["peak"].to_numpy()[peak], graphs.genes.frame["gene"].to_numpy()[gene_id]
        edges.append(set(zip(*names, strict=True)))
    assert edges[0] == edges[1] != set()


def test_two_spellings_of_a_chromosome_are_refused(made, tmp_path):
    atac = made.atac.copy()
    names = atac.var_names.to_numpy(dtype=object, copy=True)
    names[0] = names[0].removeprefix("chr")
    atac.var_names = names
    with pytest.raises(
        InputError, match=r"one chromosome has two names \((chr10, 10|10, chr10|chr2, 2|2, chr2)\)"
    ):
        build_one(tmp_path, replace(made, atac=atac), "atac", gtf=False, fasta=False)


def test_a_folder_beside_the_matrix_is_no_source(tmp_path):
    folder = write_mtx(tmp_path / "filtered_feature_bc_matrix", random_counts(20, 30), 10, zipped=False)
    (folder / "analysis").mkdir()
    gtf = tmp_path / "g.gtf"
    gtf.write_text("".join(gene_line("chr2", 100 * i, 100 * i + 9, "+", f"GENE{i}") for i in range(10)))
    build([folder], tmp_path / "d", gtf=gtf, progress=False)
    names = [source["name"] for source in Store(tmp_path / "d").manifest["sources"]]
    assert names == ["matrix.mtx", "features.tsv", "barcodes.tsv", "g.gtf"]


def test_a_preview_refuses_what_the_build_refuses(made, handmade_dataset, tmp_path):
    files = made.write(tmp_path)
    with pytest.raises(InputError, match="exists already"):
        build(dry_run=True, out=handmade_dataset, **files)
    few = replace(made, rna=made.rna[made.rna.obs_names.sort_values()[:3]].copy())
    files = few.write(tmp_path)
    for dry_run in (True, False):
        with pytest.raises(InputError, match="variable genes need at least two training cells; found 1"):
            build(out=tmp_path / "d", options=BuildOptions(ratio=0), dry_run=dry_run, progress=False, **files)


def test_a_fold_without_negatives_is_named(made, tmp_path):
    with pytest.raises(InputError, match=r"fold [0-9]+ of 38: .*Or lower --folds"):
        run_build(tmp_path, made, folds=38)


def test_paths_may_be_texts(made, tmp_path):
    files = {name: str(path) for name, path in made.write(tmp_path).items() if name != "inputs"}
    build(
        [str(tmp_path / "rna.h5ad"), str(tmp_path / "atac.h5ad")],
        str(tmp_path / "d"),
        options=BuildOptions(window=10),
        progress=False,
        **files,
    )
    config = json.loads((tmp_path / "d" / "config.json").read_text())
    assert config["dataset"] == Store(tmp_path / "d").fingerprint


def test_too_few_placed_peaks_are_told_with_both_names(made, tmp_path):
    told = (
        r"28 of 30 peaks \(93%\) are on chromosomes of the genome, fewer than --min-placed 0\.95"
        r" \(peaks: chrM; genome: .*chr.*\)\. Pass the files of the peaks' genome, or lower --min-placed"
    )
    with pytest.raises(InputError, match=told):
        build_one(tmp_path, made, "atac", fasta=False, min_placed=0.95)
    assert not (tmp_path / "dataset").exists()
