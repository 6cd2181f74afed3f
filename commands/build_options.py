"""Options of `scweave build`, in the groups of its help."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final

import typer

_GENOME: Final = "Genome"
_PRIOR: Final = "Prior edges"
_CELLS: Final = "Cells"
_SPLITS: Final = "Splits and pairs"

Inputs = Annotated[
    list[Path] | None,
    typer.Argument(metavar="INPUT...", help="One .h5mu, one or two .h5ad, a 10x .h5, or a 10x mtx folder."),
]
Out = Annotated[Path | None, typer.Option(metavar="DATASET", help="Folder to create.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Only say what would be built.")]
Verify = Annotated[Path | None, typer.Option(metavar="DATASET", help="Check a dataset instead of building.")]

Gtf = Annotated[Path | None, typer.Option(help="Gene annotation, plain or gzip.", rich_help_panel=_GENOME)]
Fasta = Annotated[
    Path | None, typer.Option(help="DNA, plain or bgzip; or a FASTA of the peaks.", rich_help_panel=_GENOME)
]
SequenceLength = Annotated[int, typer.Option(help="Bases a peak.", rich_help_panel=_GENOME)]
SequenceFrom = Annotated[
    str, typer.Option(metavar="centre|start", help="start: as published.", rich_help_panel=_GENOME)
]
Scaffolds = Annotated[
    str, typer.Option(metavar="keep|drop", help="Peaks on scaffolds.", rich_help_panel=_GENOME)
]
MinPlaced = Annotated[
    float, typer.Option(help="Smallest share of genes and peaks to find a place.", rich_help_panel=_GENOME)
]

Window = Annotated[
    str,
    typer.Option(metavar="BP|chromosome|none", help="Reach of the prior edges.", rich_help_panel=_PRIOR),
]
Around = Annotated[
    str, typer.Option(metavar="tss|gene-body", help="What it surrounds.", rich_help_panel=_PRIOR)
]
Loops = Annotated[
    Path | None, typer.Option(metavar="BEDPE", help="Loops that join the prior.", rich_help_panel=_PRIOR)
]

Labels = Annotated[
    str | None, typer.Option(metavar="COL", help="Cell types, in obs.", rich_help_panel=_CELLS)
]
Donor = Annotated[
    str | None, typer.Option(metavar="COL", help="Donors to split by, in obs.", rich_help_panel=_CELLS)
]
BatchColumn = Annotated[
    str | None, typer.Option("--batch", metavar="COL", help="Batches, in obs.", rich_help_panel=_CELLS)
]
LabelsFile = Annotated[
    Path | None, typer.Option(metavar="TSV", help="Barcodes and their labels.", rich_help_panel=_CELLS)
]
Unlabelled = Annotated[
    str | None, typer.Option(metavar="A,B", help="Labels that mean unknown.", rich_help_panel=_CELLS)
]
CellTypes = Annotated[
    str | None, typer.Option(metavar="A,B", help="Keep these types only.", rich_help_panel=_CELLS)
]
Layer = Annotated[
    str | None,
    typer.Option(metavar="NAME", help="Layer of the counts; X by default.", rich_help_panel=_CELLS),
]
Preset = Annotated[
    str | None,
    typer.Option(
        metavar="NAME", help="Published data: issaac, pbmc, share, snare, bmmc.", rich_help_panel=_CELLS
    ),
]
Refit = Annotated[
    bool, typer.Option("--refit", help="Fit variability even where var has it.", rich_help_panel=_CELLS)
]

TestDonors = Annotated[
    str | None, typer.Option(metavar="A,B", help="Donors to hold out.", rich_help_panel=_SPLITS)
]
Folds = Annotated[
    int, typer.Option(metavar="K", help="Folds beside the ordinary split.", rich_help_panel=_SPLITS)
]
Negatives = Annotated[
    str, typer.Option(metavar="easy|hard|both", help="Another type, or the same.", rich_help_panel=_SPLITS)
]
Ratio = Annotated[float, typer.Option(help="Negatives for each positive.", rich_help_panel=_SPLITS)]
Discovery = Annotated[
    bool, typer.Option("--discovery", help="Positives only, for a trained model.", rich_help_panel=_SPLITS)
]
Like = Annotated[
    Path | None,
    typer.Option(metavar="DATASET", help="Take genes and peaks of this one.", rich_help_panel=_SPLITS),
]
