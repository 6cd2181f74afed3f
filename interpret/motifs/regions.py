"""Where peaks lie beside genes: promoter, exon, intron or distal; and their shares in each cell type."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import stats

from .enrichment import odds_ratios

Int64 = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

UPSTREAM: Final = 2000  # bp of a promoter before its TSS
DOWNSTREAM: Final = 500  # and after it
PROMOTER, EXON, INTRON, GENE_BODY, DISTAL = "promoter", "exon", "intron", "gene body", "distal"
KINDS: Final = (PROMOTER, EXON, INTRON, GENE_BODY, DISTAL)
COLUMNS: Final = ("cell_type", "kind", "peaks", "share", "baseline", "odds_ratio", "pvalue")


def peak_kinds(
    peaks: pd.DataFrame,
    genes: pd.DataFrame,
    exons: pd.DataFrame | None = None,
    *,
    upstream: int = UPSTREAM,
    downstream: int = DOWNSTREAM,
) -> pd.Series[str]:
    """Tell what the centre of each peak, (start + end) // 2, lies in; the first of these that holds.

    ``promoter`` is from 2,000 bp before to 500 bp after the TSS of a gene, along its strand (both
    bases included; a gene without a strand has both sides of the wider); ``exon`` of any transcript;
    ``intron``, the rest of a gene; ``distal``. Without exons, what is in a gene is ``gene body``.

    Parameters
    ----------
    peaks
        ``chrom, start, end``.
    genes
        ``chrom, start, end, tss, strand`` (+, - or none); those without a place are left out.
    exons
        ``chrom, start, end``, or None (or no rows) where the GTF has no exon lines.
    upstream, downstream
        Reach of promoters in bp.

    Returns
    -------
    Series
        Under the index of ``peaks``; missing where the peak's chromosome is unknown.
    """
    placed = genes[genes["chrom"].notna() & genes["tss"].notna()]
    names = peaks["chrom"].dropna().astype(object).astype(str).unique()
    code = pd.Index(names).get_indexer(pd.Index(peaks["chrom"].astype(object)))
    centre = ((peaks["start"].to_numpy() + peaks["end"].to_numpy()) // 2).astype(np.int64)
    known = exons is not None and len(exons) > 0
    kind = np.full(len(peaks), DISTAL, dtype=object)
    kind[_inside(code, centre, names, placed)] = INTRON if known else GENE_BODY
    if exons is not None and known:
        kind[_inside(code, centre, names, exons)] = EXON
    kind[_inside(code, centre, names, _promoters(placed, upstream, downstream))] = PROMOTER
    kind[code < 0] = None
    return pd.Series(kind, index=peaks.index, dtype=object, name="kind")


def region_shares(
    kinds: Sequence[str] | pd.Series[str],
    peaks: Sequence[str] | pd.Series[str],
    foreground: Mapping[str, Sequence[str]],
) -> pd.DataFrame:
    """Share of each kind among the peaks of each cell type, beside that among all peaks.

    Parameters
    ----------
    kinds
        (peaks,) of `peak_kinds`; peaks of no kind are left out.
    peaks
        (peaks,) names.
    foreground
        Cell type -> names of its peaks.

    Returns
    -------
    DataFrame
        A row a cell type and kind, in the order of `KINDS`: ``peaks`` (number in the type), ``share``,
        ``baseline`` (share of all peaks), ``odds_ratio`` and ``pvalue`` (Fisher's exact test, two-sided,
        the type's peaks against all others).
    """
    all_kinds = pd.Series(list(kinds), index=pd.Index(list(peaks)).astype(str), dtype=object).dropna()
    order = [kind for kind in KINDS if (all_kinds == kind).any()]
    total = _counts(all_kinds, order)
    rows = []
    for cell_type, chosen in foreground.items():
        own = all_kinds[all_kinds.index.isin([str(name) for name in chosen])]
        rows.append(_compared(str(cell_type), order, _counts(own, order), total))
    if not rows:
        return pd.DataFrame({name: pd.Series(dtype=object) for name in COLUMNS})
    return pd.concat(rows, ignore_index=True)


def _counts(kinds: pd.Series[str], order: list[str]) -> Int64:
    return np.array([(kinds == kind).sum() for kind in order], np.int64)


def _compared(cell_type: str, kinds: list[str], counts: Int64, total: Int64) -> pd.DataFrame:
    n, m = int(counts.sum()), int(total.sum() - counts.sum())
    rest = total - counts
    tables = [np.array([[a, n - a], [b, m - b]]) for a, b in zip(counts.tolist(), rest.tolist(), strict=True)]
    return pd.DataFrame(
        {
            "cell_type": cell_type,
            "kind": kinds,
            "peaks": counts,
            "share": counts / max(n, 1),
            "baseline": total / max(int(total.sum()), 1),
            "odds_ratio": odds_ratios(counts, n, rest, m),
            "pvalue": [float(stats.fisher_exact(table)[1]) for table in tables],
        }
    )


def _promoters(genes: pd.DataFrame, upstream: int, downstream: int) -> pd.DataFrame:
    """Stretch of each promoter, half-open."""
    tss = genes["tss"].to_numpy(np.int64)
    forward, reverse = (genes["strand"] == "+").to_numpy(), (genes["strand"] == "-").to_numpy()
    unknown = ~(forward | reverse)
    wider = max(upstream, downstream)
    before = np.select([unknown, forward], [wider, upstream], downstream)
    after = np.select([unknown, forward], [wider, downstream], upstream)
    return pd.DataFrame(
        {"chrom": genes["chrom"].to_numpy(object), "start": tss - before, "end": tss + after + 1}
    )


def _inside(code: Int64, centre: Int64, names: npt.NDArray[np.object_], stretches: pd.DataFrame) -> Bools:
    """Tell which centres lie in any of the stretches (half-open), (peaks,)."""
    own = pd.Index(names).get_indexer(pd.Index(stretches["chrom"].astype(object)))
    start, end = (stretches[side].to_numpy(np.int64) for side in ("start", "end"))
    if not (own >= 0).any():
        return np.zeros(len(code), bool)
    # Chromosomes one after the other on one line, further apart than anything reaches.
    margin = int(-min(start.min(), 0)) + 1
    apart = int(max(end.max(), centre.max(initial=0))) + 2 * margin
    low, high = (own * apart + side + margin for side in (start, end))
    order = np.argsort(low[own >= 0], kind="stable")
    low, reach = low[own >= 0][order], np.maximum.accumulate(high[own >= 0][order])
    place = code * apart + centre + margin
    last = np.searchsorted(low, place, side="right") - 1
    inside: Bools = (code >= 0) & (last >= 0) & (place < reach[np.maximum(last, 0)])
    return inside
