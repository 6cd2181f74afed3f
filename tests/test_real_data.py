"""Real experiments through the build: what is placed, renamed, fitted or refused."""

import json
import subprocess
import sys
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import pytest

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
    assert "genes placed" in report.notes[0]
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
