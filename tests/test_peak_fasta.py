"""A FASTA with one record a peak: told from a genome, joined by name, and by position only when safe."""

import gzip

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fasta_files import fasta_text, write_bgzip, write_fasta
from scweave.generators.genome import Genome
from scweave.generators.genomes.peak_fasta import is_peak_fasta, read_peak_fasta
from scweave.graphs.bases import decode
from scweave.graphs.errors import InputError

FORMS = (
    "{c}:{s}-{e}",
    "{c}-{s}-{e}",
    "{c}_{s}_{e}",
    "gene::{c}:{s}-{e}",
    "{c}:{s}-{e}(+)",
    "x::{c}:{s}-{e}(.)",
)


def peaks_on(*places):
    frame = pd.DataFrame(places, columns=["chrom", "start", "end"])
    return frame.assign(peak=[f"{c}:{s}-{e}" for c, s, e in places])


def records(path, names, sequences):
    return write_fasta(path, width=7, **dict(zip(names, sequences, strict=True)))


def read(path, peaks, length=4, anchor="start"):
    notes = []
    dna = read_peak_fasta(path, peaks, length=length, anchor=anchor, notes=notes)
    return decode(dna.sequences), dna.gc, notes


PEAKS = peaks_on(("chr1", 10, 16), ("chr1", 20, 28), ("chr2", 5, 9))
DNA = ["ACGTAC", "GGGGTTTT", "acgt"]


@st.composite
def experiments(draw):
    dna = {name: draw(st.text("ACGTNacgtnRy", min_size=60, max_size=90)) for name in ("chr1", "chr2")}
    spans = st.tuples(st.sampled_from(sorted(dna)), st.integers(0, 40), st.integers(1, 20))
    places = draw(st.lists(spans, min_size=1, max_size=10, unique=True))
    places = [(c, s, s + w) for c, s, w in places]
    names = [draw(st.sampled_from(FORMS)).format(c=c, s=s, e=e) for c, s, e in places]
    return dna, places, names, draw(st.permutations(range(len(places))))


@given(experiments(), st.integers(1, 30), st.booleans(), st.integers(1, 50))
def test_whole_peaks_in_any_order_are_those_of_the_genome(tmp_path_factory, case, length, packed, held):
    dna, places, names, order = case
    folder = tmp_path_factory.mktemp("fasta")
    text = fasta_text(7, **{names[i]: dna[places[i][0]][slice(*places[i][1:])] for i in order})
    path = folder / "peaks.fa"
    path.write_bytes(gzip.compress(text.encode()) if packed else text.encode())
    genome = Genome(fasta=write_fasta(folder / "g.fa", **dna))
    peaks = peaks_on(*places)
    place = (peaks["chrom"].to_numpy(object), peaks["start"].to_numpy(), peaks["end"].to_numpy())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("scweave.generators.genomes.fasta_records._BLOCK", held)
        found = read_peak_fasta(path, peaks, length=length, anchor="start", notes=[])
        middle = read_peak_fasta(path, peaks, length=length, anchor="centre", notes=[])
    expected = genome.sequences(*place, length=length, anchor="start")
    assert decode(found.sequences) == decode(expected.sequences)
    np.testing.assert_array_equal(found.gc, expected.gc)
    flanked = decode(genome.sequences(*place, length=length).sequences)
    for (_, start, end), with_flanks, without in zip(places, flanked, decode(middle.sequences), strict=True):
        first = (start + end) // 2 - length // 2
        inside = [start <= first + i < end for i in range(length)]
        assert without == "".join(
            letter if own else "N" for letter, own in zip(with_flanks, inside, strict=True)
        )


def test_names_join_whatever_the_order_and_the_prefix(tmp_path):
    path = records(tmp_path / "p.fa", ["2:5-9", "1:20-28", "1:10-16"], DNA[::-1])
    sequences, gc, notes = read(path, PEAKS)
    assert sequences == ["ACGT", "GGGG", "ACGT"]
    np.testing.assert_allclose(gc, [0.5, 0.5, 0.5])
    assert notes == []


def test_own_names_of_peaks_join_even_where_they_say_no_place(tmp_path):
    peaks = PEAKS.assign(peak=["a", "b", "c"])
    sequences, _, notes = read(records(tmp_path / "p.fa", ["c", "a", "b"], [DNA[2], DNA[0], DNA[1]]), peaks)
    assert sequences == ["ACGT", "GGGG", "ACGT"]
    assert notes == []


def test_peaks_without_a_record_are_told(tmp_path):
    path = records(tmp_path / "p.fa", ["chr1:10-16", "chr9:1-2"], ["ACGTAC", "A"])
    told = (
        r"p\.fa has no record for 2 of 3 peaks \(chr1:20-28, chr2:5-9; its 2 records: chr1:10-16, chr9:1-2\)"
    )
    with pytest.raises(InputError, match=told):
        read(path, PEAKS)


def test_records_of_no_peak_are_left_out_and_noted(tmp_path):
    path = records(tmp_path / "p.fa", [*PEAKS["peak"], "chr9:1-3"], [*DNA, "TT"])
    sequences, _, notes = read(path, PEAKS)
    assert sequences == ["ACGT", "GGGG", "ACGT"]
    assert notes == ["1 of 4 records of p.fa are of no peak and left out"]


def test_one_place_twice_and_the_minus_strand_are_refused(tmp_path):
    path = records(tmp_path / "p.fa", [*PEAKS["peak"], "again::chr1:10-16"], [*DNA, "ACGTAC"])
    peaks = PEAKS.assign(peak=["a", "b", "c"])
    with pytest.raises(InputError, match=r"p\.fa: 2 of 4 records share .*chr1:10-16.*Keep one of each"):
        read(path, peaks)
    path = records(tmp_path / "p.fa", ["chr1:10-16(-)"], ["ACGTAC"])
    with pytest.raises(InputError, match=r"1 of 1 records of p\.fa are of the minus strand.*without -s"):
        read(path, PEAKS)


def test_position_is_taken_where_names_say_nothing_and_noted(tmp_path):
    sequences, _, notes = read(records(tmp_path / "p.fa", ["x1", "x2", "x3"], DNA), PEAKS)
    assert sequences == ["ACGT", "GGGG", "ACGT"]
    assert notes == [
        "the 3 records of p.fa say no place (x1, x2, x3): they were joined to the 3 peaks by position"
    ]


@pytest.mark.parametrize("names", [["x1", "x2"], ["x1", "x2", "x3", "x4"]])
def test_position_is_refused_where_counts_differ(tmp_path, names):
    path = records(tmp_path / "p.fa", names, ["ACGT"] * len(names))
    with pytest.raises(InputError, match=rf"p\.fa has {len(names)} records for 3 peaks, and their names"):
        read(path, PEAKS)


def test_position_is_refused_where_a_record_outgrows_its_peak(tmp_path):
    path = records(tmp_path / "p.fa", ["x1", "x2", "x3"], [DNA[1], DNA[0], DNA[2]])
    with pytest.raises(
        InputError,
        match=r"1 of 3 records .* has ended, to which they could be joined by position only \(x1\)",
    ):
        read(path, PEAKS)


def test_a_named_record_longer_than_its_peak_is_refused_unless_the_rest_is_n(tmp_path):
    path = records(tmp_path / "p.fa", PEAKS["peak"], [DNA[0], DNA[1], "ACGTA"])
    with pytest.raises(
        InputError, match=r"1 of 3 records of p\.fa have bases where .*ended \(chr2:5-9\)\. Make it"
    ):
        read(path, PEAKS)
    path = records(tmp_path / "p.fa", PEAKS["peak"], [DNA[0], DNA[1], "ACGTNNnn"])
    sequences, _, notes = read(path, PEAKS, length=6, anchor="centre")
    assert sequences == ["ACGTAC", "GGGTTT", "NACGTN"]
    assert notes == []


def test_cut_records_begin_at_their_first_base_and_are_noted(tmp_path):
    path = records(tmp_path / "p.fa", PEAKS["peak"], ["ACGTAC", "GGGT", "ACGT"])
    sequences, gc, notes = read(path, PEAKS, length=6, anchor="centre")
    assert sequences == ["ACGTAC", "GGGTNN", "NACGTN"]
    np.testing.assert_allclose(gc, [0.5, 0.75, 0.5])
    assert notes == [
        "1 of 3 records of p.fa are shorter than their peak: their windows begin at the first base"
    ]


def test_records_without_a_called_base_have_no_gc(tmp_path):
    path = records(tmp_path / "p.fa", PEAKS["peak"], ["NNNNNN", "", "acgt"])
    sequences, gc, _ = read(path, PEAKS)
    assert sequences == ["NNNN", "NNNN", "ACGT"]
    assert np.isnan(gc).tolist() == [True, True, False]


def test_windows_line_ends_and_no_last_one(tmp_path):
    path = tmp_path / "p.fa"
    path.write_bytes(b">chr1:10-16 x\r\nACGT\r\nAC\r\n>chr1:20-28\r\nGGGGTTTT\r\n>chr2:5-9\r\nAC\r\nGT")
    assert read(path, PEAKS)[0] == ["ACGT", "GGGG", "ACGT"]


def test_a_peak_fasta_is_told_from_a_genome(tmp_path):
    path = tmp_path / "p.fa"
    assert is_peak_fasta(records(path, PEAKS["peak"], DNA), PEAKS)
    assert is_peak_fasta(records(path, [f"a::{peak}(+)" for peak in PEAKS["peak"]], DNA), PEAKS)
    assert is_peak_fasta(records(path, ["x1", "x2", "x3"], DNA), PEAKS)
    assert not is_peak_fasta(records(path, ["1", "2"], DNA[:2]), PEAKS)
    assert not is_peak_fasta(records(path, ["NC_1"], ["ACGT" * 10]), PEAKS)
    path.write_text(f">NC_1\n{'A' * 2_000_000}\n>NC_2\nA\n")
    assert not is_peak_fasta(path, PEAKS)
    packed = write_bgzip(tmp_path / "p.fa.gz", fasta_text(7, **dict(zip(PEAKS["peak"], DNA, strict=True))))
    assert is_peak_fasta(packed, PEAKS)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", r"p\.fa does not start like a FASTA"),
        (b"ACGT", r"p\.fa does not start like a FASTA"),
        (
            gzip.compress(b">chr1:10-16\nACGTAC\n", mtime=0)[:-9],
            r"p\.fa cannot be read: .*Pass a complete FASTA",
        ),
        (
            gzip.compress(b">chr1:10-16\nACGTAC\n", mtime=0)[:-3],
            r"p\.fa cannot be read: .*Pass a complete FASTA",
        ),
        (b">chr1:16-10\nACGTAC\n", r"p\.fa: 1 of 1 peaks have start >= end"),
    ],
)
def test_bad_files_are_named(tmp_path, content, told):
    path = tmp_path / "p.fa"
    path.write_bytes(content)
    with pytest.raises(InputError, match=told):
        read(path, PEAKS)
    with pytest.raises(InputError, match=r"none\.fa does not exist"):
        is_peak_fasta(tmp_path / "none.fa", PEAKS)
