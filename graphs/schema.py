"""Names, types and version of everything a multiome graph holds; every key name lives here once.

Coordinates are 0-based half-open. Chromosomes are integer codes into ``dataset.json``'s
``chromosomes`` list; a gene that the annotation does not name has chromosome ``UNPLACED``.
Peaks are stored sorted by (chromosome, start), genes by (chromosome, TSS) with unplaced genes
last, so that the nodes of one cell on one chromosome are contiguous.
"""

from __future__ import annotations

from typing import Final, Literal

SCHEMA_VERSION: Final = 2

CELL: Final = "cell"
PEAK: Final = "peak"
GENE: Final = "gene"
OPENS: Final = (CELL, "opens", PEAK)
EXPRESSES: Final = (CELL, "expresses", GENE)
CIS: Final = (PEAK, "cis", GENE)

UNPLACED: Final = -1
UNLABELLED: Final = -1

# Node fields of a graph.
RNA: Final = "rna"  # the cell whose RNA profile this is
ATAC: Final = "atac"  # the cell whose ATAC profile this is
MODALITIES: Final = (RNA, ATAC)
MATCH: Final = "match"  # 1 where both profiles come from one cell
CELL_TYPE: Final = "cell_type"
ID: Final = "id"
EXPRESSION: Final = "expression"
ACCESSIBILITY: Final = "accessibility"
SOURCE: Final = "source"  # of a batch: which of several data sets its cells are of
DISTANCE: Final = "distance"  # of a cis edge: peak centre from TSS, in bp, negative upstream
NO_DISTANCE: Final = -(2**31)  # where the gene's chromosome is known, but not its TSS

# Static attributes, in the order in which models see them.
GENE_ATTRIBUTES: Final = ("chrom", "strand", "tss", "means", "variances_norm", "highly_variable")
FITTED: Final = ("means", "variances", "variances_norm", "highly_variable")  # on training cells
PEAK_ATTRIBUTES: Final = ("chrom", "start", "end", "sequence")

# Tables and arrays of a dataset folder.
TABLES: Final = ("cells", "genes", "peaks", "pairs")
MANIFEST_KEYS: Final = (
    "genome",
    "modalities",
    "chromosomes",
    "chromosome_lengths",
    "cell_types",
    "prior",
    "folds",
    "options",
    "checksums",
)
SPLITS: Final = ("train", "validation", "test")
FOLD_TABLES: Final = (
    "cells",
    "genes",
    "pairs",
)  # what a fold has of its own: splits, fitted attributes, pairs
Split = Literal["train", "validation", "test"]
View = Literal["cells", "pairs"]

# DNA letters as stored codes; complement is ``3 - code`` below N.
BASES: Final = "ACGTN"
SEQUENCE_LENGTH: Final = 256
