"""CrossRec, corrected: expression from the peaks around a gene, and matching as retrieval."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from scipy import sparse
from torch import Tensor, nn
from torch_geometric.data import Batch

from ..graphs.dataset import MultiomeGraphs
from ..graphs.errors import InputError
from ..graphs.schema import ATAC, CELL, GENE, ID, MATCH, MODALITIES, RNA, SPLITS
from .layers.canonical import canonical_maps
from .layers.cis_attention import CisAttention
from .layers.count_likelihood import LIKELIHOODS, CountLikelihood, Likelihood
from .layers.depth_offset import DepthOffset
from .layers.linked_expression import LinkedExpression
from .layers.links import Links
from .layers.open_sums import edge_items
from .layers.pair_matching import PairMatching
from .layers.prior_edges import PriorEdges
from .layers.profile_encoder import ProfileEncoder, Weighting
from .layers.profiles import DEPTHS, Profiles
from .layers.sequence_keys import SequenceKeys

Int64 = NDArray[np.int64]
_RISE, _FALL = 20, 200.0  # steps of the learning rate's rise, and until it has halved


@dataclass(frozen=True)
class CisConfig:
    """What can be chosen of the corrected model; every part can be switched off.

    Attributes
    ----------
    components, width, hidden
        Widths of the feature vectors, of the encodings and of the networks.
    token_dropout, dropout
        Shares of a cell's features and of hidden values that are left out in training.
    programmes
        Components by which open peaks speak for those that open with them.
    heads, distance, top, threshold
        See `CisAttention`; the published model has top=10, threshold=0.8.
    sequence, filters, sequence_peaks
        Whether keys know the peaks' DNA, its filters, and peaks whose DNA is read at a step.
    own, smooth
        See `LinkedExpression`.
    query_precision
        Of the normal prior of the queries: larger keeps attention nearer to what distance suggests.
    trans
        Whether the ATAC encoding adds what a gene's own peaks do not tell. Links are trained without it.
    likelihood
        Of counts: ``nb``, ``poisson``, or ``binary``.
    known_depth
        Share of a training cell's RNA depth, beyond what its ATAC depth tells, that is taken as known.
    contrastive, classifier
        Whether encodings are trained to find their partner, and a classifier of pairs on them.
    alpha, adaptive_alpha
        Weight of the expression losses; 0 leaves links untrained. Adaptive: at each step so that they weigh a
        tenth of matching.
    """

    components: int = 30
    width: int = 64
    hidden: int = 128
    token_dropout: float = 0.2
    dropout: float = 0.1
    programmes: int = 15
    heads: int = 1
    distance: bool = True
    top: int = 0
    threshold: float = 0.0
    sequence: bool = True
    filters: int = 32
    sequence_peaks: int = 512
    own: bool = True
    smooth: bool = True
    query_precision: float = 10.0
    trans: bool = True
    likelihood: Likelihood = "nb"
    known_depth: float = 0.5
    contrastive: bool = True
    classifier: bool = True
    alpha: float = 60.0
    adaptive_alpha: bool = False

    def __post_init__(self) -> None:
        counts = ("components", "width", "hidden", "programmes", "heads", "filters", "sequence_peaks")
        for good, problem in (
            (min(getattr(self, name) for name in counts) > 0, f"{', '.join(counts)} must be positive"),
            (
                self.programmes <= self.components,
                f"programmes={self.programmes}: at most components={self.components}",
            ),
            (self.top >= 0, f"top={self.top}: choose 0 for all edges, or more"),
            (0 <= self.threshold < 1, f"threshold={self.threshold}: choose a number from 0 to below 1"),
            (self.own or self.smooth, "own=False smooth=False: expression needs one of them"),
            (
                all(0 <= share < 1 for share in (self.dropout, self.token_dropout)),
                "dropout and token_dropout lie from 0 to below 1",
            ),
            (self.query_precision >= 0, f"query_precision={self.query_precision}: must not be negative"),
            (0 <= self.known_depth <= 1, f"known_depth={self.known_depth}: choose a number from 0 to 1"),
            (
                self.likelihood in LIKELIHOODS,
                f"likelihood={self.likelihood}: choose {', '.join(LIKELIHOODS)}",
            ),
            (self.alpha >= 0, f"alpha={self.alpha}: must not be negative"),
            (
                self.contrastive or self.classifier or self.alpha > 0,
                "contrastive=False classifier=False alpha=0: nothing is left to train",
            ),
        ):
            if not good:
                raise InputError(f"--set {problem}.")


class CisCrossRec(nn.Module):
    """Which RNA profile belongs to which ATAC profile, which genes follow from open peaks, and by which links.

    Each modality is encoded alone, by the sum of its features' vectors; encodings of one cell find each
    other among those of a batch. A gene's expression follows from the peaks of its prior edges: attention to a
    peak, times the gene's gain, is the peak's effect on a prediction that can be checked.

    Parameters
    ----------
    edges
        Prior edges.
    sequence
        (peaks, bases) uint8 codes, or None.
    config
        See `CisConfig`.

    Notes
    -----
    The likelihood of expression is taken twice: from links alone, which trains them, and with the trans part
    added to their fixed prediction, which trains that part. So links are not relieved of what the state of
    the whole cell also tells.
    """

    kind: ClassVar[str] = "crossrec"
    mode: ClassVar[str] = "default"
    reads_places: ClassVar[bool] = False
    at_once: ClassVar[int] = 128
    modalities = MODALITIES

    def __init__(self, edges: PriorEdges, sequence: Tensor | None, config: CisConfig) -> None:
        super().__init__()
        self.config = config
        n_genes, n_peaks = edges.n_genes, edges.n_peaks
        self.rna = _encoder(n_genes, "sqrt", config)
        self.atac = _encoder(n_peaks, "tf-idf", config)
        self.matching = PairMatching(config.width, config.hidden, config.dropout)
        attention = CisAttention(
            edges,
            config.programmes,
            heads=config.heads,
            distance=config.distance,
            top=config.top,
            threshold=config.threshold,
        )
        self.expression = LinkedExpression(attention, config.programmes, own=config.own, smooth=config.smooth)
        self.dna = None
        if config.sequence and sequence is not None:
            self.dna = SequenceKeys(sequence, n_peaks, config.programmes, config.filters)
        self.trans = _decoder(n_genes, config) if config.trans else None
        self.likelihood = CountLikelihood(n_genes, config.likelihood)
        self.depth = DepthOffset(config.known_depth)
        self.n_cells: Tensor
        self.register_buffer("n_cells", torch.ones(()))

    @classmethod
    def from_graphs(cls, graphs: MultiomeGraphs, config: CisConfig, *, seed: int = 0) -> CisCrossRec:
        """Make a model for a dataset, with all that is fitted without gradients on its training cells.

        Encodings begin as canonical variates of the principal components of both modalities.
        """
        model = cls(PriorEdges.from_graphs(graphs), graphs.peaks.tensors.get("sequence"), config)
        train = np.flatnonzero((graphs.cells["split"] == SPLITS[0]).to_numpy())
        model.rna.fit_components(graphs.rna_rows, train, seed=seed)
        model.atac.fit_components(graphs.atac_rows, train, seed=seed)
        model.eval()
        rna = model.rna.features_of(graphs.rna_rows, train)
        atac = model.atac.features_of(graphs.atac_rows, train)
        for encoder, linear in zip(
            (model.rna, model.atac),
            canonical_maps(rna.double().numpy(), atac.double().numpy(), width=config.width),
            strict=True,
        ):
            encoder.start_linear(torch.from_numpy(linear))
        counts = torch.cat([some.total(some.counts) for some in Profiles.chunks(graphs.rna_rows, train)])
        model.depth.fit(atac[:, -DEPTHS:], counts)
        model.expression.fit_peaks(graphs.atac_rows, train, atac[:, : config.programmes])
        model.start_rates(graphs, train, counts)
        model.n_cells.fill_(len(train))
        return model.train()

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor], config: CisConfig, n_chrom: int) -> CisCrossRec:
        """Make a model of the shapes that saved weights have; it keeps the encodings of DNA, not the DNA."""
        del n_chrom
        prior = "expression.attention.edges."
        gene, peak, distance = (tensors[prior + name] for name in ("gene", "peak", "distance"))
        edges = PriorEdges(
            gene, peak, distance, len(tensors["expression.bias"]), len(tensors["expression.mean"])
        )
        dna = torch.zeros(0, 0, dtype=torch.uint8) if "dna.encoded" in tensors else None
        return cls(edges, dna, config)

    @torch.no_grad()
    def start_rates(self, graphs: MultiomeGraphs, train: Int64, counts: Tensor) -> None:
        """Begin every gene at its share of the training cells' counts."""
        total = torch.zeros(len(graphs.genes))
        for some in Profiles.chunks(graphs.rna_rows, train):
            total.index_add_(0, some.ids, some.counts)
        self.expression.bias.copy_(torch.log((total + 0.5) / counts.sum().clamp_min(1)))

    def encode(self, encoder: ProfileEncoder, profiles: Profiles) -> Tensor:
        """Return unit encodings of profiles of one modality, (cells, width)."""
        return F.normalize(encoder(profiles), dim=1)

    def embed(self, rna: Profiles | None, atac: Profiles | None) -> Tensor:
        """Return the joint embedding: the mean of the unit encodings that there are, (cells, width)."""
        found = [
            self.encode(encoder, profiles)
            for encoder, profiles in ((self.rna, rna), (self.atac, atac))
            if profiles is not None
        ]
        return F.normalize(torch.stack(found).mean(0), dim=1)

    def match(self, batch: Batch) -> Tensor:
        """Return the log odds that each graph's profiles are of one cell, (graphs,)."""
        rna, atac = Profiles.genes(batch), Profiles.peaks(batch)
        return self._odds(rna, atac, self.encode(self.rna, rna), self.encode(self.atac, atac))

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        """Return the training loss of a batch of pairs, and its parts."""
        config = self.config
        rna, atac = Profiles.genes(batch), Profiles.peaks(batch)
        z_rna, z_atac = self.encode(self.rna, rna), self.encode(self.atac, atac)
        parts: dict[str, Tensor] = {}
        if config.contrastive:
            cells = batch[CELL]
            parts["retrieval"] = self.matching.contrast(z_rna, z_atac, cells[RNA], cells[ATAC])
        if config.classifier:
            odds = self._odds(rna, atac, z_rna, z_atac)
            parts["pairs"] = F.binary_cross_entropy_with_logits(odds, batch[CELL][MATCH].to(odds.dtype))
        matching = z_rna.new_zeros(()) + sum(parts.values())
        parts["matching"] = matching
        positive = batch[CELL][MATCH] > 0
        if config.alpha > 0 and bool(positive.any()):
            parts |= self._expression_losses(rna.some(positive), atac.some(positive), z_atac[positive])
        translation = sum(
            (parts[name] for name in ("links", "trans", "dna") if name in parts), z_rna.new_zeros(())
        )
        parts["translation"] = translation
        alpha = config.alpha
        if config.adaptive_alpha:
            alpha = 0.1 * float(matching.detach() / translation.detach().abs().clamp_min(1e-12))
        return {"loss": matching + alpha * translation, **parts}

    def validate(self, batch: Batch) -> dict[str, Tensor]:
        """Return losses, accuracy of the pair classifier, and where a graph matches its partner's 1 / rank."""
        measures = self.loss(batch)
        rna, atac = Profiles.genes(batch), Profiles.peaks(batch)
        z_rna, z_atac = self.encode(self.rna, rna), self.encode(self.atac, atac)
        match = batch[CELL][MATCH] > 0
        measures["accuracy"] = ((self._odds(rna, atac, z_rna, z_atac) > 0) == match).float().mean()
        if bool(match.any()):
            cells = batch[CELL]
            measures["mrr"] = self.matching.reciprocal_rank(z_rna, z_atac, cells[RNA], cells[ATAC])
        return measures

    def score(self, measures: Mapping[str, float]) -> float:
        """Return ln(mean reciprocal rank) less the losses of classifier and expression, of parts that are trained."""
        config = self.config
        rank = float(np.log(measures.get("mrr", 1.0))) if config.contrastive else 0.0
        return rank - measures.get("pairs", 0.0) - config.alpha * measures["translation"]

    def optimisers(self, lr: float, weight_decay: float) -> list[torch.optim.Optimizer]:
        """AdamW; links have their own prior instead of decay, and learn faster than networks."""
        groups = [
            ([self.matching.log_temperature], 5.0, 0.0),
            ([self.rna.change, self.atac.change], 2.5, 0.0),
            ([*self.expression.parameters(), *self.likelihood.parameters()], 10.0, 0.0),
            (list(self.trans.parameters()) if self.trans is not None else [], 1.5, weight_decay),
        ]
        named = {id(p) for group, _, _ in groups for p in group}
        groups.append(([p for p in self.parameters() if id(p) not in named], 1.0, weight_decay))
        return [
            torch.optim.AdamW(
                [
                    {"params": group, "lr": factor * lr, "weight_decay": decay}
                    for group, factor, decay in groups
                    if group
                ]
            )
        ]

    def lr_factor(self, step: int) -> float:
        """Return a short rise, then a slow fall that does not ask how many epochs there will be."""
        return min(1.0, (step + 1) / _RISE) / (1 + step / _FALL)

    def rates(self, atac: Profiles, *, links_only: bool = False) -> Tensor:
        """Return ln of the expected counts of all genes given open peaks alone, (cells, genes)."""
        rate: Tensor = self.expression(self.keys(), atac, self.places(atac)) + self.depth(
            self.atac.depths(atac)
        )
        if self.trans is None or links_only:
            return rate
        changed: Tensor = rate + self.trans(self.encode(self.atac, atac))
        return changed

    def translate(self, atac: Profiles, *, links_only: bool = False) -> tuple[Tensor, Tensor]:
        """Return the chance that a gene is on and E ln(1 + count), (cells, genes) each, from open peaks alone.

        Parameters
        ----------
        atac
            Cells.
        links_only
            Leave the trans part out: expression as links alone tell it.
        """
        return self.likelihood.expect(self.rates(atac, links_only=links_only), self.depth.spread)

    @property
    def edges(self) -> PriorEdges:
        """The prior edges."""
        return self.expression.attention.edges

    @torch.no_grad()
    def link_weights(self) -> Tensor:
        """Return the attention of every prior edge, mean over heads, (edges,)."""
        weights: Tensor = self.expression.attention(self.keys()).mean(1)
        return weights

    @torch.no_grad()
    def link_gains(self) -> Tensor:
        """Return what every prior edge passes on to its gene's ln rate, attention times gain, (edges,)."""
        return self.expression.weights(self.keys())

    @torch.no_grad()
    def affinities(self, graphs: MultiomeGraphs) -> tuple[Tensor, Tensor]:
        """Return queries (genes, programmes) and keys (peaks, programmes), float64, that tell if a gene follows a peak.

        A key is the loading d of a peak, a query the covariance over cells of a gene's ln(1 + 10⁴ · count / counts)
        with their places u, so that the product is its covariance with u · d, how open the peak is in cells like these.
        The queries of attention are fitted to a gene's edges: against peaks that are none of them, edges win even
        where genes lie at random.
        """
        rna, atac = graphs.pairs_of(np.arange(len(graphs)))
        device, n_genes = self.edges.gene.device, self.edges.n_genes
        found = np.zeros((n_genes, self.config.programmes))
        total, centre = np.zeros(n_genes), np.zeros(self.config.programmes)
        chunks = (Profiles.chunks(graphs.rna_rows, rna), Profiles.chunks(graphs.atac_rows, atac))
        for genes, peaks in zip(*chunks, strict=True):
            place = self.places(peaks.to(device)).double().cpu().numpy()
            share = genes.counts.double() / genes.total(genes.counts.double())[genes.cell]
            level = sparse.csr_matrix(
                (torch.log1p(1e4 * share).numpy(), genes.ids, genes.ptr), shape=(len(genes), n_genes)
            )
            found += level.T @ place
            total += np.asarray(level.sum(0)).ravel()
            centre += place.sum(0)
        n = max(len(rna), 1)
        query = torch.from_numpy(found / n - np.outer(total / n, centre / n))
        return query, self.expression.programme.double().cpu()

    @torch.no_grad()
    def openness(self, atac: Profiles) -> Tensor:
        """Return how open each peak is in the mean of some cells beside the mean training cell, (peaks,)."""
        return self.expression.openness(atac, self.places(atac))

    @torch.no_grad()
    def attention(self, batch: Batch) -> Links:
        """Return the prior edges with any weight between open peaks and expressed genes of each graph."""
        atac, genes = Profiles.peaks(batch), batch[GENE]
        edges = self.edges
        node = torch.full((len(atac) * edges.n_genes,), -1, device=genes.batch.device)
        node[genes.batch * edges.n_genes + genes[ID]] = torch.arange(len(genes.batch), device=node.device)
        weights = self.expression.attention(self.keys())[edges.by_peak]
        found = []
        for peak, place, target in edge_items(edges, atac.ids, atac.ptr):
            gene = node[target]
            some = (gene >= 0) & (weights.index_select(0, place) > 0).any(1)
            found.append((gene[some], peak[some], weights[place[some]]))
        gene, peak, weight = (torch.cat(column) for column in zip(*found, strict=True))
        return Links(gene, peak, weight)

    def refresh(self) -> None:
        """Read the DNA of all peaks with the present weights."""
        if self.dna is not None:
            self.dna.read_all()

    def _odds(self, rna: Profiles, atac: Profiles, z_rna: Tensor, z_atac: Tensor) -> Tensor:
        if not self.config.classifier:
            return self.matching.temperature() * (z_rna * z_atac).sum(1)
        depths = torch.cat([self.rna.depths(rna), self.atac.depths(atac)], 1)
        return self.matching.logits(z_rna, z_atac, depths)

    def _expression_losses(self, rna: Profiles, atac: Profiles, z_atac: Tensor) -> dict[str, Tensor]:
        parts, peaks, fresh = {}, None, None
        if self.dna is not None and self.training:
            peaks = self._some_open(atac)
            fresh = self.dna.read(peaks)
            parts["dna"] = F.mse_loss(fresh, self._scaled(self.expression.programme[peaks]))
        counts = rna.dense(self.edges.n_genes).to(z_atac.dtype)
        offset = self.depth(self.atac.depths(atac), rna.total(rna.counts).to(z_atac.dtype))
        links = self.expression(self.keys(peaks, fresh), atac, self.places(atac)) + offset
        items = self.n_cells * counts.shape[1]
        prior = self.expression.penalty(self.config.query_precision) / items
        parts["links"] = self.likelihood.loss(links, counts) + prior
        if self.trans is not None:
            parts["trans"] = self.likelihood.loss(links.detach() + self.trans(z_atac), counts)
        return parts

    def places(self, atac: Profiles) -> Tensor:
        """Return where cells lie among all cells by their open peaks, (cells, programmes)."""
        return self.atac.position(atac)[:, : self.config.programmes]

    def keys(self, peaks: Tensor | None = None, fresh: Tensor | None = None) -> Tensor:
        """Return the keys of all peaks, (peaks, programmes): when a peak is open, and what its DNA adds."""
        key = self._scaled(self.expression.programme)
        if self.dna is not None:
            key = key + self.dna(peaks, fresh)
        return key

    def _scaled(self, programme: Tensor) -> Tensor:
        """Unit loadings to numbers of about one, whatever their width."""
        return programme * float(np.sqrt(self.config.programmes))

    def _some_open(self, atac: Profiles) -> Tensor:
        """Draw distinct open peaks of a batch."""
        peaks = torch.unique(atac.ids)
        order = torch.randperm(len(peaks), device=peaks.device)
        some: Tensor = peaks[order[: self.config.sequence_peaks]]
        return some


def _encoder(n_features: int, weighting: Weighting, config: CisConfig) -> ProfileEncoder:
    return ProfileEncoder(
        n_features,
        config.components,
        config.width,
        hidden=config.hidden,
        weighting=weighting,
        token_dropout=config.token_dropout,
        dropout=config.dropout,
    )


def _decoder(n_genes: int, config: CisConfig) -> nn.Sequential:
    """Encoding to a change of ln rates, at first none."""
    last = nn.Linear(config.hidden, n_genes)
    nn.init.zeros_(last.weight)
    nn.init.zeros_(last.bias)
    return nn.Sequential(nn.Linear(config.width, config.hidden), nn.GELU(), nn.Dropout(config.dropout), last)
