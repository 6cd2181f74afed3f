"""Where peaks lie beside genes: tables of a GTF, kinds against brute force, shares against scipy."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from scweave.generators.genomes.regions import check_genes, read_regions
from scweave.generators.simulate import SimulatedFiles
from scweave.graphs.dataset import MultiomeGraphs
from scweave.graphs.errors import InputError
from scweave.interpret.motifs.regions import KINDS, peak_kinds, region_shares

GTF = """##description
1\tx\tgene\t1001\t5000\t.\t+\t.\tgene_id "ENSG1.3"; gene_name "ONE"; gene_biotype "protein_coding";
1\tx\ttranscript\t1001\t5000\t.\t+\t.\tgene_id "ENSG1.3"; transcript_id "T1"; gene_name "ONE";
1\tx\texon\t1001\t1200\t.\t+\t.\tgene_id "ENSG1.3"; transcript_id "T1"; gene_name "ONE";
1\tx\texon\t4001\t5000\t.\t+\t.\tgene_id "ENSG1.3"; transcript_id "T1"; gene_name "ONE";
1\tx\texon\t4001\t5000\t.\t+\t.\tgene_id "ENSG1.3"; transcript_id "T2"; gene_name "ONE";
MT\tx\tgene\t11\t90\t.\t-\t.\tgene_id "ENSG2"; gene_biotype "lncRNA";
MT\tx\texon\t11\t90\t.\t-\t.\tgene_id "ENSG2"; transcript_id "T3";
GL000009.2\tx\tgene\t11\t90\t.\t-\t.\tgene_id "ENSG3"; gene_name "THREE";
"""


def written(folder: Path, text: str) -> Path:
    path = folder / "genes.gtf"
    path.write_text(text)
    return path


def test_genes_and_exons_are_spelled_as_the_dataset_does(tmp_path: Path) -> None:
    regions = read_regions(written(tmp_path, GTF), ["chr1", "chrM"])
    assert regions.genes["gene_id"].tolist() == ["ENSG1", "ENSG2"]
    assert regions.exons.to_dict("list") == {
        "gene_id": ["ENSG1", "ENSG1", "ENSG2"],
        "symbol": ["ONE", "ONE", "ENSG2"],
        "chrom": ["chr1", "chr1", "chrM"],
        "start": [1000, 4000, 10],
        "end": [1200, 5000, 90],
    }
    assert regions.report == ("1 of 3 genes are on chromosomes without peaks or genes of the dataset",)


def test_gzip_and_all_chromosomes(tmp_path: Path) -> None:
    path = tmp_path / "genes.gtf.gz"
    path.write_bytes(gzip.compress(GTF.encode()))
    regions = read_regions(path)
    assert regions.genes["chrom"].tolist() == ["1", "MT", "GL000009.2"]
    assert regions.report == ()


def test_exons_take_the_names_of_the_dataset(tmp_path: Path) -> None:
    regions = read_regions(written(tmp_path, GTF), ["chr1", "chrM"])
    genes = pd.DataFrame(
        {"gene": ["mito", "x", "first"], "gene_id": ["ENSG2.9", None, "other"], "symbol": ["a", "b", "ONE"]}
    )
    genes["chrom"] = ["chrM", None, "chr1"]
    assert regions.exons_of(genes).values.tolist() == [
        ["mito", "chrM", 10, 90],
        ["first", "chr1", 1000, 1200],
        ["first", "chr1", 4000, 5000],
    ]


def test_a_gtf_of_gene_lines_only_says_so(tmp_path: Path) -> None:
    lines = [line for line in GTF.splitlines(keepends=True) if "\tgene\t" in line]
    regions = read_regions(written(tmp_path, "".join(lines)))
    assert len(regions.exons) == 0
    assert regions.report == ("genes.gtf has no exon lines: exons and introns cannot be told apart",)
    assert regions.exons_of(pd.DataFrame({"gene": ["ONE"], "chrom": ["1"]})).empty
    peaks = pd.DataFrame({"chrom": ["1", "1"], "start": [4000, 6000], "end": [4100, 6100]})
    assert peak_kinds(peaks, regions.genes, regions.exons).tolist() == ["gene body", "distal"]


def test_gtfs_that_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not exist"):
        read_regions(tmp_path / "none.gtf")
    with pytest.raises(InputError, match=r"share no chromosome \(GTF: 1, MT.*dataset: chr7"):
        read_regions(written(tmp_path, GTF), ["chr7"])
    with pytest.raises(InputError, match="1 exons have start < 1 or start > end"):
        read_regions(written(tmp_path, GTF.replace("exon\t1001", "exon\t1301")))


def test_promoters_follow_the_strand() -> None:
    genes = pd.DataFrame({"chrom": "c", "start": [10_000, 30_000, 50_000], "end": [12_000, 32_000, 52_000]})
    genes["strand"], genes["tss"] = ["+", "-", None], [10_000, 31_999, 50_000]
    inside = [8_000, 10_500, 31_499, 33_999, 48_000, 52_000]
    outside = [7_999, 10_501, 31_498, 34_000, 47_999, 52_001]
    centre = np.array(inside + outside)
    peaks = pd.DataFrame({"chrom": "c", "start": centre - 100, "end": centre + 101})
    kinds = peak_kinds(peaks, genes).tolist()
    assert kinds[:6] == ["promoter"] * 6
    assert kinds[6:] == ["distal", "gene body", "gene body", "distal", "distal", "distal"]


SPANS = st.lists(
    st.tuples(
        st.sampled_from("ab"), st.integers(0, 60), st.integers(1, 30), st.sampled_from(["+", "-", None])
    ),
    max_size=8,
)


@given(SPANS, SPANS, SPANS, st.integers(0, 9), st.integers(0, 9))
def test_kinds_are_those_of_plain_search(peaks, genes, exons, upstream: int, downstream: int) -> None:
    def table(spans):
        frame = pd.DataFrame(spans, columns=["chrom", "start", "width", "strand"]).astype(
            {"start": int, "width": int}
        )
        frame["end"] = frame["start"] + frame["width"]
        frame["tss"] = np.where(frame["strand"] == "-", frame["end"] - 1, frame["start"])
        return frame

    def plain(chrom: str, at: int) -> str:
        for gene in genes.itertuples():
            before, after = {"+": (upstream, downstream), "-": (downstream, upstream)}.get(
                gene.strand, (max(upstream, downstream),) * 2
            )
            if gene.chrom == chrom and gene.tss - before <= at <= gene.tss + after:
                return "promoter"
        if any(exon.chrom == chrom and exon.start <= at < exon.end for exon in exons.itertuples()):
            return "exon"
        if any(gene.chrom == chrom and gene.start <= at < gene.end for gene in genes.itertuples()):
            return "intron" if len(exons) else "gene body"
        return "distal"

    peaks, genes, exons = table(peaks), table(genes), table(exons)
    found = peak_kinds(peaks, genes, exons, upstream=upstream, downstream=downstream)
    assert found.tolist() == [plain(peak.chrom, (peak.start + peak.end) // 2) for peak in peaks.itertuples()]


def test_peaks_and_genes_without_a_place() -> None:
    genes = pd.DataFrame(
        {"chrom": ["c", None], "start": [0, np.nan], "end": [900, np.nan], "tss": [0, np.nan]}
    )
    genes["strand"] = ["+", None]
    peaks = pd.DataFrame({"chrom": ["c", None], "start": [600, 600], "end": [700, 700]}, index=[7, 9])
    kinds = peak_kinds(peaks, genes)
    assert kinds.to_dict() == {7: "gene body", 9: None}
    assert region_shares(kinds, ["p", "q"], {"x": ["p", "q"]})["peaks"].tolist() == [1]


def test_shares_beside_all_peaks() -> None:
    rng = np.random.default_rng(0)
    names = [f"p{i}" for i in range(300)]
    kinds = rng.choice(["distal", "promoter", "intron"], 300, p=[0.6, 0.3, 0.1])
    chosen = names[:50]
    found = region_shares(kinds, names, {"x": [*chosen, "elsewhere"], "none": []})
    assert list(found) == ["cell_type", "kind", "peaks", "share", "baseline", "odds_ratio", "pvalue"]
    assert found["kind"].tolist() == [kind for kind in KINDS if kind in ("promoter", "intron", "distal")] * 2
    for row in found[found["cell_type"] == "x"].itertuples():
        own, rest = int((kinds[:50] == row.kind).sum()), int((kinds[50:] == row.kind).sum())
        assert (row.peaks, row.share) == (own, own / 50)
        assert row.baseline == pytest.approx((own + rest) / 300)
        expected = stats.fisher_exact(np.array([[own, 50 - own], [rest, 250 - rest]]))
        assert (row.odds_ratio, row.pvalue) == pytest.approx((expected.statistic, expected.pvalue))
    assert (found[found["cell_type"] == "none"]["share"] == 0).all()
    assert region_shares(kinds, names, {}).empty


def test_promoters_of_the_simulation_are_its_promoter_peaks(
    simulated: SimulatedFiles, simulated_dataset: Path
) -> None:
    graphs = MultiomeGraphs(simulated_dataset)
    regions = read_regions(simulated.gtf, graphs.store.manifest["chromosomes"])
    kinds = peak_kinds(graphs.peaks.frame, regions.genes, regions.exons)
    roles = (
        pd.read_parquet(simulated.peaks).set_index("peak")["role"].loc[graphs.peaks.frame["peak"]].to_numpy()
    )
    assert (kinds[roles == "promoter"] == "promoter").all()
    assert (kinds[roles != "promoter"] == "promoter").mean() < 0.05
    assert {"exon", "intron", "distal"} <= set(kinds)
    exons = regions.exons_of(graphs.genes.frame)
    assert set(exons["gene"]) == set(graphs.genes.frame["gene"])


def test_the_gtf_of_another_species_or_build_is_refused(tmp_path: Path) -> None:
    regions = read_regions(written(tmp_path, GTF), ["chr1", "chrM"])
    genes = pd.DataFrame({"gene": ["ONE", "m", "lost"], "gene_id": ["x", "ENSG2.7", None]})
    genes["symbol"], genes["chrom"] = ["ONE", "m", None], ["chr1", "chrM", None]
    genes["start"], genes["end"] = (pd.array(side, "Int64") for side in ([900, 0, None], [1100, 50, None]))
    assert check_genes(regions, genes, "genes.gtf") is regions
    moved = check_genes(regions, genes.assign(chrom=["chr1", "chr1", None]), "genes.gtf")
    assert moved.report == (*regions.report, "genes.gtf has 1 of the dataset's 2 genes where they lie")
    with pytest.raises(InputError, match=r"has 0 of the dataset's 2 genes .* another species or build"):
        check_genes(regions, genes.assign(gene_id=["y", "z", None], symbol=["One", "M", None]), "genes.gtf")
    with pytest.raises(InputError, match="another species or build"):
        check_genes(regions, genes.assign(start=genes["start"] + 10_000, end=genes["end"] + 10_000), "g.gtf")
    nowhere = genes.assign(chrom=None)
    assert check_genes(regions, nowhere, "genes.gtf") is regions
