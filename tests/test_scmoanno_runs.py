"""Runs of scMoAnno: trained, killed and resumed, saved, loaded, and asked about either modality."""

from __future__ import annotations

import anndata as ad
import mudata
import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file

from scweave.commands.predict import annotate, predict_run
from scweave.generators.build import BuildOptions, build
from scweave.graphs.dataset import MultiomeGraphs
from scweave.graphs.errors import InputError
from scweave.models.annotator import Annotator
from scweave.models.checkpoint import WEIGHTS
from scweave.models.run_keeper import RunKeeper
from scweave.models.training import FIRST
from tiny_pairs import MODES, annotator

PARTS = ("probabilities", "confidence", "novelty", "embedding")
QUERIES = {"both": ("rna", "atac"), "rna": ("rna",), "atac": ("atac",)}


@pytest.fixture(scope="module")
def runs(simulated_dataset, tmp_path_factory):
    """Trained in two stages, the first frozen, in each mode."""
    folder = tmp_path_factory.mktemp("two_stages")
    for mode in MODES:
        annotator(mode, {"stages": "frozen"}, epochs=2).fit(simulated_dataset, run=folder / mode)
    return folder


@pytest.fixture(scope="module")
def default(runs):
    return Annotator.load(runs / "default")


@pytest.fixture(scope="module")
def modalities(simulated):
    return {name: mudata.read_h5ad(simulated.h5mu, name) for name in ("rna", "atac")}


def weights(run):
    return (run / WEIGHTS).read_bytes()


def same(found, expected, tolerance=0.0):
    assert list(found.labels) == list(expected.labels)
    for part in PARTS:
        ours, theirs = getattr(found, part), getattr(expected, part)
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=tolerance, err_msg=part)


@pytest.mark.parametrize("query", QUERIES)
def test_one_checkpoint_reads_both_modalities_or_either(default, simulated_dataset, query):
    graphs = MultiomeGraphs(simulated_dataset)
    found = default.predict(graphs.only(QUERIES[query]))
    assert len(found.labels) == len(graphs) and found.labels.categories.tolist() == graphs.cell_types
    assert all(np.isfinite(getattr(found, part)).all() for part in PARTS)
    np.testing.assert_allclose(found.probabilities.sum(1), 1, atol=1e-5)
    told = " and ".join(name.upper() for name in QUERIES[query])
    assert found.about["scweave_label"] == f"likeliest cell type, from the {told} profile"
    own = {"both": "calibration"}.get(query, f"alone.{query}")
    temperature = default.loaded.model.get_submodule(own).temperature
    with torch.no_grad():
        batch = graphs.only(QUERIES[query]).batch(range(5), cis=False)
        logits = default.loaded.model(batch.to(temperature.device)).logits
    expected = (logits / temperature).softmax(1).cpu().numpy()
    np.testing.assert_allclose(found.probabilities[:5], expected, atol=1e-6)
    others = [default.predict(graphs.only(QUERIES[name])) for name in QUERIES if name != query]
    assert all(np.abs(other.probabilities - found.probabilities).max() > 1e-3 for other in others)


@pytest.mark.parametrize("query", QUERIES)
def test_a_cell_is_told_alike_alone_and_among_others(default, simulated_dataset, query):
    graphs = MultiomeGraphs(simulated_dataset).only(QUERIES[query])
    whole = default.predict(graphs)
    order = np.random.default_rng(0).permutation(len(graphs))[:19]
    for which, size in ((order, 4), (order[:1], 1)):
        found = default.predict(graphs.index_select(which), batch_size=size)
        assert list(found.labels) == list(whole.labels[which])
        for part in PARTS:
            ours, theirs = getattr(found, part), getattr(whole, part)[which]
            np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5, err_msg=part)


@pytest.mark.parametrize("query", QUERIES)
def test_files_of_one_modality_are_predicted(runs, default, modalities, simulated_dataset, tmp_path, query):
    files = [tmp_path / f"{name}.h5ad" for name in QUERIES[query]]
    for name, file in zip(QUERIES[query], files, strict=True):
        data = modalities[name].copy()
        del data.obs["cell_type"]
        data.write_h5ad(file)
    summary = predict_run(runs / "default", files, tmp_path / "told.h5ad", progress=False)
    told = ad.read_h5ad(tmp_path / "told.h5ad")
    assert summary["cells"] == told.n_obs
    graphs = MultiomeGraphs(simulated_dataset).only(QUERIES[query])
    expected = default.predict(graphs)
    place = told.obs_names.get_indexer(expected.barcodes)
    assert (place >= 0).all()
    assert (told.obs["scweave_label"].astype(str).to_numpy()[place] == expected.labels.astype(str)).all()
    np.testing.assert_allclose(told.obsm["scweave_probabilities"][place], expected.probabilities, atol=1e-5)
    if query != "both":
        one = annotate(default, modalities[query][:30].copy())
        assert one.about["scweave_label"].endswith(f"from the {query.upper()} profile")


def test_a_dataset_of_one_modality_is_predicted(default, modalities, simulated, simulated_dataset, tmp_path):
    modalities["rna"].write_h5ad(tmp_path / "rna.h5ad")
    options = BuildOptions(discovery=True)
    build([tmp_path / "rna.h5ad"], tmp_path / "d", like=default.features, options=options, progress=False)
    graphs = MultiomeGraphs(tmp_path / "d")
    assert graphs.modalities == ("rna",)
    found = default.predict(graphs)
    whole = default.predict(MultiomeGraphs(simulated_dataset).only(["rna"]))
    place = found.barcodes.get_indexer(whole.barcodes)
    assert list(found.labels[place]) == list(whole.labels)
    own, options = tmp_path / "own", BuildOptions(labels="cell_type", seed=1)
    build([tmp_path / "rna.h5ad"], own, gtf=simulated.gtf, options=options, progress=False)
    trained_on = pd.Series(default.predict(own).labels, default.predict(own).barcodes)
    assert list(trained_on[whole.barcodes]) == list(whole.labels)
    with pytest.raises(InputError, match=r"training scmoanno needs RNA and ATAC, and .* has no ATAC"):
        annotator("default").fit(own)
    with pytest.raises(InputError, match="this scmoanno reads RNA or ATAC, and the query has no RNA"):
        default.predict(graphs.only([]))


@pytest.mark.parametrize("mode", MODES)
def test_a_model_comes_back_with_the_same_bits(runs, simulated_dataset, tmp_path, mode):
    kept = Annotator.load(runs / mode)
    kept.save(tmp_path / "kept")
    again = Annotator.load(tmp_path / "kept")
    again.save(tmp_path / "again")
    assert weights(runs / mode) == weights(tmp_path / "kept") == weights(tmp_path / "again")
    assert again.config == kept.config and again.cell_types == kept.cell_types
    assert again.loaded.model.notes == kept.loaded.model.notes
    for query in QUERIES.values():
        graphs = MultiomeGraphs(simulated_dataset).only(query)
        same(again.predict(graphs), kept.predict(graphs))
    assert not [file for file in runs.rglob("*") if file.suffix in (".pkl", ".pt", ".pth", ".ckpt")]


@pytest.mark.parametrize("mode", MODES)
def test_the_same_seed_gives_the_same_bits_and_another_others(runs, simulated_dataset, tmp_path, mode):
    torch.manual_seed(99)
    for seed, alike in ((2, True), (3, False))[: 2 if mode == "default" else 1]:
        run = tmp_path / str(seed)
        annotator(mode, {"stages": "frozen"}, epochs=2, seed=seed).fit(simulated_dataset, run=run)
        for part in ("", FIRST):
            assert (weights(run / part) == weights(runs / mode / part)) == alike


class Killed(RuntimeError):
    """What ends a training from outside."""


@pytest.mark.parametrize(
    ("mode", "epochs"), [("default", 1), ("default", 2), ("default", 3), ("published", 3)]
)
def test_killed_after_an_epoch_and_resumed_gives_the_same_bits(
    runs, simulated_dataset, tmp_path, monkeypatch, mode, epochs
):
    """After the first or the last epoch of stage 1, or the first of stage 2."""
    run, saved, original = tmp_path / "run", [], RunKeeper._save

    def save(self, *arguments):
        original(self, *arguments)
        saved.append(self.run)
        if len(saved) == epochs:
            raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(RunKeeper, "_save", save)
        with pytest.raises(Killed):
            annotator(mode, {"stages": "frozen"}, epochs=2).fit(simulated_dataset, run=run)
    assert saved[-1] == (run / FIRST if epochs < 3 else run)
    annotator(mode, {"stages": "frozen"}, epochs=2).fit(simulated_dataset, run=run, resume=True)
    for part in (FIRST, "."):
        for name in (WEIGHTS, "history.csv", "model.json"):
            assert (run / part / name).read_bytes() == (runs / mode / part / name).read_bytes(), (part, name)


def test_stage_2_begins_with_stage_1_and_leaves_frozen_parts_alone(runs, simulated_dataset, tmp_path):
    annotator("default", {"stages": "unfrozen"}, epochs=2).fit(simulated_dataset, run=tmp_path / "unfrozen")
    for run, frozen in ((runs / "default", True), (tmp_path / "unfrozen", False)):
        first, second = load_file(run / FIRST / WEIGHTS), load_file(run / WEIGHTS)
        assert any(name.startswith("exchange.") for name in first)
        for name in first:
            if name.startswith(("components.", "evidence.")):
                assert torch.equal(first[name], second[name]), name
            if name.startswith(("tokens.", "exchange.")) and not name.endswith("key.bias"):
                assert torch.equal(first[name], second[name]) == frozen, name
        assert torch.equal(first["head.1.weight"], second["first_head.1.weight"]) == frozen
    assert weights(runs / "default" / FIRST) == weights(tmp_path / "unfrozen" / FIRST)


@pytest.mark.parametrize(
    ("settings", "options"),
    [
        ({"stages": "together"}, {}),
        ({"stages": "second", "attention": "none", "modality_dropout": 0.0}, {}),
        ({"stages": "unfrozen", "attention": "self"}, {"precision": "64-true"}),
        ({"stages": "frozen", "fusion": "direct"}, {"precision": "bf16-mixed"}),
        ({"evidence": False, "peaks": "pca", "balance": 0, "label_smoothing": 0.0, "cycle": 0}, {}),
        ({"stages": "frozen", "evidence": False, "fusion": "direct"}, {"accumulate": 2}),
    ],
)
def test_every_choice_trains_and_comes_back(simulated_dataset, tmp_path, settings, options):
    trained = annotator("default", settings, **options).fit(simulated_dataset, run=tmp_path / "run")
    two_stages = settings.get("stages") in ("frozen", "unfrozen")
    assert (tmp_path / "run" / FIRST / WEIGHTS).is_file() == two_stages
    again, every = Annotator.load(tmp_path / "run"), MultiomeGraphs(simulated_dataset)
    assert again.config == trained.loaded.model.config
    for query in QUERIES.values():
        found = trained.predict(every.only(query))
        same(again.predict(every.only(query)), found)
        assert all(np.isfinite(getattr(found, part)).all() for part in PARTS)
    double = options.get("precision") == "64-true"
    assert again.loaded.model.tokens.position.dtype == (torch.float64 if double else torch.float32)
    kinds = {value.dtype for value in load_file(tmp_path / "run" / WEIGHTS).values()}
    assert kinds == {torch.float64 if double else torch.float32}


def test_names_of_types_are_kept_as_they_are(simulated, modalities, tmp_path):
    """Put into capitals, two of these would be one."""
    names = {"type_1": "b", "type_2": "B", "type_3": "CD8+ T / naïve", "type_4": "cd8+ T / naïve"}
    files = []
    for name, data in modalities.items():
        changed = data.copy()
        changed.obs["cell_type"] = changed.obs["cell_type"].astype(str).map(names).to_numpy()
        files.append(tmp_path / f"{name}.h5ad")
        changed.write_h5ad(files[-1])
    options = BuildOptions(labels="cell_type", seed=1)
    build(files, tmp_path / "d", gtf=simulated.gtf, options=options, progress=False)
    for mode in MODES:
        trained = annotator(mode).fit(tmp_path / "d", run=tmp_path / mode)
        assert sorted(trained.cell_types) == sorted(names.values())
        again = Annotator.load(tmp_path / mode)
        assert again.cell_types == trained.cell_types
        found = again.predict(tmp_path / "d").labels
        assert found.categories.tolist() == list(trained.cell_types)
        assert set(found) <= set(names.values())


def test_unknown_settings_and_options_are_told():
    for bad, told in (
        (lambda: annotator("default", {"second_heads": 4}), "there is no second_heads"),
        (lambda: annotator("published", {"dim": 4}), "there is no dim"),
        (lambda: annotator("default", {"evidence": "no"}), "evidence='no' is of type str"),
        (lambda: annotator("default", {"stages": "third"}), "stages"),
    ):
        with pytest.raises(InputError, match=told) as error:
            bad()
        assert "\n" not in str(error.value)
