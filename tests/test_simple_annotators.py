"""The simple annotators against scikit-learn on the same features, and the two plain networks against dense ones."""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict

import numpy as np
import pandas as pd
import pytest
import torch
import torch.nn.functional as F
from scipy.spatial.distance import cdist
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score
from sklearn.neighbors import KNeighborsClassifier, NearestCentroid
from sklearn.preprocessing import normalize
from sklearn.svm import LinearSVC

from handmade_experiment import build_one
from scweave.graphs.dataset import MultiomeGraphs
from scweave.graphs.errors import InputError
from scweave.models.annotation import closed_form as module
from scweave.models.annotation.closed_form import (
    MODELS,
    CentroidAnnotator,
    FeatureConfig,
    KnnAnnotator,
    LogregAnnotator,
    MajorityAnnotator,
    SvmAnnotator,
    baseline_configs,
    fit_baselines,
)
from scweave.models.annotation.model import labelled
from scweave.models.annotation.networks import CnnAnnotator, MlpAnnotator, NetworkConfig
from scweave.models.annotation.prepared import Prepared

REDUCED = ["lsi", "pca", "both"]
LINEAR = {"logreg": LogregAnnotator, "svm": SvmAnnotator}
NETWORKS = {"mlp": MlpAnnotator, "cnn": CnnAnnotator}
NAMES = [
    "majority",
    *(f"{kind}_{features}" for features in REDUCED for kind in ("centroid", "knn", "logreg", "svm")),
    "logreg_tfidf",
    "svm_tfidf",
    "logreg_logcounts",
    "svm_logcounts",
]


@pytest.fixture(autouse=True)
def double():
    """Numbers are fitted and kept in double precision."""
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.fixture(params=["random", "simulated"])
def dataset(request):
    """Two types in few cells, or four in many."""
    return request.getfixturevalue(f"{request.param}_dataset")


@pytest.fixture
def train(dataset):
    return labelled(MultiomeGraphs(dataset, split="train"))


@pytest.fixture
def simulated_train(simulated_dataset):
    return labelled(MultiomeGraphs(simulated_dataset, split="train"))


def config(features, **options):
    return FeatureConfig(features, **{"width": 6, "neighbours": 5} | options)


def read(model, graphs, which=None):
    with torch.no_grad():
        return model(graphs.batch(range(len(graphs)) if which is None else which, cis=False))


def features_of(model, graphs):
    """Features of all cells of a dataset, and which of them the model was fitted on."""
    whole = graphs.part("cells")
    found = model.inputs.of(whole, np.arange(len(whole)))
    return whole, found, found[graphs.pairs_of(range(len(graphs)))[0]]


def true_codes(graphs):
    """Codes where the vocabulary is that of the dataset, −1 for unlabelled cells."""
    return graphs.cell_type_codes[graphs.pairs_of(range(len(graphs)))[0]]


def close(ours, theirs, *, atol=1e-9):
    np.testing.assert_allclose(np.asarray(ours), np.asarray(theirs), rtol=0, atol=atol)


def test_majority_is_the_share_of_each_type(train):
    model = MajorityAnnotator.from_graphs(train, config("auto"))
    shares = np.bincount(true_codes(train)) / len(train)
    reading = read(model, train)
    close(reading.logits.softmax(1), np.tile(shares, (len(train), 1)))
    close(reading.embedding, features_of(model, train)[2])
    assert model.config.features == "lsi"


@pytest.mark.parametrize("features", REDUCED)
def test_centroids_are_those_of_sklearn(train, features):
    model = CentroidAnnotator.from_graphs(train, config(features))
    whole, every, fitted = features_of(model, train)
    theirs = NearestCentroid().fit(fitted, true_codes(train))
    logits = read(model, whole).logits
    np.testing.assert_array_equal(logits.argmax(1), theirs.predict(every))
    rest = fitted - theirs.centroids_[true_codes(train)]
    squares = ((every[:, None] - theirs.centroids_) ** 2).sum(2)
    close(logits, -squares / (2 * (rest**2).mean()))


@pytest.mark.parametrize("features", REDUCED)
@pytest.mark.parametrize("neighbours", [1, 4, 1000])
def test_votes_are_those_of_sklearn(train, features, neighbours, monkeypatch):
    model = KnnAnnotator.from_graphs(train, config(features, neighbours=neighbours))
    whole, every, fitted = features_of(model, train)
    k = min(neighbours, len(train))
    theirs = KNeighborsClassifier(k).fit(normalize(fitted), true_codes(train))
    reading = read(model, whole)
    gap = np.diff(np.sort(cdist(normalize(every), normalize(fitted))), append=np.inf)[:, k - 1]
    clear = gap > 1e-9  # cells may have the same counts: which of them are nearest is then chance
    assert clear.mean() > 0.7
    found = reading.logits.argmax(1)[clear]
    np.testing.assert_array_equal(found, theirs.predict(normalize(every))[clear])
    n_types = len(model.cell_types)
    votes = k * theirs.predict_proba(normalize(every))[clear]
    close(reading.logits[clear], np.log((votes + 1 / n_types) / (k + 1)))
    close(reading.logits.exp().sum(1), np.ones(len(whole)))
    monkeypatch.setattr(module, "_DISTANCES", 3 * len(train))
    assert torch.equal(read(model, whole).logits, reading.logits)


def theirs_of(kind, C, balanced):
    weights = "balanced" if balanced else None
    if kind == "logreg":
        return LogisticRegression(C=C, class_weight=weights, max_iter=1000)
    return LinearSVC(C=C, class_weight=weights, dual="auto", max_iter=5000, random_state=1)


@pytest.mark.parametrize("kind", LINEAR)
@pytest.mark.parametrize("features", [*REDUCED, "tfidf", "logcounts"])
def test_linear_models_decide_as_sklearn(train, kind, features):
    settings = config(features, C=0.3, balanced=True)
    model = LINEAR[kind].from_graphs(train, settings, seed=1)
    whole, every, fitted = features_of(model, train)
    theirs = theirs_of(kind, 0.3, True).fit(fitted, true_codes(train))
    reading, decided = read(model, whole), theirs.decision_function(every)
    if decided.ndim == 1:
        close(reading.logits[:, 1], decided * (0.5 if kind == "logreg" else 1))
        close(reading.logits[:, 0], -reading.logits[:, 1])
    else:
        close(reading.logits, decided)
    np.testing.assert_array_equal(reading.logits.argmax(1), theirs.predict(every))
    if kind == "logreg":
        close(reading.logits.softmax(1), theirs.predict_proba(every))
    close(reading.embedding, reading.logits if features in ("tfidf", "logcounts") else every)
    assert model.config == settings
    assert not model.notes


@pytest.mark.parametrize("kind", LINEAR)
@pytest.mark.parametrize("features", ["both", "tfidf", "logcounts"])
def test_what_is_left_open_is_chosen_on_validation_cells(simulated_train, kind, features):
    model = LINEAR[kind].from_graphs(simulated_train, config(features), seed=1)
    held_out = labelled(simulated_train.part("cells", "validation"))
    _, every, fitted = features_of(model, simulated_train)
    cells, truth = held_out.pairs_of(range(len(held_out)))[0], true_codes(held_out)
    scores = {}
    for balanced in (True, False):
        for C in LINEAR[kind].grid:
            tried = theirs_of(kind, C, balanced).fit(fitted, true_codes(simulated_train))
            found = tried.predict(every[cells])
            scores[C, balanced] = f1_score(truth, found, average="macro", zero_division=0.0)
    assert len(set(scores.values())) > 1
    assert (model.config.C, model.config.balanced) == max(scores, key=scores.get)
    given = LINEAR[kind].from_graphs(simulated_train, model.config, seed=1)
    assert torch.equal(given.weight, model.weight)


@pytest.mark.parametrize("kind", LINEAR)
def test_without_validation_cells_nothing_is_chosen_and_that_is_said(random_dataset, tmp_path, kind):
    dataset = tmp_path / "dataset"
    shutil.copytree(random_dataset, dataset)
    cells = pd.read_parquet(dataset / "cells.parquet")
    cells.loc[cells["split"] == "validation", "cell_type"] = None
    cells.to_parquet(dataset / "cells.parquet", index=False)
    model = LINEAR[kind].from_graphs(labelled(MultiomeGraphs(dataset, split="train")), config("lsi"))
    assert (model.config.C, model.config.balanced) == (1.0, True)
    assert model.notes == [f"{kind}: no validation cells; C=1 was not chosen on any"]


def test_a_fit_that_does_not_converge_is_noted(train, monkeypatch):
    monkeypatch.setattr(
        LogregAnnotator, "estimator", staticmethod(lambda C, balanced, seed: LogisticRegression(max_iter=1))
    )
    model = LogregAnnotator.from_graphs(train, config("lsi", C=1.0, balanced=True))
    assert model.notes == ["logreg: a fit of the grid did not converge"]


@pytest.fixture(scope="module")
def table(simulated_dataset):
    """All baselines in single precision, as they are used."""
    torch.set_default_dtype(torch.float32)
    return fit_baselines(labelled(MultiomeGraphs(simulated_dataset, split="train")), seed=2)


def test_the_table_of_baselines(table):
    assert list(table) == list(baseline_configs(("rna", "atac"))) == NAMES
    assert all(model.kind == name.split("_")[0] for name, model in table.items())
    assert all(model.optimisers(1e-3, 0.0) == [] and not list(model.parameters()) for model in table.values())
    assert list(baseline_configs(["rna"])) == [
        "majority",
        *(n for n in NAMES if n.endswith(("_pca", "_logcounts"))),
    ]
    atac = [n for n in NAMES if n.endswith(("_lsi", "_tfidf"))]
    assert list(baseline_configs(["atac"])) == ["majority", *atac]


@pytest.mark.parametrize("name", NAMES)
def test_shared_features_are_those_of_a_model_alone(table, simulated_train, name):
    torch.set_default_dtype(torch.float32)
    kind, settings = baseline_configs(simulated_train.modalities)[name]
    alone = MODELS[kind].from_graphs(simulated_train, settings, seed=2)
    assert alone.state_dict().keys() == table[name].state_dict().keys()
    for key, value in alone.state_dict().items():
        torch.testing.assert_close(value, table[name].state_dict()[key], rtol=1e-4, atol=1e-5)
    assert (alone.config, alone.cell_types) == (table[name].config, table[name].cell_types)


def test_features_are_fitted_once(table):
    tables = {
        name: model.state_dict()["inputs.lsi.table"].data_ptr()
        for name, model in table.items()
        if name.endswith(("_lsi", "_both"))
    }
    assert len(tables) == 8 and len(set(tables.values())) == 1


def all_models(table, train):
    networks = {
        kind: NETWORKS[kind].from_graphs(train, NetworkConfig(hidden=8, width=4)).eval() for kind in NETWORKS
    }
    return {**table, **networks}


@pytest.mark.parametrize("name", [*NAMES, *NETWORKS])
def test_saved_numbers_give_the_same_readings(table, simulated_train, name):
    torch.set_default_dtype(torch.float32)
    model = all_models(table, simulated_train)[name]
    settings = type(model.config)(**json.loads(json.dumps(asdict(model.config))))
    assert settings == model.config
    tensors = {key: value.clone() for key, value in model.state_dict().items()}
    again = type(model).from_tensors(tensors, settings, 3)
    again.load_state_dict(tensors)
    first, second = read(model, simulated_train), read(again.eval(), simulated_train)
    assert torch.equal(first.logits, second.logits)
    assert torch.equal(first.embedding, second.embedding)
    assert again.modalities == model.modalities
    assert model.calibration.whitening.shape == (first.embedding.shape[1],) * 2
    assert model.calibration.centroids.shape == first.logits.shape[1:] + first.embedding.shape[1:]


@pytest.mark.parametrize("name", [*NAMES, *NETWORKS])
def test_a_cell_alone_reads_as_in_a_batch(table, simulated_train, name):
    torch.set_default_dtype(torch.float32)
    model = all_models(table, simulated_train)[name]
    together = read(model, simulated_train)
    assert torch.isfinite(together.logits).all() and torch.isfinite(together.embedding).all()
    for cell in (0, 17, 100):
        alone = read(model, simulated_train, [cell])
        for ours, theirs in ((alone.logits, together.logits), (alone.embedding, together.embedding)):
            torch.testing.assert_close(ours[0], theirs[cell], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", [*NAMES, *NETWORKS])
def test_cells_without_counts_are_read(random_dataset, name):
    torch.set_default_dtype(torch.float32)
    graphs = labelled(MultiomeGraphs(random_dataset, split="train"))
    empty = int(np.flatnonzero(graphs.pairs_of(range(len(graphs)))[0] == 3)[0])
    if name in NETWORKS:
        model = NETWORKS[name].from_graphs(graphs, NetworkConfig(hidden=8, width=4)).eval()
    else:
        kind, settings = baseline_configs(graphs.modalities)[name]
        model = MODELS[kind].from_graphs(graphs, settings)
    for which in ([empty], [0, empty, 1]):
        reading = read(model, graphs, which)
        assert torch.isfinite(reading.logits).all() and torch.isfinite(reading.embedding).all()
        assert reading.logits.shape == (len(which), 2)


@pytest.mark.parametrize("kind", MODELS)
def test_a_type_of_one_cell_has_its_place(random_dataset, tmp_path, kind):
    dataset = tmp_path / "dataset"
    shutil.copytree(random_dataset, dataset)
    cells = pd.read_parquet(dataset / "cells.parquet")
    cells.loc[9, "cell_type"] = "rare"
    cells.to_parquet(dataset / "cells.parquet", index=False)
    manifest = json.loads((dataset / "dataset.json").read_text())
    (dataset / "dataset.json").write_text(json.dumps(manifest | {"cell_types": ["A", "none", "rare", "B"]}))
    graphs = labelled(MultiomeGraphs(dataset, split="train"))
    model = MODELS[kind].from_graphs(graphs, config("both"))
    assert model.cell_types == ("A", "rare", "B")
    logits = read(model, graphs).logits
    assert logits.shape == (len(graphs), 3) and torch.isfinite(logits).all()
    own = np.flatnonzero(graphs.pairs_of(range(len(graphs)))[0] == 9)
    if kind == "centroid":
        assert logits[own].argmax() == 1


@pytest.mark.parametrize(("name", "features"), [("atac", "lsi"), ("rna", "pca")])
def test_one_modality_is_enough(made, tmp_path, name, features):
    build_one(tmp_path, made, name, gtf=False, fasta=False)
    graphs = labelled(MultiomeGraphs(tmp_path / "dataset", split="train"))
    models = fit_baselines(graphs)
    assert list(models) == list(baseline_configs([name]))
    assert models["majority"].config.features == features
    for model in models.values():
        assert model.modalities == (name,)
        assert torch.isfinite(read(model, graphs).logits).all()
    if name == "atac":
        assert all(network.from_graphs(graphs, NetworkConfig()) for network in NETWORKS.values())
    else:
        for kind, network in NETWORKS.items():
            with pytest.raises(InputError, match=f"{kind} needs ATAC, and .* has no ATAC"):
                network.from_graphs(graphs, NetworkConfig())
    with pytest.raises(InputError, match=r"knn on features=both needs RNA and ATAC, and .* has no"):
        KnnAnnotator.from_graphs(graphs, config("both"))


@pytest.mark.parametrize("kind", MODELS)
def test_test_cells_change_nothing(random_dataset, tmp_path, kind):
    other = tmp_path / "other"
    shutil.copytree(random_dataset, other)
    split = pd.read_parquet(other / "cells.parquet")["split"].to_numpy()
    for name in ("rna", "atac"):
        values, pointers = np.load(other / f"{name}_values.npy"), np.load(other / f"{name}_indptr.npy")
        values[np.repeat(split == "test", np.diff(pointers))] += 7
        np.save(other / f"{name}_values.npy", values)
    first, second = (
        MODELS[kind].from_graphs(labelled(MultiomeGraphs(path, split="train")), config("both"), seed=1)
        for path in (random_dataset, other)
    )
    for key, value in first.state_dict().items():
        assert torch.equal(value, second.state_dict()[key]), key
    assert first.config == second.config


@pytest.mark.parametrize("kind", ["majority", "centroid", "knn"])
def test_unreduced_features_are_for_linear_models(train, kind):
    with pytest.raises(InputError, match=f"{kind} reads reduced features: choose features=lsi"):
        MODELS[kind].from_graphs(train, FeatureConfig("tfidf"))
    with pytest.raises(InputError, match=f"{kind} reads reduced features"):
        MODELS[kind].from_features(Prepared.of(train, "tfidf"), FeatureConfig("tfidf"))


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (
            lambda: FeatureConfig("umap"),
            "--set features=umap: choose auto, lsi, pca, both, tfidf, logcounts.",
        ),
        (lambda: FeatureConfig(width=0), "--set width=0: must be positive"),
        (lambda: FeatureConfig(neighbours=0), "--set neighbours=0: must be positive"),
        (lambda: FeatureConfig(C=-1), "--set C=-1: must not be negative"),
        (lambda: FeatureConfig(C=float("nan")), "--set C=nan: must not be negative"),
        (lambda: NetworkConfig(hidden=0), "--set hidden=0: must be positive"),
        (lambda: NetworkConfig(width=-1), "--set width=-1: must be positive"),
        (lambda: NetworkConfig(dropout=1.0), "--set dropout=1.0: choose a number from 0 to below 1"),
        (lambda: NetworkConfig(balance=2.0), "--set balance=2.0: choose a number from 0 to 1"),
    ],
)
def test_settings_out_of_range_are_told(make, told):
    with pytest.raises(InputError) as error:
        make()
    assert told in str(error.value)
    assert "\n" not in str(error.value)


def test_one_type_is_too_few(random_dataset):
    graphs = MultiomeGraphs(random_dataset, split="train")
    alike = graphs.index_select(np.flatnonzero(true_codes(graphs) == 0))
    for model, settings in ((KnnAnnotator, FeatureConfig()), (MlpAnnotator, NetworkConfig())):
        with pytest.raises(InputError, match=r"training cells of 1 types \(A\)"):
            model.from_graphs(alike, settings)


def dense_counts(graphs):
    cells, _ = graphs.pairs_of(range(len(graphs)))
    return torch.from_numpy(graphs.atac_rows.matrix(cells).toarray().astype(np.float64))


def gradients(model, loss):
    found = torch.autograd.grad(loss, list(model.parameters()))
    return {name: value for (name, _), value in zip(model.named_parameters(), found, strict=True)}


def both_equal(model, graphs, embedding):
    """Logits, loss and gradients of a dense embedding are those of the model."""
    codes = torch.from_numpy(true_codes(graphs))
    logits = model.classifier(embedding)
    batch = graphs.batch(range(len(graphs)), cis=False)
    close(model(batch).logits.detach(), logits.detach(), atol=1e-10)
    chance = -F.log_softmax(logits, 1)[torch.arange(len(codes)), codes]
    loss = model.loss(batch, codes)["loss"]
    expected = (chance * model.type_weights[codes]).mean()
    close(loss.detach(), expected.detach())
    ours, theirs = gradients(model, loss), gradients(model, expected)
    for name, value in ours.items():
        close(value, theirs[name])


def test_the_perceptron_equals_a_dense_one(train):
    model = MlpAnnotator.from_graphs(train, NetworkConfig(hidden=8, width=4)).eval()
    counts = dense_counts(train)
    seen = (counts > 0).sum(0)
    values = counts.log1p() * torch.log1p(len(train) / seen.clamp_min(1)) * (seen > 0)
    values = values / values.norm(dim=1, keepdim=True).clamp_min(1e-6)
    hidden = (values @ model.table + model.bias).relu()
    both_equal(model, train, (hidden @ model.hidden.weight.T + model.hidden.bias).relu())


@pytest.mark.parametrize("most", [16, 37, 2048])
def test_the_convolutions_read_consecutive_peaks(train, most, monkeypatch):
    monkeypatch.setattr("scweave.models.annotation.networks._BINS", most)
    model = CnnAnnotator.from_graphs(train, NetworkConfig(width=4)).eval()
    counts = dense_counts(train)
    n_bins = min(most, counts.shape[1])
    bins = torch.zeros(len(train), n_bins)
    for peak in range(counts.shape[1]):
        bins[:, peak * n_bins // counts.shape[1]] += counts[:, peak].log1p()
    sizes = np.bincount(model.bin_of.numpy())
    assert len(sizes) == n_bins and np.ptp(sizes) <= 1
    found = model.convolutions(bins[:, None]).flatten(1)
    both_equal(model, train, F.relu(model.dense(found)))


@pytest.mark.parametrize("kind", NETWORKS)
@pytest.mark.parametrize(("balance", "power"), [(0.0, 0.0), (0.5, 0.5), (1.0, 1.0), (None, None)])
def test_types_weigh_by_their_rarity(simulated_train, kind, balance, power):
    model = NETWORKS[kind].from_graphs(simulated_train, NetworkConfig(hidden=8, balance=balance))
    codes = true_codes(simulated_train)
    weights = model.type_weights.numpy()
    np.testing.assert_allclose(weights[codes].mean(), 1)
    power = {"mlp": 1.0, "cnn": 0.5}[kind] if power is None else power
    expected = (np.bincount(codes)[0] / np.bincount(codes)) ** power
    np.testing.assert_allclose(weights / weights[0], expected)


@pytest.mark.parametrize("kind", NETWORKS)
def test_weights_are_a_function_of_the_seed_alone(simulated_train, kind):
    state = torch.random.get_rng_state()
    first, second, other = (
        NETWORKS[kind].from_graphs(simulated_train, NetworkConfig(hidden=8), seed=seed) for seed in (1, 1, 2)
    )
    assert torch.equal(torch.random.get_rng_state(), state)
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))
    assert not torch.equal(first.classifier.weight, other.classifier.weight)


@pytest.mark.parametrize("kind", NETWORKS)
def test_networks_learn(simulated_train, kind):
    torch.set_default_dtype(torch.float32)
    model = NETWORKS[kind].from_graphs(simulated_train, NetworkConfig(hidden=64, width=32))
    codes = torch.from_numpy(true_codes(simulated_train))
    batch = simulated_train.batch(range(len(simulated_train)), cis=False)
    (optimiser,) = model.optimisers(3e-3, 1e-4)
    torch.manual_seed(0)
    for _ in range(60):
        optimiser.zero_grad()
        model.loss(batch, codes)["loss"].backward()
        optimiser.step()
    reading = read(model.eval(), simulated_train)
    assert float((reading.logits.argmax(1) == codes).float().mean()) > 0.9
    assert reading.embedding.shape == (len(simulated_train), 32)
    assert model.score({"macro_f1": 0.4, "loss": 1.0}) == 0.4
