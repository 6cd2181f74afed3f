"""What var says wins, what it leaves open the GTF fills, and every choice is told."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scweave.generators.genome import Genome
from scweave.generators.given import fitted_attributes, given_dna, place_genes
from scweave.graphs.errors import InputError

IN_GTF = [
    ("AAA", "ENSG00000000001", "chr1", 99, 200, "+"),
    ("BBB", "ENSG00000000002", "chr1", 499, 600, "-"),
    ("CCC", "ENSG00000000003", "chr2", 9, 20, "+"),
]
COLUMNS = ["gene", "gene_id", "symbol", "chrom", "start", "end", "tss", "strand", "biotype"]


@pytest.fixture(scope="module")
def genome(tmp_path_factory):
    path = tmp_path_factory.mktemp("genome") / "genes.gtf"
    lines = [
        f'{chrom}\tx\tgene\t{start + 1}\t{end}\t.\t{strand}\t.\tgene_id "{own}"; gene_name "{name}"; gene_type "lncRNA";'
        for name, own, chrom, start, end, strand in IN_GTF
    ]
    path.write_text("\n".join(lines) + "\n")
    return Genome(path)


def var_of(names, **columns):
    return pd.DataFrame(columns, index=pd.Index(names, dtype=object))


def row(table, name):
    """Chrom, strand, start, end, TSS; None where missing."""
    found = table.set_index("gene").loc[name, ["chrom", "strand", "start", "end", "tss"]]
    return tuple(None if pd.isna(value) else value for value in found)


def test_without_columns_the_gtf_places(genome):
    notes = []
    table, placed = place_genes(
        var_of(["BBB", "x"], gene_ids=[None, "ENSG00000000003.7"]), genome, notes=notes
    )
    assert (list(table.columns), list(table.index), placed) == (COLUMNS, [0, 1], 2)
    assert row(table, "BBB") == ("chr1", "-", 499, 600, 599)
    assert row(table, "x") == ("chr2", "+", 9, 20, 9)
    assert len(notes) == 1 and notes[0].startswith("2 of 2 genes placed (1 by id, 1 by symbol")
    assert [str(table[name].dtype) for name in ("start", "end", "tss")] == ["Int64"] * 3


def test_var_wins_and_the_gtf_fills(genome):
    var = var_of(
        ["AAA", "BBB", "CCC", "new", "lost"],
        chrom=pd.Categorical(["1", "nan", "chrUnknown", "3", "NA"]),
        strand=["-", np.nan, ".", "-1", None],
        chromStart=[np.nan, "510", 5.0, 70, np.nan],
        chromEnd=[300, "620", 30.0, 90, np.nan],
    )
    notes = []
    table, placed = place_genes(var, genome, notes=notes)
    assert row(table, "AAA") == ("chr1", "-", 99, 200, 199)  # the strand of var moves the GTF's TSS
    assert row(table, "BBB") == ("chr1", "-", 510, 620, 619)
    assert row(table, "CCC") == ("chr2", "+", 5, 30, 5)
    assert row(table, "new") == ("3", "-", 70, 90, 89)
    assert row(table, "lost") == (None, None, None, None, None)
    assert table.loc[4, "chrom"] is None and table.loc[4, "strand"] is None
    assert placed == 4
    assert notes[1:] == [
        "chrom of 2 genes taken from var, of 2 from the GTF, of 1 unknown",
        "strand of 2 genes taken from var, of 2 from the GTF, of 1 unknown",
        "start of 3 genes taken from var, of 1 from the GTF, of 1 unknown",
        "end of 3 genes taken from var, of 1 from the GTF, of 1 unknown",
    ]


def test_a_column_of_tss_wins_over_what_follows_from_the_body(genome):
    var = var_of(["AAA", "BBB", "CCC"], start=[1, 2, np.nan], end=[5, 6, np.nan], tss=[3, np.nan, "12"])
    table, _ = place_genes(var, genome, notes=[])
    assert table["tss"].tolist() == [3, 5, 12]


@pytest.mark.parametrize("value", ["+", "-", 1, -1, "1", "-1", 1.0, -1.0])
def test_strands_may_be_signs_or_numbers(genome, value):
    table, _ = place_genes(var_of(["new"], chrom=["chr1"], strand=[value]), genome, notes=[])
    assert table["strand"].tolist() == ["-" if str(value).startswith("-") else "+"]


def test_a_contradiction_of_chromosomes_is_told_and_leaves_nothing_of_the_gtf(genome):
    notes = []
    table, placed = place_genes(
        var_of(["AAA", "BBB", "CCC"], chrom=["chr7", "chr1", "2"]), genome, notes=notes
    )
    assert row(table, "AAA") == ("chr7", None, None, None, None)
    assert row(table, "BBB") == ("chr1", "-", 499, 600, 599)
    assert placed == 3
    assert notes[1:] == [
        "1 of 3 genes are on another chromosome in var than in the GTF (AAA: chr7, not chr1); var is taken, and"
        " nothing else of theirs from the GTF",
        "chrom of 3 genes taken from var, of 0 from the GTF, of 0 unknown",
        "1 of 3 genes have a chromosome but no TSS: no window reaches them",
    ]


def test_a_contradicting_gene_keeps_the_positions_of_var(genome):
    var = var_of(["AAA"], chrom=["chr2"], strand=["-"], start=[1000], end=[2000])
    assert row(place_genes(var, genome, notes=[])[0], "AAA") == ("chr2", "-", 1000, 2000, 1999)


def test_without_a_gtf_all_comes_from_var():
    notes = []
    var = var_of(["A", "B", "C"], chrom=["1", "2", None], start=[5, np.nan, 5], end=[9, np.nan, 9])
    table, placed = place_genes(var, Genome(), notes=notes)
    assert (row(table, "A"), row(table, "B")) == (("1", None, 5, 9, 5), ("2", None, None, None, None))
    assert (row(table, "C"), placed) == ((None, None, None, None, None), 2)
    assert notes == [
        "chrom of 2 genes taken from var, of 1 unknown",
        "start of 1 genes taken from var, of 2 unknown",
        "end of 1 genes taken from var, of 2 unknown",
        "1 of 3 genes have a chromosome but no TSS: no window reaches them",
    ]


def test_without_a_gtf_and_columns_nothing_is_placed():
    notes = []
    table, placed = place_genes(var_of(["A", "B"]), Genome(), notes=notes)
    assert (placed, notes, list(table.columns)) == (0, [], COLUMNS)
    assert table["gene"].tolist() == ["A", "B"]
    assert table["chrom"].isna().all()


def test_bad_positions_are_refused_by_gene(genome):
    with pytest.raises(InputError, match=r"column 'start' of var is no position for 1 of 2 genes \('BBB'\)"):
        place_genes(var_of(["AAA", "BBB"], start=[1, "x"], end=[5, 6]), genome, notes=[])
    with pytest.raises(InputError, match=r"1 of 2 genes have start >= end in var \('AAA'\)"):
        place_genes(var_of(["AAA", "BBB"], start=[5, np.nan], end=[5, 6]), genome, notes=[])
    with pytest.raises(InputError, match=r"column 'tss' of var is no position for 1 of 1 genes"):
        place_genes(var_of(["AAA"], tss=[-1]), genome, notes=[])


CHROM = st.sampled_from([None, "", "nan", "chrUnknown", "chr1", "chr2", "chr9"])
STRAND = st.sampled_from([None, "+", "-", "."])
BODY = st.none() | st.tuples(st.integers(0, 50), st.integers(1, 50))
TSS = st.none() | st.integers(0, 99)
NAME = st.sampled_from(["AAA", "BBB", "CCC", "new"])


def placed_by_hand(name, chrom, strand, body, tss):
    theirs = {gene[0]: gene for gene in IN_GTF}.get(name)
    own_chrom = chrom if chrom in ("chr1", "chr2", "chr9") else None
    _, _, place, start, end, side = theirs or (None,) * 6
    if own_chrom and place and own_chrom != place:
        start = end = side = None
    place = own_chrom or place
    side = strand if strand in ("+", "-") else side
    if body:
        start, end = body[0], body[0] + body[1]
    if tss is None and start is not None:
        tss = end - 1 if side == "-" else start
    return (place, side, start, end, tss) if place else (None, side, None, None, None)


@settings(deadline=None)
@given(
    st.lists(
        st.tuples(NAME, CHROM, STRAND, BODY, TSS),
        min_size=1,
        max_size=4,
        unique_by=lambda x: x[0],
    )
)
def test_places_equal_those_found_by_hand(genome, genes):
    names, chrom, strand, body, tss = zip(*genes, strict=True)
    var = var_of(
        names,
        chrom=list(chrom),
        strand=list(strand),
        start=[None if b is None else b[0] for b in body],
        end=[None if b is None else b[0] + b[1] for b in body],
        tss=list(tss),
    )
    table, placed = place_genes(var, genome, notes=[])
    assert [row(table, name) for name in names] == [placed_by_hand(*gene) for gene in genes]
    assert placed == sum(placed_by_hand(*gene)[0] is not None for gene in genes)


@pytest.mark.parametrize(
    "marks",
    [
        [True, False],
        [1, 0],
        [1.0, 0.0],
        ["True", "False"],
        ["1", "0"],
        pd.Categorical(["true", "false"]),
        pd.Categorical([True, False]),
    ],
)
def test_marks_of_variable_genes_are_read_from_any_type(marks):
    table = fitted_attributes(var_of(["A", "B"], highly_variable=marks), notes=[])
    assert table["highly_variable"].tolist() == [True, False]
    assert table["highly_variable"].dtype == bool


def test_fitted_attributes_are_taken_complete_and_told():
    notes = []
    var = var_of(
        ["A", "B"],
        means=np.array([1, 2], dtype=np.float32),
        variances=["1.5", "2"],
        variances_norm=[1.0, np.nan],
        highly_variable=["True", "maybe"],
        dispersions=[1.0, 2.0],
    )
    table = fitted_attributes(var, notes=notes)
    assert table.to_dict("list") == {"means": [1.0, 2.0], "variances": [1.5, 2.0]}
    assert (table.dtypes == np.float64).all() and list(table.index) == [0, 1]
    assert notes == [
        "variances_norm of var is not taken: 1 of 2 values are no finite number (nan)",
        "highly_variable of var is not taken: 1 of 2 values are no True or False ('maybe')",
        "means, variances taken from var: the file's maker fitted them, on all of its cells as far as anyone knows;"
        " --refit fits them on training cells instead",
    ]


@pytest.mark.parametrize("values", [[np.inf, 1], ["x", 1], [None, 1], [True, False]])
def test_means_that_are_no_finite_numbers_are_not_taken(values):
    notes = []
    table = fitted_attributes(var_of(["A", "B"], means=values), notes=notes)
    assert table.shape == (2, 0)
    assert len(notes) == 1 and notes[0].startswith("means of var is not taken")


def test_without_fitted_attributes_nothing_is_told():
    notes = []
    assert fitted_attributes(var_of(["A"]), notes=notes).shape == (1, 0)
    assert notes == []


@pytest.mark.parametrize("kind", [object, "category", "string"])
def test_sequences_become_codes(kind):
    notes = []
    var = var_of(["p1", "p2", "p3"], dna_sequence=pd.array(["ACGTACGT", None, "acRt"], dtype=kind))
    dna = given_dna(var, length=6, anchor="start", notes=notes)
    assert dna.sequences.dtype == np.uint8
    assert dna.sequences.tolist() == [[0, 1, 2, 3, 0, 1], [4] * 6, [0, 1, 4, 3, 4, 4]]
    np.testing.assert_allclose(dna.gc, [0.5, np.nan, 1 / 3], rtol=1e-6)
    assert notes == [
        "DNA of 2 of 3 peaks taken from var (4 to 8 bp, 1 of them shorter than 6); missing bases are N"
    ]


def test_the_centre_of_sequences_is_taken():
    var = var_of(["p1"], dna_sequence=["AAACGTTT"])
    dna = given_dna(var, length=2, anchor="centre", notes=[])
    assert dna.sequences.tolist() == [[1, 2]]
    assert dna.gc.tolist() == [0.25]


def test_no_sequences_are_none():
    notes = []
    assert given_dna(var_of(["p1"]), length=4, anchor="start", notes=notes) is None
    assert notes == []
    assert given_dna(var_of(["p1"], dna_sequence=[None]), length=4, anchor="start", notes=notes) is None
    assert notes == ["dna_sequence of var is not taken: it is empty for all of 1 peaks"]


@pytest.mark.parametrize("values", [[1, 2], ["ACGT", b"ACGT"], [["A"], "A"], [np.nan, 1.5]])
def test_sequences_that_are_no_text_are_refused(values):
    with pytest.raises(InputError, match=r"column 'dna_sequence' of var holds no text for [12] of 2 peaks"):
        given_dna(var_of(["p1", "p2"], dna_sequence=values), length=4, anchor="start", notes=[])
