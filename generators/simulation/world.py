"""The world of a simulated experiment: how large it is, all its parts, and the truth as tables."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
import pandas as pd

from ...graphs.errors import InputError
from .cells import RARE_SHARES, Cells, Rates, make_cells, make_rates, rare_codes, type_sizes
from .factors import Motifs, Programs, Sites, make_motifs, make_programs, plant_sites
from .genome import Layout, make_layout
from .links import Regulation, make_regulation

_LEAST = {"genes": 10, "types": 2, "seed": 0, "rare_types": 0}  # of the others 1
_MOST_RARE_TYPES = 20  # a quarter of the cells


@dataclass(frozen=True)
class Simulation:
    """How large a simulated experiment is.

    Parameters
    ----------
    cells : int
        Cells; both modalities of each are kept.
    genes : int
        Genes, at least 10.
    peaks : int
        Peaks, at least two a gene; the genome has 6 kb a peak.
    types : int
        Cell types, at least 2, leaves of a tree whose branches share TFs.
    seed : int
        Same seed and sizes, same experiment.
    donors : int
        Donors, each present in every type, with a mild batch effect on all features.
    rare_types : int
        Types that hold 1.5 % or 1 % of the cells; at most 20, and all but one.

    Raises
    ------
    InputError
        If no such experiment can be made.
    """

    cells: int = 2000
    genes: int = 500
    peaks: int = 5000
    types: int = 8
    seed: int = 0
    donors: int = 2
    rare_types: int = 2

    def __post_init__(self) -> None:
        self._check_whole_numbers()
        self._check_features()
        self._check_types()

    def _check_whole_numbers(self) -> None:
        for field in fields(self):
            value, least = getattr(self, field.name), _LEAST.get(field.name, 1)
            whole = isinstance(value, int | np.integer) and not isinstance(value, bool)
            if not whole or value < least:
                raise InputError(
                    f"{field.name}={value!r} cannot be simulated: it must be a whole number of at "
                    f"least {least}. Pass {field.name}={field.default}, the default, or more."
                )

    def _check_features(self) -> None:
        if self.peaks < 2 * self.genes:
            raise InputError(
                f"{self.peaks:,} peaks are too few for {self.genes:,} genes: each gene needs a promoter "
                f"and a distal peak. Pass peaks={2 * self.genes} or more, or fewer genes."
            )

    def _check_types(self) -> None:
        if self.rare_types > _MOST_RARE_TYPES:
            raise InputError(
                f"rare_types={self.rare_types} leaves too few cells for common types: "
                f"pass rare_types of at most {_MOST_RARE_TYPES}."
            )
        smallest = int(type_sizes(self.cells, self.types, self.rare).min())
        if smallest < self.donors:
            need = max(int(np.ceil(self.donors / min(RARE_SHARES))), self.types * self.donors * 4)
            raise InputError(
                f"{self.cells:,} cells are too few for {self.types} types, {self.rare} of them rare: the "
                f"smallest would have {smallest} cells for {self.donors} donors. "
                f"Pass cells={need} or more, or fewer types."
            )

    @property
    def rare(self) -> int:
        """Rare types that fit beside one common type."""
        return min(self.rare_types, self.types - 1)


@dataclass(frozen=True)
class World:
    """Everything about a simulated experiment but its counts."""

    rare_types: int
    layout: Layout
    programs: Programs
    motifs: Motifs
    regulation: Regulation
    sites: Sites
    cells: Cells
    rates: Rates
    dna_seed: np.random.SeedSequence
    count_seed: np.random.SeedSequence
    exon_seed: np.random.SeedSequence


def make_world(simulation: Simulation) -> World:
    """Draw genome, regulation and cells; each part has a random stream of its own."""
    *seeds, dna_seed, count_seed, exon_seed = np.random.SeedSequence(simulation.seed).spawn(10)
    layout_rng, program_rng, motif_rng, link_rng, site_rng, cell_rng, rate_rng = map(
        np.random.default_rng, seeds
    )
    layout = make_layout(simulation.genes, simulation.peaks, layout_rng)
    programs = make_programs(simulation.types, program_rng)
    motifs = make_motifs(len(programs.factors), motif_rng)
    regulation = make_regulation(layout, programs, link_rng)
    sites = plant_sites(layout, regulation.primary, regulation.secondary, motifs, site_rng)
    sizes = type_sizes(simulation.cells, simulation.types, simulation.rare)
    cells = make_cells(sizes, simulation.donors, programs.activity, cell_rng)
    occupancy = sites.occupancy(simulation.peaks, len(programs.factors))
    rates = make_rates(layout.peaks, regulation.links, occupancy, cells, simulation.donors, rate_rng)
    return World(
        rare_types=simulation.rare,
        layout=layout,
        programs=programs,
        motifs=motifs,
        regulation=regulation,
        sites=sites,
        cells=cells,
        rates=rates,
        dna_seed=dna_seed,
        count_seed=count_seed,
        exon_seed=exon_seed,
    )


def type_names(types: int) -> list[str]:
    """Names of the cell types, in the order of their codes."""
    return [f"type_{code + 1}" for code in range(types)]


def truth_tables(world: World) -> dict[str, pd.DataFrame]:
    """Tables of what was planted, by the names of :class:`SimulatedFiles`."""
    return {
        "links": _links(world),
        "decoys": _decoys(world),
        "motifs": _motifs(world),
        "sites": _sites(world),
        "activities": _activities(world),
        "peaks": _peaks(world),
    }


def _links(world: World) -> pd.DataFrame:
    links, genes, peaks = world.regulation.links, world.layout.genes, world.layout.peaks
    gene, peak = links["gene"].to_numpy(), links["peak"].to_numpy()
    return pd.DataFrame(
        {
            "gene": genes["symbol"].to_numpy()[gene],
            "peak": peaks["peak"].to_numpy()[peak],
            "chrom": peaks["chrom"].to_numpy()[peak],
            "tss": genes["tss"].to_numpy()[gene],
            "distance": links["distance"].to_numpy(),
            "effect": links["effect"].to_numpy(),
            "tf": _factor_names(world)[world.regulation.primary[peak]],
            "type": np.where(links["effect"] > 0, "activating", "repressing"),
        }
    )


def _decoys(world: World) -> pd.DataFrame:
    decoys, layout = world.regulation.decoys, world.layout
    gene, peak = decoys["gene"].to_numpy(), decoys["peak"].to_numpy()
    return pd.DataFrame(
        {
            "gene": layout.genes["symbol"].to_numpy()[gene],
            "peak": layout.peaks["peak"].to_numpy()[peak],
            "kind": decoys["kind"].to_numpy(),
            "tf": _factor_names(world)[world.regulation.primary[peak]],
            "distance": decoys["distance"].to_numpy(),
        }
    )


def _motifs(world: World) -> pd.DataFrame:
    valid = world.motifs.valid
    factor, position = np.nonzero(valid)
    names = {
        "tf": _factor_names(world)[factor],
        "consensus": np.array(world.motifs.consensus(), dtype=object)[factor],
        "position": position,
    }
    return pd.DataFrame(names | dict(zip("ACGT", world.motifs.frequencies[valid].T, strict=True)))


def _sites(world: World) -> pd.DataFrame:
    sites, peaks = world.sites, world.layout.peaks
    return pd.DataFrame(
        {
            "peak": peaks["peak"].to_numpy()[sites.peak],
            "tf": _factor_names(world)[sites.factor],
            "chrom": peaks["chrom"].to_numpy()[sites.peak],
            "start": sites.start,
            "end": sites.start + sites.length,
            "strand": np.where(sites.reverse, "-", "+"),
            "sequence": sites.sequences(),
            "strength": sites.strength,
        }
    )


def _activities(world: World) -> pd.DataFrame:
    types, factors = world.programs.activity.shape
    share = np.bincount(world.cells.cell_type, minlength=types) / len(world.cells.cell_type)
    return pd.DataFrame(
        {
            "cell_type": np.repeat(np.array(type_names(types), dtype=object), factors),
            "tf": np.tile(_factor_names(world), types),
            "activity": world.programs.activity.ravel(),
            "share": np.repeat(share, factors),
            "rare": np.repeat(np.isin(np.arange(types), rare_codes(types, world.rare_types)), factors),
        }
    )


def _peaks(world: World) -> pd.DataFrame:
    peaks, regulation = world.layout.peaks, world.regulation
    rows = np.arange(len(peaks))
    kind, decoy = regulation.decoys["kind"], regulation.decoys["peak"]
    roles = {
        "promoter": peaks["promoter"].to_numpy(),
        "causal": np.isin(rows, regulation.links["peak"]),
        "coaccessible": np.isin(rows, decoy[kind != "nearer"]),
        "nearer": np.isin(rows, decoy[kind == "nearer"]),
    }
    table = peaks[["peak", "chrom", "start", "end"]].copy()
    table["role"] = np.select(list(roles.values()), list(roles), "background")
    names = np.array([*world.programs.factors, None], dtype=object)
    table["tf"], table["secondary_tf"] = names[regulation.primary], names[regulation.secondary]
    return table


def _factor_names(world: World) -> np.ndarray[tuple[int], np.dtype[np.object_]]:
    return np.array(world.programs.factors, dtype=object)
