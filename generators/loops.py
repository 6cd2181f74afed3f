"""Chromatin loops or measured links as a prior: a gene's TSS in one anchor, a peak in the other."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ..graphs.chromosomes import harmonise
from ..graphs.collate import CisEdges
from ..graphs.errors import InputError
from ..graphs.messages import few
from .edges import edges_between
from .genomes.intervals import overlaps

_COLUMNS: Final = ("chrom1", "start1", "end1", "chrom2", "start2", "end2")
_POSITIONS: Final = ["start1", "end1", "start2", "end2"]
_DAMAGED: Final = (OSError, EOFError, zlib.error, UnicodeDecodeError)


def read_loops(path: Path, *, notes: list[str]) -> pd.DataFrame:
    """Read a BEDPE file, plain or gzip.

    Comments, ``track`` and ``browser`` lines, one header line, and columns after the sixth are
    passed over. Loops with an unknown anchor (``.`` or -1) are left out.

    Parameters
    ----------
    path
        Tab-separated: chrom, start, end (0-based half-open) of one anchor, then of the other.
    notes
        How many loops were left out is appended.

    Returns
    -------
    DataFrame
        ``chrom1, start1, end1, chrom2, start2, end2`` (str and int64), one row a loop, in file order.

    Raises
    ------
    InputError
        If the file is missing, damaged or empty, a line has fewer than six columns, a position is no
        whole number, an anchor is empty, or no loop has two known anchors.
    """
    path = Path(path)
    fields = _drop_header(_split(_read_lines(path), path))
    unknown = _unknown(fields)
    loops = fields[~unknown].copy()
    if loops.empty:
        raise InputError(
            f"{path.name} has no loop with two known anchors. Pass a BEDPE file of loops or links."
        )
    for name in _POSITIONS:
        wrong = ~loops[name].str.fullmatch("[0-9]{1,18}")
        _refuse(path, loops, wrong, f"have no whole number as {name}")
    loops = loops.astype(dict.fromkeys(_POSITIONS, np.int64))
    for side in "12":
        _refuse(path, loops, loops[f"start{side}"] >= loops[f"end{side}"], f"have start{side} >= end{side}")
    if unknown.any():
        notes.append(
            f"{unknown.sum():,} of {len(fields):,} loops of {path.name} have an unknown anchor: left out"
        )
    return loops.reset_index(drop=True)


def loop_edges(
    loops: pd.DataFrame, genes: pd.DataFrame, peaks: pd.DataFrame, *, reach: int = 1_000, notes: list[str]
) -> CisEdges:
    """Join each gene to the peaks at the other end of the loops from its TSS.

    Parameters
    ----------
    loops
        From :func:`read_loops`; anchors are alike, so a TSS may lie in either. Chromosomes take the
        peaks' spelling.
    genes, peaks
        Tables as for :func:`scweave.generators.prior.window_edges`.
    reach
        How far outside an anchor the TSS may lie, in bp. Anchors are called on bins or on peaks
        beside the TSS as often as on it; 1 kb is about the length of a promoter. Peaks must overlap
        the other anchor itself.
    notes
        How many loops gave edges, and how many join two chromosomes, is appended.

    Returns
    -------
    CisEdges
        Each pair once, however many loops join it.

    Raises
    ------
    InputError
        If `reach` is negative, or no loop gives an edge.
    """
    if reach < 0:
        raise InputError(f"the reach of loops around the TSS is {reach:,} bp. Pass 0 or more bp.")
    anchors = _anchors(loops, peaks["chrom"].unique(), notes)
    pairs = _opposite(_near_tss(anchors, genes, reach), overlaps(anchors, peaks))
    if pairs.empty:
        raise InputError(_no_edges(loops, peaks))
    edges = edges_between(genes, peaks, pairs["gene"].to_numpy(), pairs["peak"].to_numpy())
    used = (pairs["anchor"] // 2).nunique()
    notes.append(f"{used:,} of {len(loops):,} loops join a TSS with a peak: {len(edges.peak):,} edges")
    return edges


def _read_lines(path: Path) -> pd.Series[str]:
    """Lines that hold a loop or the header, under their line numbers."""
    if not path.is_file():
        raise InputError(f"loops {path} do not exist. Pass the path of a .bedpe or .bedpe.gz.")
    try:
        with path.open("rb") as stream:
            zipped = stream.read(2) == b"\x1f\x8b"
        with (gzip.open if zipped else open)(path, "rt", encoding="utf-8") as text:
            lines = pd.Series(text.read().split("\n"), dtype=object)
    except _DAMAGED as error:
        raise InputError(
            f"{path.name} cannot be read as text ({error}). It is damaged or no BEDPE: copy it again."
        ) from error
    lines.index += 1
    lines = lines[(lines.str.strip() != "") & ~lines.str.match(r"#|(?:track|browser)\b")]
    if lines.empty:
        raise InputError(f"{path.name} has no loops. Pass a BEDPE file of loops or links.")
    return lines


def _split(lines: pd.Series[str], path: Path) -> pd.DataFrame:
    fields = lines.str.split("\t", n=6, expand=True).reindex(columns=range(6))
    fields.columns = pd.Index(_COLUMNS)
    _refuse(path, fields, fields["end2"].isna(), "have fewer than 6 tab-separated columns")
    return fields


def _drop_header(fields: pd.DataFrame) -> pd.DataFrame:
    """Drop the first line where it has names, not numbers, for all four positions."""
    first = fields[_POSITIONS].iloc[0]
    return fields.iloc[1:] if first.str.fullmatch("[A-Za-z_][A-Za-z0-9_ ]*").all() else fields


def _unknown(fields: pd.DataFrame) -> pd.Series[bool]:
    return fields.isin([".", ""]).any(axis=1) | (fields[_POSITIONS] == "-1").any(axis=1)


def _refuse(path: Path, fields: pd.DataFrame, wrong: pd.Series[bool], what: str) -> None:
    if wrong.any():
        line = wrong.idxmax()
        found = " ".join(str(value) for value in fields.loc[line] if value is not None)
        raise InputError(
            f"{path.name}: {wrong.sum():,} of {len(fields):,} loops {what} (line {line}: {found!r})."
            " BEDPE has chrom, start, end of both anchors, 0-based half-open: correct the file."
        )


def _anchors(loops: pd.DataFrame, chromosomes: Iterable[str], notes: list[str]) -> pd.DataFrame:
    """Lay out both anchors of loop i in rows 2i and 2i + 1; without a chromosome if it cannot give edges."""
    names = pd.concat([loops["chrom1"], loops["chrom2"]])
    spelled = harmonise(list(names.unique()), [str(name) for name in chromosomes])
    apart = (loops["chrom1"] != loops["chrom2"]).to_numpy()
    if apart.any():
        notes.append(f"{apart.sum():,} of {len(loops):,} loops join two chromosomes: left out")
    columns = {}
    for field in ("chrom", "start", "end"):
        columns[field] = loops[[f"{field}1", f"{field}2"]].to_numpy().reshape(-1)
    anchors = pd.DataFrame(columns)
    anchors["chrom"] = anchors["chrom"].map(spelled).where(~np.repeat(apart, 2))
    return anchors


def _near_tss(
    anchors: pd.DataFrame, genes: pd.DataFrame, reach: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    wide = anchors.assign(start=(anchors["start"] - reach).clip(lower=0), end=anchors["end"] + reach)
    tss = genes["tss"].astype("Int64")
    chrom = genes["chrom"].astype(object).where(tss.notna())
    return overlaps(wide, pd.DataFrame({"chrom": chrom, "start": tss, "end": tss + 1}))


def _opposite(
    at_genes: tuple[NDArray[np.int64], NDArray[np.int64]],
    at_peaks: tuple[NDArray[np.int64], NDArray[np.int64]],
) -> pd.DataFrame:
    """Pair the genes at one anchor of a loop with the peaks at the other."""
    genes = pd.DataFrame({"anchor": at_genes[0] ^ 1, "gene": at_genes[1]})
    return genes.merge(pd.DataFrame({"anchor": at_peaks[0], "peak": at_peaks[1]}), on="anchor")


def _no_edges(loops: pd.DataFrame, peaks: pd.DataFrame) -> str:
    return (
        f"none of {len(loops):,} loops joins the TSS of a gene with a peak (chromosomes of the loops:"
        f" {few(loops['chrom1'].unique())}; of the peaks: {few(peaks['chrom'].unique())})."
        " Pass loops of the peaks' genome build."
    )
