"""HitAnno, the published annotator: a cell is a sentence of marker peaks a type; exact, at the cost of open peaks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn
from torch_geometric.data import Batch

from ..graphs.dataset import MultiomeGraphs
from ..graphs.errors import InputError
from ..graphs.schema import ATAC
from .annotation.calibration import Calibration
from .annotation.marker_peaks import MarkerPeaks, fit_marker_peaks
from .annotation.model import AnnotatorModel, Reading, vocabulary
from .annotation.peak_weights import PeakWeights
from .layers.deep_sentences import DeepSentences, PeakPairs
from .layers.profiles import Profiles
from .layers.sentence_attention import CellAttention, OpenTokens, SentenceAttention
from .layers.transformer_block import TransformerBlock


@dataclass(frozen=True)
class HitAnnoConfig:
    """What can be chosen of the published model; the values are the published ones.

    Attributes
    ----------
    peaks_per_type
        Marker peaks of each type; 0 for the published rule, ⌊√(9/types)·2000⌋. Never more than peaks / types.
    dim, heads, ffn
        Width of the tokens, attention heads, width of the feed-forward layers.
    dropout
        Behind attention and feed-forward layers, and in the classifier.
    token_dropout
        Share of the marker peaks that a training step leaves out, in place of dropout of attention
        probabilities.
    peak_layers, cell_layers
        Transformer blocks over the peaks of a sentence, and over the sentences of a cell.
    warmup
        Epochs in which the learning rate rises to its value.
    """

    peaks_per_type: int = 0
    dim: int = 128
    heads: int = 16
    ffn: int = 128
    dropout: float = 0.1
    token_dropout: float = 0.1
    peak_layers: int = 1
    cell_layers: int = 1
    warmup: int = 3

    def __post_init__(self) -> None:
        positive = min(self.dim, self.heads, self.ffn, self.peak_layers, self.cell_layers) > 0
        for good, problem in (
            (self.peaks_per_type >= 0, f"peaks_per_type={self.peaks_per_type}: must not be negative"),
            (positive, "dim, heads, ffn, peak_layers and cell_layers must be positive"),
            (not positive or self.dim % self.heads == 0, f"heads={self.heads}: must divide dim={self.dim}"),
            (self.dim > 1, f"dim={self.dim}: the classifier halves it, so it must be at least 2"),
            (0 <= self.dropout < 1, f"dropout={self.dropout}: choose a number from 0 to below 1"),
            (
                0 <= self.token_dropout < 1,
                f"token_dropout={self.token_dropout}: choose a number from 0 to below 1",
            ),
            (self.warmup >= 0, f"warmup={self.warmup}: must not be negative"),
        ):
            if not good:
                raise InputError(f"--set {problem}.")


class PublishedHitAnno(AnnotatorModel):
    """Attention over the marker peaks of each type, then over the types of a cell.

    A cell is a sentence of marker peaks a type, each open or closed. A transformer reads every sentence into
    the vector of its first token; a second one reads these into the vector of the cell, which is classified.

    Described in HitAnno. Logits and gradients equal those of full attention over all tokens; only dropout of
    attention probabilities is replaced, by leaving out peaks.

    Parameters
    ----------
    token_of_peak
        (peaks,) place of each peak of the dataset among the tokens, −1 where it is no marker.
    pointers
        (types + 1,) pointers of the types into the tokens.
    selection
        (tokens,) scores by which marker peaks were chosen.
    config
        See `HitAnnoConfig`.

    Attributes
    ----------
    notes
        What was unusual when marker peaks were chosen.

    Shapes
    ------
    With one block over peaks a step costs O(tokens · d · heads + (distinct open markers) · d² +
    (open markers of all cells) · d); with more, O(cells · types · (tokens a type)² · d).
    """

    kind: ClassVar[str] = "hitanno"
    mode: ClassVar[str] = "published"
    modalities = (ATAC,)
    config: HitAnnoConfig

    def __init__(
        self, token_of_peak: Tensor, pointers: Tensor, selection: Tensor, config: HitAnnoConfig
    ) -> None:
        super().__init__()
        self.config, n_types, d = config, len(pointers) - 1, config.dim
        self.notes: list[str] = []
        self.token_of_peak: Tensor
        self.pointers: Tensor
        self.selection: Tensor
        for name, buffer in (
            ("token_of_peak", token_of_peak),
            ("pointers", pointers),
            ("selection", selection),
        ):
            self.register_buffer(name, buffer.clone())
        self.cls, self.states = nn.Parameter(torch.randn(1, d)), nn.Parameter(torch.randn(2, d))
        self.sets = nn.Parameter(torch.randn(n_types, d))
        self.tokens = nn.Parameter(torch.randn(len(selection), d))
        self.peak_blocks, self.cell_blocks = (
            nn.ModuleList(
                TransformerBlock(d, config.heads, config.ffn, dropout=config.dropout) for _ in range(n)
            )
            for n in (config.peak_layers, config.cell_layers)
        )
        self.classifier = nn.Sequential(
            nn.Linear(d, d // 2), nn.ReLU(), nn.Dropout(config.dropout), nn.Linear(d // 2, n_types)
        )
        self.calibration = Calibration(n_types, d)

    @classmethod
    def from_graphs(cls, graphs: MultiomeGraphs, config: HitAnnoConfig, *, seed: int = 0) -> Self:
        """Choose marker peaks on the labelled training cells given, and begin with weights drawn by ``seed``."""
        graphs.require(cls.modalities, "hitanno")
        types, codes = vocabulary(graphs)
        _, cells = graphs.pairs_of(range(len(graphs)))
        found = fit_marker_peaks(graphs.atac_rows, cells, codes, len(types), per_type=config.peaks_per_type)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            model = cls(*_buffers(found, len(graphs.peaks)), config)
        model.cell_types = types
        model.notes = [
            f"{types[code]}: fewer than two training cells of it, or of all others, so that no t-test can be had;"
            " its marker peaks are those with the largest difference of means"
            for code in found.by_difference
        ]
        return model

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor], config: HitAnnoConfig, n_chrom: int) -> Self:
        """Make a model of the shapes that saved weights have."""
        del n_chrom
        return cls(tensors["token_of_peak"], tensors["pointers"], tensors["selection"], config)

    @property
    def marker_peaks(self) -> Tensor:
        """The peak of the dataset that each token is, (tokens,)."""
        found = self.token_of_peak.new_zeros(len(self.selection))
        peaks = torch.nonzero(self.token_of_peak >= 0).squeeze(1)
        found[self.token_of_peak[peaks]] = peaks
        return found

    def forward(self, batch: Batch) -> Reading:
        """Read cells; the embedding is the vector of the cell."""
        x = self._cell_tokens(batch)
        for block in self.cell_blocks[:-1]:
            x = block(x)
        embedding = _block(self.cell_blocks, -1).first(x)
        return Reading(self.classifier(embedding), embedding)

    def lr_factor(self, epoch: float) -> float:
        """Return the share of the learning rate: a straight rise over the first epochs, then 1."""
        return min(1.0, epoch / self.config.warmup) if self.config.warmup else 1.0

    def open_tokens(self, batch: Batch) -> OpenTokens:
        """Return the open marker peaks of cells."""
        return OpenTokens.of(Profiles.peaks(batch), self.token_of_peak, self.pointers)

    @torch.no_grad()
    def peak_weights(self) -> Tensor:
        """Return the attention of a type's sentence to each marker peak, closed and open, (2, tokens, heads).

        See `SentenceAttention.table`; of a model with one block over peaks.
        """
        return self._sentences(None).table()

    @torch.no_grad()
    def sentence_attention(self, batch: Batch) -> CellAttention:
        """Return where the sentences of cells look, at the peaks of `open_tokens`; one block over peaks."""
        return self._sentences(None).weights(self.open_tokens(batch))

    @torch.no_grad()
    def type_attention(self, batch: Batch) -> Tensor:
        """Return the attention of cells to themselves and to the sentence of each type, (cells, heads, 1 + types)."""
        x = self._cell_tokens(batch)
        for block in self.cell_blocks[:-1]:
            x = block(x)
        return _block(self.cell_blocks, -1).attention.weights(x, queries=slice(0, 1))[:, :, 0]

    @torch.no_grad()
    def attended_peaks(self, batch: Batch) -> PeakWeights:
        """Return the attention of every sentence to its open peaks; one block over peaks."""
        opened = self.open_tokens(batch)
        weight = self._sentences(None).weights(opened).open.mean(1)
        cell, sentence = opened.row // opened.n_sentences, opened.row % opened.n_sentences
        return PeakWeights(cell, sentence, self.marker_peaks[opened.token], weight)

    @torch.no_grad()
    def attended_types(self, batch: Batch) -> Tensor:
        """Return the attention of cells to the sentences, (cells, types); the rest is to the cell's own token."""
        return self.type_attention(batch).mean(1)[:, 1:]

    def ranked_markers(self) -> tuple[Tensor, Tensor, Tensor]:
        """Return type, peak and t of the marker peaks, best first in each type."""
        sizes = self.pointers.diff()
        types = torch.repeat_interleave(torch.arange(len(sizes), device=sizes.device), sizes)
        return types, self.marker_peaks, self.selection

    def peak_attention(self, batch: Batch, *, top: int = 100, layer: int = 0) -> Iterator[PeakPairs]:
        """Yield the strongest attention between the marker peaks of a type, some cells at a time.

        Parameters
        ----------
        batch
            Cells.
        top
            Pairs of each cell and sentence.
        layer
            Block over peaks, from 0; in the last one only the sentence token asks.

        Raises
        ------
        InputError
            No such block in which peaks attend to peaks.
        """
        last = self.config.peak_layers - 1
        if not 0 <= layer < last:
            raise InputError(
                f"peaks attend to peaks in {last} of the {last + 1} blocks of this model, and block {layer} was asked"
                " for. Train with --set peak_layers=2 or more, and ask for a block below the last."
            )
        return self._deep(None).pairs(self.open_tokens(batch), layer=layer, top=top)

    def _cell_tokens(self, batch: Batch) -> Tensor:
        """Return the vectors of cell and sentences before the upper blocks, (cells, 1 + types, d)."""
        opened = self.open_tokens(batch)
        keep = None
        if self.training and self.config.token_dropout:
            keep = torch.rand(len(self.tokens), device=self.tokens.device) >= self.config.token_dropout
        if self.config.peak_layers == 1:
            with torch.autocast(self.tokens.device.type, enabled=False):
                attended = self._sentences(keep)(opened)
            read = _block(self.peak_blocks, 0).finish(self.sets, attended)
        else:
            read = self._deep(keep)(opened)
        return torch.cat([self.cls.expand(len(read), 1, -1), read], 1)

    def _sentences(self, keep: Tensor | None) -> SentenceAttention:
        if self.config.peak_layers > 1:
            raise InputError(
                f"attention to peaks is a table in models with one block over peaks; this one has"
                f" {self.config.peak_layers}. Ask for peak_attention, or train with --set peak_layers=1."
            )
        attention, ptr = _block(self.peak_blocks, 0).attention, tuple(self.pointers.tolist())
        return SentenceAttention.of(attention, self.sets, self.tokens, self.states, ptr, keep=keep)

    def _deep(self, keep: Tensor | None) -> DeepSentences:
        blocks = [_block(self.peak_blocks, i) for i in range(len(self.peak_blocks))]
        ptr = tuple(self.pointers.tolist())
        return DeepSentences(blocks, self.sets, self.tokens, self.states, ptr, keep)


def _block(blocks: nn.ModuleList, i: int) -> TransformerBlock:
    block: Any = blocks[i]
    found: TransformerBlock = block
    return found


def _buffers(found: MarkerPeaks, n_peaks: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return token of each peak, pointers, and scores of marker peaks."""
    token = torch.full((n_peaks,), -1)
    token[torch.from_numpy(found.peaks)] = torch.arange(len(found.peaks))
    return token, torch.from_numpy(found.ptr), torch.from_numpy(found.scores).float()
