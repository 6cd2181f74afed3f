"""The peaks of a cell type: by the links of a map, or by how open they are beside all other cells."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import stats

from ...graphs.dataset import MultiomeGraphs
from ...graphs.errors import InputError
from ...models.annotation.marker_peaks import TypeStatistics, type_statistics
from ..evidence.nulls import adjusted

Float64 = npt.NDArray[np.float64]

TOP = 1000  # peaks of a cell type


def top_peaks(links: pd.DataFrame, *, n: int = TOP) -> dict[str, list[str]]:
    """Name the peaks of each cell type with the highest sum of scores over their links.

    Parameters
    ----------
    links
        ``peak, cell_type, score``.
    n
        Peaks a cell type, at most.

    Returns
    -------
    Cell type -> peaks, best first (of equal ones by name).
    """
    plain = links[["cell_type", "peak"]].astype(str).assign(score=links["score"].to_numpy())
    total = plain.groupby(["cell_type", "peak"], sort=True)["score"].sum().reset_index()
    ranked = total.sort_values(["cell_type", "score"], ascending=[True, False], kind="stable")
    best = ranked.groupby("cell_type", sort=False).head(n)
    return {str(name): own["peak"].tolist() for name, own in best.groupby("cell_type", sort=False)}


def marker_peaks(
    graphs: MultiomeGraphs,
    labels: Sequence[str | None] | pd.Series[str],
    *,
    n: int = TOP,
    max_qvalue: float | None = None,
) -> pd.DataFrame:
    """Find the peaks that are more open in the cells of a type than in all other cells.

    Each type's TF-IDF values ln(1 + 10⁴ · tf · idf) are held against those of all other labelled cells
    by Welch's t, one-sided, as `models.annotation.marker_peaks` ranks them; a peak may mark two types.

    Parameters
    ----------
    graphs
        Cells with ATAC.
    labels
        (cells,) type of each, predicted or given; cells without one are left out.
    n
        Peaks a type, at most.
    max_qvalue
        Most that a peak may have (Benjamini and Hochberg over the peaks of the type). None for the best
        peaks with t > 0 whatever it is: a rare type's few cells seldom give any peak a low one.

    Returns
    -------
    DataFrame
        ``cell_type, peak, score`` (t), ``pvalue, qvalue``, best first in every type. Types of one cell,
        or of all, have no variance to test with and so no peaks.

    Raises
    ------
    InputError
        There is no ATAC, or not a label a cell.
    """
    graphs.require(["atac"], "finding marker peaks")
    given = pd.Series(list(labels), dtype=object)
    if len(given) != len(graphs):
        raise InputError(
            f"{len(given):,} labels for {len(graphs):,} cells. Pass a label a cell, in the order of the dataset."
        )
    codes, types = pd.factorize(given, sort=True)
    known = np.flatnonzero(codes >= 0)
    cells = graphs.pairs_of(known)[1]
    found = type_statistics(graphs.atac_rows, cells, codes[known].astype(np.int64), len(types))
    names = graphs.peaks.frame["peak"].astype(str).to_numpy(object)
    tables = [_of_type(found, code, str(name), names, n, max_qvalue) for code, name in enumerate(types)]
    nothing = pd.DataFrame(
        {
            "cell_type": pd.Series(dtype=object),
            "peak": pd.Series(dtype=object),
            "score": 0.0,
            "pvalue": 0.0,
            "qvalue": 0.0,
        }
    )
    return pd.concat([table for table in tables if len(table)] or [nothing], ignore_index=True)


def peaks_by_type(markers: pd.DataFrame) -> dict[str, list[str]]:
    """Turn a table with ``cell_type`` and ``peak`` into cell type -> peaks, in its order."""
    return {
        str(name): own["peak"].astype(str).tolist() for name, own in markers.groupby("cell_type", sort=False)
    }


def _of_type(
    found: TypeStatistics,
    code: int,
    name: str,
    peaks: npt.NDArray[np.object_],
    n: int,
    max_qvalue: float | None,
) -> pd.DataFrame:
    """Take the best peaks of one type."""
    t, p = welch(found, code)
    q = adjusted(p)
    best = np.argsort(-t, kind="stable")
    best = best[(t[best] > 0) & (q[best] <= (1.0 if max_qvalue is None else max_qvalue))][:n]
    return pd.DataFrame(
        {"cell_type": name, "peak": peaks[best], "score": t[best], "pvalue": p[best], "qvalue": q[best]}
    )


def welch(found: TypeStatistics, code: int) -> tuple[Float64, Float64]:
    """Welch's t of all peaks for one type against the rest, and p that it is no higher; 0 and 1 without variance.

    Returns
    -------
    t, p
        (peaks,) each.
    """
    n = int(found.n_cells[code])
    rest = int(found.n_cells.sum()) - n
    number = found.sums.shape[1]
    if min(n, rest) < 2:
        return np.zeros(number), np.ones(number)
    own = _moments(found.sums[code], found.squares[code], n)
    others = _moments(found.sums.sum(0) - found.sums[code], found.squares.sum(0) - found.squares[code], rest)
    with np.errstate(invalid="ignore", divide="ignore"):
        test = stats.ttest_ind_from_stats(*own, n, *others, rest, equal_var=False, alternative="greater")
    told = np.isfinite(test.statistic)
    return np.where(told, test.statistic, 0.0), np.where(told, test.pvalue, 1.0)


def _moments(sums: Float64, squares: Float64, n: int) -> tuple[Float64, Float64]:
    """Mean and standard deviation of the sample."""
    mean = sums / n
    return mean, np.sqrt(np.maximum(squares / n - mean**2, 0) * n / (n - 1))
