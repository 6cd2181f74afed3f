"""CrossRec, the published recommendation model: exact, at the cost of its links."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch_geometric.data import Batch

from ..graphs.dataset import MultiomeGraphs
from ..graphs.errors import InputError
from ..graphs.schema import ACCESSIBILITY, CELL, EXPRESSION, GENE, ID, MATCH, MODALITIES, PEAK
from .layers.link_counts import link_counts
from .layers.links import Links
from .layers.node_features import NodeFeatures, Nodes
from .layers.threshold_attention import threshold_weights
from .layers.top_scores import top_scores


@dataclass(frozen=True)
class CrossRecConfig:
    """What can be chosen of the published model; the values are the published ones.

    Attributes
    ----------
    id_width, width
        Widths of the id embedding and of the hidden vectors.
    heads
        Attention heads, each on ``width / heads`` columns.
    top, threshold
        Peaks that share a gene's softmax, and the sigmoid that a link must pass.
    on_above
        A gene is predicted on when more peaks than this pass for it.
    dropout
        In the classifier.
    alpha
        Weight of the translation loss; 0 leaves translation untrained.
    adaptive_alpha
        Rescale alpha at each step so that translation weighs a tenth of matching.
    target
        Expression that translation is trained on: ``raw`` counts, as published, or ``binary``.
    sparse_ids
        Sparse gradients for the id tables.
    """

    id_width: int = 256
    width: int = 128
    heads: int = 1
    top: int = 10
    threshold: float = 0.8
    on_above: int = 9
    dropout: float = 0.1
    alpha: float = 1.0
    adaptive_alpha: bool = False
    target: Literal["raw", "binary"] = "raw"
    sparse_ids: bool = True

    def __post_init__(self) -> None:
        positive = min(self.id_width, self.width, self.heads, self.top) > 0
        for good, problem in (
            (self.target in ("raw", "binary"), f"target={self.target}: choose raw or binary"),
            (0 < self.threshold < 1, f"threshold={self.threshold}: choose a number between 0 and 1"),
            (0 <= self.dropout < 1, f"dropout={self.dropout}: choose a number from 0 to below 1"),
            (positive, "widths, heads and top must be positive"),
            (
                positive and self.width % self.heads == 0,
                f"heads={self.heads}: must divide width={self.width}",
            ),
            (self.alpha >= 0, f"alpha={self.alpha}: must not be negative"),
        ):
            if not good:
                raise InputError(f"--set {problem}.")


@dataclass(frozen=True)
class Embedding:
    """What CrossRec makes of each graph: (graphs, 2) logits and two (graphs, width) vectors."""

    logits: Tensor
    genes: Tensor
    peaks: Tensor

    @property
    def integration(self) -> Tensor:
        """The joint embedding of each graph, (graphs, 2 · width)."""
        return torch.cat([self.genes, self.peaks], 1)


class CrossRec(nn.Module):
    """Tell whether an RNA and an ATAC profile belong together, and which genes follow from open peaks.

    Genes attend to open peaks on their chromosome; the ten best sigmoid scores of a gene share a
    softmax and those above 0.8 carry messages both ways; mean-pooled genes and peaks are classified.

    Described in scCrossRec. Every value and gradient equals that of the dense formula: the maps
    between attention and pooling are linear, so they are applied to pooled features.

    Parameters
    ----------
    gene_features, peak_features
        Feature tables of the two node types.
    config
        See `CrossRecConfig`.

    Shapes
    ------
    A batch of graphs from `MultiomeGraphs` with ``n`` genes and ``m`` peaks of ``width`` d costs
    O((distinct ids) · d + Σ over (graph, chromosome) of n · m · d) for matching.
    """

    kind: ClassVar[str] = "crossrec"
    mode: ClassVar[str] = "published"
    reads_places: ClassVar[bool] = False
    at_once: ClassVar[int] = 32  # keys are wide
    modalities = MODALITIES

    def __init__(
        self, gene_features: NodeFeatures, peak_features: NodeFeatures, config: CrossRecConfig
    ) -> None:
        super().__init__()
        self.config = config
        self.gene_features, self.peak_features = gene_features, peak_features
        width = config.width
        self.query, self.gene_value, self.gene_self = (
            nn.Linear(gene_features.width, width) for _ in range(3)
        )
        self.key, self.peak_value, self.peak_self = (nn.Linear(peak_features.width, width) for _ in range(3))
        several = config.heads > 1
        self.gene_heads = nn.Linear(width, width) if several else nn.Identity()
        self.peak_heads = nn.Linear(width, width) if several else nn.Identity()
        self.gene_out, self.peak_out = nn.Linear(2 * width, width), nn.Linear(2 * width, width)
        self.classifier = nn.Sequential(
            nn.Linear(2 * width, width),
            nn.ReLU(),
            nn.Dropout(config.dropout),
            nn.Linear(width, width // 2),
            nn.ReLU(),
            nn.Dropout(config.dropout),
            nn.Linear(width // 2, 2),
        )

    @classmethod
    def from_graphs(cls, graphs: MultiomeGraphs, config: CrossRecConfig, *, seed: int = 0) -> CrossRec:
        """Make an untrained model for the genes and peaks of a dataset; its weights come from torch's seed."""
        del seed
        genes, peaks = graphs.genes, graphs.peaks
        n_chrom = len(graphs.store.manifest["chromosomes"])
        numbers = [genes.means, genes.variances_norm, genes.strand.float(), genes.highly_variable.float()]
        return cls(
            NodeFeatures(
                genes.chrom,
                n_chrom,
                config.id_width,
                numbers=torch.stack(numbers, 1),
                sparse=config.sparse_ids,
            ),
            NodeFeatures(
                peaks.chrom,
                n_chrom,
                config.id_width,
                sequence=peaks.tensors.get("sequence"),
                sparse=config.sparse_ids,
            ),
            config,
        )

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor], config: CrossRecConfig, n_chrom: int) -> CrossRec:
        """Make a model of the shapes that saved weights have."""

        def part(name: str) -> NodeFeatures:
            own = {key: tensors[f"{name}.{key}"] for key in ("chrom", "numbers", "sequence")}
            return NodeFeatures(
                own["chrom"],
                n_chrom,
                config.id_width,
                numbers=own["numbers"],
                sequence=own["sequence"],
                sparse=config.sparse_ids,
            )

        return cls(part("gene_features"), part("peak_features"), config)

    def forward(self, batch: Batch) -> Embedding:
        """Classify each graph of a batch as a match (column 1) or not (column 0)."""
        genes, peaks = self._nodes(batch)
        genes_get, peaks_get = self._messages(genes, peaks)
        gene = self._pool(genes, self.gene_self, self.gene_heads(genes_get), self.gene_out)
        peak = self._pool(peaks, self.peak_self, self.peak_heads(peaks_get), self.peak_out)
        return Embedding(self.classifier(torch.cat([gene, peak], 1)), gene, peak)

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        """Return the training loss of a batch and its parts: ``loss``, ``matching``, ``translation``."""
        return self.losses(batch, *self.outputs(batch))

    def outputs(self, batch: Batch) -> tuple[Tensor, Tensor | None]:
        """Return logits (graphs, 2), and counts (matches, genes) unless translation is off or nothing matches."""
        positive = batch[CELL][MATCH] > 0
        translates = self.config.alpha > 0 and bool(positive.any())
        if not translates:
            return self(batch).logits, None
        # Whether a gene is on is all that the loss asks.
        return self(batch).logits, self.translate(batch, positive, enough=self.config.on_above)

    def match(self, batch: Batch) -> Tensor:
        """Return the log odds that each graph is a match, (graphs,)."""
        logits = self(batch).logits
        odds: Tensor = logits[:, 1] - logits[:, 0]
        return odds

    def validate(self, batch: Batch) -> dict[str, Tensor]:
        """Return losses, accuracy, and where a graph matches the error of its translation."""
        match = batch[CELL][MATCH]
        logits, counts = self.outputs(batch)
        measures = self.losses(batch, logits, counts)
        measures["accuracy"] = (logits.argmax(1) == match).float().mean()
        if counts is not None:
            expressed = (self.expression(batch, match > 0) > 0).float()
            measures["mae"] = (self.switch(counts) - expressed).abs().mean()
        return measures

    def score(self, measures: Mapping[str, float]) -> float:
        """Return accuracy - MAE, as published."""
        return measures["accuracy"] - measures.get("mae", 0.0)

    def optimisers(self, lr: float, weight_decay: float) -> list[torch.optim.Optimizer]:
        """Adam with decay for dense parameters, sparse Adam for id tables with sparse gradients."""
        features = (self.gene_features, self.peak_features)
        tables = [f.embedding.weight for f in features if f.embedding.sparse]
        sparse = {id(table) for table in tables}
        dense = [p for p in self.parameters() if id(p) not in sparse]
        found: list[torch.optim.Optimizer] = [torch.optim.Adam(dense, lr=lr, weight_decay=weight_decay)]
        if tables:
            found.append(torch.optim.SparseAdam(tables, lr=lr))
        return found

    def lr_factor(self, step: int) -> float:
        """Return 1: the published rate is constant."""
        del step
        return 1.0

    def refresh(self) -> None:
        """Nothing is kept for later."""

    def losses(self, batch: Batch, logits: Tensor, counts: Tensor | None) -> dict[str, Tensor]:
        """Return the loss of `outputs` and its parts."""
        match = batch[CELL][MATCH]
        matching = F.cross_entropy(logits, match.long())
        if counts is None:
            return {"loss": matching, "matching": matching, "translation": matching.new_zeros(())}
        target = self.expression(batch, match > 0)
        if self.config.target == "binary":
            target = (target > 0).to(target.dtype)
        translation = F.mse_loss(self.switch(counts), target)
        alpha = self.config.alpha
        if self.config.adaptive_alpha:
            alpha *= 0.1 * float(matching.detach() / translation.detach().clamp_min(1e-12))
        return {"loss": matching + alpha * translation, "matching": matching, "translation": translation}

    def translate(self, batch: Batch, graphs: Tensor | None = None, *, enough: float = math.inf) -> Tensor:
        """Count, for every gene of the model, the open peaks linked to it.

        Every gene is asked with value 1 against all open peaks, on whatever chromosome; the score
        is the product of the whole query and key, so it does not depend on the number of heads.

        Parameters
        ----------
        batch
            Graphs; only their peaks are read.
        graphs
            (graphs,) mask of those wanted; all when None.
        enough
            Counts above this need not be exact; see `link_counts`.

        Returns
        -------
        (graphs wanted, genes) counts, with straight-through gradients.
        """
        peaks = self._peaks(batch)
        wanted = torch.ones_like(peaks.counts, dtype=torch.bool) if graphs is None else graphs
        ptr = F.pad(peaks.counts[wanted].cumsum(0), (1, 0))
        key = peaks.project(self.key).of(wanted[peaks.cell]).all()
        query = self._all(self.gene_features).project(self.query).all()
        return link_counts(query, key, ptr, threshold=self.config.threshold, enough=enough)

    def switch(self, counts: Tensor) -> Tensor:
        """Turn counts into 0/1 predictions, straight-through."""
        on = (counts > self.config.on_above).to(counts.dtype)
        return on + counts - counts.detach()

    def expression(self, batch: Batch, graphs: Tensor) -> Tensor:
        """Return the counts of all genes, (graphs wanted, genes), dense."""
        store = batch[GENE]
        row = (graphs.cumsum(0) - 1)[store.batch]
        wanted = graphs[store.batch]
        counts = store[EXPRESSION].new_zeros(int(graphs.sum()), len(self.gene_features.chrom))
        counts[row[wanted], store[ID][wanted]] = store[EXPRESSION][wanted]
        dense: Tensor = counts.to(self.key.weight.dtype)
        return dense

    @torch.no_grad()
    def attention(self, batch: Batch) -> Links:
        """Return the links that pass the threshold in any head, sparse."""
        genes, peaks = self._nodes(batch)
        heads = self._weights(genes, peaks)
        edges = torch.cat(
            [(weights > 0).nonzero()[:, 0] * len(peaks.ids) + keys[weights > 0] for weights, keys in heads]
        )
        pairs, edge = torch.unique(edges, return_inverse=True)
        head = torch.cat([torch.full((int((w > 0).sum()),), h) for h, (w, _) in enumerate(heads)]).to(
            edge.device
        )
        weight = heads[0][0].new_zeros(len(pairs), len(heads))
        weight[edge, head] = torch.cat([w[w > 0] for w, _ in heads])
        n_peaks = max(len(peaks.ids), 1)
        return Links(pairs // n_peaks, pairs % n_peaks, weight)

    @torch.no_grad()
    def affinities(self, graphs: MultiomeGraphs) -> tuple[Tensor, Tensor]:
        """Return queries (genes, d) and keys (peaks, d) whose products are scores, all counts being 1."""
        del graphs
        return (
            self._all(self.gene_features).project(self.query).all(),
            self._all(self.peak_features).project(self.key).all(),
        )

    def _all(self, features: NodeFeatures) -> Nodes:
        """Every gene or peak of the model with a count of 1."""
        every = torch.arange(len(features.chrom), device=features.chrom.device)
        ptr = F.pad(every[-1:] + 1, (1, 0))
        return features.nodes(every, torch.ones(len(every), device=ptr.device), torch.zeros_like(every), ptr)

    def _nodes(self, batch: Batch) -> tuple[Nodes, Nodes]:
        store = batch[GENE]
        genes = self.gene_features.nodes(store[ID], store[EXPRESSION], store.batch, store.ptr)
        return genes, self._peaks(batch)

    def _peaks(self, batch: Batch) -> Nodes:
        store = batch[PEAK]
        return self.peak_features.nodes(store[ID], store[ACCESSIBILITY], store.batch, store.ptr)

    def _weights(self, genes: Nodes, peaks: Nodes) -> list[tuple[Tensor, Tensor]]:
        """Return attention weights (genes, top) and the peaks they belong to, for each head."""
        query, key = genes.project(self.query), peaks.project(self.key)
        config, kinds = self.config, self.gene_features.n_chrom + 1
        elsewhere = peaks.counts.repeat_interleave(kinds) - peaks.blocks.nodes.diff()
        beside = elsewhere.repeat_interleave(genes.blocks.nodes.diff())
        width = config.width // config.heads
        found = []
        for begin in range(0, config.width, width):
            q, k = query.part(begin, begin + width), key.part(begin, begin + width)
            scores, keys = top_scores(q, k, genes.blocks, peaks.blocks, config.top)
            found.append(
                (threshold_weights(scores, beside, threshold=config.threshold, top=config.top), keys)
            )
        return found

    def _messages(self, genes: Nodes, peaks: Nodes) -> tuple[Tensor, Tensor]:
        """Return the mean message that genes get from peaks, and peaks from genes, (graphs, width) each."""
        width = self.config.width // self.config.heads
        to_genes, to_peaks = [], []
        for head, (weights, keys) in enumerate(self._weights(genes, peaks)):
            rows = slice(head * width, (head + 1) * width)
            each = (weights * genes.mean_share()[genes.cell, None]).flatten()
            sent = weights.new_zeros(len(peaks.ids)).index_add(0, keys.clamp_min(0).flatten(), each)
            to_genes.append(peaks.pooled(self.peak_value.weight[rows], self.peak_value.bias[rows], sent))
            back = weights.sum(1) * peaks.mean_share()[genes.cell]
            to_peaks.append(genes.pooled(self.gene_value.weight[rows], self.gene_value.bias[rows], back))
        return torch.cat(to_genes, 1), torch.cat(to_peaks, 1)

    def _pool(self, nodes: Nodes, own: nn.Linear, message: Tensor, out: nn.Linear) -> Tensor:
        """Mean of out(message ‖ own(features)) over the nodes of each graph; zero where there are none."""
        mine = nodes.pooled(own.weight, own.bias, nodes.mean_share()[nodes.cell])
        some = (nodes.counts > 0).to(mine.dtype)[:, None]
        pooled: Tensor = out(torch.cat([message, mine], 1))
        return pooled * some
