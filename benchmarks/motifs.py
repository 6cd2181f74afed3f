"""What does finding the matches of motifs in peaks cost against Biopython's search? Time and memory.

Peaks are 256 random bases; motifs are 6 to 21 long, most of them about 12, as those of JASPAR's vertebrates.
Both sides search both strands with the same log odds, background and thresholds (p ≤ 10⁻⁴), and must find
the same matches, those within rounding of a threshold left out. The cases:

many motifs
    200 motifs in 500 peaks (the main case)
many peaks
    20 motifs in 5,000 peaks

Biopython searches peak by peak and motif by motif (``pssm.search``, whose sums are in C); thresholds are not
counted on its side. Ours alone then scans 25,000 peaks for 800 motifs (whole_*), which a dataset asks for.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pandas as pd
import torch
from Bio import motifs as bio
from measure import PeakMemory, Waiting, Worker, seconds, serve
from two_sides import command_line, compare, start, tell

from scweave.graphs.bases import decode
from scweave.interpret.motifs.read import Motif
from scweave.interpret.motifs.scan import scan
from scweave.interpret.motifs.scoring import PSEUDOCOUNT, STEP, Scoring

CASES = {"many motifs": (200, 500), "many peaks": (20, 5_000)}
_WHOLE, _WHOLE_QUICK = (800, 25_000), (200, 2_000)
_WIDTH, _BACKGROUND = 256, np.array([0.25, 0.25, 0.25, 0.25])


class Side:
    """One side of one case, loaded: what a worker process holds.

    Parameters
    ----------
    side
        ``ours`` or ``reference``.
    case
        A name in ``CASES``, or ``whole``.
    quick
        A tenth of the peaks.
    """

    def __init__(self, side: str, case: str, quick: bool) -> None:
        torch.set_num_threads(1)
        rng = np.random.default_rng(0)
        whole = _WHOLE_QUICK if quick else _WHOLE
        number, peaks = whole if case == "whole" else CASES[case]
        peaks = peaks // 10 if quick and case != "whole" else peaks
        lengths = np.clip(rng.normal(12, 3.2, number).round(), 6, 21).astype(int)
        self.motifs = [
            Motif(f"TF{i}", f"M{i}", rng.dirichlet(np.full(4, 0.3), length) * 100)
            for i, length in enumerate(lengths.tolist())
        ]
        self.sequences = rng.integers(0, 4, (peaks, _WIDTH)).astype(np.uint8)
        self.scoring = Scoring.of(self.motifs, _BACKGROUND)
        self.texts = decode(self.sequences)
        self.pssms = [_pssm(motif) for motif in self.motifs]
        self.find = self.ours if side == "ours" else self.reference

    def ours(self) -> pd.DataFrame:
        """All matches."""
        return scan(self.sequences, self.motifs, background=_BACKGROUND)

    def reference(self) -> list[tuple[int, int, int, float]]:
        """All matches: motif, peak, place on the forward strand (negative on the other), bits."""
        return [
            (number, peak, int(place), float(score))
            for number, pssm in enumerate(self.pssms)
            for peak, text in enumerate(self.texts)
            for place, score in pssm.search(text, threshold=self.threshold(number))
        ]

    def threshold(self, motif: int) -> float:
        """Bits that a match needs, to rounding."""
        lowest = np.rint(self.scoring.odds[motif] / STEP).min(1).sum()
        return float((self.scoring.threshold[motif] + lowest) * STEP)

    def seconds(self) -> float:
        """Time of one search."""
        return seconds(self.find)

    def growth_mb(self) -> float:
        """Peak memory of one search, the result included."""
        with PeakMemory() as memory:
            self.find()
        return memory.growth_mb

    def clear(self) -> list[list[int]]:
        """Matches that rounding can neither make nor undo, sorted."""
        margin = [STEP * len(motif) for motif in self.motifs]
        limit = [self.threshold(number) + margin[number] for number in range(len(self.motifs))]
        found = self.find()
        if isinstance(found, pd.DataFrame):
            found = _listed(found)
        return sorted([motif, peak, place] for motif, peak, place, bits in found if bits > limit[motif])


def _listed(found: pd.DataFrame) -> list[tuple[int, int, int, float]]:
    """Ours as Biopython has them."""
    place = np.where(found["strand"] == "+", found["start"], found["start"] - _WIDTH)
    columns = (found["motif"].cat.codes, found["peak"], place, found["score"])
    return list(zip(*(np.asarray(column).tolist() for column in columns), strict=True))


def _pssm(motif: Motif) -> Any:
    counts = (motif.counts + PSEUDOCOUNT * _BACKGROUND).T.tolist()
    return bio.Motif("ACGT", counts=dict(zip("ACGT", counts, strict=True))).counts.normalize().log_odds()


def check_same(case: str, ours: Worker, reference: Worker) -> dict[str, float]:
    """End the benchmark where the two sides find different matches."""
    found = ours.ask("clear")
    if found != reference.ask("clear"):
        raise SystemExit(f"{case}: the two sides find different matches.")
    return {"matches": len(found)}


def compare_case(case: str, quick: bool) -> dict[str, float]:
    """Run one case on both sides."""
    options = ["--quick"] if quick else []
    with start(__file__, "ours", case, options) as ours, start(__file__, "reference", case, options) as other:
        row = compare(ours, other, partial(check_same, case), repeats=3)
    motifs, peaks = CASES[case]
    work = motifs * (peaks // 10 if quick else peaks)
    return {
        **row,
        "ours_motif_peaks_per_s": work / row["ours_s"],
        "reference_motif_peaks_per_s": work / row["reference_s"],
    }


def whole(quick: bool) -> dict[str, float]:
    """Time and memory of what a dataset asks for."""
    motifs, peaks = _WHOLE_QUICK if quick else _WHOLE
    with start(__file__, "ours", "whole", ["--quick"] if quick else []) as ours:
        growth, time = ours.ask("growth_mb"), ours.ask("seconds")
    return {"whole_s": time, "whole_peak_mb": growth, "whole_motif_peaks_per_s": motifs * peaks / time}


def main() -> None:
    arguments = command_line(__doc__, quick="a tenth of the peaks").parse_args()
    if arguments.worker:
        side = Side(*arguments.worker, quick=arguments.quick)
        serve({name: getattr(side, name) for name in ("growth_mb", "seconds", "clear")})
        return
    with Waiting() as waiting:
        rows = {case: compare_case(case, arguments.quick) for case in CASES}
        about = whole(arguments.quick)
    about["waiting_for_cores"] = waiting.share
    tell(rows, "many motifs", about, what="all peaks", as_json=arguments.json)


if __name__ == "__main__":
    main()
