"""A paired RNA/ATAC experiment with known regulation: genome, motifs, links, cell types, counts.

The story, in the order in which it is told: peaks and genes lie on three chromosomes; every peak
holds sites of one or two transcription factors (TFs); TFs are active in branches of a tree of cell
types, and more or less so in every cell; site × activity opens a peak's two alleles by chance, in
each cell anew; 1-4 open peaks within 200 kb drive a gene; both are counted as 10x Multiome counts.
Promoters are open nearly everywhere and drive nothing.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path

import anndata as ad
import mudata as md
import numpy as np
import pandas as pd
from scipy import sparse
from tqdm.auto import tqdm

from ..graphs.errors import InputError
from .simulation.annotation import make_exons, write_gtf, write_meme, write_sites
from .simulation.cells import Cells, count_blocks
from .simulation.genome import write_fasta
from .simulation.world import Simulation, World, make_world, truth_tables, type_names

__all__ = ["SimulatedFiles", "Simulation", "simulate"]


@dataclass(frozen=True)
class SimulatedFiles:
    """Paths of a simulated experiment and of the truth beside it.

    Attributes
    ----------
    h5mu : Path
        MuData with ``rna`` and ``atac``: raw counts (float32 CSR); obs ``cell_type``, ``donor``.
    fasta, gtf : Path
        Genome (``.fa``, soft-masked), and genes with a transcript of 1-8 exons each (``.gtf.gz``).
    meme : Path
        ``.motifs.meme``: the motifs of all TFs in MEME's minimal format.
    sites_bed : Path
        ``.sites.bed.gz``: all planted sites as BED6 (name the TF, score 1000 · strength).
    links : Path
        ``gene, peak, chrom, tss, distance, effect, tf, type``: effect is the change of log
        expression from closed to open, distance is in bp and negative upstream, type is
        ``activating`` or ``repressing``.
    decoys : Path
        ``gene, peak, kind, tf, distance``: pairs that are no links though the peak is
        ``coaccessible`` with a causal one (same TF), ``nearer`` to the TSS, or ``both``.
    motifs : Path
        ``tf, consensus, position, A, C, G, T``: probability of each base.
    sites : Path
        ``peak, tf, chrom, start, end, strand, sequence, strength``: planted sites; the sequence
        reads in the motif's direction, strength is its match to the motif.
    activities : Path
        ``cell_type, tf, activity, share, rare``: mean TF activity; share of the cells.
    peaks : Path
        ``peak, chrom, start, end, role, tf, secondary_tf``: the role is ``promoter``, ``causal``,
        ``coaccessible``, ``nearer`` or ``background``, the first that holds for any gene.
    """

    h5mu: Path
    fasta: Path
    gtf: Path
    meme: Path
    sites_bed: Path
    links: Path
    decoys: Path
    motifs: Path
    sites: Path
    activities: Path
    peaks: Path

    @classmethod
    def beside(cls, out: Path) -> SimulatedFiles:
        """Name all files after ``OUT.h5mu`` (or ``OUT``)."""
        if out.suffix not in ("", ".h5mu"):
            raise InputError(
                f"{out}: a simulation is written as .h5mu, found {out.suffix!r}. Pass {out.stem}.h5mu."
            )
        stem = out.with_suffix("") if out.suffix else out
        tables = {name: Path(f"{stem}.{name}.parquet") for name in _TABLES}
        others = {name: Path(f"{stem}.{suffix}") for name, suffix in _SUFFIXES.items()}
        return cls(**others, **tables)


_SUFFIXES = {
    "h5mu": "h5mu",
    "fasta": "fa",
    "gtf": "gtf.gz",
    "meme": "motifs.meme",
    "sites_bed": "sites.bed.gz",
}
_TABLES = ("links", "decoys", "motifs", "sites", "activities", "peaks")


def simulate(
    out: Path,
    *,
    cells: int = 2000,
    genes: int = 500,
    peaks: int = 5000,
    types: int = 8,
    seed: int = 0,
    donors: int = 2,
    rare_types: int = 2,
    progress: bool = True,
) -> SimulatedFiles:
    """Write a simulated experiment as OUT.h5mu, its genome, and the truth as parquet tables.

    Parameters
    ----------
    out : Path
        ``OUT.h5mu``; the other files share its stem. Files of the same names are replaced.
    cells, genes, peaks, types, seed, donors, rare_types : int
        See :class:`Simulation`.
    progress : bool
        Show a bar over the cells.

    Returns
    -------
    SimulatedFiles
        Paths of the files.

    Raises
    ------
    InputError
        If the sizes do not fit each other or the files cannot be written; nothing is left then.

    Examples
    --------
    >>> files = simulate(Path("runs/simulated.h5mu"), cells=300, genes=60, peaks=600)  # doctest: +SKIP
    """
    simulation = Simulation(cells, genes, peaks, types, seed, donors, rare_types)
    final = SimulatedFiles.beside(Path(out))
    world = make_world(simulation)
    with _all_or_nothing(final) as partial:
        _write_truth(world, partial)
        _write_annotation(world, partial)
        sites, rng = world.sites, np.random.default_rng(world.dna_seed)
        write_fasta(partial.fasta, world.layout, sites.start, sites.peak, sites.codes, rng)
        _write_counts(world, partial.h5mu, progress=progress)
    return final


@contextmanager
def _all_or_nothing(final: SimulatedFiles) -> Iterator[SimulatedFiles]:
    """Paths in a temporary sibling folder, moved to the final names when all are written."""
    folder = final.h5mu.parent
    try:
        folder.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".{final.h5mu.name}.", dir=folder))
    except OSError as error:
        raise InputError(
            f"{folder}: cannot write there ({error.strerror}). Pass another place for the output."
        ) from error
    try:
        partial = SimulatedFiles.beside(temporary / final.h5mu.name)
        yield partial
        for field in fields(SimulatedFiles):
            getattr(partial, field.name).replace(getattr(final, field.name))
    except OSError as error:
        raise InputError(
            f"{folder}: writing the simulation failed ({error}). Free space or pass another place."
        ) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _write_counts(world: World, path: Path, *, progress: bool) -> None:
    number = len(world.cells.barcodes)
    rna, atac = [], []
    with tqdm(total=number, desc="simulating cells", unit="cell", disable=not progress) as bar:
        for block in count_blocks(world.cells, world.rates, world.count_seed):
            rna.append(block.rna)
            atac.append(block.atac)
            bar.update(block.rna.shape[0])
    genes, peaks = world.layout.genes, world.layout.peaks
    gene_table = pd.DataFrame(
        {"gene_ids": genes["gene_id"].to_numpy()}, index=pd.Index(genes["symbol"].to_list())
    )
    peak_table = peaks[["chrom", "start", "end"]].set_axis(pd.Index(peaks["peak"].to_list()))
    modalities = {
        "rna": _annotated(sparse.vstack(rna, format="csr"), gene_table, world.cells),
        "atac": _annotated(sparse.vstack(atac, format="csr"), peak_table, world.cells),
    }
    with md.set_options(pull_on_update=False):  # what mudata 0.4 does, and asks to be chosen before
        experiment = md.MuData(modalities)
        experiment.obs[["cell_type", "donor"]] = modalities["rna"].obs
        experiment.uns["genome"] = "simulated"
        experiment.write(path)


def _annotated(counts: sparse.csr_matrix, var: pd.DataFrame, cells: Cells) -> ad.AnnData:
    names = np.array(type_names(int(cells.cell_type.max()) + 1), dtype=object)
    obs = pd.DataFrame(
        {
            "cell_type": pd.Categorical(names[cells.cell_type]),
            "donor": pd.Categorical([f"donor_{code + 1}" for code in cells.donor]),
        },
        index=pd.Index(cells.barcodes),
    )
    return ad.AnnData(counts, obs=obs, var=var.copy(), uns={"genome": "simulated"})


def _write_truth(world: World, files: SimulatedFiles) -> None:
    for name, table in truth_tables(world).items():
        table.to_parquet(getattr(files, name), index=False)


def _write_annotation(world: World, files: SimulatedFiles) -> None:
    genes, factors = world.layout.genes, world.programs.factors
    write_gtf(files.gtf, genes, make_exons(genes, np.random.default_rng(world.exon_seed)))
    write_meme(files.meme, factors, world.motifs)
    write_sites(files.sites_bed, world.layout.peaks, factors, world.sites)
