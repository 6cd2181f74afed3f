"""Genes, chromosome names and builds from small files on disk, and from the real GTFs."""

import gzip

import anndata as ad
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fasta_files import write_fasta
from scweave.generators.genome import Genome, strip_version
from scweave.generators.genomes.chromosomes import check_build, is_scaffold, known_build
from scweave.generators.genomes.peak_names import peak_table
from scweave.graphs.chromosomes import build_name, harmonise
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


PRIMARY = [
    "1",
    "chr22",
    "X",
    "chrY",
    "W",
    "Z",
    "chrM",
    "MT",
    "chrMT",
    "Mito",
    "MtDNA",
    "Pt",
    "2L",
    "chr3R",
    "XL",
    "2A",
    "II",
    "chrXIV",
    "groupV",
    "LG7",
    "CHR9",
    "chrx",
    "NC_000001.11",
    "CM000663.2",
]
SCAFFOLDS = [
    "chr1_KI270706v1_random",
    "chrUn_GL000220v1",
    "chrUn",
    "GL000194.1",
    "KI270728.1",
    "JH584304.1",
    "chr6_GL000256v2_alt",
    "chr13_KN538371v1_fix",
    "chr17_ctg5_hap1",
    "HLA-A*01:01:01:01",
    "hs37d5",
    "chrEBV",
    "NC_007605",
    "NC_007605.1",
    "NT_187361.1",
    "NW_025791756.1",
    "chrUn_KN707606v1_decoy",
    "scaffold_12",
    "4_random",
    "Un",
    "211000022278279",
    "HG2334_PATCH",
]


def test_scaffolds_are_told_from_chromosomes():
    assert is_scaffold(PRIMARY).tolist() == [False] * len(PRIMARY)
    assert is_scaffold(SCAFFOLDS).tolist() == [True] * len(SCAFFOLDS)
    assert is_scaffold(["chrUn", "1", "chrUn"]).tolist() == [True, False, True]
    assert is_scaffold([]).tolist() == []


BUILDS = {
    "hg19": {"chr1": 249250621, "chr2": 243199373},
    "hg38": {"chr1": 248956422, "chr2": 242193529},
    "chm13": {"chr1": 248387328, "chr2": 242696752},
    "mm9": {"chr1": 197195432, "chr2": 181748087},
    "mm10": {"chr1": 195471971, "chr2": 182113224},
    "mm39": {"chr1": 195154279, "chr2": 181755017},
}


@pytest.mark.parametrize("build", BUILDS)
def test_lengths_prove_a_build(build):
    first, second = BUILDS[build].values()
    assert known_build({"chrX": 5, **BUILDS[build]}) == build
    assert known_build({"2": second, "1": first}) == build
    assert known_build({"chr1": first}) == known_build({"2": second}) == build
    assert known_build({"chr1": first, "chr2": second - 1}) is None


def test_other_lengths_prove_nothing():
    assert known_build({}) is None
    assert known_build({"chr22": 50818468}) is None


@pytest.mark.parametrize(
    ("name", "build"),
    [
        ("GRCh38", "hg38"),
        ("hg38", "hg38"),
        ("GRCh38.p13", "hg38"),
        (" GRCh38-2020-A ", "hg38"),
        ("refdata-cellranger-arc-mm10-2020-A-2.0.0", "mm10"),
        ("GRCm38", "mm10"),
        ("GRCm39", "mm39"),
        ("NCBIM37", "mm9"),
        ("hs37d5", "hg19"),
        ("T2T-CHM13v2.0", "chm13"),
        ("GRCh38_and_mm10", "grch38_and_mm10"),
        ("hg380", "hg380"),
        ("danRer11", "danrer11"),
    ],
)
def test_build_names(name, build):
    assert build_name(name) == build


def test_a_fasta_of_another_build_is_refused():
    told = r"the peaks are of GRCm38, but .* of g\.fa .* of hg38\. Pass the FASTA of mm10, or correct"
    with pytest.raises(InputError, match=told):
        check_build("GRCm38", BUILDS["hg38"], "g.fa")


@pytest.mark.parametrize(
    ("declared", "lengths"),
    [("GRCh38", BUILDS["hg38"]), (None, BUILDS["hg38"]), ("mine", BUILDS["hg38"]), ("hg38", {"chr1": 9})],
)
def test_a_build_that_nothing_contradicts_is_accepted(declared, lengths):
    check_build(declared, lengths, "g.fa")


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
