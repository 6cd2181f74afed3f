"""What does the DNA of all peaks cost against one pyfaidx fetch a peak? Time and memory.

A FASTA of random bases has the 24 chromosomes of hg38 in lines of 60 (3.1 GB); 170,000 peaks of 200 to
1,500 bp lie at random places. Both sides give 256 bases around the centre of each peak as codes and the
GC content of the whole peak, and must agree to the last one. The reference fetches peaks one by one with
pyfaidx and turns all windows into codes at once:

random
    peaks in random order, as a matrix may have them (the main case)
sorted
    peaks sorted by chromosome and place

Writing the index, which is done once a FASTA and by pyfaidx on both sides, is timed apart (index_s).
The file was just written, so that it is read from memory as far as it fits.
"""

from __future__ import annotations

import hashlib
import tempfile
import time
from functools import partial
from pathlib import Path

import numpy as np
import pyfaidx
from measure import PeakMemory, Waiting, Worker
from numpy.typing import NDArray
from two_sides import command_line, compare, serve_side, start, tell

from scweave.generators.genome import Genome
from scweave.generators.genomes.dna import PeakDna
from scweave.graphs.schema import BASES

_LENGTHS = (
    *(248_956_422, 242_193_529, 198_295_559, 190_214_555, 181_538_259, 170_805_979, 159_345_973, 145_138_636),
    *(138_394_717, 133_797_422, 135_086_622, 133_275_309, 114_364_328, 107_043_718, 101_991_189, 90_338_345),
    *(83_257_441, 80_373_285, 58_617_616, 64_444_167, 46_709_983, 50_818_468, 156_040_895, 57_227_415),
)
_NAMES = [f"chr{name}" for name in (*range(1, 23), "X", "Y")]
_LINE, _LINES_HELD = 60, 100_000
_PEAKS, _WIDTHS, _WINDOW = 170_000, (200, 1_500), 256
CASES = ("random", "sorted")


def lengths(quick: bool) -> NDArray[np.int64]:
    """Length of each chromosome in bp."""
    return np.array(_LENGTHS) // (20 if quick else 1)


def write_fasta(path: Path, quick: bool) -> None:
    """Write chromosomes of random bases, half of them in lower case."""
    rng = np.random.default_rng(0)
    letters = np.frombuffer(b"ACGTacgt", dtype=np.uint8)
    with path.open("wb") as stream:
        for name, size in zip(_NAMES, lengths(quick).tolist(), strict=True):
            stream.write(f">{name}\n".encode())
            for left in range(size, 0, -_LINE * _LINES_HELD):
                bases = letters[rng.integers(0, 8, min(left, _LINE * _LINES_HELD), dtype=np.uint8)]
                whole = len(bases) // _LINE * _LINE
                lines = np.full((whole // _LINE, _LINE + 1), ord("\n"), dtype=np.uint8)
                lines[:, :-1] = bases[:whole].reshape(-1, _LINE)
                stream.write(lines.tobytes())
                if whole < len(bases):
                    stream.write(bases[whole:].tobytes() + b"\n")


class Side:
    """One side of one case, loaded: what a worker process holds.

    Parameters
    ----------
    side
        ``ours`` or ``reference``.
    case
        A name in ``CASES``.
    fasta
        Indexed already.
    quick
        Smaller chromosomes and fewer peaks.
    """

    def __init__(self, side: str, case: str, fasta: str, quick: bool) -> None:
        rng, sizes = np.random.default_rng(1), lengths(quick)
        n = _PEAKS // (20 if quick else 1)
        chromosome = rng.choice(len(sizes), n, p=sizes / sizes.sum())
        width = rng.integers(*_WIDTHS, n)
        start = (rng.random(n) * (sizes[chromosome] - width)).astype(np.int64)
        order = np.lexsort((start, chromosome)) if case == "sorted" else np.arange(n)
        self.names = np.array(_NAMES, dtype=object)[chromosome[order]]
        self.start, self.end = start[order], (start + width)[order]
        self.fasta = Path(fasta)
        self.read = self.ours if side == "ours" else self.reference

    def ours(self) -> PeakDna:
        """All peaks, opening the FASTA included."""
        return Genome(fasta=self.fasta).sequences(self.names, self.start, self.end, length=_WINDOW)

    def reference(self) -> PeakDna:
        """All peaks, one fetch each."""
        windows, gc = [], np.full(len(self.names), np.nan, dtype=np.float32)
        with pyfaidx.Faidx(str(self.fasta), as_raw=True) as faidx:
            places = zip(self.names, self.start.tolist(), self.end.tolist(), strict=True)
            for i, (name, start, end) in enumerate(places):
                first = (start + end) // 2 - _WINDOW // 2
                low = max(min(first, start), 0)
                high = min(max(first + _WINDOW, end), faidx.index[name].rlen)
                text = faidx.fetch(name, low + 1, high).upper()
                shown = text[max(first - low, 0) : first + _WINDOW - low]
                windows.append(("N" * max(-first, 0) + shown).ljust(_WINDOW, "N"))
                peak = text[start - low : end - low]
                a, c, g, t = (peak.count(base) for base in "ACGT")
                gc[i] = (g + c) / (a + c + g + t) if a + c + g + t else np.nan
        table = np.full(256, BASES.index("N"), dtype=np.uint8)
        table[list(BASES.encode())] = np.arange(len(BASES))
        codes = table[np.frombuffer("".join(windows).encode(), dtype=np.uint8)]
        return PeakDna(codes.reshape(-1, _WINDOW), gc)

    def seconds(self) -> float:
        """Time of reading all peaks."""
        begin = time.perf_counter()
        self.read()
        return time.perf_counter() - begin

    def growth_mb(self) -> float:
        """Peak memory of reading all peaks, the result included."""
        with PeakMemory() as memory:
            self.read()
        return memory.growth_mb

    def digest(self) -> str:
        """Checksum of the result."""
        dna = self.read()
        return hashlib.sha256(dna.sequences.tobytes() + dna.gc.tobytes()).hexdigest()


def check_same(case: str, ours: Worker, reference: Worker) -> dict[str, float]:
    """End the benchmark where the two sides differ in a base."""
    if ours.ask("digest") != reference.ask("digest"):
        raise SystemExit(f"{case}: the two sides differ.")
    return {}


def compare_case(case: str, fasta: Path, quick: bool) -> dict[str, float]:
    """Run one case on both sides."""
    options = [str(fasta), *(["--quick"] if quick else [])]
    with (
        start(__file__, "ours", case, options) as ours,
        start(__file__, "reference", case, options) as reference,
    ):
        return compare(ours, reference, partial(check_same, case), repeats=5 if quick else 3)


def main() -> None:
    arguments = command_line(__doc__, quick="a twentieth of the genome and of the peaks").parse_args()
    if arguments.worker:
        serve_side(Side(*arguments.worker, quick=arguments.quick), "digest")
        return
    with tempfile.TemporaryDirectory() as folder, Waiting() as waiting:
        fasta = Path(folder) / "genome.fa"
        write_fasta(fasta, arguments.quick)
        begin = time.perf_counter()
        Genome(fasta=fasta)
        index_s = time.perf_counter() - begin
        rows = {case: compare_case(case, fasta, arguments.quick) for case in CASES}
    about = {"index_s": index_s, "waiting_for_cores": waiting.share}
    tell(rows, "random", about, what="all peaks", as_json=arguments.json)


if __name__ == "__main__":
    main()
