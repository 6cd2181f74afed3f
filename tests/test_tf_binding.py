"""Binding of a transcription factor: the join, the measures, their nulls, and what chance gives."""

from __future__ import annotations

import gzip

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.figure import Figure
from scipy.stats import pearsonr
from sklearn.linear_model import LinearRegression
from sklearn.metrics.pairwise import cosine_similarity

from scweave.graphs.errors import InputError
from scweave.interpret.evidence.bed import read_bed
from scweave.interpret.evidence.binding_tests import alike, log_accessibility, shuffles
from scweave.interpret.evidence.ranking import top_share
from scweave.interpret.evidence.tf_binding import Binding, binding, compare_binding
from scweave.interpret.evidence.topk import chance_jaccard, top_k
from scweave.interpret.figures.binding import plot_binding

rows = st.lists(
    st.tuples(st.sampled_from(["1", "2", "X"]), st.integers(0, 50), st.integers(1, 20), st.integers(0, 9)),
    min_size=1,
    max_size=20,
)


def table(found, prefix=""):
    return pd.DataFrame(
        [(prefix + chrom, start, start + width, float(score)) for chrom, start, width, score in found],
        columns=["chrom", "start", "end", "score"],
    )


@given(rows, rows)
def test_binding_is_the_highest_overlapping_score(peaks, sites):
    peaks, sites = [("1", 0, 1, 0), *peaks], [("1", 90, 5, 3), *sites]
    expected = [
        max((s[3] for s in sites if s[0] == p[0] and s[1] < p[1] + p[2] and s[1] + s[2] > p[1]), default=0)
        for p in peaks
    ]
    found = binding(table(peaks), table(sites, "chr"))
    assert found.score.tolist() == expected
    on = sum(any(s[0] == p[0] and s[1] < p[1] + p[2] and s[1] + s[2] > p[1] for p in peaks) for s in sites)
    assert found.coverage == {
        "sites": len(sites),
        "sites_on_peaks": on,
        "peaks": len(peaks),
        "bound_peaks": sum(value > 0 for value in expected),
    }


def made(n=3000, seed=0):
    rng = np.random.default_rng(seed)
    opened = np.round(rng.random(n) ** 3 * 40) / 40
    bound = np.where(rng.random(n) < 0.05 + 0.3 * opened, np.round(rng.gamma(2, 10, n)), 0.0)
    scores = np.where(rng.random(n) < 0.5, 0, opened * rng.random(n))
    return scores, opened, Binding(bound, 100, 90)


def test_measures_equal_plain_ones():
    scores, opened, bound = made()
    found = compare_binding({"A": scores}, bound, {"A": opened}, permutations=20)["cell_types"]["A"]
    given_ = log_accessibility(opened)[:, None]

    def rest(values):
        return values - LinearRegression().fit(given_, values).predict(given_)

    for name, values in (("map", scores), ("accessibility", opened)):
        shared = top_share(values, 300) @ top_share(bound.score, 300)
        expected = {
            "cosine": cosine_similarity(values[None], bound.score[None])[0, 0],
            "pearson": pearsonr(values, bound.score)[0],
            "jaccard": shared / (600 - shared),
            "partial": pearsonr(rest(values), rest(bound.score))[0],
        }
        assert {measure: found[name][measure]["value"] for measure in expected} == pytest.approx(expected)


def test_ties_among_the_best_count_as_often_as_chance_would_draw_them():
    values = np.array([5.0, 3, 3, 3, 0, 0])
    assert top_share(values, 2).tolist() == pytest.approx([1, 1 / 3, 1 / 3, 1 / 3, 0, 0])
    assert top_share(values, 5).sum() == pytest.approx(5)


def test_chance_is_that_of_random_sets():
    rng = np.random.default_rng(0)
    shared = [len(set(rng.permutation(50)[:12]) & set(rng.permutation(50)[:12])) for _ in range(20_000)]
    drawn = np.mean([i / (24 - i) for i in shared])
    assert chance_jaccard(50, 12) == pytest.approx(drawn, abs=0.003)
    assert chance_jaccard(8, 8) == 1
    assert (top_k(25_734), top_k(500_000), top_k(3)) == (2_573, 10_000, 1)


@pytest.mark.parametrize("n_bins", [1, 7, 300])
def test_shuffles_stay_in_their_bins_and_are_even(n_bins):
    rng = np.random.default_rng(0)
    bins = rng.integers(0, n_bins, 300)
    found = shuffles(bins, 400, rng)
    assert (bins[found] == bins).all()
    assert (np.sort(found, 1) == np.arange(300)).all()
    if n_bins == 7:
        inside = np.flatnonzero(bins == 0)
        seen = np.array([(found[:, inside[0]] == i).mean() for i in inside])
        assert seen.max() < 4 / len(inside)


def test_nulls_have_the_mean_and_spread_of_permutations():
    scores, opened, bound = made()
    found = compare_binding({"A": scores}, bound, {"A": opened}, permutations=2000, seed=3)
    map_ = found["cell_types"]["A"]["map"]
    b, n = bound.score, len(bound.score)
    scale = np.linalg.norm(scores) * np.linalg.norm(b)
    for kind, bins in (("free", np.zeros(n, int)), ("matched", alike(opened))):
        # Σ s · b over permutations within bins: known mean and variance (Hoeffding).
        mean = variance = 0.0
        for code in np.unique(bins):
            s, t = scores[bins == code], b[bins == code]
            mean += len(s) * s.mean() * t.mean()
            variance += len(s) ** 2 / (len(s) - 1) * s.var() * t.var()
        null = map_["cosine"][kind]
        assert null["mean"] == pytest.approx(mean / scale, abs=4 * np.sqrt(variance / 2000) / scale)
        assert null["sd"] == pytest.approx(np.sqrt(variance) / scale, rel=0.08)
    assert map_["pearson"]["free"]["p"] == pytest.approx(1 / 2001)
    assert map_["jaccard"]["free"]["mean"] == pytest.approx(found["chance_jaccard"], rel=0.03)


def test_what_accessibility_explains_is_no_finding():
    rng = np.random.default_rng(1)
    _, opened, _ = made(seed=1)
    opened = opened + 1e-9 * rng.random(len(opened))
    bound = Binding(np.where(rng.random(len(opened)) < opened, 1.0, 0.0), 9, 9)
    noisy = opened + 1e-9 * rng.random(len(opened))
    found = compare_binding({"A": noisy}, bound, {"A": opened}, permutations=200)["cell_types"]["A"]
    assert found["map"]["pearson"]["free"]["p"] < 0.01
    assert found["map"]["pearson"]["matched"]["mean"] == pytest.approx(
        found["map"]["pearson"]["value"], abs=0.02
    )


def test_a_map_that_knows_more_than_accessibility_is_found():
    _, opened, bound = made()
    map_ = compare_binding({"A": opened + bound.score / 50}, bound, {"A": opened}, permutations=100)
    found = map_["cell_types"]["A"]["map"]
    assert all(found[name]["matched"]["p"] == pytest.approx(1 / 101) for name in found)
    assert found["partial"]["value"] > 0.3


def test_portions_and_the_peaks_compared_change_nothing(monkeypatch):
    scores, opened, bound = made()
    whole = compare_binding({"A": scores}, bound, {"A": opened}, permutations=10)
    monkeypatch.setattr("scweave.interpret.evidence.binding_tests._HELD", 3 * len(scores))
    again = compare_binding({"A": scores}, bound, {"A": opened}, permutations=10)
    cosine, same = (r["cell_types"]["A"]["map"]["cosine"] for r in (whole, again))
    assert (cosine["value"], cosine["free"]["mean"]) == pytest.approx((same["value"], same["free"]["mean"]))
    among = opened > 0.1
    some = compare_binding({"A": scores}, bound, {"A": opened}, among=among, permutations=10)
    alone = compare_binding(
        {"A": scores[among]}, Binding(bound.score[among], 1, 1), {"A": opened[among]}, permutations=10
    )
    assert some["cell_types"] == alone["cell_types"]
    assert some["coverage"]["compared_peaks"] == among.sum()


def test_a_constant_score_has_no_figures_but_breaks_nothing():
    scores, opened, bound = made()
    found = compare_binding({"A": scores * 0}, bound, {"A": opened}, permutations=5)["cell_types"]["A"]["map"]
    for name in ("cosine", "pearson", "partial"):
        assert found[name] == {"value": None, "free": None, "matched": None}
    assert found["jaccard"]["value"] == pytest.approx(found["jaccard"]["free"]["mean"])


def test_with_few_bound_peaks_only_coverage_is_told():
    bound = Binding(np.r_[np.ones(29), np.zeros(500)], 40, 29)
    found = compare_binding({"A": np.zeros(529)}, bound, {"A": np.zeros(529)})
    assert found["judged"] is False and "29 of the compared peaks are bound" in found["reason"]
    assert set(found) == {"coverage", "judged", "reason"}
    ax = plot_binding(Figure().subplots(), found)
    assert ax.texts[0].get_text() == found["reason"]


@pytest.mark.parametrize("measure", ["cosine", "pearson", "jaccard", "partial"])
def test_the_picture_has_a_row_a_type(measure):
    scores, opened, bound = made()
    found = compare_binding({"A": scores, "B": scores * 0}, bound, {"A": opened, "B": opened}, permutations=5)
    ax = Figure().subplots()
    assert plot_binding(ax, found, measure=measure) is ax
    assert [label.get_text() for label in ax.get_yticklabels()] == ["A", "B"]
    assert "map" in [text.get_text() for text in ax.get_legend().get_texts()]


def test_bed_columns_are_told_apart(tmp_path):
    line = "chr1\t10\t60\tname\t900\t.\t7.5\t-1\t5\t25"
    for name, fields, score in (("a.narrowPeak", 10, 7.5), ("b.bed", 6, 900), ("c.bed", 3, 1)):
        text = "track name=x\n#note\n" + "\t".join(line.split("\t")[:fields]) + "\n\n"
        (tmp_path / name).write_text(text)
        with gzip.open(tmp_path / f"{name}.gz", "wt") as stream:
            stream.write(text)
        for path in (tmp_path / name, tmp_path / f"{name}.gz"):
            assert read_bed(path).values.tolist() == [["chr1", 10, 60, score]]


def test_bad_bed_and_scores_are_refused(tmp_path):
    for name, text, message in (
        ("a.bed", "chr1\t5\n", "at least 3 tab-separated columns; found 2"),
        ("b.bed", "chr1\tx\t9\n", "peak 1 has 'x' as start"),
        ("c.bed", "chr1\t9\t9\n", "are empty or begin before 0"),
        ("d.bed", "#\n", "no peaks in it"),
        ("e.bed.gz", "plain", "cannot be read"),
    ):
        (tmp_path / name).write_text(text)
        with pytest.raises(InputError, match=message) as caught:
            read_bed(tmp_path / name)
        assert "\n" not in str(caught.value)
    with pytest.raises(InputError, match="no such file"):
        read_bed(tmp_path / "nowhere.bed")
    peaks = table([("1", 0, 5, 0)])
    with pytest.raises(InputError, match="no chromosome in common"):
        binding(peaks, table([("7", 0, 5, 1)]))
    with pytest.raises(InputError, match="below 0"):
        binding(peaks, table([("1", 0, 5, -1)]))
    bound = Binding(np.ones(40), 1, 1)
    with pytest.raises(InputError, match="not the same cell types \\(B\\)"):
        compare_binding({"A": np.ones(40)}, bound, {"A": np.ones(40), "B": np.ones(40)})
    with pytest.raises(InputError, match="A: 3 scores for 40 peaks"):
        compare_binding({"A": np.ones(3)}, bound, {"A": np.ones(40)})


def test_the_real_track_is_read(shared_data):
    sites = read_bed(shared_data / "tf" / "ENCFF099QNE_mm10.bed.gz")
    assert len(sites) == 50_827
    assert sites["score"].max() == pytest.approx(750.81551)


def test_a_bedpe_is_no_bed(tmp_path):
    path = tmp_path / "loops.bed"
    path.write_text("chr1\t10\t20\tchr1\t500\t600\tx\nchr2\t10\t20\tchr1\t700\t800\ty\n")
    with pytest.raises(InputError, match=r"has two anchors a line.*--truth-kind bedpe"):
        read_bed(path)
    path.write_text("chr1\t10\t20\tpeak_1\t500\t.\t3\n")
    assert len(read_bed(path)) == 1
