"""What supports a map: coverage of the truth first, then every method on the same pairs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import PurePath
from typing import Any, Final

import pandas as pd

from ...graphs.errors import InputError
from ..evidence.standing import NEARNESS, standing
from ..figures.recovery import method_label
from ..motifs.regions import DOWNSTREAM, UPSTREAM
from .markup import escape, facts, folded, notes, number, picture, table
from .metrics_part import best_methods, title, value_of
from .sources import Source

_TOP: Final = 8  # TFs told of a cell type
_MEASURES: Final = ("cosine", "pearson", "jaccard", "partial")
_PICTURES: Final = {
    "recovery": "Precision against recall of known links, every method on the same pairs",
    "binding": "Peak scores of the map against TF binding, beside accessibility",
}
_BASELINES: Final = (("nearness", NEARNESS), ("accessibility", "accessibility"))
_MAP: Final = "map.png"
_KINDS: Final = (
    f"The peaks that stand most for each type, by where their centre lies; promoter: from {UPSTREAM:,} bp before to"
    f" {DOWNSTREAM:,} bp after a TSS. The first row is of all peaks of the data set."
)


def evidence_part(source: Source) -> str:
    """Return notes, coverage, methods, TF binding, regions and motifs of a map, as far as its folder has them."""
    told = source.json("summary.json").get("notes")
    parts = [notes([str(line) for line in told]) if isinstance(told, list) else ""]
    truth = source.config.get("arguments", {}).get("truth")
    for name in ("recovery", "binding"):
        content = source.json(f"{name}.json")
        if content:
            content["file"] = PurePath(str(truth)).name if truth else ""
            parts.append(_guarded(source, f"{name}.json", content))
        if (source.folder / f"{name}.png").is_file():
            parts.append(picture(source.folder / f"{name}.png", _PICTURES[name], wide=name == "binding"))
    for name in ("regions", "enrichment"):
        frame = source.frame(f"{name}.parquet")
        if frame is not None:
            parts.append(_guarded(source, f"{name}.parquet", frame))
    if (source.folder / _MAP).is_file():
        words = "Links of telling genes in each cell type"
        parts.append(folded("Picture of telling genes", picture(source.folder / _MAP, words, wide=True)))
    return "".join(parts)


def _guarded(source: Source, name: str, content: Any) -> str:
    """Draw a file's content, or say that it is not what `scweave map` writes."""
    try:
        return _DRAWN[name](content)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError(
            f"{source.folder / name} is not as this version writes it ({error!r}). Make the map again."
        ) from error


def _recovery(content: dict[str, Any]) -> str:
    """Return how well known links are recovered; only coverage where too few of them are judged."""
    sizes = {name: content.get(name) for name in ("window", "candidates", "judged_pairs", "true_pairs")}
    told = {title(name) + (" (bp)" if name == "window" else ""): size for name, size in sizes.items()}
    parts = [_heading("Recovery of known links", content), _coverage(content["coverage"] | told)]
    lines = [f"Nothing is judged: {content['reason']}."] if content.get("reason") else []
    if content.get("methods"):
        lines += _reading(content)
        parts += [notes(lines), methods_table(content["methods"], content.get("intervals", {}))]
        parts.append(_strata(content.get("strata", ())))
    else:
        parts.append(notes(lines))
    return "".join(parts)


def _heading(words: str, content: Mapping[str, Any]) -> str:
    """Name the file that a map is held against."""
    return f"<h3>{escape(words)}{escape(': ' + content['file']) if content.get('file') else ''}</h3>"


def _reading(content: dict[str, Any]) -> list[str]:
    """Say how to read the table, and what the map gains over the best method that needs no model."""
    lines = ["Higher is better in all columns; the best of each is bold."]
    inside, true = content["coverage"].get("in_candidates"), content.get("true_pairs")
    if inside and true and true > inside:
        lines.append(f"A known link may lie on several peaks: {inside:,} links are {true:,} true pairs.")
    if "intervals" in content:
        lines.append("Small: 95 % intervals, genes drawn anew with all of their pairs.")
    if content.get("matched_on"):
        lines.append(
            f"Matched AUROC compares pairs of like {' and '.join(map(_feature, content['matched_on']))} only."
        )
    gain = content.get("map_minus_best")
    if gain:
        bounds = _bounds(gain.get("interval"))
        lines.append(
            f"AUPRC of the map less that of {method_label(gain['baseline'])}: {number(gain['auprc'])}{bounds}."
        )
    return lines


def _feature(name: str) -> str:
    return {"gc": "GC content"}.get(name, name)


def _bounds(interval: Any) -> str:
    return f" ({number(interval[0])} to {number(interval[1])})" if interval else ""


def _coverage(coverage: Mapping[str, Any]) -> str:
    """Say what of the truth can be judged at all, before any figure."""
    told = {title(name): value for name, value in coverage.items()}
    return f"<h4>Coverage: how much of the truth the map can be judged by</h4>{facts(told)}"


def methods_table(
    methods: Mapping[str, Mapping[str, Any]], intervals: Mapping[str, Mapping[str, Any]]
) -> str:
    """Return every method's figures with their intervals; the best of each column is bold."""
    columns = list(dict.fromkeys(key for row in methods.values() for key in row))
    best = {name: best_methods(methods, name) for name in columns}
    rows = []
    for method, row in methods.items():
        known = intervals.get(method, {})
        cells = [_figure(row.get(name), known.get(name), best=method in best[name]) for name in columns]
        label = escape(method_label(method))
        rows.append([f"<b>{label}</b>" if method == "map" else label, *cells])
    heads = [escape(title(name)).replace("recall ", "recall\u00a0") for name in columns]
    return table(["method", *heads], rows, name="metrics")


def _figure(value: Any, interval: Any, *, best: bool) -> str:
    known = value_of(value)
    if known is None:
        return "–"
    told = f'<strong class="best">{escape(number(known))}</strong>' if best else escape(number(known))
    return told + (
        f"<br><small>{escape(number(interval[0]))}–{escape(number(interval[1]))}</small>" if interval else ""
    )


def _strata(strata: Any) -> str:
    """Return a folded table a range of distance; counts alone where too few are known."""
    drawn = []
    for row in strata:
        begin, end = row["from"] // 1000, row["to"]
        reach = f"beyond {begin:,} kb" if end is None else f"{begin:,} to {end // 1000:,} kb"
        name = f"{reach}: {row['true']:,} true of {row['pairs']:,} pairs"
        few = notes(["Too few true pairs to judge."])
        shown = methods_table(row["methods"], row.get("intervals", {})) if row.get("methods") else few
        drawn.append(folded(name, shown))
    return "<h4>By distance from the TSS</h4>" + "".join(drawn) if drawn else ""


def _binding(content: dict[str, Any]) -> str:
    """Return two rows a cell type: the map's agreement with binding, and accessibility's."""
    parts = [_heading("Agreement with TF binding", content), _coverage(content["coverage"])]
    if content.get("reason"):
        parts.append(notes([f"Nothing is judged: {content['reason']}."]))
    beside = content.get("baselines", {})
    rows = [
        [
            "" if i else "<b>all cells</b>",
            escape(words),
            *(_agreement(beside[name][key]) for key in _MEASURES),
        ]
        for i, (name, words) in enumerate((name, words) for name, words in _BASELINES if name in beside)
    ]
    rows += [
        [
            escape(name) if score == "map" else "",
            escape(score),
            *(_agreement(told[score][key]) for key in _MEASURES),
        ]
        for name, told in content.get("cell_types", {}).items()
        for score in ("map", "accessibility")
    ]
    if rows:
        parts.append(notes(_of_binding(content)))
        parts.append(table(["cell type", "score", *_MEASURES], rows, name="metrics"))
    return "".join(parts)


def _of_binding(content: dict[str, Any]) -> list[str]:
    return [
        *(f"{line[0].upper()}{line[1:]}." for line in standing(content)),
        f"Jaccard of the {number(content['k'])} best peaks; two random sets have {number(content['chance_jaccard'])}."
        " Partial: Pearson, given log accessibility.",
        f"Small: p of {number(content['permutations'])} permutations among all peaks, and among peaks of like"
        " accessibility.",
    ]


def _agreement(told: Mapping[str, Any]) -> str:
    if value_of(told.get("value")) is None:
        return "–"
    chances = [_chance((told.get(null) or {}).get("p")) for null in ("free", "matched")]
    return f"{escape(number(told['value']))}<br><small>p {escape(chances[0])}, {escape(chances[1])}</small>"


def _chance(p: float | None) -> str:
    """Return a p with three places, as long as they say something; the least of 1,000 permutations is 1 / 1,001."""
    return number(p) if p is None or p < 0.0005 else f"{p:.3f}"


def _regions(frame: pd.DataFrame) -> str:
    """Return the share of each kind of region among a type's peaks, below that among all peaks."""
    wide = frame.pivot_table(index="cell_type", columns="kind", values="share", sort=False)
    peaks = frame.groupby("cell_type", sort=False)["peaks"].sum()
    every = frame.drop_duplicates("kind").set_index("kind")["baseline"][wide.columns]
    rows = [["<b>all peaks</b>", "", *map(_bar, every)]]
    rows += [
        [escape(name), number(int(peaks[name])), *map(_bar, row)]
        for name, row in zip(wide.index, wide.to_numpy(), strict=True)
    ]
    shown = table(["cell type", "peaks", *map(escape, wide.columns)], rows, name="types")
    return f"<h3>Where the peaks of each type lie</h3>{notes([_KINDS])}{shown}"


def _bar(share: float) -> str:
    return f'<span class="bar" style="--share:{float(share):.4f}">{float(share):.1%}</span>'


def _enrichment(frame: pd.DataFrame) -> str:
    """Return the TFs whose motifs are most enriched in each type's peaks."""
    rows = []
    for name, own in frame.groupby("cell_type", sort=False, observed=True):
        best = (
            own[own["qvalue"] <= 0.05]
            .sort_values(["pvalue", "odds_ratio"], ascending=[True, False])
            .head(_TOP)
        )
        told = [
            f"{escape(tf)} <small>×{number(float(odds), 2)}, q {number(float(q))}</small>"
            for tf, odds, q in zip(best["tf"], best["odds_ratio"], best["qvalue"], strict=True)
        ]
        rows.append([escape(name), ", ".join(told) or "none with q ≤ 0.05"])
    shown = table(["cell type", "TF (odds ratio, q)"], rows, name="words")
    return f"<h3>Motifs enriched in each type's peaks</h3>{shown}"


_DRAWN: Final[dict[str, Callable[[Any], str]]] = {
    "recovery.json": _recovery,
    "binding.json": _binding,
    "regions.parquet": _regions,
    "enrichment.parquet": _enrichment,
}
