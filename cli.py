"""The `scweave` command: one thin function a subcommand; heavy imports happen when work starts."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from .commands.console import Debug, Json, Quiet, Seed, example, print_lines, tell
from .commands.study_command import STUDIES, study

app = typer.Typer(
    help="Cell-peak-gene graphs of single-cell multiome data, and the models that read them.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
)

_INTERRUPTED = 130  # what Typer returns after Ctrl-C
_GENOME, _PRIOR, _CELLS, _SPLITS = "Genome", "Prior edges", "Cells", "Splits and pairs"  # groups of options


@app.callback()
def _options(debug: Debug = False) -> None:
    """Cell-peak-gene graphs of single-cell multiome data, and the models that read them."""
    del debug  # taken from the arguments before they are parsed, so that it may stand anywhere


@app.command(epilog=example("scweave demo --out runs/demo"))
def demo(
    out: Annotated[Path, typer.Option(help="Folder to create.")] = Path("runs/demo"),
    cells: Annotated[int, typer.Option(min=1, help="Simulated cells.")] = 2000,
    genes: Annotated[int, typer.Option(min=1, help="Simulated genes.")] = 500,
    peaks: Annotated[int, typer.Option(min=1, help="Simulated peaks.")] = 5000,
    epochs: Annotated[int, typer.Option(min=1, help="Training epochs.")] = 40,
    seed: Seed = 0,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Run the main job on a simulated experiment: simulate, build, train, evaluate, predict, map."""
    from .commands.demo import demo_run
    from .interpret.terminal import show_demo

    summary = demo_run(
        out, cells=cells, genes=genes, peaks=peaks, epochs=epochs, seed=seed, progress=not quiet
    )
    tell(summary, as_json, lambda: show_demo(summary))


@app.command(epilog=example("scweave simulate runs/sim.h5mu --cells 2000 --seed 1"))
def simulate(
    out: Annotated[
        Path, typer.Argument(metavar="OUT.h5mu", help="Also writes OUT.fa, OUT.gtf.gz, OUT.links.parquet.")
    ],
    cells: Annotated[int, typer.Option(help="Cells.")] = 2000,
    genes: Annotated[int, typer.Option(help="Genes.")] = 500,
    peaks: Annotated[int, typer.Option(help="Peaks.")] = 5000,
    types: Annotated[int, typer.Option(help="Cell types.")] = 8,
    seed: Seed = 0,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Write a multiome experiment with known regulation: real files, and the truth beside them."""
    from .generators.simulate import simulate as write

    files = write(out, cells=cells, genes=genes, peaks=peaks, types=types, seed=seed, progress=not quiet)
    written = {name: str(path) for name, path in vars(files).items()}
    tell(written, as_json, lambda: print_lines(f"{name:<11}{path}" for name, path in written.items()))


@app.command(
    epilog=example(
        "scweave build rna.h5ad atac.h5ad --gtf genes.gtf.gz --labels cell_type --out runs/dataset"
    )
)
def build(
    inputs: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="INPUT...", help="One .h5mu, one or two .h5ad, a 10x .h5, or a 10x mtx folder."
        ),
    ] = None,
    out: Annotated[Path | None, typer.Option(metavar="DATASET", help="Folder to create.")] = None,
    gtf: Annotated[
        Path | None, typer.Option(help="Gene annotation, plain or gzip.", rich_help_panel=_GENOME)
    ] = None,
    fasta: Annotated[
        Path | None,
        typer.Option(help="DNA, plain or bgzip; or a FASTA of the peaks.", rich_help_panel=_GENOME),
    ] = None,
    sequence_length: Annotated[int, typer.Option(help="Bases a peak.", rich_help_panel=_GENOME)] = 256,
    sequence_from: Annotated[
        str,
        typer.Option(metavar="centre|start", help="start: as published.", rich_help_panel=_GENOME),
    ] = "centre",
    scaffolds: Annotated[
        str, typer.Option(metavar="keep|drop", help="Peaks on scaffolds.", rich_help_panel=_GENOME)
    ] = "keep",
    min_placed: Annotated[
        float,
        typer.Option(help="Smallest share of genes and peaks to find a place.", rich_help_panel=_GENOME),
    ] = 0.3,
    window: Annotated[
        str,
        typer.Option(metavar="BP|chromosome|none", help="Reach of the prior edges.", rich_help_panel=_PRIOR),
    ] = "250000",
    around: Annotated[
        str, typer.Option(metavar="tss|gene-body", help="What it surrounds.", rich_help_panel=_PRIOR)
    ] = "tss",
    loops: Annotated[
        Path | None, typer.Option(metavar="BEDPE", help="Loops that join the prior.", rich_help_panel=_PRIOR)
    ] = None,
    labels: Annotated[
        str | None, typer.Option(metavar="COL", help="Cell types, in obs.", rich_help_panel=_CELLS)
    ] = None,
    donor: Annotated[
        str | None, typer.Option(metavar="COL", help="Donors to split by, in obs.", rich_help_panel=_CELLS)
    ] = None,
    batch: Annotated[
        str | None, typer.Option(metavar="COL", help="Batches, in obs.", rich_help_panel=_CELLS)
    ] = None,
    labels_file: Annotated[
        Path | None,
        typer.Option(metavar="TSV", help="Barcodes and their labels.", rich_help_panel=_CELLS),
    ] = None,
    unlabelled: Annotated[
        str | None, typer.Option(metavar="A,B", help="Labels that mean unknown.", rich_help_panel=_CELLS)
    ] = None,
    cell_types: Annotated[
        str | None, typer.Option(metavar="A,B", help="Keep these types only.", rich_help_panel=_CELLS)
    ] = None,
    layer: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Layer of the counts; X by default.", rich_help_panel=_CELLS),
    ] = None,
    preset: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", help="Published data: issaac, pbmc, share, snare, bmmc.", rich_help_panel=_CELLS
        ),
    ] = None,
    refit: Annotated[
        bool,
        typer.Option("--refit", help="Fit variability even where var has it.", rich_help_panel=_CELLS),
    ] = False,
    test_donors: Annotated[
        str | None, typer.Option(metavar="A,B", help="Donors to hold out.", rich_help_panel=_SPLITS)
    ] = None,
    folds: Annotated[
        int, typer.Option(metavar="K", help="Folds beside the ordinary split.", rich_help_panel=_SPLITS)
    ] = 0,
    negatives: Annotated[
        str,
        typer.Option(metavar="easy|hard|both", help="Another type, or the same.", rich_help_panel=_SPLITS),
    ] = "easy",
    ratio: Annotated[float, typer.Option(help="Negatives for each positive.", rich_help_panel=_SPLITS)] = 1.0,
    discovery: Annotated[
        bool,
        typer.Option("--discovery", help="Positives only, for a trained model.", rich_help_panel=_SPLITS),
    ] = False,
    like: Annotated[
        Path | None,
        typer.Option(metavar="DATASET", help="Take genes and peaks of this one.", rich_help_panel=_SPLITS),
    ] = None,
    seed: Seed = 0,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be built.")] = False,
    verify: Annotated[
        Path | None, typer.Option(metavar="DATASET", help="Check a dataset instead of building.")
    ] = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Turn an RNA/ATAC experiment into a graph dataset, or check one with --verify."""
    from .graphs.errors import InputError

    if verify is not None:
        if inputs or out is not None:
            raise InputError("--verify checks a dataset and builds nothing: leave out inputs and --out.")
        _verify(verify, as_json)
        return
    if not inputs or out is None:
        raise InputError("nothing to build: pass the input files and --out DATASET, or --verify DATASET.")
    from .generators.build import BuildOptions
    from .generators.build import build as make
    from .generators.options import parse_names, parse_window

    options = BuildOptions(
        labels=labels,
        donor=donor,
        batch=batch,
        unlabelled=parse_names(unlabelled, "--unlabelled"),
        cell_types=parse_names(cell_types, "--cell-types"),
        layer=layer,
        preset=preset,
        window=parse_window(window),
        around=around,  # type: ignore[arg-type]  # checked by BuildOptions, like the other choices
        scaffolds=scaffolds,  # type: ignore[arg-type]
        sequence_length=sequence_length,
        sequence_from=sequence_from,  # type: ignore[arg-type]
        test_donors=parse_names(test_donors, "--test-donors"),
        folds=folds,
        negatives=negatives,  # type: ignore[arg-type]
        ratio=ratio,
        discovery=discovery,
        refit=refit,
        min_placed=min_placed,
        seed=seed,
    )
    files: dict[str, Any] = {
        "gtf": gtf,
        "fasta": fasta,
        "loops": loops,
        "labels_file": labels_file,
        "like": like,
    }
    report = make(inputs, out, options=options, dry_run=dry_run, progress=not quiet, **files)
    tell(
        {"dataset": str(report.path), **report.sizes, "notes": report.notes, **(report.cost or {})},
        as_json,
        lambda: print_lines(report.lines()),
    )


@app.command(
    epilog=example(
        "scweave train runs/dataset --model crossrec --out runs/crossrec",
        "scweave train runs/dataset --model hitanno --out runs/hitanno",
        "scweave train runs/a runs/b --model annatac --stage pretrain --out runs/pretrained",
        "scweave train runs/dataset --model annatac --init runs/pretrained --out runs/annatac",
    )
)
def train(
    dataset: Annotated[
        list[Path],
        typer.Argument(
            metavar="DATASET...", help="Made by `scweave build`; several where a stage takes them."
        ),
    ],
    model: Annotated[
        str,
        typer.Option(
            metavar="NAME", help="crossrec, hitanno, annatac; majority, centroid, knn, logreg, svm, mlp, cnn."
        ),
    ],
    out: Annotated[Path, typer.Option(metavar="RUN", help="Folder to create.")],
    mode: Annotated[
        str, typer.Option(metavar="published|default", help="The function as published, or corrected.")
    ] = "default",
    stage: Annotated[
        str, typer.Option(metavar="pretrain|finetune", help="Without labels (annatac), or with them.")
    ] = "finetune",
    init: Annotated[
        Path | None, typer.Option(metavar="RUN", help="Begin with a run of --stage pretrain.")
    ] = None,
    size: Annotated[
        str | None,
        typer.Option(
            metavar="s|m|l", help="Sizes of a transformer (annatac); by default s, published mode l."
        ),
    ] = None,
    epochs: Annotated[
        int | None, typer.Option(help="Epochs at most; by default as usual for the model.")
    ] = None,
    batch_size: Annotated[int | None, typer.Option(help="Pairs or cells a batch, over all devices.")] = None,
    accumulate: Annotated[int, typer.Option(help="Batches whose gradients make one step.")] = 1,
    lr: Annotated[float | None, typer.Option(help="Learning rate.")] = None,
    patience: Annotated[int | None, typer.Option(help="Epochs without improvement before stopping.")] = None,
    devices: Annotated[
        int, typer.Option(help="GPUs, or processes where there is none, that share each batch.")
    ] = 1,
    precision: Annotated[
        str, typer.Option(metavar="32-true|64-true|bf16-mixed", help="As Lightning names it.")
    ] = "32-true",
    settings: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Model settings.")
    ] = None,
    fold: Annotated[
        int | None, typer.Option(metavar="K", min=0, help="Fold of a dataset built with --folds.")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with an interrupted run.")] = False,
    seed: Seed = 0,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Train a model; `python train.py` is the same command.

    Epochs, batch size, learning rate and patience are by default what the model is usually trained with.
    """
    from .commands.jobs import Job
    from .interpret.terminal import show_metrics
    from .train import run

    job = Job(
        dataset[0],
        out,
        model,
        mode,
        epochs,
        batch_size,
        lr,
        patience,
        devices,
        precision,
        tuple(settings or ()),
        seed,
        fold,
        size,
        stage,
        init,
        accumulate,
        tuple(dataset[1:]),
    )
    metrics = run(job, resume=resume, progress=not quiet)
    tell(metrics, as_json, lambda: show_metrics(metrics, out))


@app.command(
    epilog=example(
        "scweave evaluate runs/crossrec runs/dataset --out metrics.json",
        "scweave evaluate runs/hitanno runs/dataset --out metrics.json",
    )
)
def evaluate(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="Made by `scweave train`.")],
    dataset: Annotated[Path, typer.Argument(metavar="DATASET", help="Made by `scweave build`.")],
    out: Annotated[Path, typer.Option(metavar="METRICS.json", help="File to write.")],
    split: Annotated[str, typer.Option(metavar="train|validation|test", help="Which cells.")] = "test",
    retrieval_cells: Annotated[
        int, typer.Option(min=2, help="Cells for retrieval; n² pairs are scored.")
    ] = 200,
    translation_cells: Annotated[int, typer.Option(min=1, help="Cells for translation.")] = 1000,
    seed: Seed = 0,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Measure a trained model on held-out cells, beside its baselines."""
    from .commands.evaluate import evaluate_run
    from .interpret.terminal import show_metrics

    metrics = evaluate_run(
        run,
        dataset,
        out,
        split=split,
        retrieval_cells=retrieval_cells,
        translation_cells=translation_cells,
        seed=seed,
        progress=not quiet,
    )
    tell(metrics, as_json, lambda: show_metrics(metrics, out))


@app.command(
    epilog=example(
        "scweave predict runs/crossrec rna.h5ad atac.h5ad --out predicted.h5ad",
        "scweave predict runs/hitanno atac.h5ad --out annotated.h5ad",
    )
)
def predict(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="Made by `scweave train`.")],
    query: Annotated[
        list[Path],
        typer.Argument(metavar="QUERY...", help="A dataset with RUN's features, or files as `build` takes."),
    ],
    out: Annotated[Path, typer.Option(metavar="PRED.h5ad", help="File to write.")],
    layer: Annotated[
        str | None, typer.Option(metavar="NAME", help="Layer of the counts; X by default.")
    ] = None,
    min_placed: Annotated[
        float, typer.Option(help="Smallest share of RUN's genes and peaks (annatac: islands).")
    ] = 0.3,
    novel_below: Annotated[
        float | None,
        typer.Option(
            help="Confidence below which a cell is called novel; 0: never. Default of annatac: 0.5."
        ),
    ] = None,
    batch_size: Annotated[int | None, typer.Option(min=1, help="Cells at a time.")] = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Predict cells that need no labels: their types (annotators), or embedding and expression (crossrec)."""
    from .commands.predict import predict_run

    summary = predict_run(
        run,
        query,
        out,
        layer=layer,
        min_placed=min_placed,
        batch_size=batch_size,
        novel_below=novel_below,
        progress=not quiet,
    )
    told = [f"{name}: {what}" for name, what in summary["predicted"].items()]
    if labels := summary.get("labels"):
        found = sorted(((n, name) for name, n in labels.items() if n), reverse=True)
        told.append("cells: " + ", ".join(f"{name} {n:,}" for n, name in found))
    tell(summary, as_json, lambda: print_lines([*summary["notes"], *told, f"written: {out}"]))


@app.command(name="map", epilog=example("scweave map runs/crossrec runs/dataset --out runs/maps"))
def make_map(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="Made by `scweave train`.")],
    dataset: Annotated[Path, typer.Argument(metavar="DATASET", help="Made by `scweave build`.")],
    out: Annotated[Path, typer.Option(metavar="MAPS", help="Folder to create.")],
    per: Annotated[
        str, typer.Option(metavar="cell|cell-type", help="One map a cell or a cell type.")
    ] = "cell-type",
    truth: Annotated[Path | None, typer.Option(metavar="FILE", help="Known links to compare with.")] = None,
    truth_kind: Annotated[str | None, typer.Option(metavar="links", help="What FILE holds.")] = None,
    split: Annotated[
        str | None, typer.Option(metavar="train|validation|test", help="Only these cells.")
    ] = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Stream attention out as tables: which peak goes with which gene (crossrec) or tells which type (hitanno)."""
    from .interpret.maps import write_maps
    from .interpret.terminal import show_map

    summary = write_maps(
        run, dataset, out, per=per, truth=truth, truth_kind=truth_kind, split=split, progress=not quiet
    )
    tell(summary, as_json, lambda: show_map(summary, out))


app.command(epilog=example(*STUDIES))(study)


def main() -> None:
    """Run the command; bad input is one line on standard error and exit status 2."""
    debug = "--debug" in sys.argv
    sys.argv[1:] = [argument for argument in sys.argv[1:] if argument != "--debug"]
    try:
        status = app(standalone_mode=False)
    except Exception as error:
        if debug or not (_is_input_error(error) or hasattr(error, "format_message")):
            raise
        raise SystemExit(_complain(_one_line(error), 2)) from None
    raise SystemExit(_complain("interrupted", _INTERRUPTED) if status == _INTERRUPTED else status)


def _is_input_error(error: Exception) -> bool:
    from .graphs.errors import InputError

    return isinstance(error, InputError)


def _one_line(error: Exception) -> str:
    """Return the message of an input or usage error; usage errors point to the help."""
    if not hasattr(error, "format_message"):
        return str(error)
    context = getattr(error, "ctx", None)
    command = context.command_path if context else "scweave"
    return f"{' '.join(error.format_message().split())} See `{command} --help`."


def _complain(message: str, status: int) -> int:
    print(f"scweave: {message}", file=sys.stderr)
    return status


def _verify(dataset: Path, as_json: bool) -> None:
    from .graphs.store import verify as check
    from .interpret.terminal import sizes_line

    sizes = check(dataset)
    tell(sizes, as_json, lambda: print_lines([f"{dataset} is sound: {sizes_line(sizes)}"]))


if __name__ == "__main__":
    main()
