"""The plain networks of the annotator papers: a multilayer perceptron and a convolutional network on peaks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Final, Self

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn
from torch_geometric.data import Batch

from ...graphs.dataset import MultiomeGraphs
from ...graphs.errors import InputError
from ...graphs.schema import ATAC
from ..layers.profiles import Profiles
from .calibration import Calibration
from .components import TfIdf
from .model import AnnotatorModel, Reading, vocabulary

Int64 = NDArray[np.int64]

_BINS: Final = 2048  # of consecutive peaks, at most
_CHANNELS: Final = (16, 32)


@dataclass(frozen=True)
class NetworkConfig:
    """What can be chosen of the two networks.

    Attributes
    ----------
    hidden
        Width of the first layer of the MLP.
    width
        Width of the last hidden layer, which is the embedding.
    dropout
        After hidden layers.
    balance
        Power to which a type weighs by its rarity in the loss: 0 all cells weigh the same, 1 all types do;
        None: 1 for the MLP and 0.5 for the CNN, which hardly begins to learn with 1.
    """

    hidden: int = 512
    width: int = 128
    dropout: float = 0.3
    balance: float | None = None

    def __post_init__(self) -> None:
        for good, problem in (
            (self.hidden > 0, f"hidden={self.hidden}: must be positive"),
            (self.width > 0, f"width={self.width}: must be positive"),
            (0 <= self.dropout < 1, f"dropout={self.dropout}: choose a number from 0 to below 1"),
            (
                self.balance is None or 0 <= self.balance <= 1,
                f"balance={self.balance}: choose a number from 0 to 1",
            ),
        ):
            if not good:
                raise InputError(f"--set {problem}.")


class NetworkAnnotator(AnnotatorModel):
    """A network on open peaks whose last hidden layer is the embedding.

    Parameters
    ----------
    n_peaks, n_types
        Numbers of peaks and cell types.
    config
        See `NetworkConfig`.
    """

    modalities: tuple[str, ...] = (ATAC,)
    balance: ClassVar[float]  # where the configuration leaves it open

    def __init__(self, n_peaks: int, n_types: int, config: NetworkConfig) -> None:
        super().__init__()
        self.config = config
        self.type_weights: Tensor
        self.register_buffer("type_weights", torch.ones(n_types))
        self.classifier = nn.Linear(config.width, n_types)
        self.calibration = Calibration(n_types, config.width)

    @classmethod
    def from_graphs(cls, graphs: MultiomeGraphs, config: NetworkConfig, *, seed: int = 0) -> Self:
        """Make an untrained network for labelled training cells; ``seed`` decides its weights."""
        graphs.require(cls.modalities, cls.kind)
        cell_types, codes = vocabulary(graphs)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            model = cls(len(graphs.peaks), len(cell_types), config)
        model.cell_types = cell_types
        balance = cls.balance if config.balance is None else config.balance
        weights = np.bincount(codes).astype(np.float64) ** -balance
        model.type_weights.copy_(torch.from_numpy(weights / weights[codes].mean()))
        model.prepare(graphs)
        return model

    def prepare(self, graphs: MultiomeGraphs) -> None:
        """Take from training cells what is not learnt."""

    def score(self, figures: Mapping[str, float]) -> float:
        """Return macro-F1: the loss is least long before rare types are told."""
        return figures["macro_f1"]

    def loss(self, batch: Batch, codes: Tensor) -> dict[str, Tensor]:
        """Return the cross-entropy of cells whose types are ``codes``, each weighed by its type."""
        each = F.cross_entropy(self(batch).logits, codes, weight=self.type_weights, reduction="none")
        return {"loss": each.mean()}

    def forward(self, batch: Batch) -> Reading:
        """Read cells."""
        embedding = self.embed(Profiles.peaks(batch))
        return Reading(self.classifier(embedding), embedding)

    def embed(self, profiles: Profiles) -> Tensor:
        """Return the last hidden layer, (cells, width)."""
        raise NotImplementedError


class MlpAnnotator(NetworkAnnotator):
    """TF-IDF of open peaks, two hidden layers with ReLU and dropout.

    The first layer sums the vectors of open peaks, so that it costs its non-zeros.

    Parameters
    ----------
    n_peaks, n_types, config
        As in `NetworkAnnotator`.
    """

    kind: ClassVar[str] = "mlp"
    balance: ClassVar[float] = 1.0

    def __init__(self, n_peaks: int, n_types: int, config: NetworkConfig) -> None:
        super().__init__(n_peaks, n_types, config)
        self.tfidf = TfIdf(n_peaks)
        # Cells have unit length: hidden values then begin with the spread that He et al. (2015) ask for.
        self.table = nn.Parameter(torch.randn(n_peaks, config.hidden) * (2 / config.hidden) ** 0.5)
        self.bias = nn.Parameter(torch.zeros(config.hidden))
        self.drop = nn.Dropout(config.dropout)
        self.hidden = nn.Linear(config.hidden, config.width)

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor], config: NetworkConfig, n_chrom: int) -> Self:
        """Make a network of the shapes that saved weights have."""
        del n_chrom
        return cls(len(tensors["table"]), len(tensors["type_weights"]), config)

    def prepare(self, graphs: MultiomeGraphs) -> None:
        """Take the rarity of peaks."""
        cells, _ = graphs.pairs_of(range(len(graphs)))
        self.tfidf.fit(graphs.atac_rows, cells)

    def embed(self, profiles: Profiles) -> Tensor:
        """Return the second hidden layer, (cells, width)."""
        first = profiles.bag(self.tfidf(profiles), self.table) + self.bias
        second = self.hidden(self.drop(first.relu())).relu()
        embedding: Tensor = self.drop(second)
        return embedding


class CnnAnnotator(NetworkAnnotator):
    """ln(1 + counts) of peaks in genome order, summed in bins of consecutive peaks, then convolutions.

    Parameters
    ----------
    n_peaks, n_types, config
        As in `NetworkAnnotator`.

    Shapes
    ------
    Dense are (cells, at most 2,048 bins) and what the convolutions make of it.
    """

    kind: ClassVar[str] = "cnn"
    balance: ClassVar[float] = 0.5

    def __init__(self, n_peaks: int, n_types: int, config: NetworkConfig) -> None:
        super().__init__(n_peaks, n_types, config)
        self.bin_of: Tensor
        self.n_bins = min(_BINS, n_peaks)
        self.register_buffer("bin_of", torch.arange(n_peaks) * self.n_bins // max(n_peaks, 1))
        first, second = _CHANNELS
        self.convolutions = nn.Sequential(
            nn.Conv1d(1, first, 7, stride=2, padding=3),
            nn.ReLU(),
            nn.Conv1d(first, second, 5, stride=2, padding=2),
            nn.ReLU(),
            nn.MaxPool1d(4, ceil_mode=True),
            nn.Conv1d(second, second, 3, padding=1),
            nn.ReLU(),
        )
        places = -(-self.n_bins // 16)
        self.dense = nn.Linear(second * places, config.width)
        self.drop = nn.Dropout(config.dropout)

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor], config: NetworkConfig, n_chrom: int) -> Self:
        """Make a network of the shapes that saved weights have."""
        del n_chrom
        return cls(len(tensors["bin_of"]), len(tensors["type_weights"]), config)

    def bins(self, profiles: Profiles) -> Tensor:
        """Return ln(1 + counts) summed in bins, (cells, bins)."""
        values = profiles.counts.to(self.dense.weight.dtype).log1p()
        places = profiles.cell * self.n_bins + self.bin_of[profiles.ids]
        flat = values.new_zeros(len(profiles) * self.n_bins).index_add(0, places, values)
        return flat.view(len(profiles), self.n_bins)

    def embed(self, profiles: Profiles) -> Tensor:
        """Return the dense layer, (cells, width)."""
        found = self.convolutions(self.bins(profiles)[:, None])  # (cells, channels, places)
        embedding: Tensor = self.drop(self.dense(found.flatten(1)).relu())
        return embedding
