"""Annotation of real cells: from one experiment to another with other peaks."""

from __future__ import annotations

import anndata as ad
import pytest

from scweave.commands.evaluate import evaluate_run
from scweave.commands.jobs import Job
from scweave.generators.build import BuildOptions, build
from scweave.graphs.errors import InputError
from scweave.train import run

# Types of both experiments by the names that they share.
SHARED = {
    "CD4_TEM": "CD4 T",
    "Treg": "CD4 T",
    "CD4 Memory": "CD4 T",
    "CD4 Naive": "CD4 T",
    "Memory_B": "B",
    "B cells": "B",
    "cDC": "DC",
}


def renamed(file, folder):
    data = ad.read_h5ad(file)
    data.obs["cell_type"] = data.obs["cell_type"].astype(str).replace(SHARED)
    data.write_h5ad(folder / file.name)
    return folder / file.name


@pytest.mark.slow
def test_train_on_one_experiment_and_evaluate_on_another(shared_data, tmp_path):
    files = [renamed(shared_data / f"pbmc_{name}_atac.h5ad", tmp_path) for name in ("mosim40", "simba100")]
    gtf = shared_data / "genome" / "hg38_gencode43_genes.gtf.gz"
    options = BuildOptions(labels="cell_type", seed=1)
    build([files[0]], tmp_path / "data", gtf=gtf, options=options, progress=False)
    own = run(Job(tmp_path / "data", tmp_path / "run", "hitanno", epochs=5), progress=False)
    assert own["annotation"]["n"] > 0
    like = BuildOptions(labels="cell_type", unlabelled=("nan",), discovery=True)
    place = {"like": tmp_path / "run" / "features", "progress": False}
    with pytest.raises(InputError, match="peaks"):  # 10,000 of the genome's peaks are too few by default
        build([files[1]], tmp_path / "query", options=like, **place)
    like = BuildOptions(labels="cell_type", unlabelled=("nan",), discovery=True, min_placed=0.01)
    build([files[1]], tmp_path / "query", options=like, **place)
    metrics = evaluate_run(tmp_path / "run", tmp_path / "query", tmp_path / "m.json", progress=False)
    found = metrics["annotation"]
    assert (found["n"], found["n_unknown"]) == (26, 53)
    assert metrics["unknown_types"]["CD14+ Monocytes"] == 26
    assert found["confusion"]["types"] == ["B", "CD4 T", "DC"]
    assert {figures["n"] for figures in metrics["baselines"]["annotation"].values()} == {26}
