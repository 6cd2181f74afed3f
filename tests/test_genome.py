"""Genes, chromosome names and DNA from small files on disk, and from the real GTFs."""

import gzip
import struct
import sys
import zlib

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scweave.generators.genome import Genome, harmonise, strip_version
from scweave.generators.peak_names import peak_table
from scweave.graphs.errors import InputError


def line(chrom, start, end, strand, attributes, feature="gene"):
    return f"{chrom}\ttest\t{feature}\t{start}\t{end}\t.\t{strand}\t.\t{attributes}\n"


def attributes(gene_id, name=None, biotype=None):
    parts = [f'gene_id "{gene_id}";']
    parts += [f'gene_name "{name}";'] if name else []
    parts += [f'gene_biotype "{biotype}";'] if biotype else []
    return " ".join(parts)


LINES = [
    line("chr1", 101, 200, "+", attributes("ENSG00000000001.5", "AAA", "protein_coding")),
    line("chr1", 301, 400, "-", attributes("ENSG00000000002.1", "BBB", "lncRNA")),
    line("chrUn_KI270742v1", 11, 20, "+", attributes("ENSG00000000003.1", "TWICE", "protein_coding")),
    line("chr2", 501, 600, "+", attributes("ENSG00000000004.1", "TWICE", "lncRNA")),
    line("chr2", 701, 800, ".", attributes("ENSG00000000005.1", "TWICE", "protein_coding")),
    line("chrM", 1, 50, "+", attributes("ENSG00000000006.2")),
]


@pytest.fixture
def gtf(tmp_path):
    path = tmp_path / "small.gtf"
    path.write_text("#comment\n" + "".join(LINES))
    return path


def write_fasta(path, width=10, **sequences):
    wrapped = {
        name: "\n".join(s[i : i + width] for i in range(0, len(s), width)) for name, s in sequences.items()
    }
    path.write_text("".join(f">{name} of test\n{text}\n" for name, text in wrapped.items()))
    return path


def test_gtf_becomes_zero_based_with_tss_by_strand(gtf):
    genes = Genome(gtf).genes
    assert genes["gene_id"].tolist()[:2] == ["ENSG00000000001", "ENSG00000000002"]
    assert genes[["start", "end", "tss"]].to_numpy()[:2].tolist() == [[100, 200, 100], [300, 400, 399]]
    assert genes["strand"].tolist() == ["+", "-", "+", "+", None, "+"]
    assert genes["symbol"].iloc[5] == "ENSG00000000006"
    assert genes["biotype"].tolist()[0] == "protein_coding"
    assert Genome(gtf).chromosomes == ["chr1", "chrUn_KI270742v1", "chr2", "chrM"]


def test_gzip_gtf_is_the_same(gtf):
    packed = gtf.with_suffix(".gtf.gz")
    packed.write_bytes(gzip.compress(gtf.read_bytes()))
    pd.testing.assert_frame_equal(Genome(packed).genes, Genome(gtf).genes)


def test_genes_are_derived_where_the_gtf_has_none(tmp_path):
    path = tmp_path / "exons.gtf"
    path.write_text(
        line("chr1", 101, 200, "-", attributes("G1", "AAA"), "exon")
        + line("chr1", 301, 400, "-", attributes("G1", "AAA"), "exon")
        + line("chr2", 11, 20, "+", attributes("G2", "BBB"), "exon")
    )
    genes = Genome(path).genes
    assert genes[["gene_id", "start", "end", "tss"]].to_numpy().tolist() == [
        ["G1", 100, 400, 399],
        ["G2", 10, 20, 10],
    ]


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("", "bad.gtf"),
        ("chr1\tonly two\n", "bad.gtf cannot be read as GTF: Wrong number of columns"),
        (line("chr1", 1, 9, "+", 'gene_id "G"', "CDS"), "has no gene, transcript or exon lines"),
        (line("chr1", 1, 9, "+", "ID=gene1"), "no gene_id attribute"),
        (line("chr1", 90, 9, "+", 'gene_id "G"'), "1 genes have start < 1 or start > end"),
    ],
)
def test_bad_gtf_is_named(tmp_path, content, told):
    path = tmp_path / "bad.gtf"
    path.write_text(content)
    with pytest.raises(InputError, match=told):
        Genome(path)


def test_missing_and_truncated_gtf_are_named(tmp_path, gtf):
    with pytest.raises(InputError, match=r"GTF .*none\.gtf does not exist"):
        Genome(tmp_path / "none.gtf")
    cut = tmp_path / "cut.gtf.gz"
    cut.write_bytes(gzip.compress(gtf.read_bytes())[:-20])
    with pytest.raises(InputError, match=r"cut\.gtf\.gz cannot be read as GTF.*Pass a complete"):
        Genome(cut)


def test_place_genes_by_id_then_symbol(gtf):
    names = ["renamed", "BBB", "TWICE", "unknown", "ENSG00000000006.9"]
    ids = ["ENSG00000000001.99", "ENSG99999999999", "ENSG00000000003", "ENSG77777777777.1", "other"]
    table, report = Genome(gtf).place_genes(names, ids)
    assert table["chrom"].tolist() == ["chr1", "chr1", "chrUn_KI270742v1", None, "chrM"]
    assert table["gene_id"].tolist() == [ids[0][:15], ids[1], ids[2], ids[3][:15], "other"]
    assert table["symbol"].tolist() == names
    assert table["tss"].isna().tolist() == [False, False, False, True, False]
    assert (report.placed, report.unplaced, report.by_id, report.by_symbol) == (4, 1, 3, 1)


def test_repeated_symbols_take_the_primary_coding_gene_and_are_counted(gtf):
    table, report = Genome(gtf).place_genes(["TWICE", "AAA"])
    assert table["gene_id"].tolist() == ["ENSG00000000005", "ENSG00000000001"]
    assert report.ambiguous == 1
    assert str(report).startswith("2 of 2 genes placed (0 by id, 2 by symbol, 1 of them")


def test_names_that_are_ids_get_symbols(gtf):
    table, report = Genome(gtf).place_genes(["ENSG00000000002", "ENSG00000000042"])
    assert table["symbol"].tolist() == ["BBB", "ENSG00000000042"]
    assert (report.by_id, report.unplaced) == (1, 1)


def test_two_genes_on_one_place_are_counted(gtf):
    assert Genome(gtf).place_genes(["AAA", "x"], ["other", "ENSG00000000001"])[1].shared == 2


def test_no_gtf_places_nothing():
    table, report = Genome().place_genes(["A", "B"])
    assert table["chrom"].tolist() == [None, None]
    assert report.unplaced == 2


def test_versions_are_stripped_from_ensembl_ids_only():
    ids = pd.Series(["ENSG00000000001.5", "ENSMUSG00000000001.10", "ENSG00000182378.15_PAR_Y", "AC117395.1"])
    assert strip_version(ids).tolist() == [
        "ENSG00000000001",
        "ENSMUSG00000000001",
        "ENSG00000182378_PAR_Y",
        "AC117395.1",
    ]


@pytest.mark.parametrize(
    ("name", "reference", "expected"),
    [
        ("chr1", ["1", "2"], "1"),
        ("1", ["chr1"], "chr1"),
        ("chr1", ["1", "chr1"], "chr1"),
        ("chrM", ["MT"], "MT"),
        ("MT", ["chrM"], "chrM"),
        ("M", ["chrMT"], "chrMT"),
        ("chr1_KI270706v1_random", ["KI270706.1"], "KI270706.1"),
        ("GL000194.1", ["chr14_GL000194v1_random"], "chr14_GL000194v1_random"),
        ("chr9", ["chr1"], None),
    ],
)
def test_harmonise(name, reference, expected):
    assert harmonise([name, name], reference) == {name: expected}


@given(st.lists(st.sampled_from([*map(str, range(1, 23)), "X", "Y", "MT"]), unique=True))
def test_harmonise_there_and_back(names):
    prefixed = [f"chr{name}" for name in names]
    there = harmonise(names, prefixed)
    assert harmonise(list(there.values()), names) == {b: a for a, b in there.items()}


def test_one_chromosome_under_two_names_is_refused():
    with pytest.raises(InputError, match=r"two names \(1, chr1 are all chr1\)\. Rename"):
        harmonise(["1", "chr1"], ["chr1"])


def peaks_on(*places):
    frame = pd.DataFrame(places, columns=["chrom", "start", "end"])
    return frame.assign(
        peak=frame["chrom"] + ":" + frame["start"].astype(str) + "-" + frame["end"].astype(str)
    )


def check(genome, peaks):
    return genome.check_peaks(peaks, harmonise(peaks["chrom"], genome.chromosomes))


def test_peaks_on_unknown_chromosomes_show_both_lists(gtf):
    told = (
        r"2 of 2 peaks are on chromosomes the GTF does not name \(peaks: chrA, chrB; GTF: chr1, .* …\)\. Pass"
    )
    with pytest.raises(InputError, match=told):
        check(Genome(gtf), peaks_on(("chrA", 1, 2), ("chrB", 1, 2)))


def test_some_unknown_chromosomes_and_renaming_are_reported(gtf):
    report = check(Genome(gtf), peaks_on(("1", 1, 2), ("chrB", 1, 2)))
    assert report == [
        "chromosomes renamed: 1 to chr1",
        "1 of 2 peaks are on chromosomes the GTF does not name (chrB)",
    ]


def test_peaks_past_the_chromosome_mean_the_wrong_genome(gtf, tmp_path):
    genome = Genome(gtf, write_fasta(tmp_path / "g.fa", chr1="ACGT" * 10))
    assert check(genome, peaks_on(("1", 30, 40))) == ["chromosomes renamed: 1 to chr1"]
    told = r"1 of 2 peaks end past .*for example 1:30-41: 1 has 40 bp in g\.fa\)\. Wrong genome\? Pass"
    with pytest.raises(InputError, match=told):
        check(genome, peaks_on(("1", 30, 40), ("1", 30, 41)))


def test_gtf_and_fasta_of_different_genomes_are_refused(gtf, tmp_path):
    fasta = write_fasta(tmp_path / "other.fa", scaffold1="ACGT")
    with pytest.raises(InputError, match=r"small\.gtf and other\.fa share no chromosome \(GTF: chr1"):
        Genome(gtf, fasta)


@given(st.data())
def test_sequences_equal_slicing(tmp_path_factory, data):
    dna = {name: data.draw(st.text("ACGTNacgtnRy", min_size=1, max_size=80)) for name in ("chr1", "chr2")}
    genome = Genome(fasta=write_fasta(tmp_path_factory.mktemp("fasta") / "g.fa", **dna))
    spans = st.tuples(st.sampled_from(sorted(dna)), st.integers(0, 90), st.integers(1, 30))
    peaks = data.draw(st.lists(spans, max_size=8))
    length = data.draw(st.integers(1, 40))
    chrom, start, width = (np.array([peak[i] for peak in peaks], dtype=object) for i in range(3))
    found = genome.sequences(chrom, start.astype(int), (start + width).astype(int), length=length)
    expected = [dna[c][s : s + w][:length].upper().ljust(length, "N") for c, s, w in peaks]
    assert found.dtype == np.uint8
    assert found.shape == (len(peaks), length)
    assert ["".join("ACGTN"[code] for code in row) for row in found] == [
        "".join(base if base in "ACGT" else "N" for base in text) for text in expected
    ]


def test_sequences_across_slices_of_a_chromosome(tmp_path, monkeypatch):
    monkeypatch.setattr("scweave.generators.dna._SLICE", 16)
    rng = np.random.default_rng(0)
    dna = "".join(rng.choice(list("ACGT"), 300))
    genome = Genome(fasta=write_fasta(tmp_path / "g.fa", chr1=dna))
    start = rng.permutation(250)
    found = genome.sequences(["chr1"] * 250, start, start + 40, length=32)
    assert ["".join("ACGTN"[code] for code in row) for row in found] == [dna[s : s + 32] for s in start]


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


def write_bgzip(path, text):
    """Write one BGZF block and the empty one that ends a file."""

    def block(data):
        body = zlib.compress(data, wbits=-15)
        head = b"\x1f\x8b\x08\x04" + bytes(5) + b"\xff\x06\x00BC\x02\x00" + struct.pack("<H", len(body) + 25)
        return head + body + struct.pack("<II", zlib.crc32(data), len(data))

    path.write_bytes(block(text.encode()) + block(b""))
    return path


def test_bgzip_without_biopython_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "Bio", None)
    path = write_bgzip(tmp_path / "g.fa.gz", ">chr1\nACGT\n")
    with pytest.raises(InputError, match=r"g\.fa\.gz is bgzip; .*Install biopython, or decompress"):
        Genome(fasta=path)


def test_bgzip_reads_as_plain_text_does(tmp_path):
    pytest.importorskip("Bio.bgzf", reason="bgzip needs biopython")
    genome = Genome(fasta=write_bgzip(tmp_path / "g.fa.gz", ">chr1\nACGT\nGG\n"))
    assert genome.lengths == {"chr1": 6}
    found = genome.sequences(["chr1"], np.array([1]), np.array([6]), length=6)
    assert found.tolist() == [[1, 2, 3, 2, 2, 4]]


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


def test_index_that_cannot_be_written_is_told(tmp_path):
    path = write_fasta(tmp_path / "g.fa", chr1="ACGT")
    (tmp_path / "g.fa.fai").mkdir()
    with pytest.raises(InputError, match=r"index of g\.fa cannot be written or read.*samtools faidx"):
        Genome(fasta=path)


@pytest.mark.parametrize(
    ("name", "n_genes", "first"),
    [("mm10_gencode", 48_709, "chr1"), ("hg38_gencode43", 20_531, "chr1"), ("grch38_ensembl91", 30_121, "1")],
)
def test_real_gtfs_load(shared_data, name, n_genes, first):
    genome = Genome(shared_data / "genome" / f"{name}_genes.gtf.gz")
    assert len(genome.genes) == n_genes
    assert genome.chromosomes[0] == first
    assert genome.genes["strand"].isin(["+", "-"]).all()


@pytest.mark.parametrize(("name", "placed"), [("hg38_gencode43", 19_866), ("grch38_ensembl91", 21_778)])
def test_real_genes_and_peaks_are_placed(shared_data, name, placed):
    genome = Genome(shared_data / "genome" / f"{name}_genes.gtf.gz")
    genes = ad.read_h5ad(shared_data / "pbmc_mosim40_rna.h5ad", backed="r").var_names
    table, report = genome.place_genes(genes)
    assert (report.placed, report.unplaced) == (placed, 36_601 - placed)
    assert table["chrom"].notna().sum() == placed
    var = ad.read_h5ad(shared_data / "pbmc_mosim40_atac.h5ad", backed="r").var
    report = check(genome, peak_table(var, var.index))
    assert report[-1].startswith("33 of 108,377 peaks are on chromosomes the GTF does not name (KI270727.1")
    assert len(report) == (2 if name == "grch38_ensembl91" else 1)


def test_real_dna(shared_data, tmp_path):
    path = tmp_path / "slice.fa"
    path.write_bytes(
        gzip.decompress((shared_data / "genome" / "hg38_chr22_32000000_32300000.fa.gz").read_bytes())
    )
    genome = Genome(fasta=path)
    text = "".join(path.read_text().split("\n")[1:]).upper()
    assert genome.lengths == {"chr22": len(text)}
    found = genome.sequences(["chr22"], np.array([1000]), np.array([1300]))
    assert "".join("ACGTN"[code] for code in found[0]) == text[1000:1256]
    with pytest.raises(InputError, match="Wrong genome"):
        check(genome, peaks_on(("chr22", 32_000_000, 32_000_500)))
