"""What the peaks of cell types are: which motifs they are rich in, and where they lie beside genes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Protocol

import pandas as pd

from ...graphs.dataset import MultiomeGraphs
from ..links.map_tables import EXONS, SITES
from ..links.nodes import gene_table, peak_table
from .enrichment import enrichment
from .read import Motif
from .regions import peak_kinds, region_shares
from .scan import require_dna, scan_peaks

ENRICHMENT: Final = "enrichment.parquet"
REGIONS: Final = "regions.parquet"


class GeneRegions(Protocol):
    """Genes and exons of an annotation."""

    @property
    def genes(self) -> pd.DataFrame:
        """``chrom, start, end, tss, strand``."""
        ...

    @property
    def exons(self) -> pd.DataFrame:
        """``chrom, start, end``; no rows where they are not known."""
        ...

    @property
    def report(self) -> tuple[str, ...]:
        """What was left out."""
        ...

    def exons_of(self, genes: pd.DataFrame) -> pd.DataFrame:
        """Name the exons of a dataset's genes as the dataset does."""
        ...


@dataclass(frozen=True)
class PeakContext:
    """What to tell of the peaks of cell types.

    Attributes
    ----------
    motifs
        Motifs to look for in the dataset's DNA; None leaves them out.
    regions
        Genes and exons; None leaves out where peaks lie.
    files
        Where they were read from, by option, to be written down.
    """

    motifs: Sequence[Motif] | None = None
    regions: GeneRegions | None = None
    files: Mapping[str, str] = field(default_factory=dict)

    def check(self, graphs: MultiomeGraphs) -> None:
        """Refuse motifs where there is no DNA to find them in, before any work."""
        if self.motifs is not None:
            require_dna(graphs)

    def write(
        self,
        folder: Path,
        graphs: MultiomeGraphs,
        foreground: Mapping[str, Sequence[str]],
        *,
        progress: bool = True,
    ) -> dict[str, Any]:
        """Write ``sites`` and ``enrichment``, ``exons`` and ``regions`` as parquet.

        Parameters
        ----------
        folder
            Folder that exists.
        graphs
            Dataset.
        foreground
            Cell type -> names of its peaks.
        progress
            Show a bar over the peaks that are scanned.

        Returns
        -------
        What a summary says: ``motif_sites``, ``enriched`` (cell type -> TFs with q < 0.05, the surest first),
        ``notes``.
        """
        found: dict[str, Any] = {"notes": []}
        peaks = peak_table(graphs)
        if self.motifs is not None:
            sites = scan_peaks(graphs, self.motifs, progress=progress)
            sites.to_parquet(folder / SITES, index=False)
            rich = enrichment(sites, foreground, peaks)
            rich.to_parquet(folder / ENRICHMENT, index=False)
            found |= {"motif_sites": len(sites), "enriched": _enriched(rich)}
        if self.regions is not None:
            exons = self.regions.exons if len(self.regions.exons) else None
            kinds = peak_kinds(peaks, self.regions.genes, exons)
            region_shares(kinds, peaks["peak"], foreground).to_parquet(folder / REGIONS, index=False)
            if exons is not None:
                self.regions.exons_of(gene_table(graphs)).to_parquet(folder / EXONS, index=False)
            found["notes"] += list(self.regions.report)
        return found


def _enriched(rich: pd.DataFrame, *, below: float = 0.05, most: int = 10) -> dict[str, list[str]]:
    sure = rich[rich["qvalue"] < below].sort_values("pvalue", kind="stable")
    return {
        str(name): own["tf"].astype(str).head(most).tolist()
        for name, own in sure.groupby("cell_type", sort=True, observed=True)
    }
