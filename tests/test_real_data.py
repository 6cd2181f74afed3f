"""Real experiments through the build: what is placed, renamed, fitted or refused."""

import gzip
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import anndata as ad
import h5py
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from scweave.generators.build import BuildOptions, BuildReport, build
from scweave.graphs.dataset import MultiomeGraphs
from scweave.graphs.errors import InputError
from scweave.graphs.store import Store, verify

GTFS = {
    "mm10": "mm10_gencode_genes.gtf.gz",
    "hg38": "hg38_gencode43_genes.gtf.gz",
    "grch38": "grch38_ensembl91_genes.gtf.gz",
}


def build_real(data: Path, name: str, gtf: str, out: Path, inputs=None, **options) -> BuildReport:
    return build(
        inputs or [data / f"{name}_{modality}.h5ad" for modality in ("rna", "atac")],
        out,
        gtf=data / "genome" / GTFS[gtf],
        options=BuildOptions(**options),
        progress=False,
    )


def note(report: BuildReport, begin: str) -> str:
    found = [line for line in report.notes if line.startswith(begin)]
    assert len(found) == 1, report.notes
    return found[0]


def test_a_part_of_the_mouse_cortex_becomes_graphs(shared_data, tmp_path):
    rng = np.random.default_rng(0)
    given, paths = [], []
    for modality in ("rna", "atac"):
        whole = ad.read_h5ad(shared_data / f"snareseq_mouse_cortex_{modality}.h5ad")
        chosen = np.sort(np.random.default_rng(1).permutation(whole.n_obs)[:800])
        part = whole[whole.obs_names.sort_values()[chosen]][rng.permutation(800)].copy()
        paths.append(tmp_path / f"{modality}.h5ad")
        part.write_h5ad(paths[-1])
        given.append(part)
    report = build_real(
        shared_data, "", "mm10", tmp_path / "dataset", paths, labels="cell_type_coarse", window="chromosome"
    )
    assert verify(tmp_path / "dataset")["cells"] == report.sizes["cells"] > 700
    assert report.notes[:2] == [
        "chrom, start, end of 25,734 peaks taken from var",
        note(report, "1,675 of 1,677 genes"),
    ]
    graphs = MultiomeGraphs(tmp_path / "dataset")
    assert set(graphs.cell_types) == set(given[0].obs["cell_type_coarse"].astype(str))
    for row in (0, 300, 600):
        barcode = graphs.cells["barcode"][row]
        for part, frame, rows in zip(
            given,
            (graphs.genes.frame["gene"], graphs.peaks.frame["peak"]),
            (graphs.rna_rows, graphs.atac_rows),
            strict=True,
        ):
            expected = part[barcode, frame.to_numpy()].X.toarray()
            assert (rows.matrix([row]).toarray() == expected).all()


@pytest.mark.parametrize(
    ("gtf", "placed", "renamed"),
    [("hg38", "19,866 of 36,601", False), ("grch38", "21,778 of 36,601", True)],
)
def test_whole_cells_build_with_both_human_annotations(shared_data, tmp_path, gtf, placed, renamed):
    report = build_real(
        shared_data, "pbmc_mosim40", gtf, tmp_path / "d", labels="cell_type", window="chromosome"
    )
    assert report.sizes["cells"] == 40
    assert note(report, placed).startswith(f"{placed} genes placed")
    assert note(report, "33 of 108,377 peaks are on chromosomes the GTF does not name")
    assert any(line.startswith("chromosomes renamed: chr") for line in report.notes) == renamed
    store = Store(tmp_path / "d")
    assert ("1" if renamed else "chr1") in store.manifest["chromosomes"]
    genes = store.table("genes")
    assert genes["highly_variable"].sum() == 2000
    assert np.isfinite(genes["variances_norm"]).all()
    assert note(report, "LOESS") == "LOESS was singular at span 0.3 (12,093 genes); span 0.6 was used"


def test_log_normalised_data_are_refused_and_leave_nothing(shared_data, tmp_path):
    told = r"values of X in scicar_a549_(rna|atac)\.h5ad are not counts: .*log-normalised\. Pass raw counts"
    with pytest.raises(InputError, match=told):
        build_real(shared_data, "scicar_a549", "hg38", tmp_path / "dataset", labels="time_h")
    assert list(tmp_path.iterdir()) == []


def test_bone_marrow_builds_by_type(shared_data, tmp_path):
    report = build_real(shared_data, "bmmc_starterA", "hg38", tmp_path / "dataset", labels="cell_type")
    store = Store(tmp_path / "dataset")
    assert report.sizes == {"cells": 500, "genes": 1134, "peaks": 600, "pairs": 1000}
    assert len(store.manifest["cell_types"]) == 21
    assert note(report, "1,085 of 1,134 genes placed")
    assert note(report, "types with fewer cells than splits").endswith("Lymph prog, Plasma cell")


def test_cells_without_a_label_are_kept_and_told(shared_data, tmp_path):
    report = build_real(shared_data, "pbmc_simba100", "hg38", tmp_path / "dataset", labels="cell_type")
    assert note(report, "21 of 100 cells have no value in 'cell_type'")
    cells = Store(tmp_path / "dataset").table("cells")
    assert cells["cell_type"].isna().sum() == 21
    assert report.sizes["pairs"] == 100 + 79


def test_a_part_of_the_mouse_cortex_goes_through_the_commands(shared_data, tmp_path):
    for modality in ("rna", "atac"):
        whole = ad.read_h5ad(shared_data / f"snareseq_mouse_cortex_{modality}.h5ad")
        chosen = np.sort(np.random.default_rng(1).permutation(whole.n_obs)[:400])
        whole[whole.obs_names.sort_values()[chosen]].copy().write_h5ad(tmp_path / f"{modality}.h5ad")
    gtf = shared_data / "genome" / GTFS["mm10"]
    for command in (
        f"build atac.h5ad rna.h5ad --gtf {gtf} --labels cell_type_coarse --out dataset",
        "build --verify dataset",
        "train dataset --model crossrec --mode published --epochs 2 --set width=32 --out run",
        "evaluate run dataset --retrieval-cells 20 --out metrics.json",
        "map run dataset --out maps",
    ):
        arguments = [*command.split(), *([] if "--verify" in command else ["--quiet"])]
        done = subprocess.run(
            [sys.executable, "-m", "scweave.cli", *arguments], cwd=tmp_path, capture_output=True, text=True
        )
        assert (done.returncode, done.stderr) == (0, ""), command
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert metrics["retrieval"]["n"] == 20
    links = pd.read_parquet(tmp_path / "maps" / "links.parquet")
    assert len(links) > 0
    assert links["score"].between(0, 1).all()


def as_tenx_h5(path, rna, atac):
    """Write both modalities as CellRanger's filtered_feature_bc_matrix.h5."""
    both = sparse.hstack([rna.X, atac.X], format="csr")
    names = [*rna.var_names, *atac.var_names]
    kinds = ["Gene Expression"] * rna.n_vars + ["Peaks"] * atac.n_vars
    with h5py.File(path, "w") as file:
        matrix = file.create_group("matrix")
        for name, values in (
            ("data", both.data.astype(np.int32)),
            ("indices", both.indices),
            ("indptr", both.indptr),
        ):
            matrix.create_dataset(name, data=values, compression="gzip")
        matrix["shape"], matrix["barcodes"] = np.array(both.shape[::-1]), rna.obs_names.to_numpy("S")
        features = matrix.create_group("features")
        for name, texts in {
            "id": [*(f"gene{i}" for i in range(rna.n_vars)), *atac.var_names],
            "name": names,
            "feature_type": kinds,
            "genome": ["GRCh38"] * len(names),
            "interval": [*([""] * rna.n_vars), *atac.var_names],
        }.items():
            features[name] = np.array(texts, "S")


def as_mtx_folder(path, rna, atac):
    """Write both modalities as CellRanger's filtered_feature_bc_matrix folder, gzip."""
    path.mkdir()
    both = sparse.hstack([rna.X, atac.X], format="coo")
    with gzip.open(path / "matrix.mtx.gz", "wt", compresslevel=1) as file:
        file.write("%%MatrixMarket matrix coordinate integer general\n%by a test\n")
        file.write(f"{both.shape[1]} {both.shape[0]} {both.nnz}\n")
        np.savetxt(file, np.stack([both.col + 1, both.row + 1, both.data]).T.astype(int), fmt="%d")
    peaks = atac.var_names.str.replace(":", "-").str.rsplit("-", n=2)
    genes = [(f"gene{i}", name, "Gene Expression", "", "", "") for i, name in enumerate(rna.var_names)]
    lines = [
        *genes,
        *((name, name, "Peaks", *place) for name, place in zip(atac.var_names, peaks, strict=True)),
    ]
    with gzip.open(path / "features.tsv.gz", "wt") as file:
        file.writelines("\t".join(line) + "\n" for line in lines)
    with gzip.open(path / "barcodes.tsv.gz", "wt") as file:
        file.writelines(f"{name}\n" for name in rna.obs_names)


@pytest.mark.parametrize("form", ["10x h5", "mtx", "csc", "one h5ad"])
def test_whole_cells_give_the_same_bytes_from_any_file(shared_data, tmp_path, form):
    given = [shared_data / f"pbmc_mosim40_{name}.h5ad" for name in ("rna", "atac")]
    rna, atac = map(ad.read_h5ad, given)
    labels = tmp_path / "labels.tsv"
    rna.obs["cell_type"].to_csv(labels, sep="\t", index_label="barcode")
    inputs = [tmp_path / form]
    if form == "10x h5":
        inputs = [tmp_path / "filtered_feature_bc_matrix.h5"]
        as_tenx_h5(inputs[0], rna, atac)
    elif form == "mtx":
        as_mtx_folder(inputs[0], rna, atac)
    elif form == "csc":
        inputs = [tmp_path / "b.h5ad", tmp_path / "a.h5ad"]
        for data, path in zip((rna, atac), inputs, strict=True):
            ad.AnnData(data.X.tocsc(), data.obs, data.var).write_h5ad(path, compression="gzip")
    else:
        inputs = [tmp_path / "both.h5ad"]
        var = pd.DataFrame({"feature_types": ["Gene Expression"] * rna.n_vars + ["Peaks"] * atac.n_vars})
        var.index = [*rna.var_names, *atac.var_names]
        ad.AnnData(sparse.hstack([rna.X, atac.X], format="csr"), rna.obs, var).write_h5ad(inputs[0])
    gtf = shared_data / "genome" / GTFS["hg38"]
    options = BuildOptions(labels="cell_type", window="chromosome")
    for name, files, extra in (("given", given, {}), ("again", inputs, {"labels_file": labels})):
        build(files, tmp_path / name, gtf=gtf, options=options, progress=False, **extra)
    ours, theirs = (Store(tmp_path / name).manifest["checksums"] for name in ("again", "given"))
    same = {name for name in theirs if ours[name] == theirs[name]}
    assert {name for name in theirs if name.endswith(".npy")} | {"pairs.parquet", "cells.parquet"} <= same


def test_one_blood_experiment_in_the_features_of_another(shared_data, tmp_path):
    build_real(shared_data, "pbmc_mosim40", "hg38", tmp_path / "whole", labels="cell_type")
    inputs = [shared_data / f"pbmc_simba100_{modality}.h5ad" for modality in ("rna", "atac")]
    part = [path for path in inputs if "atac" in path.name]
    options = BuildOptions(labels="cell_type", discovery=True, min_placed=0.05)
    for name, files in (("query", inputs), ("part", part)):
        report = build(files, tmp_path / name, like=tmp_path / "whole", options=options, progress=False)
        assert report.sizes["cells"] == 100
    store = Store(tmp_path / "query")
    assert store.table("peaks").equals(Store(tmp_path / "whole").table("peaks"))
    rows = store.rows("atac", len(store.table("peaks"))).matrix(range(100))
    given = ad.read_h5ad(part[0])
    assert 0.8 * given.X.sum() < rows.sum() <= given.X.sum()
    with pytest.raises(
        InputError, match=r"the query has 10,000 of 36,601 \(27\.3%\) genes of the reference, fewer"
    ):
        build(inputs, tmp_path / "few", like=tmp_path / "whole", options=replace(options, min_placed=0.3))


def test_a_slice_of_a_chromosome_is_not_the_genome(shared_data, tmp_path):
    fasta = tmp_path / "chr22.fa"
    fasta.write_bytes(
        gzip.decompress((shared_data / "genome" / "hg38_chr22_32000000_32300000.fa.gz").read_bytes())
    )
    given = [shared_data / f"pbmc_mosim40_{modality}.h5ad" for modality in ("rna", "atac")]
    gtf = shared_data / "genome" / GTFS["hg38"]
    with pytest.raises(
        InputError, match=r"peaks end past the end .* chr22 has 300,000 bp in chr22\.fa.*Wrong genome"
    ):
        build(given, tmp_path / "d", gtf=gtf, fasta=fasta, progress=False)
    assert not (tmp_path / "d").exists()


def test_mouse_cortex_by_batch_with_folds_and_loops(shared_data, tmp_path):
    inputs = [shared_data / f"snareseq_mouse_cortex_{modality}.h5ad" for modality in ("rna", "atac")]
    report = build(
        inputs,
        tmp_path / "d",
        gtf=shared_data / "genome" / GTFS["mm10"],
        loops=shared_data / "links" / "10x_e18brain_feature_linkage.bedpe.gz",
        options=BuildOptions(labels="cell_type", donor="batch", folds=3, negatives="both"),
        progress=False,
    )
    assert verify(tmp_path / "d")["cells"] == report.sizes["cells"] > 10_000
    prior = Store(tmp_path / "d").manifest["prior"]
    assert prior["edges"] > prior["loops"] > 0
    for fold in range(3):
        cells = Store(tmp_path / "d", fold).table("cells")
        held = set(cells.loc[cells["split"] == "test", "donor"])
        assert held
        assert not held & set(cells.loc[cells["split"] != "test", "donor"])
    pairs = Store(tmp_path / "d").table("pairs")
    types, negative = Store(tmp_path / "d").table("cells")["cell_type"].to_numpy(), pairs["match"] == 0
    same = types[pairs["rna"]] == types[pairs["atac"]]
    assert (same[negative] == (pairs["kind"][negative] == "hard")).all()
    assert abs((pairs["kind"] == "hard").sum() - (pairs["kind"] == "easy").sum()) <= 3
