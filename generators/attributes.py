"""Highly variable genes by the seurat_v3 definition, from chunks of any number of cells."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from skmisc.loess import loess

from ..graphs.errors import InputError

_SPANS: Final = (0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
_MIN_NEIGHBOURS: Final = 4  # scikit-misc crashes the process when span * genes < 1
_Chunks = Callable[[], Iterable[Any]]
_Floats = NDArray[np.float64]


def highly_variable(chunks: _Chunks, *, n_genes: int, n_top: int = 2000) -> tuple[pd.DataFrame, str | None]:
    """Mean, variance and variability of every gene, as ``scanpy`` computes them for seurat_v3.

    LOESS of log10 variance on log10 mean (span 0.3, degree 2) gives the expected standard
    deviation sd; counts are clipped at ``mean + sqrt(cells) * sd`` and the normalised variance is
    their second moment about the mean over sd². Two passes over the counts; memory is that
    of one chunk.

    Parameters
    ----------
    chunks
        Called twice; each call gives the counts anew as CSR matrices, shape (cells, genes).
    n_genes
        Number of genes (columns of every chunk).
    n_top
        How many genes to mark as highly variable.

    Returns
    -------
    table
        ``means``, ``variances`` (ddof 1), ``variances_norm`` (float64) and ``highly_variable``
        (bool), one row a gene.
    note
        What had to differ from span 0.3, or None. Where LOESS is singular the span grows in
        steps of 0.1 up to 1.0; where that fails too, or too few genes vary, the expected
        variance is the mean (a Poisson count), so that the normalised variance is the clipped
        variance over the mean.

    Raises
    ------
    InputError
        If there are fewer than two cells.
    """
    n_cells, totals, squares = _sums(chunks, n_genes)
    if n_cells < 2:
        raise InputError(f"variable genes need at least two cells; found {n_cells}. Pass more cells.")
    means = totals / n_cells
    variances = np.maximum(squares - totals * means, 0.0) / (n_cells - 1)
    variances[squares * n_cells == totals * totals] = 0.0
    expected, note = _expected_sd(means, variances)
    _, totals, squares = _sums(chunks, n_genes, ceiling=means + np.sqrt(n_cells) * expected)
    spread = n_cells * means**2 + squares - 2 * totals * means
    normalised = spread / ((n_cells - 1) * expected**2)
    columns = {"means": means, "variances": variances, "variances_norm": normalised}
    return pd.DataFrame(columns | {"highly_variable": _top(normalised, n_top)}), note


def _sums(chunks: _Chunks, n_genes: int, *, ceiling: _Floats | None = None) -> tuple[int, _Floats, _Floats]:
    n_cells = 0
    totals, squares = np.zeros(n_genes), np.zeros(n_genes)
    for chunk in chunks():
        n_cells += chunk.shape[0]
        values = chunk.data.astype(np.float64)
        if ceiling is not None:
            np.minimum(values, ceiling[chunk.indices], out=values)
        totals += np.bincount(chunk.indices, weights=values, minlength=n_genes)
        squares += np.bincount(chunk.indices, weights=values * values, minlength=n_genes)
    return n_cells, totals, squares


def _expected_sd(means: _Floats, variances: _Floats) -> tuple[_Floats, str | None]:
    """Give the expected standard deviation of every gene: 1 for constant genes, as in scanpy."""
    varies = variances > 0
    expected = np.ones_like(means)
    x, y = np.log10(means[varies]), np.log10(variances[varies])
    trend, span = _trend(x, y)
    expected[varies] = np.sqrt(10**trend)
    if span == _SPANS[0]:
        return expected, None
    if span is not None:
        return expected, f"LOESS was singular at span {_SPANS[0]} ({len(x):,} genes); span {span} was used"
    return expected, f"LOESS cannot be fitted to {len(x):,} varying genes; expected variance = mean was used"


def _trend(x: _Floats, y: _Floats) -> tuple[_Floats, float | None]:
    fittable = [span for span in _SPANS if int(span * len(x)) >= _MIN_NEIGHBOURS]
    if len(np.unique(x)) < _MIN_NEIGHBOURS:
        fittable = []
    for span in fittable:
        model = loess(x, y, span=span, degree=2)
        try:
            model.fit()
        except ValueError:  # how scikit-misc says that the local fit is singular
            continue
        fitted = np.asarray(model.outputs.fitted_values, dtype=np.float64)
        if np.isfinite(fitted).all():
            return fitted, span
    return x, None


def _top(scores: _Floats, n_top: int) -> NDArray[np.bool_]:
    marked = np.zeros(len(scores), dtype=bool)
    marked[np.argsort(-scores, kind="stable")[:n_top]] = True
    return marked
