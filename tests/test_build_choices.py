"""What a build may choose: one modality, scaffolds, DNA, folds of donors, another dataset's features, presets."""

import json
from dataclasses import replace

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from handmade_experiment import N_CELLS, gene_line, run_build
from scweave.generators.build import BuildOptions, build
from scweave.generators.presets import PRESETS
from scweave.graphs.bases import decode
from scweave.graphs.dataset import MultiomeGraphs
from scweave.graphs.errors import InputError
from scweave.graphs.loader import GraphLoader
from scweave.graphs.store import Store, verify
from scweave.interpret.maps import write_maps
from scweave.train import Job, evaluate_run, run
from tenx_files import random_counts, write_mtx


def build_one(folder, made, name, *, gtf=True, fasta=True, **options):
    files = made.write(folder)
    return build(
        [folder / f"{name}.h5ad"],
        folder / "dataset",
        gtf=files["gtf"] if gtf else None,
        fasta=files["fasta"] if fasta else None,
        options=BuildOptions(**{"labels": "kind"} | options),
        progress=False,
    )


def counts(folder, name):
    store = Store(folder)
    features = store.table("genes")["gene"] if name == "rna" else store.table("peaks")["peak"]
    rows = store.rows(name, len(features))
    cells = store.table("cells")["barcode"]
    return pd.DataFrame(rows.matrix(np.arange(rows.n_rows)).toarray(), index=cells, columns=list(features))


@pytest.mark.parametrize("gtf", [True, False])
def test_atac_alone_builds_with_and_without_annotation(made, tmp_path, gtf):
    report = build_one(tmp_path, made, "atac", gtf=gtf)
    assert verify(tmp_path / "dataset")["cells"] == N_CELLS
    graphs = MultiomeGraphs(tmp_path / "dataset", split="train")
    assert graphs.modalities == ("atac",)
    assert len(graphs.genes) == (10 if gtf else 0)
    assert report.sizes["pairs"] == 0
    found = counts(tmp_path / "dataset", "atac")
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
    found = counts(tmp_path / "dataset", "rna")
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
    found = counts(tmp_path / "dataset", "atac")
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


def query(made, *, shift=3):
    """The same cells under other names, peaks moved a little, genes under their ids, in another order."""
    rng = np.random.default_rng(3)
    rna, atac = made.rna[:, rng.permutation(made.rna.n_vars)].copy(), made.atac.copy()
    rna.var["gene_ids"] = ["ENS" + name if name.startswith("G") else "none" + name for name in rna.var_names]
    rna.var_names = [f"other{i}" for i in range(rna.n_vars)]
    parts = atac.var_names.str.extract(r"(\w+):(\d+)-(\d+)")
    start, end = parts[1].astype(int) + shift, parts[2].astype(int) + shift
    atac.var_names = parts[0] + ":" + start.astype(str) + "-" + end.astype(str)
    for data in (rna, atac):
        data.obs_names = "query_" + data.obs_names
        data.obs["kind"] = "of one kind"
    return replace(made, rna=rna, atac=atac)


def build_like(folder, made, reference, **options):
    inputs = made.write(folder)["inputs"]
    options = BuildOptions(**{"discovery": True} | options)
    return build(inputs, folder / "dataset", like=reference, options=options, progress=False)


def test_a_query_takes_the_features_of_a_dataset(made, handmade_dataset, tmp_path):
    report = build_like(tmp_path, query(made), handmade_dataset)
    ours, theirs = Store(tmp_path / "dataset"), Store(handmade_dataset)
    for name in ("genes", "peaks"):
        pd.testing.assert_frame_equal(ours.table(name), theirs.table(name), check_like=True)
    for name in ("sequences", "cis_indptr", "cis_peak", "cis_distance"):
        assert (ours.array(name) == theirs.array(name)).all()
    assert ours.manifest["like"] == theirs.fingerprint
    known = [f"G{i}" for i in range(10)]
    for name, columns in (("rna", known), ("atac", list(theirs.table("peaks")["peak"]))):
        found, given = counts(tmp_path / "dataset", name), counts(handmade_dataset, name)
        found.index = found.index.str.removeprefix("query_")
        assert (found.loc[given.index, columns] == given[columns]).all(axis=None)
    assert set(ours.table("cells")["split"]) == {"test"}
    assert set(ours.table("pairs")["kind"]) == {"positive"}
    assert any("10 of 12" in note and "genes" in note for note in report.notes), report.notes


def test_one_cell_is_enough_for_discovery(made, handmade_dataset, tmp_path):
    one = replace(made, rna=made.rna[:1].copy(), atac=made.atac[made.rna.obs_names[:1]].copy())
    report = build_like(tmp_path, one, handmade_dataset)
    assert report.sizes["cells"] == report.sizes["pairs"] == 1


def test_a_query_of_another_genome_is_refused(made, handmade_dataset, tmp_path):
    far = query(made, shift=100_000)
    with pytest.raises(InputError, match="peaks"):
        build_like(tmp_path, far, handmade_dataset)
    assert not (tmp_path / "dataset").exists()


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"gtf": "g.gtf"}, r"--like takes genes, peaks, DNA and prior from its dataset: leave out --gtf"),
        ({"options": {"window": 10}}, "leave out --window"),
        ({"options": {"around": "gene-body", "refit": True}}, "leave out --around, --refit"),
        ({"options": {"folds": 3}}, "leave out --folds, --test-donors, --negatives and --ratio"),
        ({"options": {"ratio": 2}}, "leave out --folds, --test-donors, --negatives and --ratio"),
        ({"like": None}, r"name the dataset it was trained on with --like"),
        ({"like": "."}, "is not a scweave dataset"),
    ],
)
def test_what_discovery_cannot_use_is_refused(made, handmade_dataset, tmp_path, given, told):
    inputs = made.write(tmp_path)["inputs"]
    arguments = {"like": handmade_dataset} | given
    if "gtf" in arguments:
        arguments["gtf"] = tmp_path / arguments["gtf"]
    if arguments["like"] == ".":
        arguments["like"] = tmp_path
    choices = {"discovery": True} | arguments.pop("options", {})
    with pytest.raises(InputError, match=told):
        build(inputs, tmp_path / "dataset", options=BuildOptions(**choices), progress=False, **arguments)
    assert not (tmp_path / "dataset").exists()


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


def published_files(folder, made, preset, *, by_name=True):
    """Write the published AnnData format with its quirks; the FASTA has a record a peak."""
    folder.mkdir(exist_ok=True)
    rng = np.random.default_rng(0)
    order = rng.permutation(made.rna.n_obs)
    rna, atac = made.rna.copy(), made.atac[made.rna.obs_names].copy()
    issaac = preset == "issaac"
    parts = atac.var_names.str.extract(r"(\w+):(\d+)-(\d+)")
    names = {"rna": rna.var_names.copy(), "atac": atac.var_names.copy()}
    chrom = {line.split('gene_name "')[1].split('"')[0]: line.split("\t") for line in made.gtf.splitlines()}
    rna.var["chrom"] = [chrom[name][0] if name in chrom else "chrUnknown" for name in rna.var_names]
    rna.var["chromStart"] = [int(chrom[name][3]) - 1 if name in chrom else 0 for name in rna.var_names]
    rna.var["chromEnd"] = [int(chrom[name][4]) if name in chrom else 1 for name in rna.var_names]
    rna.var["_" if issaac else "strand"] = [chrom[n][6] if n in chrom else "+" for n in rna.var_names]
    rna.var["means"], rna.var["variances"] = rng.random(rna.n_vars), rng.random(rna.n_vars)
    rna.var["variances_norm"] = rng.random(rna.n_vars)
    rna.var["highly_variable"] = rng.random(rna.n_vars) < 0.5
    atac.var["chrom"], atac.var["chromStart"] = parts[0].to_numpy(), parts[1].astype(int).to_numpy()
    atac.var["chromEnd"] = parts[2].astype(int).to_numpy()
    if issaac:
        rna.var["gene"], atac.var["peak"] = names["rna"].to_numpy(), names["atac"].to_numpy()
        for data in (rna, atac):
            data.var_names = [str(i) for i in range(data.n_vars)]
            data.obs["cell"] = data.obs_names
    for data in (rna, atac):
        data.obs["cell_type"] = data.obs.pop("kind")
    where = PRESETS[preset]
    rna[order].copy().write_h5ad(folder / where.rna)
    data = atac[order].copy()
    data.X = data.X.toarray() if issaac else sparse.csr_matrix(data.X)
    data.write_h5ad(folder / where.atac)
    with (folder / "peaks.fa").open("w") as file:
        for i, (name, at) in enumerate(zip(names["atac"], parts.itertuples(), strict=True)):
            text = made.dna[at[1]][int(at[2]) : int(at[3])][:256].ljust(256, "N")
            file.write(f">{name if by_name else f'record{i}'}\n{text.lower() if i % 2 else text}\n")
    return [folder / where.rna, folder / where.atac], folder / "peaks.fa"


@pytest.mark.parametrize("by_name", [True, False])
@pytest.mark.parametrize("preset", PRESETS)
def test_presets_read_the_published_format(made, tmp_path, preset, by_name):
    inputs, fasta = published_files(tmp_path / "files", made, preset, by_name=by_name)
    options = BuildOptions(preset=preset)
    report = build(inputs, tmp_path / "dataset", fasta=fasta, options=options, progress=False)
    store = Store(tmp_path / "dataset")
    genes, peaks = store.table("genes").set_index("gene"), store.table("peaks")
    assert store.manifest["genome"] == PRESETS[preset].genome
    assert store.manifest["cell_types"] == ["b cell", "t cell"]
    given = ad.read_h5ad(inputs[0]).var
    given.index = given["gene"] if preset == "issaac" else given.index
    for name in ("means", "variances_norm", "highly_variable"):
        assert (genes[name] == given[name][genes.index]).all()
    strand = given["_" if preset == "issaac" else "strand"][genes.index]
    placed = genes["chrom"].notna()
    assert placed.sum() == 10
    assert (genes["strand"] == strand)[placed].all()
    end = given["chromEnd"][genes.index] - 1
    tss = given["chromStart"][genes.index].where(strand == "+", end)
    assert (genes["tss"] == tss)[placed].all()
    letters = decode(store.array("sequences"))
    for peak, found in zip(peaks.itertuples(), letters, strict=True):
        assert found == made.dna[peak.chrom][peak.start : peak.end][:256]
    found = counts(tmp_path / "dataset", "atac")
    expected = made.atac.to_df().loc[found.index, found.columns]
    pd.testing.assert_frame_equal(found, expected, check_names=False, check_dtype=False)
    assert any(f"preset {preset}" in note and "published were" in note for note in report.notes)


def test_refitting_ignores_what_var_brings(made, tmp_path):
    inputs, _ = published_files(tmp_path / "files", made, "snare")
    for refit in (False, True):
        options = BuildOptions(preset="snare", refit=refit)
        report = build(inputs, tmp_path / str(refit), options=options, progress=False)
        fitted = [note for note in report.notes if note.startswith("means, variances, variances_norm")]
        assert any("training cells" in note and "fitted on" in note for note in fitted) == refit
    kept, refitted = (Store(tmp_path / str(refit)).table("genes") for refit in (False, True))
    assert (kept["means"] != refitted["means"]).any()


def test_an_unknown_preset_is_told():
    with pytest.raises(InputError, match=r"--preset mars: there is none\. Choose one of issaac, pbmc, share"):
        BuildOptions(preset="mars")


def test_files_of_another_genome_than_the_preset_are_refused(made, tmp_path):
    rna = made.rna.copy()
    rna.uns["genome"] = "hg38"
    rna.obs["cell_type"] = rna.obs["kind"]
    with pytest.raises(InputError, match=r"the preset is on mm10, but the files say hg38"):
        run_build(tmp_path, replace(made, rna=rna), labels=None, preset="snare")


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


def test_what_only_maps_can_use_is_refused_elsewhere(made, handmade_dataset, tmp_path):
    job = Job(handmade_dataset, tmp_path / "run", "crossrec", "published", epochs=1, settings=("width=8",))
    run(job, progress=False)
    other = replace(made, rna=with_more(made.rna), atac=with_more(made.atac))
    build_like(tmp_path / "query", other, handmade_dataset)
    query = tmp_path / "query" / "dataset"
    summary = write_maps(tmp_path / "run", query, tmp_path / "maps", progress=False)
    assert summary["cells"] == N_CELLS
    with pytest.raises(InputError, match=r"has no pairs in its train split .*A map can be made of it"):
        evaluate_run(tmp_path / "run", query, tmp_path / "m.json", progress=False)
    run_build(tmp_path / "positive", other, ratio=0, window=1000)
    told = r"has no negative pairs in its train split"
    for work in (
        lambda: run(
            replace(job, dataset=tmp_path / "positive" / "dataset", out=tmp_path / "r"), progress=False
        ),
        lambda: evaluate_run(
            tmp_path / "run", tmp_path / "positive" / "dataset", tmp_path / "m.json", progress=False
        ),
    ):
        with pytest.raises(InputError, match=told):
            work()
    assert not (tmp_path / "r").exists() and not (tmp_path / "m.json").exists()
    one = made.write(tmp_path / "one")["inputs"][1]
    build(
        [one], tmp_path / "rna", like=handmade_dataset, options=BuildOptions(discovery=True), progress=False
    )
    with pytest.raises(InputError, match=r"crossrec needs RNA and ATAC, and .*rna has no ATAC"):
        write_maps(tmp_path / "run", tmp_path / "rna", tmp_path / "maps2", progress=False)


def with_more(data):
    """Other counts for the same features: cells that no model of the handmade experiment has seen."""
    data = data.copy()
    data.X.data += 1
    return data


def test_a_dataset_like_one_without_rna_fits_its_own_genes(made, tmp_path):
    build_one(tmp_path / "atac", made, "atac")
    reference = tmp_path / "atac" / "dataset"
    rna = made.rna.copy()
    rna.var["gene_ids"] = ["ENS" + name for name in rna.var_names]
    report = build_like(tmp_path / "both", replace(made, rna=rna), reference, discovery=False, labels="kind")
    genes = Store(tmp_path / "both" / "dataset").table("genes")
    assert genes["means"].notna().all()
    assert any("fitted on" in note for note in report.notes)
    assert Store(tmp_path / "both" / "dataset").manifest["options"]["sequence_length"] == 256


def test_the_genome_and_the_choices_of_a_reference_are_inherited(made, tmp_path):
    of = {name: getattr(made, name).copy() for name in ("rna", "atac")}
    for data in of.values():
        data.uns["genome"] = "mm10"
    run_build(tmp_path / "a", replace(made, **of), window="chromosome", sequence_length=32)
    build_like(tmp_path / "b", query(made), tmp_path / "a" / "dataset")
    manifest = Store(tmp_path / "b" / "dataset").manifest
    assert (manifest["genome"], manifest["options"]["window"]) == ("mm10", "chromosome")
    assert manifest["options"]["sequence_length"] == 32
    for data in of.values():
        data.uns["genome"] = "hg38"
    with pytest.raises(InputError, match=r"the query is on hg38, but .*dataset is on mm10"):
        build_like(tmp_path / "c", replace(made, **of), tmp_path / "b" / "dataset")


def test_a_preset_without_its_labels_is_told(made, tmp_path):
    told = (
        r"preset issaac expects its labels in obs\['cell_type'\]; the columns are kind, donor\. Pass --labels"
    )
    with pytest.raises(InputError, match=told):
        run_build(tmp_path, made, labels=None, preset="issaac")


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
