"""DNA of peaks from a FASTA whose records are the peaks, joined by the places in their names."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ...graphs.bases import Anchor, N, check_window, window_offset, windows
from ...graphs.chromosomes import harmonise
from ...graphs.errors import InputError
from ...graphs.messages import few
from .dna import PeakDna, share, tallies
from .fasta_records import Records, read_head, read_records
from .peak_names import parse_peak_names, peak_like


def is_peak_fasta(path: Path, peaks: pd.DataFrame) -> bool:
    """Tell a FASTA of peaks from one of chromosomes, by its first megabyte.

    Parameters
    ----------
    path
        Plain or gzip.
    peaks
        Columns ``peak``, ``chrom``, ``start``, ``end``.

    Returns
    -------
    bool
        True if no record is a chromosome of the peaks, and records are named as peaks are or are no
        longer than the longest peak.

    Raises
    ------
    InputError
        If the file is missing, damaged or no FASTA.
    """
    records = read_head(path)
    if peaks.empty:
        return False
    if any(harmonise(list(peaks["chrom"].unique()), records.names).values()):
        return False
    widest = (peaks["end"] - peaks["start"]).max()
    return bool(peak_like(_places(path, records.names).tolist()).any() or (records.sizes <= widest).all())


def read_peak_fasta(
    path: Path, peaks: pd.DataFrame, *, length: int, anchor: Anchor, notes: list[str]
) -> PeakDna:
    """DNA of every peak from a FASTA with one record a peak.

    Records are joined by name: the peak's own, or one that says its place (``chr1:10-20``,
    ``chr1-10-20``, ``name::chr1:10-20``, ``chr1:10-20(+)``), whatever their order. Where names say no
    place, records are taken in the order of `peaks`, if there are as many and none has a base where
    its peak has ended.

    Parameters
    ----------
    path
        Plain or gzip; upper or lower case.
    peaks
        Columns ``peak``, ``chrom``, ``start``, ``end``, in the order of the experiment.
    length, anchor
        Window a peak, as in `Genome.sequences`; N outside the record. A record shorter than its peak
        was cut by its maker, so its window begins at its first base in any case.
    notes
        How records were joined, and how many were cut, are appended.

    Returns
    -------
    PeakDna
        Aligned with `peaks`; the GC content is that of the record.

    Raises
    ------
    InputError
        If peaks have no record, or records no sure peak, or have more bases than their peak; if the
        file is missing, damaged or no FASTA.
    """
    check_window(length, anchor)
    blocks = list(read_records(path))
    names = [name for records in blocks for name in records.names]
    peak_of, by_name = _join(path, names, peaks, notes)
    widths = (peaks["end"] - peaks["start"]).to_numpy(np.int64)
    dna = PeakDna(
        np.full((len(peaks), length), N, dtype=np.uint8), np.full(len(peaks), np.nan, dtype=np.float32)
    )
    targets = np.split(peak_of, np.cumsum([len(records.names) for records in blocks])[:-1])
    cut, longer = 0, list[str]()
    for records, target in zip(blocks, targets, strict=True):
        cut += _fill(records, target, widths, anchor, dna, longer)
    _check_longer(path, longer, len(names), by_name)
    if cut:
        notes.append(
            f"{cut:,} of {len(peaks):,} records of {path.name} are shorter than their peak: their windows"
            " begin at the first base"
        )
    return dna


def _join(
    path: Path, names: list[str], peaks: pd.DataFrame, notes: list[str]
) -> tuple[NDArray[np.int64], bool]:
    """Row in `peaks` of each record, -1 for those of no peak; and whether names told it."""
    own = pd.Index(names, dtype=object)
    if own.is_unique and peaks["peak"].isin(own).all():
        found = pd.Index(peaks["peak"].astype(object)).get_indexer(own)
    else:
        places = _places(path, names)
        readable = peak_like(places.tolist())
        if not readable.any():
            return _by_position(path, names, peaks, notes), False
        found = np.full(len(names), -1)
        found[readable] = _by_place(path, places[readable].tolist(), peaks)
    missing = np.setdiff1d(np.arange(len(peaks)), found)
    if len(missing):
        raise InputError(
            f"{path.name} has no record for {len(missing):,} of {len(peaks):,} peaks"
            f" ({few(peaks['peak'].iloc[missing])}; its {len(names):,} records: {few(names)}). Pass the FASTA"
            " of these peaks, or of the genome."
        )
    if extra := int((found < 0).sum()):
        notes.append(f"{extra:,} of {len(names):,} records of {path.name} are of no peak and left out")
    return found.astype(np.int64), True


def _by_place(path: Path, places: list[str], peaks: pd.DataFrame) -> NDArray[np.int64]:
    try:
        table = parse_peak_names(places)
    except InputError as error:
        raise InputError(f"{path.name}: {error}") from error
    spelled = harmonise(list(table["chrom"].unique()), list(peaks["chrom"].unique()))
    table["chrom"] = table["chrom"].map(spelled)
    keys = ["chrom", "start", "end"]
    found = table.merge(peaks[keys].assign(row=np.arange(len(peaks))), on=keys, how="left")["row"]
    twice = found.duplicated(keep=False) & found.notna()
    if twice.any():
        raise InputError(
            f"{path.name}: {twice.sum():,} of {len(places):,} records share their place with another"
            f" ({few(np.asarray(places, dtype=object)[twice])}). Keep one of each."
        )
    return found.fillna(-1).to_numpy(np.int64)


def _by_position(path: Path, names: list[str], peaks: pd.DataFrame, notes: list[str]) -> NDArray[np.int64]:
    if len(names) != len(peaks):
        raise InputError(
            f"{path.name} has {len(names):,} records for {len(peaks):,} peaks, and their names say no place"
            f" ({few(names)}), so they cannot be joined. Name the records chr1:10-20, or pass the genome's FASTA."
        )
    notes.append(
        f"the {len(names):,} records of {path.name} say no place ({few(names)}): they were joined to the"
        f" {len(peaks):,} peaks by position"
    )
    return np.arange(len(peaks))


def _fill(
    records: Records,
    target: NDArray[np.int64],
    widths: NDArray[np.int64],
    anchor: Anchor,
    dna: PeakDna,
    longer: list[str],
) -> int:
    """Write the DNA of some records, name those with more bases than their peak, count the shorter ones."""
    used = np.flatnonzero(target >= 0)
    rows, size, width = target[used], records.sizes[used], widths[target[used]]
    begin = (np.cumsum(records.sizes) - records.sizes)[used]
    end = begin + np.minimum(size, width)
    strong, called = tallies(records.codes)
    longer.extend(records.names[i] for i in used[called[begin + size] > called[end]])
    length = dna.sequences.shape[1]
    first = begin + np.where(size < width, 0, window_offset(width, length, anchor))
    dna.sequences[rows] = windows(records.codes, first, begin, end, length)
    dna.gc[rows] = share(strong[end] - strong[begin], called[end] - called[begin])
    return int((size < width).sum())


def _check_longer(path: Path, longer: list[str], count: int, by_name: bool) -> None:
    if longer:
        how = "" if by_name else ", to which they could be joined by position only"
        raise InputError(
            f"{len(longer):,} of {count:,} records of {path.name} have bases where their peak has ended{how}"
            f" ({few(longer)}). Make it from the peaks' own intervals, or pass the genome's FASTA."
        )


def _places(path: Path, names: list[str]) -> pd.Series[str]:
    """Names without a leading ``name::`` and a closing strand, as bedtools writes them."""
    texts = pd.Series(names, dtype=object)
    turned = texts.str.endswith("(-)").to_numpy(dtype=bool)
    if turned.any():
        raise InputError(
            f"{turned.sum():,} of {len(names):,} records of {path.name} are of the minus strand"
            f" ({few(texts[turned])}). Make the FASTA without strands (bedtools getfasta without -s)."
        )
    return texts.str.replace(r"^.*::|\([+.]\)$", "", regex=True)
