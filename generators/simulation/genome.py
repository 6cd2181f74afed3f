"""Where peaks and genes lie in a simulated genome, and the DNA between them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

BASE_PAIRS_PER_PEAK = 6_000
TELOMERE = 10_000  # run of N at both ends
WIDTHS = (200, 1_400)  # narrowest and widest peak, bp
CENTRE_GAP = 1_500  # least distance of neighbouring centres; above the widest peak, so peaks never touch
_SHARES = np.array([0.40, 0.33, 0.27])  # of the genome, a chromosome
# Weights of A, C, G, T out of 256: GC 0.41 between peaks, 0.50 in distal peaks, 0.60 in promoters.
_BASE_WEIGHTS = np.array([[76, 52, 53, 75], [64, 64, 64, 64], [51, 77, 77, 51]])
_LETTERS = np.frombuffer(b"ACGT", dtype=np.uint8)
_LINE = 60
_REPEAT_BP, _UNIQUE_BP = 300.0, 450.0  # mean stretch of soft-masked and of upper-case DNA


@dataclass(frozen=True)
class Layout:
    """Peaks and genes on chromosomes, before any regulation.

    Attributes
    ----------
    chromosomes : list of str
        Names.
    lengths : (chromosomes,) int64
        Length of each, bp.
    peaks : DataFrame
        ``peak, chrom, code, start, end, centre, promoter``, sorted by (chromosome, start);
        ``code`` numbers the chromosome, ``promoter`` is true where a gene starts.
    genes : DataFrame
        ``gene_id, symbol, chrom, code, start, end, tss, strand, biotype, promoter_peak``, sorted by
        (chromosome, TSS); ``promoter_peak`` is a row of ``peaks``.
    """

    chromosomes: list[str]
    lengths: NDArray[np.int64]
    peaks: pd.DataFrame
    genes: pd.DataFrame

    def line(self, code: NDArray[np.int64], position: NDArray[np.int64]) -> NDArray[np.int64]:
        """Place positions on one line where chromosomes are 10 Mb apart, beyond any window."""
        offsets = np.concatenate([[0], np.cumsum(self.lengths[:-1] + 10_000_000)])
        return np.asarray(offsets[code] + position, dtype=np.int64)


def make_layout(genes: int, peaks: int, rng: np.random.Generator) -> Layout:
    """Place peaks about 6 kb apart on three chromosomes and start a gene in some of them."""
    lengths = np.round(_SHARES * max(peaks * BASE_PAIRS_PER_PEAK, 300_000)).astype(np.int64)
    names = [f"chr{number}" for number in range(1, len(lengths) + 1)]
    table = _place_peaks(peaks, names, lengths, rng)
    promoters = np.sort(rng.choice(peaks, size=genes, replace=False))
    table["promoter"] = np.isin(np.arange(peaks), promoters)
    return Layout(names, lengths, table, _place_genes(table, promoters, lengths, rng))


def _place_peaks(
    peaks: int, names: list[str], lengths: NDArray[np.int64], rng: np.random.Generator
) -> pd.DataFrame:
    ends = np.round(np.cumsum(_SHARES) * peaks).astype(np.int64)
    counts = np.diff(ends, prepend=0)
    margin = TELOMERE + 2_000
    centre = np.concatenate(
        [
            _spread(count, length - 2 * margin, rng) + margin
            for count, length in zip(counts, lengths, strict=True)
        ]
    )
    code = np.repeat(np.arange(len(names)), counts)
    width = np.clip(rng.lognormal(np.log(650), 0.45, peaks), *WIDTHS).astype(np.int64)
    table = pd.DataFrame({"chrom": np.array(names, dtype=object)[code], "code": code})
    table["start"] = centre - width // 2
    table["end"] = table["start"] + width
    table["centre"] = (table["start"] + table["end"]) // 2
    table.insert(
        0, "peak", table["chrom"] + ":" + table["start"].astype(str) + "-" + table["end"].astype(str)
    )
    return table


def _spread(count: int, length: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Positions in [0, length) with exponential gaps above ``CENTRE_GAP``."""
    free = length - CENTRE_GAP * count
    gaps = rng.exponential(size=count + 1)
    position = np.cumsum(gaps[:-1]) / gaps.sum() * free + CENTRE_GAP * np.arange(count)
    return np.asarray(position, dtype=np.int64)


def _place_genes(
    peaks: pd.DataFrame, promoters: NDArray[np.int64], lengths: NDArray[np.int64], rng: np.random.Generator
) -> pd.DataFrame:
    number = len(promoters)
    home = peaks.iloc[promoters]
    code = home["code"].to_numpy()
    tss = home["centre"].to_numpy() + rng.integers(-60, 61, number)
    forward = rng.random(number) < 0.5
    body = np.clip(rng.lognormal(np.log(15_000), 1.0, number), 500, 300_000).astype(np.int64)
    start = np.where(forward, tss, np.maximum(tss + 1 - body, TELOMERE))
    end = np.where(forward, np.minimum(tss + body, lengths[code] - TELOMERE), tss + 1)
    digits = np.char.zfill(np.arange(1, number + 1).astype(str), 5)
    return pd.DataFrame(
        {
            "gene_id": np.char.add("SIMG0000000", digits).astype(object),
            "symbol": np.char.add("GENE", digits).astype(object),
            "chrom": home["chrom"].to_numpy(),
            "code": code,
            "start": start,
            "end": end,
            "tss": tss,
            "strand": np.where(forward, "+", "-").astype(object),
            "biotype": np.where(rng.random(number) < 0.8, "protein_coding", "lncRNA").astype(object),
            "promoter_peak": promoters,
        }
    )


def write_fasta(
    path: Path,
    layout: Layout,
    site_start: NDArray[np.int64],
    site_peak: NDArray[np.int64],
    site_codes: NDArray[np.int8],
    rng: np.random.Generator,
) -> None:
    """Write the genome, sites planted, 60 letters a line.

    Parameters
    ----------
    path : Path
        File to write.
    layout : Layout
        Chromosomes and peaks.
    site_start : (sites,) int64
        Leftmost base of each site on its chromosome, 0-based.
    site_peak : (sites,) int64
        Row of the peak that holds the site; gives the chromosome.
    site_codes : (sites, longest motif) int8
        Bases 0 to 3 in ACGT as the forward strand reads them, -1 past the site's end.
    rng : Generator
        Source of the background.
    """
    site_chromosome = layout.peaks["code"].to_numpy()[site_peak]
    with path.open("wb") as file:
        for code, name in enumerate(layout.chromosomes):
            dna = _background(layout, code, rng)
            here = site_chromosome == code
            positions = site_start[here, None] + np.arange(site_codes.shape[1])
            bases = site_codes[here]
            dna[positions[bases >= 0]] = _LETTERS[bases[bases >= 0]]
            _soft_mask(dna, rng)
            dna[:TELOMERE] = dna[-TELOMERE:] = ord("N")
            file.write(f">{name}\n".encode())
            file.write(_wrapped(dna))


def _background(layout: Layout, code: int, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Upper-case letters of one chromosome; peaks are richer in GC, as in real genomes."""
    length = int(layout.lengths[code])
    peaks = layout.peaks[layout.peaks["code"] == code]
    level = np.zeros(length + 1, dtype=np.int8)
    rise = np.where(peaks["promoter"], 2, 1).astype(np.int8)
    level[peaks["start"]] += rise
    level[peaks["end"]] -= rise
    np.cumsum(level, dtype=np.int8, out=level)
    letters = np.stack([np.repeat(_LETTERS, weights) for weights in _BASE_WEIGHTS])
    draws = np.frombuffer(rng.bytes(length), dtype=np.uint8)
    return np.asarray(letters[level[:-1], draws], dtype=np.uint8)


def _soft_mask(dna: NDArray[np.uint8], rng: np.random.Generator) -> None:
    """Lower-case alternating stretches, about two fifths of the DNA, as repeats are written."""
    pairs = int(1.2 * len(dna) / (_REPEAT_BP + _UNIQUE_BP)) + 10
    stretches = np.empty(2 * pairs)
    stretches[0::2] = rng.exponential(_UNIQUE_BP, pairs)
    stretches[1::2] = rng.exponential(_REPEAT_BP, pairs)
    borders = np.cumsum(stretches.astype(np.int64) + 1)
    flips = np.zeros(len(dna), dtype=np.uint8)
    flips[borders[borders < len(dna)]] = 32  # the bit that tells lower case from upper case
    dna |= np.bitwise_xor.accumulate(flips)


def _wrapped(dna: NDArray[np.uint8]) -> bytes:
    """Letters with a line break after every 60th and after the last."""
    whole = len(dna) // _LINE * _LINE
    lines = np.full((whole // _LINE, _LINE + 1), ord("\n"), dtype=np.uint8)
    lines[:, :_LINE] = dna[:whole].reshape(-1, _LINE)
    rest = dna[whole:].tobytes()
    return lines.tobytes() + (rest + b"\n" if rest else b"")
