"""RegulatoryMap: which peaks a model links to which genes in each cell type, to filter, compare and take away."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from ..graphs.dataset import MultiomeGraphs
from .attention import LinkingModel
from .links import exports, map_tables, networks, nodes, selection
from .links.contrast import contrast
from .links.lookup import check_names, gene_names
from .links.table import SCHEMA, LinkTables
from .links.type_links import cells_by_type, type_links

if TYPE_CHECKING:
    import networkx as nx
    from anndata import AnnData


@dataclass(frozen=True, eq=False, repr=False)
class RegulatoryMap:
    """Links between peaks and genes in each cell type, and what is known of their ends.

    Attributes
    ----------
    links
        A row a link and cell type, sorted by cell type, then descending score: gene, peak, chrom, cell_type
        (categories: all genes, peaks, chromosomes and cell types of the map), start, end, tss (bp, 0-based
        half-open), distance (bp from TSS to the peak's centre, negative upstream; null across chromosomes),
        score, n_cells (cells that have the link), effect (on the gene's predicted ln expression), zscore,
        pvalue and qvalue (among links of matched peaks). What is not known is null.
    cells
        Cell type -> number of its cells.
    genes
        ``gene, symbol, chrom, start, end, tss, strand`` of all genes, with links or without.
    peaks
        ``peak, chrom, start, end, accessibility, gc`` of all peaks.
    openness
        (peaks, cell types) float32, share of the type's cells that have the peak open.
    expression
        (genes, cell types) float32, mean of ln(1 + 10⁴ · count / counts of the cell).
    exons
        ``gene, chrom, start, end``, where the map was made with an annotation.
    sites
        ``peak, tf, start, end, strand, score, pvalue``, where the map was made with motifs.

    Examples
    --------
    >>> found = RegulatoryMap.read("runs/demo/maps")  # doctest: +SKIP
    >>> found.filter(max_distance=100_000, top=5).top_links(gene="GENE00001")  # doctest: +SKIP
    >>> found.filter(cell_types="type_1").to_interact("type_1.interact")  # doctest: +SKIP
    """

    links: pd.DataFrame
    cells: pd.Series[int]
    genes: pd.DataFrame
    peaks: pd.DataFrame
    openness: pd.DataFrame | None = None
    expression: pd.DataFrame | None = None
    exons: pd.DataFrame | None = None
    sites: pd.DataFrame | None = None

    def __len__(self) -> int:
        return len(self.links)

    def __repr__(self) -> str:
        return (
            f"RegulatoryMap({len(self):,} links, {len(self.cells):,} cell types, "
            f"{len(self.genes):,} genes, {len(self.peaks):,} peaks)"
        )

    @property
    def cell_types(self) -> list[str]:
        """Names of the cell types, in their order."""
        return [str(name) for name in self.cells.index]

    @classmethod
    def read(
        cls,
        folder: str | Path,
        *,
        genes: str | Iterable[str] | None = None,
        cell_types: str | Iterable[str] | None = None,
    ) -> RegulatoryMap:
        """Read what ``scweave map`` wrote of a model of links.

        Parameters
        ----------
        folder
            Folder of the map.
        genes
            Read the links of these genes (names, or symbols) only; the others never come into memory.
        cell_types
            Read these cell types only.

        Raises
        ------
        InputError
            The folder is no map of links, an old or a damaged one, or a name is not in it.

        Examples
        --------
        >>> RegulatoryMap.read("runs/demo/maps", genes=["GENE00001"])  # doctest: +SKIP
        """
        folder = Path(folder)
        gene_table, peak_table, cells = map_tables.read_nodes(folder)
        if cell_types is not None:
            cells = cells[cells.index.isin(check_names(cell_types, cells.index, "cell type"))]
        types = [str(name) for name in cells.index]
        categories = _categories(gene_table, peak_table, types)
        links = map_tables.read_links(
            folder,
            categories,
            genes=None if genes is None else gene_names(genes, gene_table),
            cell_types=None if cell_types is None else types,
        )
        own = {"peak": categories["peak"]}
        exons, sites = (
            map_tables.read_parts(folder / file, columns, own) if (folder / file).exists() else None
            for file, columns in map_tables.PARTS.items()
        )
        return cls(
            links,
            cells,
            gene_table,
            peak_table,
            openness=map_tables.read_values(folder / map_tables.OPENNESS, peak_table["peak"], types),
            expression=map_tables.read_values(folder / map_tables.EXPRESSION, gene_table["gene"], types),
            exons=exons,
            sites=sites,
        )

    @classmethod
    def of(
        cls, model: LinkingModel, graphs: MultiomeGraphs, *, batch_size: int = 64, progress: bool = True
    ) -> RegulatoryMap:
        """Map cells with a model.

        Parameters
        ----------
        model
            With ``attention``, in evaluation mode.
        graphs
            Cells to describe (``view="cells"``), all or a subset.
        batch_size
            Cells a batch.
        progress
            Show a bar over the cells.

        Raises
        ------
        InputError
            No cells, or a model without attention.

        Examples
        --------
        >>> RegulatoryMap.of(model, MultiomeGraphs("runs/demo/dataset"))  # doctest: +SKIP
        """
        groups, named = cells_by_type(graphs), LinkTables(graphs)
        genes, peaks = nodes.gene_table(graphs), nodes.peak_table(graphs)
        categories = _categories(genes, peaks, [name for name, _ in groups])
        frames = [
            map_tables.frame_of(table, categories)
            for piece in type_links(model, graphs, batch_size=batch_size, progress=progress)
            for table in piece.tables(named)
        ]
        sizes = {name: len(cells) for name, cells in groups}
        return cls(
            pd.concat(frames or [map_tables.frame_of(SCHEMA.empty_table(), categories)], ignore_index=True),
            pd.Series(sizes, name="cells", dtype="int64").rename_axis("cell_type"),
            genes,
            peaks,
            openness=nodes.openness(graphs, groups),
            expression=nodes.expression(graphs, groups),
        )

    def filter(
        self,
        *,
        genes: str | Iterable[str] | None = None,
        peaks: str | Iterable[str] | None = None,
        cell_types: str | Iterable[str] | None = None,
        chrom: str | None = None,
        min_score: float | None = None,
        max_qvalue: float | None = None,
        min_cells: int | None = None,
        max_distance: int | None = None,
        top: int | None = None,
    ) -> RegulatoryMap:
        """Return the map of the links that meet all conditions; genes and peaks without links stay known.

        Parameters
        ----------
        genes, peaks, cell_types
            Names (of genes, symbols, too); other cell types leave the map altogether.
        chrom
            Chromosome of the peak.
        min_score, max_qvalue, min_cells, max_distance
            Limits, themselves included; max_distance in bp on both sides of the TSS. A link of which the value
            is not known is left out.
        top
            The strongest links of every gene and cell type among those that meet the other conditions.

        Raises
        ------
        InputError
            A name is not in the map, or a limit is set on what is known of no link.

        Examples
        --------
        >>> found.filter(cell_types=["L4", "Pvalb"], max_distance=50_000, top=3)  # doctest: +SKIP
        """
        types = None if cell_types is None else check_names(cell_types, self.cell_types, "cell type")
        keep = selection.named(
            self.links,
            gene=None if genes is None else gene_names(genes, self.genes),
            peak=None if peaks is None else check_names(peaks, self.peaks["peak"], "peak"),
            cell_type=types,
            chrom=None if chrom is None else check_names(chrom, _chromosomes(self.peaks), "chromosome"),
        )
        keep &= selection.within(
            self.links,
            min_score=min_score,
            max_qvalue=max_qvalue,
            min_cells=min_cells,
            max_distance=max_distance,
        )
        if top is not None:
            keep[keep] = selection.strongest(self.links.loc[keep, ["gene", "cell_type"]], top)
        found = self if keep.all() else replace(self, links=self.links[keep].reset_index(drop=True))
        return found if types is None else found._of_types(types)

    def top_links(
        self, *, gene: str | None = None, peak: str | None = None, cell_type: str | None = None, n: int = 10
    ) -> pd.DataFrame:
        """Return the strongest links of a gene, a peak or a cell type, or of all, by descending score.

        Parameters
        ----------
        gene, peak, cell_type
            Names.
        n
            Links at most.

        Raises
        ------
        InputError
            A name is not in the map, or n is below 1.

        Examples
        --------
        >>> found.top_links(gene="Gad1", n=5)[["peak", "cell_type", "score"]]  # doctest: +SKIP
        """
        selection.check_number(n, "n")
        own = self.filter(genes=gene, peaks=peak, cell_types=cell_type).links
        order = (-own["score"]).argsort(kind="stable")
        return own.iloc[order[:n]].reset_index(drop=True)

    def peak_scores(self) -> pd.DataFrame:
        """Add up the scores of each peak's links.

        Returns
        -------
        (peaks, cell types) float64, rows in the order of ``peaks``; 0 where a peak has no link.

        Examples
        --------
        >>> found.peak_scores()["Pvalb"].nlargest(10)  # doctest: +SKIP
        """
        peak, kind = (self.links[name].cat.codes.to_numpy() for name in ("peak", "cell_type"))
        sums = np.zeros((len(self.peaks), len(self.cells)))
        np.add.at(sums, (peak, kind), self.links["score"].to_numpy(np.float64))
        return pd.DataFrame(sums, index=pd.Index(self.peaks["peak"], name="peak"), columns=self.cell_types)

    def difference(self, first: str, second: str, other: RegulatoryMap | None = None) -> pd.DataFrame:
        """Subtract the links of one cell type from those of another.

        Parameters
        ----------
        first
            Cell type of this map.
        second
            Cell type to subtract, of this map or of the other.
        other
            Map of another condition. Only genes and peaks that both maps know are compared.

        Returns
        -------
        A row a link of either type, by descending absolute difference: gene, peak, chrom, start, end, tss,
        distance, ``first`` and ``second`` (scores; 0 where the type has no such link), ``difference`` (first less
        second), ``effect_difference`` (the same of the effects; null where one side's are not known).

        Raises
        ------
        InputError
            A cell type is not in the map, or the maps have nothing in common.

        Examples
        --------
        >>> found.difference("Pvalb", "Sst").head()  # doctest: +SKIP
        """
        beside = self if other is None else other
        check_names(first, self.cell_types, "cell type")
        check_names(second, beside.cell_types, "cell type")
        return contrast(self, first, beside, second)

    def to_networkx(self, *, cell_type: str | None = None) -> nx.DiGraph[str]:
        """Return the network of linked peaks, genes and TFs; see `networks.to_networkx`."""
        return networks.to_networkx(self, cell_type=cell_type)

    def to_anndata(self) -> AnnData:
        """Return links by cell types as sparse matrices; see `exports.to_anndata`."""
        return exports.to_anndata(self)

    def to_parquet(self, path: str | Path) -> int:
        """Write the links as a table like ``links.parquet``; return their number."""
        return exports.write_parquet(self, path)

    def to_bedpe(self, path: str | Path) -> int:
        """Write the links of placed genes as BEDPE; return their number. See `exports.write_bedpe`."""
        return exports.write_bedpe(self, path)

    def to_interact(self, path: str | Path) -> int:
        """Write a UCSC interact track; return the number of its links. See `exports.write_interact`."""
        return exports.write_interact(self, path)

    def to_graphml(self, path: str | Path, *, cell_type: str | None = None) -> int:
        """Write the network as GraphML; return the number of its edges. See `networks.to_networkx`."""
        return exports.write_graphml(self, path, cell_type=cell_type)

    def _of_types(self, names: Sequence[str]) -> RegulatoryMap:
        """Leave all other cell types out; no link may be of them."""
        cells = self.cells[self.cells.index.isin(names)]
        kinds = self.links["cell_type"].cat.set_categories(list(cells.index))
        openness, expression = (
            None if values is None else values[list(cells.index)]
            for values in (self.openness, self.expression)
        )
        links = self.links.assign(cell_type=kinds)
        return replace(self, links=links, cells=cells, openness=openness, expression=expression)


def _categories(
    genes: pd.DataFrame, peaks: pd.DataFrame, cell_types: Sequence[str]
) -> dict[str, Sequence[str]]:
    """Return the names of each column of links, in their order."""
    return {
        "gene": genes["gene"].tolist(),
        "peak": peaks["peak"].tolist(),
        "chrom": _chromosomes(peaks),
        "cell_type": list(cell_types),
    }


def _chromosomes(peaks: pd.DataFrame) -> list[str]:
    return list(dict.fromkeys(peaks["chrom"]))
