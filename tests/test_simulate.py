"""The simulation: files that other programs read, a truth that holds, and no half-written output."""

from __future__ import annotations

import re
from pathlib import Path

import mudata as md
import numpy as np
import pandas as pd
import pytest
from Bio import motifs
from gtfparse import read_gtf
from pyfaidx import Fasta

from scweave.generators.simulate import SimulatedFiles, Simulation, simulate
from scweave.generators.simulation.annotation import make_exons
from scweave.generators.simulation.cells import count_blocks, open_chance, rare_codes, type_sizes
from scweave.generators.simulation.factors import UBIQUITOUS, make_programs
from scweave.generators.simulation.links import WINDOW
from scweave.generators.simulation.world import World, make_world
from scweave.graphs.errors import InputError

SMALL = {"cells": 300, "genes": 60, "peaks": 600}


def read(path: Path) -> md.MuData:
    with md.set_options(pull_on_update=False):
        return md.read_h5mu(path)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> SimulatedFiles:
    return simulate(tmp_path_factory.mktemp("simulated") / "small.h5mu", **SMALL, progress=False)


@pytest.fixture(scope="module")
def experiment(files: SimulatedFiles) -> md.MuData:
    return read(files.h5mu)


@pytest.fixture(scope="module")
def tables(files: SimulatedFiles) -> dict[str, pd.DataFrame]:
    names = ("links", "decoys", "motifs", "sites", "activities", "peaks")
    return {name: pd.read_parquet(getattr(files, name)) for name in names}


@pytest.fixture(scope="module")
def chromosomes(files: SimulatedFiles, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    fasta = Fasta(str(files.fasta), indexname=str(tmp_path_factory.mktemp("index") / "small.fai"))
    return {name: str(fasta[name]) for name in fasta.keys()}  # noqa: SIM118 (a Fasta iterates over records)


@pytest.fixture(scope="module")
def genes(files: SimulatedFiles) -> pd.DataFrame:
    return pd.DataFrame(read_gtf(str(files.gtf), features={"gene"}, result_type="pandas"))


@pytest.fixture(scope="module")
def world() -> World:
    return make_world(Simulation(cells=1500, genes=100, peaks=1000, seed=3))


def same(left: md.MuData, right: md.MuData) -> bool:
    return all(
        (left[mod].X != right[mod].X).nnz == 0 and left[mod].obs.equals(right[mod].obs) for mod in left.mod
    )


def test_same_seed_gives_the_same_bytes(files: SimulatedFiles, experiment: md.MuData, tmp_path: Path) -> None:
    again = simulate(tmp_path / "again.h5mu", **SMALL, progress=False)
    for name in (
        "fasta",
        "gtf",
        "meme",
        "sites_bed",
        "links",
        "decoys",
        "motifs",
        "sites",
        "activities",
        "peaks",
    ):
        assert getattr(again, name).read_bytes() == getattr(files, name).read_bytes(), name
    assert same(experiment, read(again.h5mu))


def test_another_seed_gives_another_experiment(
    files: SimulatedFiles, experiment: md.MuData, tmp_path: Path
) -> None:
    other = simulate(tmp_path / "other", **SMALL, seed=1, progress=False)
    assert other.h5mu.name == "other.h5mu"
    assert other.fasta.read_bytes() != files.fasta.read_bytes()
    assert list(read(other.h5mu)["atac"].var_names) != list(experiment["atac"].var_names)


def test_mudata_holds_raw_counts_with_labels(experiment: md.MuData) -> None:
    assert experiment.uns["genome"] == "simulated"
    assert experiment["rna"].shape == (300, 60)
    assert experiment["atac"].shape == (300, 600)
    for modality in experiment.mod.values():
        assert modality.X.dtype == np.float32
        assert modality.X.data.min() >= 1
        assert np.array_equal(modality.X.data, np.round(modality.X.data))
        assert modality.obs["donor"].cat.categories.tolist() == ["donor_1", "donor_2"]
        assert modality.obs["cell_type"].nunique() == 8
        assert modality.obs_names.is_unique
    assert experiment["rna"].var["gene_ids"].is_unique
    peaks = experiment["atac"].var
    rebuilt = peaks["chrom"].astype(str) + ":" + peaks["start"].astype(str) + "-" + peaks["end"].astype(str)
    assert rebuilt.tolist() == experiment["atac"].var_names.tolist()


def test_atac_counts_are_mostly_even_like_cut_sites(experiment: md.MuData) -> None:
    share = np.bincount(experiment["atac"].X.data.astype(int), minlength=5) / experiment["atac"].X.nnz
    assert share[2] > 0.55
    assert share[1] < 0.15
    assert share[4] > 5 * share[3]


def test_fasta_is_a_soft_masked_genome(files: SimulatedFiles, chromosomes: dict[str, str]) -> None:
    assert list(chromosomes) == ["chr1", "chr2", "chr3"]
    lines = files.fasta.read_text().splitlines()
    assert max(len(line) for line in lines) == 60
    for sequence in chromosomes.values():
        upper = sequence.upper()
        assert set(upper) <= set("ACGTN")
        assert set(upper[:10_000]) == set(upper[-10_000:]) == {"N"}
        assert "N" not in upper[10_000:-10_000]
        inner = sequence[10_000:-10_000]
        assert 0.3 < sum(map(str.islower, inner)) / len(inner) < 0.5
        assert 0.39 < sum(map(inner.upper().count, "GC")) / len(inner) < 0.44


def test_genes_and_peaks_lie_inside_their_chromosomes(
    genes: pd.DataFrame, chromosomes: dict[str, str], experiment: md.MuData
) -> None:
    lengths = {name: len(sequence) for name, sequence in chromosomes.items()}
    peaks = experiment["atac"].var
    assert (peaks["start"] >= 10_000).all()
    assert (peaks["end"] <= peaks["chrom"].astype(str).map(lengths) - 10_000).all()
    gap = peaks["start"].to_numpy()[1:] - peaks["end"].to_numpy()[:-1]
    same_chromosome = peaks["chrom"].to_numpy()[1:] == peaks["chrom"].to_numpy()[:-1]
    assert (gap[same_chromosome] > 0).all()
    assert (genes["start"] >= 1).all()
    assert (genes["start"] <= genes["end"]).all()
    assert (genes["end"] <= genes["seqname"].astype(str).map(lengths)).all()


def test_gtf_names_every_gene_and_starts_it_in_a_promoter(
    genes: pd.DataFrame, experiment: md.MuData, tables: dict[str, pd.DataFrame]
) -> None:
    assert genes["gene_name"].tolist() == experiment["rna"].var_names.tolist()
    assert genes["gene_id"].tolist() == experiment["rna"].var["gene_ids"].tolist()
    assert set(genes["gene_biotype"]) == {"protein_coding", "lncRNA"}
    tss = np.where(genes["strand"] == "+", genes["start"] - 1, genes["end"] - 1)
    promoters = tables["peaks"].query("role == 'promoter'")
    assert (promoters["chrom"].to_numpy() == genes["seqname"].astype(str).to_numpy()).all()
    assert ((promoters["start"] <= tss) & (tss < promoters["end"])).all()


def test_exons_fill_their_genes_from_the_tss_to_the_other_end(
    files: SimulatedFiles, genes: pd.DataFrame
) -> None:
    lines = pd.DataFrame(read_gtf(str(files.gtf), result_type="pandas"))
    exons = lines[lines["feature"] == "exon"]
    assert exons.groupby("gene_id").size().reindex(genes["gene_id"]).between(1, 8).all()
    assert exons.groupby("gene_id").size().nunique() > 4
    ends = exons.groupby("gene_id").agg({"start": "min", "end": "max"}).loc[genes["gene_id"]]
    assert (ends["start"].to_numpy() == genes["start"].to_numpy()).all()
    assert (ends["end"].to_numpy() == genes["end"].to_numpy()).all()
    for _, own in exons.groupby("gene_id"):
        assert (own["start"].to_numpy()[1:] > own["end"].to_numpy()[:-1]).all()  # an intron between any two
        numbers = own["exon_number"].astype(int).tolist()
        assert sorted(numbers) == list(range(1, len(own) + 1))
        first = own.iloc[numbers.index(1)]
        tss, at = ("start", "min") if first["strand"] == "+" else ("end", "max")
        assert first[tss] == own[tss].agg(at)
    transcripts = lines[lines["feature"] == "transcript"]
    assert transcripts[["start", "end"]].to_numpy().tolist() == genes[["start", "end"]].to_numpy().tolist()
    assert transcripts["transcript_id"].is_unique


@pytest.mark.parametrize("body", [1, 2, 399, 400, 799, 800, 3_199, 3_200, 300_000])
def test_exons_of_genes_of_any_length(body: int) -> None:
    genes = pd.DataFrame({"start": np.full(300, 7), "end": np.full(300, 7 + body)})
    exons = make_exons(genes, np.random.default_rng(0))
    by_gene = exons.groupby("gene")
    assert (by_gene["start"].min() == 7).all()
    assert (by_gene["end"].max() == 7 + body).all()
    assert (exons["end"] > exons["start"]).all()
    inner = exons["gene"].to_numpy()[1:] == exons["gene"].to_numpy()[:-1]
    assert (exons["start"].to_numpy()[1:] > exons["end"].to_numpy()[:-1])[inner].all()
    assert by_gene.size().max() == max(1, min(body // 400, 8))


def test_other_programs_read_the_motifs_and_sites(
    files: SimulatedFiles, tables: dict[str, pd.DataFrame]
) -> None:
    with files.meme.open() as stream:
        found = motifs.parse(stream, "minimal")
    assert [motif.name for motif in found] == sorted(tables["motifs"]["tf"].unique())
    for motif in found:
        own = tables["motifs"][tables["motifs"]["tf"] == motif.name]
        assert motif.consensus == own["consensus"].iloc[0]
        shares = np.array([motif.pwm[base] for base in "ACGT"]).T
        assert np.abs(shares - own[list("ACGT")].to_numpy()).max() < 0.02  # Biopython rounds to whole sites
    names = ["chrom", "start", "end", "tf", "score", "strand"]
    bed = pd.read_csv(files.sites_bed, sep="\t", header=None, names=names)
    truth = tables["sites"].sort_values(["chrom", "start"], ignore_index=True)
    assert bed[["chrom", "start", "end", "tf", "strand"]].equals(
        truth[["chrom", "start", "end", "tf", "strand"]]
    )
    assert bed["score"].to_numpy() == pytest.approx(1000 * truth["strength"].to_numpy(), abs=0.5)


def test_links_are_cis_and_their_distances_agree_with_the_gtf(
    genes: pd.DataFrame, experiment: md.MuData, tables: dict[str, pd.DataFrame]
) -> None:
    links = tables["links"]
    gene = genes.set_index("gene_name").loc[links["gene"]]
    peak = experiment["atac"].var.loc[links["peak"]]
    tss = np.where(gene["strand"] == "+", gene["start"] - 1, gene["end"] - 1)
    assert (tss == links["tss"]).all()
    centre = (peak["start"].to_numpy() + peak["end"].to_numpy()) // 2
    expected = (centre - tss) * np.where(gene["strand"] == "+", 1, -1)
    assert (links["distance"] == expected).all()
    assert (gene["seqname"].astype(str).to_numpy() == peak["chrom"].astype(str).to_numpy()).all()
    assert links["distance"].abs().between(*WINDOW).all()
    assert links.groupby("gene").size().reindex(genes["gene_name"]).between(1, 4).all()
    assert ((links["effect"] > 0) == (links["type"] == "activating")).all()
    assert set(links["type"]) == {"activating", "repressing"}
    assert not links.duplicated(["gene", "peak"]).any()


def test_some_links_skip_a_nearer_gene(genes: pd.DataFrame, tables: dict[str, pd.DataFrame]) -> None:
    links = tables["links"]
    tss = np.where(genes["strand"] == "+", genes["start"], genes["end"])
    centre = (
        links["peak"].str.split(":|-", regex=True, expand=True)[[1, 2]].astype(int).mean(axis=1).to_numpy()
    )
    gap = np.abs(centre[:, None] - tss)
    gap[links["chrom"].to_numpy()[:, None] != genes["seqname"].astype(str).to_numpy()] = np.iinfo(int).max
    skipping = gap.min(axis=1) < links["distance"].abs() - 60
    assert 0.1 < skipping.mean() < 0.9


def test_motif_sites_are_in_the_dna_of_causal_peaks(
    chromosomes: dict[str, str], tables: dict[str, pd.DataFrame]
) -> None:
    sites, links = tables["sites"], tables["links"]
    complement = str.maketrans("ACGT", "TGCA")
    consensus = tables["motifs"].groupby("tf")["consensus"].first()
    matches = []
    for site in sites.itertuples():
        dna = chromosomes[site.chrom][site.start : site.end].upper()
        read_as_motif = dna.translate(complement)[::-1] if site.strand == "-" else dna
        assert read_as_motif == site.sequence
        matches.append(np.mean([a == b for a, b in zip(site.sequence, consensus[site.tf], strict=True)]))
    assert 0.8 < np.mean(matches) < 0.99
    bounds = tables["peaks"].set_index("peak").loc[sites["peak"]]
    assert (sites["start"].to_numpy() >= bounds["start"].to_numpy()).all()
    assert (sites["end"].to_numpy() <= bounds["end"].to_numpy()).all()
    planted = set(zip(sites["peak"], sites["tf"], strict=True))
    assert planted.issuperset(zip(links["peak"], links["tf"], strict=True))
    assert sites["sequence"].str.len().between(8, 12).all()


def test_rare_types_and_donors(experiment: md.MuData, tables: dict[str, pd.DataFrame]) -> None:
    obs = experiment["rna"].obs
    share = obs["cell_type"].value_counts(normalize=True)
    rare = tables["activities"].query("rare")["cell_type"].unique()
    assert len(rare) == 2
    assert (share[rare] < 0.02).all()
    assert (share.drop(rare) > 0.02).all()
    assert (pd.crosstab(obs["cell_type"], obs["donor"]) > 0).all(axis=None)


@pytest.mark.parametrize("types", [2, 3, 5, 8, 13])
def test_programs_form_a_hierarchy(types: int) -> None:
    programs = make_programs(types, np.random.default_rng(0))
    active = programs.activity > 0.5
    assert active[:, :UBIQUITOUS].all()
    assert len(np.unique(active, axis=0)) == types
    shared = active.astype(int) @ active.T
    if types >= 3:
        assert shared[0, 1] > shared[0, types - 1]


def test_decoys_are_never_links(tables: dict[str, pd.DataFrame]) -> None:
    links, decoys = tables["links"], tables["decoys"]
    assert set(decoys["kind"]) == {"coaccessible", "nearer", "both"}
    assert links.merge(decoys, on=["gene", "peak"]).empty
    assert not decoys.duplicated(["gene", "peak"]).any()
    assert decoys["distance"].abs().max() <= WINDOW[1]
    factors = set(zip(links["gene"], links["tf"], strict=True))
    reach = (
        links.assign(far=links["distance"].abs(), up=links["distance"] < 0)
        .groupby(["gene", "up"])["far"]
        .max()
    )
    for decoy in decoys.itertuples():
        is_nearer = abs(decoy.distance) < reach.get((decoy.gene, decoy.distance < 0), 0)
        expected = {(True, True): "both", (True, False): "coaccessible", (False, True): "nearer"}
        assert decoy.kind == expected[(decoy.gene, decoy.tf) in factors, is_nearer]
    roles = tables["peaks"].set_index("peak")["role"]
    assert set(roles[links["peak"]]) == {"causal"}
    assert "promoter" not in set(roles[decoys["peak"]])


def test_causal_peaks_predict_expression_beyond_decoys(world: World) -> None:
    """In the cells themselves: state of linked and co-accessible peaks against the UMIs of the gene."""
    blocks = list(count_blocks(world.cells, world.rates, world.count_seed))
    opened = np.concatenate([block.open_alleles for block in blocks]).astype(float)
    depth = world.cells.rna_library[:, None]
    expression = np.log1p(np.concatenate([block.rna.toarray() for block in blocks]) / depth)
    expressed = np.flatnonzero((expression > 0).mean(axis=0) > 0.05)

    def correlation(pairs: pd.DataFrame) -> float:
        pairs = pairs[pairs["gene"].isin(expressed)]
        x, y = opened[:, pairs["peak"]], expression[:, pairs["gene"]]
        x, y = x - x.mean(axis=0), y - y.mean(axis=0)
        return float(((x * y).mean(axis=0) / (x.std(axis=0) * y.std(axis=0) + 1e-12)).mean())

    links, decoys = world.regulation.links, world.regulation.decoys
    activating = correlation(links[links["effect"] > 0])
    coaccessible = correlation(decoys[decoys["kind"] == "coaccessible"])
    nearer = correlation(decoys[decoys["kind"] == "nearer"])
    assert activating > coaccessible + 0.02
    assert coaccessible > nearer + 0.01
    assert abs(nearer) < 0.02
    assert correlation(links[links["effect"] < 0]) < coaccessible


def test_open_alleles_follow_motif_and_activity(world: World) -> None:
    rates, cells = world.rates, world.cells
    chance = open_chance(cells.activity, rates.baseline, rates.binding)
    logit = cells.activity[7].astype(float) @ rates.binding[11].astype(float) + rates.baseline[11]
    assert chance[7, 11] == pytest.approx(1 / (1 + np.exp(-logit)), rel=1e-5)
    opened = np.concatenate([b.open_alleles for b in count_blocks(cells, rates, world.count_seed)])
    assert opened.mean(axis=0) == pytest.approx(2 * chance.mean(axis=0), abs=0.12)
    promoter = world.layout.peaks["promoter"].to_numpy()
    assert chance[:, promoter].mean() > 0.7
    assert chance[:, ~promoter].mean() < 0.3


def test_mean_umis_match_the_truth(world: World) -> None:
    """Causal peaks change a gene between cells, not its overall drawn mean; donors differ mildly."""
    counts = np.concatenate(
        [b.rna.toarray() for b in count_blocks(world.cells, world.rates, world.count_seed)]
    )
    drawn = np.exp(2.0 * np.sort(np.random.default_rng(0).standard_normal(200_000)))
    assert counts.mean() == pytest.approx(0.014 * drawn.mean(), rel=0.35)
    donor_ratio = np.log(world.rates.umis[0] / world.rates.umis[1])
    assert 0.15 < donor_ratio.std() < 0.30


def test_activity_varies_within_a_type(world: World) -> None:
    of_type = world.cells.activity[world.cells.cell_type == 0]
    active = world.programs.activity[0] > 0.5
    assert (of_type[:, active].std(axis=0) > 0.1).all()


@pytest.mark.parametrize(("cells", "types", "rare"), [(300, 8, 2), (2000, 8, 2), (777, 2, 1), (5000, 13, 3)])
def test_type_sizes_add_up(cells: int, types: int, rare: int) -> None:
    sizes = type_sizes(cells, types, rare)
    assert sizes.sum() == cells
    scarce = rare_codes(types, rare)
    assert (sizes[scarce] < 0.02 * cells).all()
    assert np.delete(sizes, scarce).min() > sizes[scarce].max()


@pytest.mark.parametrize(
    ("arguments", "culprit", "fix"),
    [
        ({"types": 1}, "types=1", "at least 2"),
        ({"cells": 100}, "100 cells", "Pass cells=200"),
        ({"cells": 300, "types": 120}, "300 cells", "fewer types"),
        ({"peaks": 400, "genes": 500}, "400 peaks", "Pass peaks=1000"),
        ({"genes": 3}, "genes=3", "at least 10"),
        ({"rare_types": 30, "types": 40}, "rare_types=30", "at most 20"),
        ({"seed": -1}, "seed=-1", "at least 0"),
        ({"donors": 0}, "donors=0", "at least 1"),
        ({"cells": 2.5}, "cells=2.5", "whole number"),
        ({"cells": True}, "cells=True", "whole number"),
    ],
)
def test_bad_sizes_name_culprit_and_fix(
    arguments: dict[str, int], culprit: str, fix: str, tmp_path: Path
) -> None:
    with pytest.raises(InputError) as error:
        simulate(tmp_path / "bad.h5mu", **arguments, progress=False)
    message = str(error.value)
    assert culprit in message
    assert fix in message
    assert "\n" not in message
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("types", [2, 8, 24, 60])
@pytest.mark.parametrize("donors", [1, 2, 5])
def test_the_advised_number_of_cells_is_enough(types: int, donors: int) -> None:
    with pytest.raises(InputError) as error:
        Simulation(cells=donors, types=types, donors=donors)
    advised = int(re.findall(r"cells=(\d+)", str(error.value))[0])
    assert (
        type_sizes(advised, types, Simulation(cells=advised, types=types, donors=donors).rare).min() >= donors
    )


def test_smallest_experiments_work(tmp_path: Path) -> None:
    files = simulate(
        tmp_path / "tiny.h5mu", cells=20, genes=10, peaks=40, types=2, rare_types=0, progress=False
    )
    assert read(files.h5mu).n_obs == 20


def test_foreign_suffix_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"'\.h5ad'\. Pass bad\.h5mu"):
        simulate(tmp_path / "bad.h5ad", **SMALL, progress=False)


def test_a_file_in_place_of_the_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("a file")
    with pytest.raises(InputError, match="cannot write there"):
        simulate(tmp_path / "taken" / "out.h5mu", **SMALL, progress=False)


def test_a_failure_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(md.MuData, "write", fail)
    with pytest.raises(InputError, match="No space left on device"):
        simulate(tmp_path / "out.h5mu", **SMALL, progress=False)
    assert not list(tmp_path.iterdir())
