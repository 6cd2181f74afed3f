"""Another experiment in the genes and peaks of a dataset, for a model that is trained already."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from handmade_experiment import N_CELLS, build_one, run_build, stored
from scweave.commands.evaluate import evaluate_run
from scweave.commands.jobs import Job
from scweave.generators.build import BuildOptions, build
from scweave.graphs.errors import InputError
from scweave.graphs.store import Store
from scweave.interpret.map_folder import write_maps
from scweave.train import run


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
        found, given = stored(tmp_path / "dataset", name), stored(handmade_dataset, name)
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
