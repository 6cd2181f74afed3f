"""The `scweave study` command; heavy imports happen when work starts."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final

import typer

from . import options
from .console import tell
from .options import Json, Quiet, Seed

# One of each study, for the help.
STUDIES: Final = (
    "scweave study fractions runs/dataset --model crossrec --out runs/fractions",
    "scweave study label-noise runs/dataset --model hitanno --noise 0,0.1,0.2 --out runs/noise",
    "scweave study leave-type-out runs/dataset --model hitanno --types Astro,Oligo --out runs/types",
    "scweave study pretraining runs/dataset --model annatac --shares 0.1,1 --out runs/pretraining",
)
_ONE_STUDY: Final = "Of one study"  # group of options


def study(
    name: Annotated[
        str,
        typer.Argument(metavar="STUDY", help="fractions, label-noise, leave-type-out or pretraining."),
    ],
    dataset: options.Dataset,
    model: options.Model,
    out: Annotated[Path, typer.Option(metavar="DIR", help="Folder to create.")],
    shares: Annotated[
        str | None,
        typer.Option(
            metavar="0.4,1",
            help="fractions, pretraining: of the labels (crossrec: of the training cells).",
            rich_help_panel=_ONE_STUDY,
        ),
    ] = None,
    noise: Annotated[
        str | None,
        typer.Option(
            metavar="0.05,0.1",
            help="label-noise: shares of the labels to shuffle; by default 0 to 0.2.",
            rich_help_panel=_ONE_STUDY,
        ),
    ] = None,
    types: Annotated[
        str | None,
        typer.Option(
            metavar="A,B",
            help="leave-type-out: which; by default those with 20 test cells.",
            rich_help_panel=_ONE_STUDY,
        ),
    ] = None,
    pretrain_epochs: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            help="pretraining: its epochs; by default as usual for it.",
            rich_help_panel=_ONE_STUDY,
        ),
    ] = None,
    unlabelled: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="DATASET",
            help="pretraining: more cells for it; may be repeated.",
            rich_help_panel=_ONE_STUDY,
        ),
    ] = None,
    repeats: Annotated[int, typer.Option(help="Trainings a setting.")] = 3,
    mode: options.Mode = "default",
    size: options.Size = None,
    epochs: options.Epochs = None,
    batch_size: options.BatchSize = None,
    lr: options.LearningRate = None,
    patience: options.Patience = None,
    precision: options.Precision = "32-true",
    settings: options.Settings = None,
    resume: Annotated[bool, typer.Option("--resume", help="Keep the trainings that are finished.")] = False,
    seed: Seed = 0,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Measure a model, beside its baselines, on less data, wrong labels or unseen types, or without pre-training."""
    from ..generators.options import parse_names
    from ..interpret.study_tables import show_study
    from ..models.studies.study import parse_numbers
    from .jobs import Job
    from .study import study_run

    job = Job(
        dataset,
        out,
        model,
        mode,
        epochs,
        batch_size,
        lr,
        patience,
        precision=precision,
        settings=tuple(settings or ()),
        seed=seed,
        size=size,
    )
    content = study_run(
        job,
        name,
        shares=parse_numbers(shares, "--shares"),
        noise=parse_numbers(noise, "--noise"),
        types=parse_names(types, "--types"),
        pretrain_epochs=pretrain_epochs,
        unlabelled=unlabelled or (),
        repeats=repeats,
        resume=resume,
        progress=not quiet,
    )
    tell(content, as_json, lambda: show_study(content, out))
