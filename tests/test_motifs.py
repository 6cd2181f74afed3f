"""Motifs: files as others write them, scores and p-values against Biopython and plain enumeration."""

from __future__ import annotations

import gzip
import io
import itertools
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from Bio import motifs as bio
from hypothesis import given
from hypothesis import strategies as st

from scweave.generators.simulate import SimulatedFiles
from scweave.graphs.bases import decode, reverse_complement
from scweave.graphs.dataset import MultiomeGraphs
from scweave.graphs.errors import InputError
from scweave.interpret.motifs.read import Motif, read_motifs
from scweave.interpret.motifs.scan import best_matches, scan, scan_peaks
from scweave.interpret.motifs.scoring import STEP, Scoring, background_of, log_odds, tail_of

JASPAR = """>MA0004.1\tArnt
A  [ 4 19 0 0 0 0 ]
C  [16  0 20 0 0 0 ]
G  [ 0  1 0 20 0 20 ]
T  [ 0  0 0 0 20 0 ]

>MA0006.1 Ahr::Arnt
3 0 0 0 0 0
8 0 23 0 0 0
2 23 0 23 0 24
11 1 1 1 24 0
"""
MEME = """MEME version 4

ALPHABET= ACGT

strands: + -

Background letter frequencies (from uniform background):
A 0.25000 C 0.25000 G 0.25000 T 0.25000

MOTIF MA0004.1 MA0004.1.Arnt
letter-probability matrix: alength= 4 w= 3 nsites= 20 E= 0
 0.200000  0.800000  0.000000  0.000000
 0.950000  0.000000  0.050000  0.000000
 0.000000  1.000000  0.000000  0.000000
URL http://jaspar.genereg.net/matrix/MA0004.1

MOTIF lonely
letter-probability matrix:
1 0 0 0
0 0.5 0.5 0
"""
UNIFORM = np.full(4, 0.25)


def written(folder: Path, text: str, name: str = "motifs.txt") -> Path:
    path = folder / name
    path.write_text(text)
    return path


def random_motifs(rng: np.random.Generator, *lengths: int) -> list[Motif]:
    return [
        Motif(f"TF{i}", f"M{i}", rng.dirichlet(np.full(4, 0.3), length) * 50)
        for i, length in enumerate(lengths)
    ]


def test_jaspar_counts_are_those_that_biopython_reads(tmp_path: Path) -> None:
    found = read_motifs(written(tmp_path, JASPAR, "some.jaspar"))
    assert [(motif.id, motif.name) for motif in found] == [("MA0004.1", "Arnt"), ("MA0006.1", "Ahr::Arnt")]
    for own, theirs in zip(found, bio.parse(io.StringIO(JASPAR), "jaspar"), strict=True):
        assert own.counts.tolist() == np.array([theirs.counts[base] for base in "ACGT"]).T.tolist()
        assert own.consensus == str(theirs.consensus)


def test_meme_probabilities_and_their_sites(tmp_path: Path) -> None:
    first, second = read_motifs(written(tmp_path, MEME))
    assert (first.id, first.name, len(first)) == ("MA0004.1", "MA0004.1.Arnt", 3)
    assert first.counts == pytest.approx(20 * np.array([[0.2, 0.8, 0, 0], [0.95, 0, 0.05, 0], [0, 1, 0, 0]]))
    assert (second.id, second.name) == ("lonely", "lonely")
    assert second.counts == pytest.approx(20 * np.array([[1, 0, 0, 0], [0, 0.5, 0.5, 0]]))
    assert second.probabilities.sum(1) == pytest.approx([1, 1])


def test_gzip_windows_lines_and_a_byte_order_mark(tmp_path: Path) -> None:
    path = tmp_path / "motifs.jaspar.gz"
    path.write_bytes(gzip.compress(b"\xef\xbb\xbf" + JASPAR.replace("\n", "\r\n").encode()))
    plain = read_motifs(written(tmp_path, JASPAR))
    assert all((a.counts == b.counts).all() for a, b in zip(read_motifs(path), plain, strict=True))


def test_motifs_of_the_simulation(simulated: SimulatedFiles) -> None:
    truth = pd.read_parquet(simulated.motifs)
    for motif in read_motifs(simulated.meme):
        own = truth[truth["tf"] == motif.name]
        assert motif.probabilities == pytest.approx(own[list("ACGT")].to_numpy(), abs=1e-5)


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("", "is empty"),
        ("\n \n", "is empty"),
        ("chr1\t3\t4\n", "is no motif file: it begins with 'chr1"),
        ("MEME version 4\nALPHABET= ACGT\n", "holds no motifs"),
        ("MEME version 4\nALPHABET= ACDEFGHIKLMNPQRSTVWY\n", "line 2: the alphabet is ACDEF"),
        ("MEME version 4\nMOTIF a\nMOTIF b\n", "line 2: motif a has no letter-probability matrix"),
        (MEME.replace("w= 3", "w= 4"), "line 11: motif MA0004.1 says w= 4, and has 3 rows"),
        (MEME.replace("0.950000", "0.550000"), "does not sum to 1"),
        (MEME.replace("0 0.5 0.5 0", "0 0.5 0.5"), "line 20: motif lonely has a row of 3 numbers"),
        (">\n1\n1\n1\n1\n", "line 1: a motif has no name"),
        (">M1 x\n1 2\n1 2\n1 2\n", "line 1: motif M1 has 3 rows of counts"),
        (">M1 x\n" + "1 2 0 0\n" * 6, "6 rows of counts, not 4 (A, C, G, T): one a position, as HOMER"),
        (">M1 x\n1 2\n1 2\n1 2\n1\n", "rows of motif M1 have 2, 2, 2, 1 counts"),
        (">M1 x\nA 1\nC 1\nT 1\nG 1\n", "rows of motif M1 are A, C, T, G"),
        (">M1 x\n1 2\n1 two\n1 2\n1 2\n", "line 3: 'two' is no number"),
        (">M1 x\n1 nan\n1 2\n1 2\n1 2\n", "line 2: 'nan' is no number"),
        (">M1 x\n1 2\n1 -2\n1 2\n1 2\n", "negative"),
        (">M1 x\n1 0\n1 0\n1 0\n1 0\n", "position 2 of motif M1 is all 0"),
        (">M1 x\nA []\nC []\nG []\nT []\n", "motif M1 has no positions"),
        (JASPAR.replace("MA0006.1", "MA0004.1"), "2 motifs have the id MA0004.1"),
    ],
)
def test_files_that_are_refused(text: str, what: str, tmp_path: Path) -> None:
    with pytest.raises(InputError) as error:
        read_motifs(written(tmp_path, text))
    assert what in str(error.value)
    assert "\n" not in str(error.value)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file"):
        read_motifs(tmp_path / "none.meme")
    for name, content in (("half.gz", gzip.compress(JASPAR.encode())[:40]), ("bytes.meme", b"\xff\xfe\x00")):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(InputError, match="cannot be read as text"):
            read_motifs(tmp_path / name)


@given(
    st.lists(st.lists(st.integers(0, 9), min_size=4, max_size=4).filter(any), min_size=1, max_size=5),
    st.floats(0.1, 0.4),
)
def test_p_values_are_those_of_all_sequences_enumerated(counts: list[list[int]], gc: float) -> None:
    background = np.array([0.5 - gc, gc, gc, 0.5 - gc])
    motif = Motif("x", "x", np.array(counts, float))
    levels = Scoring.of([motif], background).levels[0]
    tail = tail_of(levels, background)
    words = np.array(list(itertools.product(range(4), repeat=len(counts))))
    total = levels[np.arange(len(counts)), words].sum(1)
    chance = background[words].prod(1)
    for level in np.unique(total):
        assert tail[level] == pytest.approx(chance[total >= level].sum(), rel=1e-9)
    assert tail[0] == pytest.approx(1)


def test_thresholds_agree_with_biopython() -> None:
    rng = np.random.default_rng(0)
    background = dict(zip("ACGT", [0.3, 0.2, 0.2, 0.3], strict=True))
    own = np.array(list(background.values()))
    for motif in random_motifs(rng, 8, 10, 12):
        odds = log_odds(motif, own)
        scoring = Scoring.of([motif], own)
        threshold = scoring.threshold[0] * STEP + np.rint(odds.min(1) / STEP).sum() * STEP
        counts = {base: (motif.counts + 0.1 * own)[:, i].tolist() for i, base in enumerate("ACGT")}
        pssm = bio.Motif("ACGT", counts=counts).counts.normalize().log_odds(background)
        theirs = pssm.distribution(background=background, precision=10**3).threshold_fpr(1e-4)
        assert threshold == pytest.approx(theirs, abs=STEP * len(motif))


@given(
    st.integers(0, 10_000),
    st.lists(st.integers(1, 8), min_size=1, max_size=4),
    st.sampled_from([0.3, 0.05, 0.01]),
)
def test_scan_finds_what_biopython_finds(seed: int, lengths: list[int], pvalue: float) -> None:
    rng = np.random.default_rng(seed)
    sequences = rng.choice(5, (4, 30), p=[0.3, 0.2, 0.2, 0.25, 0.05]).astype(np.uint8)
    motifs = random_motifs(rng, *lengths, 9)
    background = background_of(sequences)
    scoring = Scoring.of(motifs, background, pvalue=pvalue)
    found = scan(sequences, motifs, pvalue=pvalue, batch=3)
    assert found["pvalue"].between(0, pvalue * (1 + 1e-8)).all()
    for number, motif in enumerate(motifs):
        own = found[found["motif"] == motif.id]
        expected = {
            (peak, start, strand, score)
            for peak in range(len(sequences))
            for start, strand, score in enumerated(sequences[peak], motif, scoring, number, background)
        }
        told = zip(own["peak"], own["start"], own["strand"], own["score"], strict=True)
        assert {(peak, start, strand, round(score, 6)) for peak, start, strand, score in told} == expected
        assert (own["end"] - own["start"] == len(motif)).all()


def enumerated(
    codes: np.ndarray, motif: Motif, scoring: Scoring, number: int, background: np.ndarray
) -> list[tuple[int, str, float]]:
    """Matches by Biopython's scores, of windows whose levels reach the threshold."""
    counts = (motif.counts + 0.1 * background).T.tolist()
    named = dict(zip("ACGT", counts, strict=True))
    pssm = (
        bio.Motif("ACGT", counts=named)
        .counts.normalize()
        .log_odds(dict(zip("ACGT", background, strict=True)))
    )
    levels, length = scoring.levels[number], len(motif)
    out = []
    for start in range(len(codes) - length + 1):
        for strand in "+-":
            window = codes[start : start + length]
            window = window if strand == "+" else reverse_complement(window)
            if (window < 4).all() and levels[np.arange(length), window].sum() >= scoring.threshold[number]:
                letters = decode(window[None])[0]
                out.append((start, strand, round(sum(pssm[base][i] for i, base in enumerate(letters)), 6)))
    return out


def test_many_motifs_and_slabs_agree_with_biopython_search() -> None:
    """More motifs than a table has columns, more peaks than a slab."""
    rng = np.random.default_rng(1)
    motifs = random_motifs(rng, *rng.integers(6, 20, 300))
    sequences = rng.integers(0, 4, (520, 60)).astype(np.uint8)
    found = scan(sequences, motifs, background=UNIFORM)
    for motif in (motifs[0], motifs[131], motifs[299]):
        named = dict(zip("ACGT", (motif.counts + 0.1 * UNIFORM).T.tolist(), strict=True))
        pssm = bio.Motif("ACGT", counts=named).counts.normalize().log_odds()
        own = found[found["motif"] == motif.id]
        if not len(own):
            continue
        threshold = own["score"].min()
        told = {
            (row.peak, row.start, row.strand) for row in own.itertuples() if row.score > threshold + STEP * 20
        }
        expected = {
            (
                peak,
                position % len(text) if position >= 0 else position + len(text),
                "+" if position >= 0 else "-",
            )
            for peak, text in enumerate(decode(sequences))
            for position, score in pssm.search(text, threshold=threshold + STEP * 20)
        }
        assert told == expected


def test_random_dna_matches_as_often_as_the_p_value_says() -> None:
    rng = np.random.default_rng(2)
    motifs = random_motifs(rng, *([12] * 20))
    sequences = rng.integers(0, 4, (2000, 111)).astype(np.uint8)
    hits = scan(sequences, motifs, pvalue=1e-3, background=UNIFORM)
    assert len(hits) == pytest.approx(20 * 2 * 2000 * 100 * 1e-3, rel=0.1)


def test_the_order_of_peaks_and_the_batch_change_nothing() -> None:
    rng = np.random.default_rng(3)
    motifs = random_motifs(rng, 6, 7, 8, 15)
    sequences = rng.integers(0, 4, (50, 80)).astype(np.uint8)
    first = scan(sequences, motifs, pvalue=1e-2, batch=1)
    assert first.equals(scan(sequences, motifs, pvalue=1e-2, batch=64))
    assert (np.diff(first["peak"]) >= 0).all()
    turned = scan(reverse_complement(sequences), motifs, pvalue=1e-2)
    mirrored = first.assign(start=80 - first["end"], strand=first["strand"].map({"+": "-", "-": "+"}))
    keys = ["peak", "motif", "start", "strand"]
    left, right = (
        table.astype({"strand": str}).sort_values(keys, ignore_index=True) for table in (mirrored, turned)
    )
    pd.testing.assert_frame_equal(left[[*keys, "score"]], right[[*keys, "score"]])


def test_best_matches_keep_one_a_peak_and_factor() -> None:
    rng = np.random.default_rng(4)
    one, two = random_motifs(rng, 6, 7)
    motifs = [one, two, Motif(one.name, "other", two.counts)]
    sequences = rng.integers(0, 4, (40, 60)).astype(np.uint8)
    hits = scan(sequences, motifs, pvalue=0.05)
    best = scan(sequences, motifs, pvalue=0.05, best=True)
    assert best.equals(best_matches(hits))
    assert not best.duplicated(["peak", "tf"]).any()
    lowest = hits.groupby(["peak", "tf"], observed=True)["pvalue"].min()
    assert best.set_index(["peak", "tf"])["pvalue"].sort_index().equals(lowest.sort_index())


def test_nothing_to_find() -> None:
    rng = np.random.default_rng(5)
    (motif,) = random_motifs(rng, 12)
    short = rng.integers(0, 4, (3, 8)).astype(np.uint8)
    for found in (scan(short, [motif]), scan(short[:0], [motif], background=UNIFORM), scan(short, [])):
        assert len(found) == 0
        assert list(found) == ["peak", "tf", "motif", "start", "end", "strand", "score", "pvalue"]


def test_scans_that_are_refused(random_dataset: Path) -> None:
    rng = np.random.default_rng(6)
    short, long = random_motifs(rng, 4, 12)
    sequences = rng.integers(0, 4, (3, 40)).astype(np.uint8)
    with pytest.raises(InputError, match=r"no motif has a match with p ≤ 0\.0001"):
        scan(sequences, [short], background=UNIFORM)
    assert Scoring.of([short, long], UNIFORM).never.tolist() == [0]
    with pytest.raises(InputError, match="is N, so no motif can match"):
        scan(np.full((2, 30), 4, np.uint8), [long])
    with pytest.raises(InputError, match="the p-value of motif matches is 1"):
        scan(sequences, [long], pvalue=1)
    with pytest.raises(InputError, match="the pseudocount of motifs is 0"):
        scan(sequences, [long], pseudocount=0)


def test_a_dataset_without_dna_is_refused(simulated: SimulatedFiles, tmp_path: Path) -> None:
    from scweave.generators.build import BuildOptions, build

    build([simulated.h5mu], tmp_path / "d", gtf=simulated.gtf, options=BuildOptions(), progress=False)
    with pytest.raises(InputError, match=r"has no DNA of its peaks.*Build it with --fasta"):
        scan_peaks(MultiomeGraphs(tmp_path / "d"), read_motifs(simulated.meme))


def test_planted_sites_are_found_where_they_lie(simulated: SimulatedFiles, simulated_dataset: Path) -> None:
    graphs = MultiomeGraphs(simulated_dataset)
    hits = scan_peaks(graphs, read_motifs(simulated.meme))
    sites = pd.read_parquet(simulated.sites)
    keys = ["peak", "tf", "start", "end", "strand"]
    both = hits[keys].astype(str).merge(sites[keys].astype(str), on=keys)
    assert len(both) > 0.8 * len(sites)
    strong = sites[sites["strength"] > 0.8]
    assert len(hits[keys].astype(str).merge(strong[keys].astype(str), on=keys)) == len(strong)
    chance = 24 * 2 * len(graphs.peaks) * 247 * 1e-4
    assert len(hits) - len(both) == pytest.approx(chance, rel=0.15)
    assert hits["peak"].cat.categories.tolist() == graphs.peaks.frame["peak"].tolist()
    bounds = graphs.peaks.frame.set_index("peak").loc[hits["peak"].astype(str)]
    centre = (bounds["start"].to_numpy() + bounds["end"].to_numpy()) // 2
    assert (hits["start"].to_numpy() >= centre - 128).all()
    assert (hits["end"].to_numpy() <= centre + 128).all()


def test_matches_in_windows_that_begin_with_the_peak(simulated: SimulatedFiles, tmp_path: Path) -> None:
    from scweave.generators.build import BuildOptions, build

    options = BuildOptions(sequence_from="start", sequence_length=1400)
    build(
        [simulated.h5mu],
        tmp_path / "d",
        gtf=simulated.gtf,
        fasta=simulated.fasta,
        options=options,
        progress=False,
    )
    graphs = MultiomeGraphs(tmp_path / "d")
    hits, keys = scan_peaks(graphs, read_motifs(simulated.meme)), ["peak", "tf", "start", "end", "strand"]
    strong = pd.read_parquet(simulated.sites).query("strength > 0.85")
    assert len(hits[keys].astype(str).merge(strong[keys].astype(str), on=keys)) == len(strong)
