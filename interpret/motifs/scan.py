"""Matches of motifs in the DNA of peaks, on both strands."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Final, cast

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from tqdm.auto import tqdm

from ...graphs.bases import Anchor, N, window_offset
from ...graphs.dataset import MultiomeGraphs
from ...graphs.errors import InputError
from .read import Motif
from .scoring import PSEUDOCOUNT, Float64, Int64, Scoring, background_of
from .words import WORD, Codes, all_tables, matches, words_of

_SLAB: Final = 512  # peaks whose words are in memory
_FOUND: Final = ("peak", "motif", "strand", "position", "above", "score")


def scan_peaks(
    graphs: MultiomeGraphs,
    motifs: Sequence[Motif],
    *,
    pvalue: float = 1e-4,
    best: bool = False,
    pseudocount: float = PSEUDOCOUNT,
    batch: int = 16,
    device: str | torch.device = "cpu",
    progress: bool = False,
) -> pd.DataFrame:
    """Find the matches of motifs in the stored DNA of a dataset's peaks.

    The dataset stores `sequence_length` bases (256 by default) around the centre of each peak: matches
    outside of them are not found, and where a peak is shorter they lie beside it.

    Parameters
    ----------
    graphs
        Dataset that was built with DNA.
    motifs, pvalue, best, pseudocount, batch, device, progress
        As in `scan`.

    Returns
    -------
    DataFrame
        As that of `scan`; ``peak`` (category, all peaks in dataset order) names the peak, ``start``
        and ``end`` are on its chromosome.

    Raises
    ------
    InputError
        The dataset has no DNA, or as in `scan`.
    """
    require_dna(graphs)
    sequences = graphs.peaks.sequence.numpy()
    hits = scan(
        sequences,
        motifs,
        pvalue=pvalue,
        best=best,
        pseudocount=pseudocount,
        batch=batch,
        device=device,
        progress=progress,
    )
    row = hits["peak"].to_numpy()
    begin = window_starts(graphs)[row]
    hits["start"], hits["end"] = hits["start"] + begin, hits["end"] + begin
    hits["peak"] = _categories(row, graphs.peaks.frame["peak"].astype(str))
    return hits


def window_starts(graphs: MultiomeGraphs) -> Int64:
    """Where on its chromosome the stored DNA of each peak begins, (peaks,) bp."""
    start, end = graphs.peaks.start.numpy(), graphs.peaks.end.numpy()
    anchor: Anchor = graphs.store.manifest["options"].get("sequence_from", "centre")
    first: Int64 = start + window_offset(end - start, graphs.peaks.sequence.shape[1], anchor)
    return first


def require_dna(graphs: MultiomeGraphs) -> None:
    """Refuse a dataset without DNA.

    Raises
    ------
    InputError
        It was built without.
    """
    if "sequence" not in graphs.peaks.tensors:
        raise InputError(
            f"{graphs.root} has no DNA of its peaks, in which motifs are sought. Build it with --fasta."
        )


def scan(
    sequences: Codes,
    motifs: Sequence[Motif],
    *,
    pvalue: float = 1e-4,
    best: bool = False,
    background: Float64 | None = None,
    pseudocount: float = PSEUDOCOUNT,
    batch: int = 16,
    device: str | torch.device = "cpu",
    progress: bool = False,
) -> pd.DataFrame:
    """Find the matches of motifs in sequences, on both strands.

    Levels (see `Scoring`) are added up from tables of all words of three bases, a row a word and a
    column a motif and strand, so that a position costs a third of a motif's length in row additions.

    Parameters
    ----------
    sequences
        (peaks, width) codes 0 A, 1 C, 2 G, 3 T, 4 N; a match has no N.
    motifs
        Any number, of any lengths.
    pvalue
        Most that a match may have: the chance that random bases at one place and strand score as high.
    best
        Keep only the best match of each peak and transcription factor (of equal ones the first).
    background
        (4,) shares of the bases; None for those of the sequences, both strands together.
    pseudocount
        Sites added to every position of a motif, divided as the background is.
    batch
        Peaks scored at once.
    device
        Where scores are added up.
    progress
        Show a bar over the peaks.

    Returns
    -------
    DataFrame
        ``peak`` (row), ``tf``, ``motif`` (category: name and matrix id), ``start``, ``end`` (0-based
        half-open, on the forward strand), ``strand`` (category: + or -), ``score`` (bits), ``pvalue``;
        sorted by peak and start.

    Raises
    ------
    InputError
        No base but N, ``pvalue`` or ``pseudocount`` out of range, or no motif can reach ``pvalue``.
    """
    shares = background_of(sequences) if background is None else background
    scoring = Scoring.of(motifs, shares, pvalue=pvalue, pseudocount=pseudocount)
    if len(motifs) and len(scoring.never) == len(motifs):
        raise InputError(
            f"no motif has a match with p ≤ {pvalue:g}: all are too short or too vague. Pass a larger p-value."
        )
    found = list(_found(sequences, scoring, batch, torch.device(device), progress))
    joined = {
        name: np.concatenate([np.zeros(0, np.int64), *(part[name] for part in found)]) for name in _FOUND
    }
    frame = _frame(joined, motifs, scoring)
    return best_matches(frame) if best else frame


def best_matches(hits: pd.DataFrame) -> pd.DataFrame:
    """Keep the match with the lowest p-value of each peak and transcription factor, in the order given."""
    order = np.lexsort((-hits["score"].to_numpy(), hits["pvalue"].to_numpy()))
    first = ~hits.iloc[order].duplicated(["peak", "tf"]).to_numpy()
    return hits.iloc[np.sort(order[first])].reset_index(drop=True)


def _found(
    sequences: Codes, scoring: Scoring, batch: int, device: torch.device, progress: bool
) -> Iterator[dict[str, npt.NDArray[np.generic]]]:
    """Yield the matches of a slab of peaks and a group of motifs at a time."""
    groups, oriented = list(all_tables(scoring, device)), _oriented_odds(scoring)
    longest = max((len(own) for own in scoring.levels), default=0) + WORD
    with tqdm(total=len(sequences), desc="scanning peaks", unit="peak", disable=not progress) as bar:
        for begin in range(0, len(sequences), _SLAB):
            part = sequences[begin : begin + _SLAB]
            padded = np.pad(part, ((0, 0), (0, longest)), constant_values=N)
            words = torch.from_numpy(words_of(padded)).to(device)
            for tables in groups:
                peak, position, column, above = matches(words, part.shape[1], tables, batch)
                yield {
                    "peak": peak + begin,
                    "motif": column // 2,
                    "strand": column % 2,
                    "position": position,
                    "above": above,
                    "score": _scores(padded, peak, position, column, oriented),
                }
            bar.update(len(part))


def _scores(padded: Codes, peak: Int64, position: Int64, column: Int64, oriented: Float64) -> Float64:
    """Add up the bits of matches, which have been found by their levels; (matches,)."""
    score = np.zeros(len(peak))
    for i in range(oriented.shape[1]):
        inside = np.minimum(position + i, padded.shape[1] - 1)
        score += oriented[column, i, padded[peak, inside]]
    return score


def _oriented_odds(scoring: Scoring) -> Float64:
    """Bits of each base, motif · 2 + strand, position and code; 0 past a motif's end and for N."""
    longest = max((len(own) for own in scoring.odds), default=0)
    table = np.zeros((2 * len(scoring.odds), longest, N + 1))
    for motif, own in enumerate(scoring.odds):
        table[2 * motif, : len(own), :N] = own
        table[2 * motif + 1, : len(own), :N] = own[::-1, ::-1]
    return table


def _frame(
    found: dict[str, npt.NDArray[np.generic]], motifs: Sequence[Motif], scoring: Scoring
) -> pd.DataFrame:
    order = np.lexsort((found["strand"], found["motif"], found["position"], found["peak"]))
    peak, motif, strand, position, above = (
        found[name][order].astype(np.int64) for name in ("peak", "motif", "strand", "position", "above")
    )
    names = list(dict.fromkeys(motif.name for motif in motifs))
    name_of = pd.Index(names).get_indexer(pd.Index([motif.name for motif in motifs]))
    lengths = np.array([len(motif) for motif in motifs], np.int64)
    return pd.DataFrame(
        {
            "peak": peak,
            "tf": _categories(name_of[motif], names),
            "motif": _categories(motif, [motif.id for motif in motifs]),
            "start": position,
            "end": position + lengths[motif],
            "strand": _categories(strand, ["+", "-"]),
            "score": found["score"][order].astype(np.float64),
            "pvalue": scoring.pvalues(motif, above),
        }
    )


def _categories(codes: npt.NDArray[np.integer], names: Iterable[str]) -> pd.Categorical:
    return pd.Categorical.from_codes(cast(Sequence[int], codes), pd.Index(names))  # an array is as good
