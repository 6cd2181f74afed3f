"""DNA of peaks from small FASTAs, against slices of strings."""

import gzip
import os
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fasta_files import fasta_text, write_bgzip, write_fasta
from scweave.generators.genome import Genome
from scweave.graphs.bases import decode
from scweave.graphs.errors import InputError

ANCHORS = st.sampled_from(["centre", "start"])


def window(dna, start, end, length, anchor):
    """Letters of a window, by definition."""
    first = start if anchor == "start" else (start + end) // 2 - length // 2
    stop = min(end, len(dna)) if anchor == "start" else len(dna)
    letters = [dna[i].upper() if 0 <= i < stop else "N" for i in range(first, first + length)]
    return "".join(letter if letter in "ACGT" else "N" for letter in letters)


def gc(dna, start, end):
    letters = [letter for letter in dna[start:end].upper() if letter in "ACGT"]
    return sum(letter in "GC" for letter in letters) / len(letters) if letters else float("nan")


def check(genome, dna, peaks, length, anchor):
    chrom = np.array([peak[0] for peak in peaks], dtype=object)
    start, end = (np.array([peak[i] for peak in peaks], dtype=np.int64) for i in (1, 2))
    found = genome.sequences(chrom, start, end, length=length, anchor=anchor)
    assert found.sequences.dtype == np.uint8
    assert found.sequences.shape == (len(peaks), length)
    assert decode(found.sequences) == [window(dna[c], s, e, length, anchor) for c, s, e in peaks]
    assert found.gc.dtype == np.float32
    np.testing.assert_allclose(found.gc, [gc(dna[c], s, e) for c, s, e in peaks], rtol=1e-6)


@st.composite
def experiments(draw):
    dna = {name: draw(st.text("ACGTNacgtnRy", min_size=1, max_size=80)) for name in ("chr1", "chr2", "chr3")}
    spans = st.tuples(st.sampled_from(sorted(dna)), st.integers(0, 90), st.integers(1, 90))
    peaks = draw(st.lists(spans, max_size=10))
    return dna, [(c, s, s + w) for c, s, w in peaks]


@given(experiments(), st.integers(1, 40), ANCHORS, st.integers(1, 60), st.integers(0, 20))
def test_peaks_equal_slices_of_strings(tmp_path_factory, experiment, length, anchor, held, near):
    dna, peaks = experiment
    path = write_fasta(tmp_path_factory.mktemp("fasta") / "g.fa", **dna)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("scweave.generators.genomes.dna._SLICE", held)
        patch.setattr("scweave.generators.genomes.dna._NEAR", near)
        check(Genome(fasta=path), dna, peaks, length, anchor)


@pytest.mark.parametrize("anchor", ["centre", "start"])
@pytest.mark.parametrize("held", [7, 64, 100_000])
def test_unsorted_and_nested_peaks_across_slices(tmp_path, monkeypatch, anchor, held):
    monkeypatch.setattr("scweave.generators.genomes.dna._SLICE", held)
    rng = np.random.default_rng(0)
    dna = {name: "".join(rng.choice(list("ACGTN"), 3000)) for name in ("chr1", "chr2")}
    start = rng.integers(0, 2900, 300)
    end = np.minimum(start + rng.choice([5, 60, 900, 3000], 300), 3000)
    peaks = list(zip(rng.choice(list(dna), 300), start.tolist(), end.tolist(), strict=True))
    check(Genome(fasta=write_fasta(tmp_path / "g.fa", **dna)), dna, peaks, 32, anchor)


def test_line_ends_of_windows_and_a_missing_last_one(tmp_path):
    dna = {"chr1": "ACGTTGCAAC", "chr2": "GGGTTA"}
    path = tmp_path / "g.fa"
    path.write_bytes(b">chr1\r\nACGT\r\nTGCA\r\nAC\r\n>chr2\r\nGGGT\r\nTA")
    check(Genome(fasta=path), dna, [("chr2", 0, 6), ("chr1", 3, 10), ("chr1", 0, 4)], 6, "start")


def test_the_centre_takes_the_flanks_and_the_start_does_not(tmp_path):
    genome = Genome(fasta=write_fasta(tmp_path / "g.fa", chr1="AAACGGTTT"))
    place = (["chr1"], np.array([3]), np.array([6]))
    assert decode(genome.sequences(*place, length=7).sequences) == ["AACGGTT"]
    assert decode(genome.sequences(*place, length=7, anchor="start").sequences) == ["CGGNNNN"]
    assert genome.sequences(*place).sequences.shape == (1, 256)


def test_gc_is_that_of_the_whole_peak_and_nan_where_no_base_is_called(tmp_path):
    genome = Genome(fasta=write_fasta(tmp_path / "g.fa", chr1="GGGGAAAACNNN"))
    found = genome.sequences(["chr1"] * 3, np.array([0, 4, 9]), np.array([8, 12, 12]), length=2)
    np.testing.assert_allclose(found.gc, [0.5, 0.2, np.nan], rtol=1e-6)


def test_a_window_that_is_none_is_refused(tmp_path):
    genome = Genome(fasta=write_fasta(tmp_path / "g.fa", chr1="ACGT"))
    with pytest.raises(InputError, match="length of a sequence is 0"):
        genome.sequences(["chr1"], np.array([0]), np.array([4]), length=0)
    with pytest.raises(InputError, match="anchor of sequences is 'end'"):
        genome.sequences(["chr1"], np.array([0]), np.array([4]), anchor="end")


def test_fasta_without_the_chromosome_is_told(tmp_path):
    genome = Genome(fasta=write_fasta(tmp_path / "g.fa", chr1="ACGT"))
    told = r"g\.fa lacks chr7, on which 2 of 3 peaks lie \(it has chr1\)\. Pass"
    with pytest.raises(InputError, match=told):
        genome.sequences(["chr7", "chr1", "chr7"], np.zeros(3, dtype=int), np.ones(3, dtype=int))
    with pytest.raises(InputError, match="Pass --fasta"):
        Genome().sequences(["chr1"], np.array([0]), np.array([1]))


def test_compressed_fasta_is_refused_with_the_fix(tmp_path):
    plain = tmp_path / "g.fa.gz"
    plain.write_bytes(gzip.compress(b">chr1\nACGT\n"))
    with pytest.raises(InputError, match=r"g\.fa\.gz is plain gzip.*gunzip.*bgzip"):
        Genome(fasta=plain)
    plain.write_bytes(b">chr1\nACGT\n")
    with pytest.raises(InputError, match=r"g\.fa\.gz is not compressed: rename it to g\.fa"):
        Genome(fasta=plain)


def test_bgzip_without_biopython_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "Bio", None)
    path = write_bgzip(tmp_path / "g.fa.gz", ">chr1\nACGT\n")
    with pytest.raises(InputError, match=r"g\.fa\.gz is bgzip; .*Install biopython, or decompress"):
        Genome(fasta=path)


@pytest.mark.parametrize("block", [1000, 65_280, 65_536])
def test_bgzip_reads_as_plain_text_does(tmp_path, monkeypatch, block):
    pytest.importorskip("Bio.bgzf", reason="bgzip needs biopython")
    monkeypatch.setattr("scweave.generators.genomes.dna._NEAR", 0)
    rng = np.random.default_rng(0)
    dna = {name: "".join(rng.choice(list("ACGTNacgt"), 90_000)) for name in ("chr1", "chr2")}
    path = write_bgzip(tmp_path / "g.fa.gz", fasta_text(60, **dna), block)
    genome = Genome(fasta=path)
    assert genome.lengths == {"chr1": 90_000, "chr2": 90_000}
    # Every base at which the first full block may end, each read on its own.
    starts = [*range(64_440, 64_480), 0, 89_990]
    for start in starts:
        check(genome, dna, [("chr1", start, start + 10), ("chr2", start, start + 10)], 8, "start")


def test_bad_fasta_is_named(tmp_path):
    with pytest.raises(InputError, match=r"none\.fa does not exist"):
        Genome(fasta=tmp_path / "none.fa")
    path = tmp_path / "bad.fa"
    path.write_text("not a fasta")
    with pytest.raises(InputError, match=r"bad\.fa does not start like a FASTA"):
        Genome(fasta=path)
    path.write_text(">chr1\nACGT\nACGTACGT\nAC\n")
    with pytest.raises(InputError, match=r"bad\.fa cannot be indexed as FASTA"):
        Genome(fasta=path)
    path.write_text(">chr1\nACGT\n>chr1\nACGT\n")
    with pytest.raises(InputError, match=r"bad\.fa cannot be indexed as FASTA.*chr1"):
        Genome(fasta=path)


def test_index_of_another_file_is_told(tmp_path):
    path = write_fasta(tmp_path / "g.fa", chr1="ACGTACGTACGT")
    (tmp_path / "g.fa.fai").write_text("chr1\t40\t14\t10\t11\n")
    os.utime(path, (0, 0))  # the index is the newer one
    with pytest.raises(InputError, match=r"g\.fa has lines of other lengths.*Remove g\.fa\.fai"):
        Genome(fasta=path).sequences(["chr1"], np.array([0]), np.array([30]))


def test_index_that_cannot_be_written_is_told(tmp_path):
    path = write_fasta(tmp_path / "g.fa", chr1="ACGT")
    (tmp_path / "g.fa.fai").mkdir()
    with pytest.raises(InputError, match=r"index of g\.fa cannot be written or read.*samtools faidx"):
        Genome(fasta=path)


def test_real_dna(shared_data, tmp_path):
    path = tmp_path / "slice.fa"
    path.write_bytes(
        gzip.decompress((shared_data / "genome" / "hg38_chr22_32000000_32300000.fa.gz").read_bytes())
    )
    genome = Genome(fasta=path)
    text = "".join(path.read_text().split("\n")[1:])
    assert genome.lengths == {"chr22": len(text)}
    starts = np.random.default_rng(0).integers(0, len(text) - 1000, 50).tolist()
    for anchor in ("centre", "start"):
        check(genome, {"chr22": text}, [("chr22", s, s + 900) for s in starts], 256, anchor)


def test_blank_lines_between_records_are_told(tmp_path):
    path = tmp_path / "g.fa"
    path.write_text(">a\nACGT\n\n\n>b\nACGT\n")
    with pytest.raises(
        InputError, match=r"g\.fa cannot be indexed as FASTA: .*no blank lines between its records"
    ):
        Genome(fasta=path)
