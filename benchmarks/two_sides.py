"""What benchmarks of ours against a reference share: their command line, the figures of a case, and how these are told."""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from measure import PeakMemory, Worker, alternate, seconds, serve

Figures = dict[str, float]

# Heading -> figure and its format.
_SHOWN: Final = {
    "ours s": ("ours_s", ".5f"),
    "reference s": ("reference_s", ".5f"),
    "speedup": ("speedup", ".1f"),
    "ours MB": ("ours_peak_mb", ".0f"),
    "reference MB": ("reference_peak_mb", ".0f"),
}


class SteppingSide(ABC):
    """One side of one case, loaded: what a worker process holds, whose work is the step of a model.

    Attributes
    ----------
    model
        Whose gradients are there after a step.
    """

    model: Any

    @abstractmethod
    def step(self) -> object:
        """One forward and backward."""

    def growth_mb(self) -> float:
        """Peak memory of two steps over the loaded side (the second finds the gradients of the first)."""
        with PeakMemory() as memory:
            self.step()
            self.step()
        self.model.zero_grad()
        return memory.growth_mb

    def seconds(self) -> float:
        """Time of a step, the median of half a second of them (the longer ones run once)."""
        return seconds(self.step, at_least=0.5)


def command_line(description: str | None, *, quick: str) -> argparse.ArgumentParser:
    """Make the parser; ``--worker`` takes what a side is made of."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", action="store_true", help="print one line of JSON")
    parser.add_argument("--quick", action="store_true", help=quick)
    parser.add_argument("--worker", nargs="+", metavar="SIDE", help=argparse.SUPPRESS)
    return parser


def serve_side(side: Any, other: str) -> None:
    """Answer for a side: time, memory, and what is compared."""
    serve({name: getattr(side, name) for name in ("growth_mb", "seconds", other)})


def start(script: str, side: str, case: str, options: Sequence[str]) -> Worker:
    """Start the process of one side of a case."""
    return Worker(script, ["--worker", side, case, *options])


def compare(
    ours: Worker,
    reference: Worker,
    agree: Callable[[Worker, Worker], Figures],
    *,
    repeats: int,
    items: tuple[int, int] = (1, 1),
) -> Figures:
    """Run one case on both sides.

    Parameters
    ----------
    ours, reference
        The sides.
    agree
        Compares their results, and tells how far they are apart.
    repeats
        How often each is timed, in turn.
    items
        How many pairs or cells a step of each side reads: times are those of one.
    """
    growth = [worker.ask("growth_mb") for worker in (ours, reference)]
    agreement = agree(ours, reference)
    times = alternate([ours, reference], repeats)
    our_s, reference_s = (statistics.median(own) / n for own, n in zip(times, items, strict=True))
    return {
        "ours_s": our_s,
        "reference_s": reference_s,
        "speedup": reference_s / our_s,
        "ours_peak_mb": growth[0],
        "reference_peak_mb": growth[1],
        **agreement,
    }


def check(case: str, differences: Mapping[str, float], tolerance: Mapping[str, float]) -> Figures:
    """Name differences for the figures; ends the benchmark where the two sides differ by more than is allowed."""
    for name, difference in differences.items():
        if not difference <= tolerance[name]:
            sys.exit(
                f"{case}: {name} of the two sides differ by {difference:.1e}, more than {tolerance[name]:g}."
            )
    return {f"{name}_difference": difference for name, difference in differences.items()}


def tell(
    rows: dict[str, Figures], main_case: str, about: Mapping[str, Any], *, what: str, as_json: bool
) -> None:
    """Print all cases: as one line of JSON, the main case first, or a row each, under ``what``."""
    if as_json:
        others = {name: row for name, row in rows.items() if name != main_case}
        print(json.dumps({**rows.get(main_case, {}), "cases": others, **about}))
        return
    print(f"{what:20}" + "".join(f"{heading:>13}" for heading in _SHOWN))
    for name, row in rows.items():
        print(f"{name:20}" + "".join(f"{row[key]:13{form}}" for key, form in _SHOWN.values()))
    for name, value in about.items():
        print(f"{name}: {value}")
