"""True links: read from a table and found among the candidates of a dataset."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
import pandas as pd

from ...graphs.dataset import MultiomeGraphs
from ...graphs.errors import InputError
from .candidates import Candidates

Int64 = npt.NDArray[np.int64]

TRUTH_KINDS: Final = ("links",)
_NEEDED: Final = ("gene", "peak")
_READERS: Final = {".parquet": "parquet", ".csv": ",", ".tsv": "\t", ".txt": "\t"}


def read_truth(path: Path, kind: str | None = None) -> pd.DataFrame:
    """Read a table of true links (parquet, csv or tsv) with at least the columns ``gene`` and ``peak``.

    Raises
    ------
    InputError
        Another kind, no such file, one that cannot be read, or one that lacks a column.
    """
    if kind is not None and kind not in TRUTH_KINDS:
        raise InputError(f"no truth kind {kind!r}. The kinds accepted are: {', '.join(TRUTH_KINDS)}.")
    path = Path(path)
    reader = _READERS.get(path.suffix.lower())
    if reader is None:
        raise InputError(
            f"{path}: a truth table ends in {', '.join(_READERS)}; found {path.suffix or 'no suffix'!r}."
        )
    try:
        frame = pd.read_parquet(path) if reader == "parquet" else pd.read_csv(path, sep=reader)
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such file. Pass the table of true links.") from error
    except (OSError, ValueError) as error:
        first = next(iter(str(error).splitlines()), "")
        raise InputError(f"{path}: cannot be read as a table ({first}). Pass an intact file.") from error
    return _checked(frame, str(path))


def _checked(truth: pd.DataFrame, name: str = "the truth") -> pd.DataFrame:
    missing = [column for column in _NEEDED if column not in truth]
    if missing:
        raise InputError(
            f"{name} has no column {' and no column '.join(missing)}; it has {', '.join(map(str, truth.columns))}. "
            f"A truth of kind links needs the columns {', '.join(_NEEDED)}."
        )
    return truth


@dataclass(frozen=True)
class KnownLinks:
    """True links among the candidates.

    Attributes
    ----------
    true
        (candidates,) whether each is a true link.
    coverage
        ``links, in_candidates, unknown_gene, unknown_peak, outside_window``: distinct true links,
        and how many are candidates or why they are not.
    """

    true: npt.NDArray[np.bool_]
    coverage: dict[str, int]


def locate(truth: pd.DataFrame, candidates: Candidates, graphs: MultiomeGraphs) -> KnownLinks:
    """Mark the true candidates and count what became of every distinct true link.

    Raises
    ------
    InputError
        The truth lacks a column, or none of its links is a candidate.
    """
    truth = _checked(truth)[list(_NEEDED)].astype(str).drop_duplicates()
    gene, peak = gene_ids(graphs, truth["gene"]), peak_ids(graphs, truth["peak"])
    known = (gene >= 0) & (peak >= 0)
    position = candidates.find(gene[known], peak[known])
    true = np.zeros(len(candidates), bool)
    true[position[position >= 0]] = True
    coverage = {
        "links": len(truth),
        "in_candidates": int((position >= 0).sum()),
        "unknown_gene": int((gene < 0).sum()),
        "unknown_peak": int(((gene >= 0) & (peak < 0)).sum()),
        "outside_window": int((position < 0).sum()),
    }
    if not true.any():
        raise InputError(_nothing_found(truth, coverage, candidates.window, graphs))
    return KnownLinks(true, coverage)


def _nothing_found(truth: pd.DataFrame, coverage: dict[str, int], window: int, graphs: MultiomeGraphs) -> str:
    def some(names: pd.Series[str]) -> str:
        return ", ".join(names.astype(str).head(2)) or "none"

    return (
        f"none of the {coverage['links']:,} true links is a candidate: {coverage['unknown_gene']:,} have an unknown "
        f"gene (truth: {some(truth['gene'])} …; dataset: {some(graphs.genes.frame['gene'])} …), "
        f"{coverage['unknown_peak']:,} an unknown peak (truth: {some(truth['peak'])} …; dataset: "
        f"{some(graphs.peaks.frame['peak'])} …), {coverage['outside_window']:,} lie beyond {window:,} bp of the TSS. "
        "Pass the truth of this dataset, named as it names genes and peaks."
    )


def gene_ids(graphs: MultiomeGraphs, names: pd.Series[str]) -> Int64:
    """Find genes by the dataset's name, else by a gene id, else by a symbol; (names,) rows, -1 for none."""
    ids = np.full(len(names), -1, np.int64)
    for column in ("gene", "gene_id", "symbol"):
        if column in graphs.genes.frame:
            ids = np.where(ids < 0, _ids(graphs.genes.frame[column], names), ids)
    return ids


def peak_ids(graphs: MultiomeGraphs, names: pd.Series[str]) -> Int64:
    """Find peaks by the dataset's name; (names,) rows, -1 where there is none."""
    return _ids(graphs.peaks.frame["peak"], names)


def _ids(nodes: pd.Series[str], names: pd.Series[str]) -> Int64:
    """Return the row of each name, -1 where no row or more than one has it: no id is guessed."""
    unique = np.flatnonzero(~nodes.duplicated(keep=False) & nodes.notna())
    index = pd.Index(nodes.to_numpy(object)[unique], dtype=object)
    found = index.get_indexer(pd.Index(names.to_numpy(object), dtype=object))
    return np.where(found < 0, -1, np.append(unique, -1)[found])
