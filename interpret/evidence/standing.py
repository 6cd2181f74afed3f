"""In how many cell types a map agrees with a factor's binding more than what needs no model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

_SHOWN: Final = ("pearson", "jaccard")
NEARNESS: Final = "nearness to the next TSS"


def standing(binding: Mapping[str, Any]) -> list[str]:
    """Say it in a line a baseline.

    Parameters
    ----------
    binding
        Of a map folder's ``binding.json``; nothing is said where nothing is judged.
    """
    types = list(binding.get("cell_types", {}).values())
    near = binding.get("baselines", {}).get("nearness")
    beside = {"accessibility": [row["accessibility"] for row in types]}
    if near is not None:
        beside[NEARNESS] = [near] * len(types)
    lines = []
    for name, others in beside.items():
        told = [_better(key, [row["map"] for row in types], others) for key in _SHOWN]
        if any(told):
            lines.append(f"the map is above {name} {', '.join(filter(None, told))} cell types")
    return lines


def _better(key: str, own: list[Any], others: list[Any]) -> str:
    values = [(a[key]["value"], b[key]["value"]) for a, b in zip(own, others, strict=True)]
    known = [(a, b) for a, b in values if a is not None and b is not None]
    better = sum(a > b for a, b in known)
    return f"by {key.capitalize()} in {better:,} of {len(known):,}" if known else ""
