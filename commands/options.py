"""Options of the commands, each with its help once; nothing heavy is imported, so that help is quick."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

# Of every command.
Json = Annotated[bool, typer.Option("--json", help="Print one machine-readable line.")]
Seed = Annotated[int, typer.Option(min=0, max=2**32 - 1, help="Decides every random choice.")]
Debug = Annotated[bool, typer.Option(help="Show the traceback of an error (may stand anywhere).")]
Quiet = Annotated[bool, typer.Option("--quiet", help="No progress bars.")]

# What commands read and write.
Run = Annotated[Path, typer.Argument(metavar="RUN", help="Made by `scweave train`.")]
Dataset = Annotated[Path, typer.Argument(metavar="DATASET", help="Made by `scweave build`.")]
Datasets = Annotated[
    list[Path],
    typer.Argument(metavar="DATASET...", help="Made by `scweave build`; several where a stage takes them."),
]

# Of everything that trains.
Model = Annotated[
    str,
    typer.Option(
        metavar="NAME",
        help="crossrec, hitanno, annatac, scmoanno; majority, centroid, knn, logreg, svm, mlp, cnn.",
    ),
]
Mode = Annotated[
    str, typer.Option(metavar="published|default", help="The function as published, or corrected.")
]
Size = Annotated[
    str | None,
    typer.Option(metavar="s|m|l", help="Sizes of a transformer (annatac); by default s, published mode l."),
]
Epochs = Annotated[int | None, typer.Option(help="Epochs at most; by default as usual for the model.")]
BatchSize = Annotated[int | None, typer.Option(help="Pairs or cells a batch, over all devices.")]
LearningRate = Annotated[float | None, typer.Option("--lr", help="Learning rate.")]
Patience = Annotated[int | None, typer.Option(help="Epochs without improvement before stopping.")]
Precision = Annotated[str, typer.Option(metavar="32-true|64-true|bf16-mixed", help="As Lightning names it.")]
Settings = Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Model settings.")]

# Of one stage, or of one run.
Stage = Annotated[
    str, typer.Option(metavar="pretrain|finetune", help="Without labels (annatac), or with them.")
]
Init = Annotated[Path | None, typer.Option(metavar="RUN", help="Begin with a run of --stage pretrain.")]
Accumulate = Annotated[int, typer.Option(help="Batches whose gradients make one step.")]
Devices = Annotated[int, typer.Option(help="GPUs, or processes where there is none, that share each batch.")]
Fold = Annotated[
    str | None,
    typer.Option(metavar="K|all", help="Fold of a dataset built with --folds, or each from scratch."),
]

# Of predictions.
Layer = Annotated[str | None, typer.Option(metavar="NAME", help="Layer of the counts; X by default.")]
MinPlaced = Annotated[float, typer.Option(help="Smallest share of RUN's genes and peaks (annatac: islands).")]
NovelBelow = Annotated[
    float | None,
    typer.Option(help="Confidence below which a cell is called novel; 0: never. Default of annatac: 0.5."),
]
