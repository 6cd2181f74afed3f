"""Simple annotators that are fitted as they are made: what every trained one must beat."""

from __future__ import annotations

import warnings
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Final, Self

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.svm import LinearSVC
from torch import Tensor, optim
from torch_geometric.data import Batch
from tqdm.auto import tqdm

from ...graphs.dataset import MultiomeGraphs
from ...graphs.errors import InputError
from .calibration import Calibration
from .inputs import FEATURES, MODALITIES_OF, UNREDUCED, Features, Inputs, resolve
from .metrics import agreement, confusion_counts
from .model import AnnotatorModel, Reading
from .prepared import Prepared

Int64 = NDArray[np.int64]

_DISTANCES: Final = 1 << 24  # of cells from training cells, at a time
_EXACT: Final = "donot_use_mm_for_euclid_dist"  # so that a cell's neighbours do not depend on its batch
_LINEAR: Final = ("logreg", "svm")


@dataclass(frozen=True)
class FeatureConfig:
    """What can be chosen of the simple annotators.

    Attributes
    ----------
    features
        ``lsi``, ``pca``, ``both``; ``tfidf`` (all peaks, unreduced) and ``logcounts`` (all genes), for logreg and
        svm only; ``auto``: ``lsi``
        where ATAC was measured, else ``pca``.
    width
        Components of each modality.
    neighbours
        Of kNN.
    C
        Inverse strength of regularisation of logreg and svm; 0: chosen on the validation cells.
    balanced
        Whether types weigh the same however many cells they have (logreg, svm); None: chosen on the
        validation cells.
    """

    features: Features = "auto"
    width: int = 50
    neighbours: int = 15
    C: float = 0.0
    balanced: bool | None = None

    def __post_init__(self) -> None:
        for good, problem in (
            (self.features in FEATURES, f"features={self.features}: choose {', '.join(FEATURES)}"),
            (self.width > 0, f"width={self.width}: must be positive"),
            (self.neighbours > 0, f"neighbours={self.neighbours}: must be positive"),
            (0 <= self.C < np.inf, f"C={self.C}: must not be negative; 0 chooses on the validation cells"),
        ):
            if not good:
                raise InputError(f"--set {problem}.")


class ClosedForm(AnnotatorModel):
    """An annotator without trained parameters: its numbers are fitted as it is made.

    Parameters
    ----------
    inputs
        What makes its features.
    config
        With ``features``, ``C`` and ``balanced`` as they were used.
    n_types
        Number of cell types.
    """

    def __init__(self, inputs: Inputs, config: FeatureConfig, n_types: int) -> None:
        super().__init__()
        self.inputs, self.config = inputs, config
        self.modalities = inputs.modalities
        self.notes: list[str] = []
        self.calibration = Calibration(n_types, inputs.width or n_types)

    @classmethod
    def from_graphs(cls, graphs: MultiomeGraphs, config: FeatureConfig, *, seed: int = 0) -> Self:
        """Fit features and model on labelled training cells.

        Raises
        ------
        InputError
            The dataset lacks the modality, the model needs reduced features, or there is one type.
        """
        features = resolve(config.features, graphs.modalities)
        cls._check(features)
        graphs.require(MODALITIES_OF[features], f"{cls.kind} on features={features}")
        return cls.from_features(
            Prepared.of(graphs, features, width=config.width, seed=seed), config, seed=seed
        )

    @classmethod
    def from_features(cls, prepared: Prepared, config: FeatureConfig, *, seed: int = 0) -> Self:
        """Fit the model on features that were fitted before; they are shared, not copied."""
        cls._check(prepared.inputs.features)
        config = replace(config, features=prepared.inputs.features)
        model = cls(prepared.inputs, config, len(prepared.cell_types))
        model.cell_types = prepared.cell_types
        model.notes += prepared.notes
        model._fit(prepared, seed)
        return model.eval()

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor], config: FeatureConfig, n_chrom: int) -> Self:
        """Make a model of the shapes that saved numbers have."""
        del n_chrom
        own = {name.removeprefix("inputs."): value for name, value in tensors.items()}
        model = cls(Inputs.empty(config.features, own), config, len(tensors["calibration.centroids"]))
        for name, buffer in list(model.named_buffers(recurse=False)):
            model.register_buffer(name, torch.zeros(tensors[name].shape, dtype=buffer.dtype))
        return model

    def optimisers(self, lr: float, weight_decay: float) -> list[optim.Optimizer]:
        """Return none: there is nothing to train."""
        return []

    @classmethod
    def _check(cls, features: Features) -> None:
        if features in UNREDUCED and cls.kind not in _LINEAR:
            raise InputError(
                f"{cls.kind} reads reduced features: choose features=lsi, pca or both; {features} is for {' and '.join(_LINEAR)}."
            )

    @abstractmethod
    def _fit(self, prepared: Prepared, seed: int) -> None:
        """Fit the model's own numbers."""


class MajorityAnnotator(ClosedForm):
    """The share of each type among training cells, whatever the cell."""

    kind: ClassVar[str] = "majority"
    tells_alike: ClassVar[bool] = True

    def __init__(self, inputs: Inputs, config: FeatureConfig, n_types: int) -> None:
        super().__init__(inputs, config, n_types)
        self.log_prior: Tensor
        self.register_buffer("log_prior", torch.zeros(n_types))

    def forward(self, batch: Batch) -> Reading:
        """Return the log share of each type for every cell."""
        features = self.inputs(batch)
        return Reading(self.log_prior.expand(len(features), -1), features)

    def _fit(self, prepared: Prepared, seed: int) -> None:
        shares = np.bincount(prepared.codes) / len(prepared.codes)
        self.log_prior.copy_(torch.from_numpy(np.log(shares)))


class CentroidAnnotator(ClosedForm):
    """The nearest mean of a type: normal distributions of one spherical covariance, equally likely types."""

    kind: ClassVar[str] = "centroid"

    def __init__(self, inputs: Inputs, config: FeatureConfig, n_types: int) -> None:
        super().__init__(inputs, config, n_types)
        self.centroids: Tensor
        self.variance: Tensor
        self.register_buffer("centroids", torch.zeros(n_types, inputs.width))
        self.register_buffer("variance", torch.ones(()))

    def forward(self, batch: Batch) -> Reading:
        """Return −distance² / (2 · variance within types)."""
        features = self.inputs(batch)
        squares = torch.cdist(features, self.centroids, compute_mode=_EXACT).square()
        return Reading(-squares / (2 * self.variance), features)

    def _fit(self, prepared: Prepared, seed: int) -> None:
        train, codes = torch.from_numpy(np.asarray(prepared.train)), torch.from_numpy(prepared.codes)
        sums = train.new_zeros(self.centroids.shape).index_add(0, codes, train)
        centroids = sums / torch.bincount(codes)[:, None]
        variance = float((train - centroids[codes]).square().mean())
        self.centroids.copy_(centroids)
        self.variance.fill_(variance if variance > 0 else 1.0)


class KnnAnnotator(ClosedForm):
    """Votes of the nearest training cells by direction: Euclidean distance of features of unit length."""

    kind: ClassVar[str] = "knn"

    def __init__(self, inputs: Inputs, config: FeatureConfig, n_types: int) -> None:
        super().__init__(inputs, config, n_types)
        self.known: Tensor
        self.codes: Tensor
        self.register_buffer("known", torch.zeros(0, inputs.width))
        self.register_buffer("codes", torch.zeros(0, dtype=torch.int64))

    def forward(self, batch: Batch) -> Reading:
        """Return ln of the votes of each type, one vote more being shared by all types."""
        features = self.inputs(batch)
        n_types = len(self.calibration.centroids)
        size = max(1, _DISTANCES // len(self.known))
        votes = torch.cat([self._votes(some, n_types) for some in F.normalize(features).split(size)])
        return Reading(torch.log((votes + 1 / n_types) / (votes.sum(1, keepdim=True) + 1)), features)

    def _votes(self, units: Tensor, n_types: int) -> Tensor:
        """Count the neighbours of each type, (cells, types)."""
        distances = torch.cdist(units, self.known, compute_mode=_EXACT)
        nearest = distances.topk(min(self.config.neighbours, len(self.known)), largest=False).indices
        votes = units.new_zeros(len(units), n_types)
        return votes.scatter_add(1, self.codes[nearest], torch.ones_like(nearest, dtype=votes.dtype))

    def _fit(self, prepared: Prepared, seed: int) -> None:
        features = torch.from_numpy(prepared.train).to(self.known.dtype)
        self.known, self.codes = F.normalize(features), torch.from_numpy(prepared.codes)


class Linear(ClosedForm):
    """One linear function of the features for each type.

    Where the configuration leaves it open, the strength of regularisation and whether types weigh the same
    are those of a small grid with the best macro-F1 on validation cells; C = 1 and equal weights where there
    are none.
    """

    grid: ClassVar[tuple[float, ...]]
    two_types: ClassVar[float]  # share of the only decision value that each of two types gets

    def __init__(self, inputs: Inputs, config: FeatureConfig, n_types: int) -> None:
        super().__init__(inputs, config, n_types)
        self.weight: Tensor
        self.bias: Tensor
        self.register_buffer("weight", torch.zeros(inputs.width, n_types))
        self.register_buffer("bias", torch.zeros(n_types))

    def forward(self, batch: Batch) -> Reading:
        """Return decision values; they are the embedding where features are not reduced."""
        if self.config.features in UNREDUCED:
            profiles, values = self.inputs.weights(batch)
            logits = profiles.bag(values, self.weight) + self.bias
            return Reading(logits, logits)
        features = self.inputs(batch)
        return Reading(features @ self.weight + self.bias, features)

    @staticmethod
    @abstractmethod
    def estimator(C: float, balanced: bool, seed: int) -> Any:
        """Return the scikit-learn estimator that is fitted."""

    def _fit(self, prepared: Prepared, seed: int) -> None:
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always", ConvergenceWarning)
            C, balanced, fitted = self._choose(prepared, seed)
        if any(issubclass(one.category, ConvergenceWarning) for one in told):
            self.notes.append(f"{self.kind}: a fit of the grid did not converge")
        self.config = replace(self.config, C=C, balanced=balanced)
        weight, bias = fitted.coef_, fitted.intercept_
        if len(weight) == 1:
            weight, bias = (np.concatenate([-one, one]) * self.two_types for one in (weight, bias))
        dtype = self.bias.dtype
        self.weight = torch.from_numpy(np.ascontiguousarray(weight.T)).to(dtype)
        self.bias = torch.from_numpy(bias).to(dtype)

    def _choose(self, prepared: Prepared, seed: int) -> tuple[float, bool, Any]:
        """Return the best settings of the grid, and what was fitted with them."""
        options = (True, False) if self.config.balanced is None else (self.config.balanced,)
        strengths = self.grid if self.config.C == 0 else (self.config.C,)
        tries = [(C, balanced) for balanced in options for C in strengths]
        if len(tries) > 1 and not len(prepared.truth):
            tries = [(self.config.C or 1.0, options[0])]
            self.notes.append(f"{self.kind}: no validation cells; C={tries[0][0]:g} was not chosen on any")
        best, chosen = -1.0, None
        for C, balanced in tries:
            fitted = self.estimator(C, balanced, seed).fit(prepared.train, prepared.codes)
            score = _macro_f1(fitted, prepared) if len(tries) > 1 else 0.0
            if score > best:
                best, chosen = score, (C, balanced, fitted)
        assert chosen is not None
        return chosen


class LogregAnnotator(Linear):
    """Multinomial logistic regression."""

    kind: ClassVar[str] = "logreg"
    grid: ClassVar[tuple[float, ...]] = (0.01, 0.1, 1.0, 10.0)
    two_types: ClassVar[float] = 0.5

    @staticmethod
    def estimator(C: float, balanced: bool, seed: int) -> LogisticRegression:
        """Return an unfitted regression."""
        del seed
        return LogisticRegression(C=C, class_weight="balanced" if balanced else None, max_iter=1000)


class SvmAnnotator(Linear):
    """Linear support vector machine with squared hinge loss, each type against the rest."""

    kind: ClassVar[str] = "svm"
    grid: ClassVar[tuple[float, ...]] = (0.01, 0.03, 0.1, 0.3, 1.0)
    two_types: ClassVar[float] = 1.0

    @staticmethod
    def estimator(C: float, balanced: bool, seed: int) -> LinearSVC:
        """Return an unfitted machine."""
        weights = "balanced" if balanced else None
        return LinearSVC(C=C, class_weight=weights, dual="auto", max_iter=5000, random_state=seed)


MODELS: Final[dict[str, type[ClosedForm]]] = {
    model.kind: model
    for model in (MajorityAnnotator, CentroidAnnotator, KnnAnnotator, LogregAnnotator, SvmAnnotator)
}


def baseline_configs(modalities: Sequence[str]) -> dict[str, tuple[str, FeatureConfig]]:
    """Return kind and configuration of every baseline of a dataset, by name.

    Parameters
    ----------
    modalities
        Those of the dataset.
    """
    found: dict[str, tuple[str, FeatureConfig]] = {
        "majority": ("majority", FeatureConfig(resolve("auto", modalities)))
    }
    for features, needed in MODALITIES_OF.items():
        if set(needed) <= set(modalities):
            kinds = _LINEAR if features in UNREDUCED else tuple(kind for kind in MODELS if kind != "majority")
            found |= {f"{kind}_{features}": (kind, FeatureConfig(features)) for kind in kinds}
    return found


def fit_baselines(
    graphs: MultiomeGraphs, *, seed: int = 0, progress: bool = False
) -> dict[str, AnnotatorModel]:
    """Fit all baselines of a dataset; each kind of features is fitted once and shared.

    Parameters
    ----------
    graphs
        Labelled training cells.
    seed
        Decides randomised fits.
    progress
        Show a bar.
    """
    configs = baseline_configs(graphs.modalities)
    prepared: dict[str, Prepared] = {}
    models: dict[str, AnnotatorModel] = {}
    for name, (kind, config) in tqdm(configs.items(), desc="baselines", disable=not progress):
        if config.features not in prepared:
            prepared[config.features] = _prepare(graphs, config, prepared, seed)
        models[name] = MODELS[kind].from_features(prepared[config.features], config, seed=seed)
    return models


def _prepare(
    graphs: MultiomeGraphs, config: FeatureConfig, known: Mapping[str, Prepared], seed: int
) -> Prepared:
    """Fit features; both side by side are those that were fitted alone."""
    if config.features == "both" and {"lsi", "pca"} <= set(known):
        inputs = Inputs.beside(known["lsi"].inputs, known["pca"].inputs)
        return Prepared.with_inputs(graphs, inputs, seed=seed)
    return Prepared.of(graphs, config.features, width=config.width, seed=seed)


def _macro_f1(fitted: Any, prepared: Prepared) -> float:
    predicted = fitted.predict(prepared.validation)
    found = agreement(confusion_counts(prepared.truth, predicted, len(prepared.cell_types)))["macro_f1"]
    return float(found or 0.0)
