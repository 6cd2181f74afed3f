"""The five published data sets: how their files name things, as data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final

from ..graphs.errors import InputError
from .files.counts import Name


@dataclass(frozen=True)
class Preset:
    """How the files of one published data set name things.

    Attributes
    ----------
    name
        As passed to ``--preset``.
    title
        Assay, tissue and species.
    genome
        Build its peaks were called on.
    cells, genes, peaks
        Size of the published files; others are told, not refused.
    rna, atac
        Names of the published files.
    labels, batch
        Columns of ``obs``.
    feature_names
        Columns of ``var`` that hold the names of genes and peaks, where the index does not.
    renamed
        Columns of ``var`` that carry another name than everywhere else.
    """

    name: str
    title: str
    genome: str
    cells: int
    genes: int
    peaks: int
    rna: str
    atac: str
    labels: str = "cell_type"
    batch: str | None = None
    feature_names: Mapping[Name, str] = field(default_factory=dict)
    renamed: Mapping[str, str] = field(default_factory=dict)

    def size_note(self, n_cells: int, n_genes: int, n_peaks: int) -> str:
        """Compare the size of the files read with the published one."""
        found, published = (n_cells, n_genes, n_peaks), (self.cells, self.genes, self.peaks)
        size = "{:,} cells, {:,} genes and {:,} peaks"
        if found == published:
            return f"preset {self.name} ({self.title}, {self.genome}): the published {size.format(*found)}"
        return (
            f"preset {self.name} ({self.title}, {self.genome}): {size.format(*found)}; published were"
            f" {size.format(*published)}"
        )


_ALL: Final = (
    Preset(
        name="issaac",
        title="ISSAAC-seq, mouse cortex",
        genome="mm10",
        cells=10_361,
        genes=20_771,
        peaks=169_180,
        rna="ISSAAC_scRNA_format.h5ad",
        atac="ISSAAC_scATAC_format.h5ad",
        feature_names=MappingProxyType({"rna": "gene", "atac": "peak"}),
        renamed=MappingProxyType({"_": "strand"}),
    ),
    Preset(
        name="pbmc",
        title="10x Multiome, human PBMC",
        genome="hg38",
        cells=9_631,
        genes=29_095,
        peaks=107_194,
        rna="10x-Multiome-Pbmc10k-RNA.h5ad",
        atac="10x-Multiome-Pbmc10k-ATAC.h5ad",
    ),
    Preset(
        name="share",
        title="SHARE-seq, mouse skin",
        genome="mm10",
        cells=32_231,
        genes=21_478,
        peaks=340_341,
        rna="Ma-2020-RNA.h5ad",
        atac="Ma-2020-ATAC.h5ad",
    ),
    Preset(
        name="snare",
        title="SNARE-seq, mouse cortex",
        genome="mm10",
        cells=9_190,
        genes=28_930,
        peaks=241_757,
        rna="Chen-2019-RNA.h5ad",
        atac="Chen-2019-ATAC.h5ad",
    ),
    Preset(
        name="bmmc",
        title="10x Multiome, human bone marrow (NeurIPS 2021)",
        genome="hg38",
        cells=69_249,
        genes=13_431,
        peaks=116_490,
        rna="neurips2021_multiome_scRNA.h5ad",
        atac="neurips2021_multiome_scATAC.h5ad",
        batch="batch",
    ),
)
PRESETS: Final[Mapping[str, Preset]] = MappingProxyType({preset.name: preset for preset in _ALL})


def preset_named(name: str) -> Preset:
    """Return a preset.

    Raises
    ------
    InputError
        There is none of that name.
    """
    if name not in PRESETS:
        raise InputError(f"--preset {name}: there is none. Choose one of {', '.join(PRESETS)}.")
    return PRESETS[name]
