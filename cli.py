"""The `scweave` command: one thin function a subcommand; heavy imports happen when work starts."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from .commands import build_options as of_build
from .commands import options
from .commands.console import example, print_lines, tell
from .commands.options import Debug, Json, Quiet, Seed
from .commands.study_command import STUDIES, study

app = typer.Typer(
    help="Cell-peak-gene graphs of single-cell multiome data, and the models that read them.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
)

_INTERRUPTED = 130  # what Typer returns after Ctrl-C


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
    """Run the main job on a simulated experiment: simulate, build, train, evaluate, predict, map, report."""
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
    inputs: of_build.Inputs = None,
    out: of_build.Out = None,
    gtf: of_build.Gtf = None,
    fasta: of_build.Fasta = None,
    sequence_length: of_build.SequenceLength = 256,
    sequence_from: of_build.SequenceFrom = "centre",
    scaffolds: of_build.Scaffolds = "keep",
    min_placed: of_build.MinPlaced = 0.3,
    window: of_build.Window = "250000",
    around: of_build.Around = "tss",
    loops: of_build.Loops = None,
    labels: of_build.Labels = None,
    donor: of_build.Donor = None,
    batch: of_build.BatchColumn = None,
    labels_file: of_build.LabelsFile = None,
    unlabelled: of_build.Unlabelled = None,
    cell_types: of_build.CellTypes = None,
    layer: of_build.Layer = None,
    preset: of_build.Preset = None,
    refit: of_build.Refit = False,
    test_donors: of_build.TestDonors = None,
    folds: of_build.Folds = 0,
    negatives: of_build.Negatives = "easy",
    ratio: of_build.Ratio = 1.0,
    discovery: of_build.Discovery = False,
    like: of_build.Like = None,
    seed: Seed = 0,
    dry_run: of_build.DryRun = False,
    verify: of_build.Verify = None,
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

    chosen = BuildOptions(
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
    report = make(inputs, out, options=chosen, dry_run=dry_run, progress=not quiet, **files)
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
        "scweave train runs/dataset --model scmoanno --fold all --out runs/scmoanno",
    )
)
def train(
    dataset: options.Datasets,
    model: options.Model,
    out: Annotated[Path, typer.Option(metavar="RUN", help="Folder to create.")],
    mode: options.Mode = "default",
    stage: options.Stage = "finetune",
    init: options.Init = None,
    size: options.Size = None,
    epochs: options.Epochs = None,
    batch_size: options.BatchSize = None,
    accumulate: options.Accumulate = 1,
    lr: options.LearningRate = None,
    patience: options.Patience = None,
    devices: options.Devices = 1,
    precision: options.Precision = "32-true",
    settings: options.Settings = None,
    fold: options.Fold = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with an interrupted run.")] = False,
    seed: Seed = 0,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Train a model; `python train.py` is the same command.

    Epochs, batch size, learning rate and patience are by default what the model is usually trained with.
    """
    from .commands.folds import ALL, parse_fold, run_folds
    from .commands.jobs import Job
    from .interpret.terminal import show_metrics
    from .train import run

    chosen = parse_fold(fold)
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
        None if isinstance(chosen, str) else chosen,
        size,
        stage,
        init,
        accumulate,
        tuple(dataset[1:]),
    )
    work = run_folds if chosen == ALL else run
    metrics = work(job, resume=resume, progress=not quiet)
    tell(metrics, as_json, lambda: show_metrics(metrics, out))


@app.command(
    epilog=example(
        "scweave evaluate runs/crossrec runs/dataset --out metrics.json",
        "scweave evaluate runs/hitanno runs/dataset --out metrics.json",
    )
)
def evaluate(
    run: options.Run,
    dataset: options.Dataset,
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
    run: options.Run,
    query: Annotated[
        list[Path],
        typer.Argument(metavar="QUERY...", help="A dataset with RUN's features, or files as `build` takes."),
    ],
    out: Annotated[Path, typer.Option(metavar="PRED.h5ad", help="File to write.")],
    layer: options.Layer = None,
    min_placed: options.MinPlaced = 0.3,
    novel_below: options.NovelBelow = None,
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


@app.command(
    name="map",
    epilog=example(
        "scweave map runs/crossrec runs/dataset --out runs/maps",
        "scweave map runs/crossrec runs/dataset --truth chip.bed.gz --truth-kind tf --out runs/maps",
        "scweave map runs/annatac runs/dataset --motifs jaspar.meme --gtf genes.gtf.gz --out runs/peaks",
    ),
)
def make_map(
    run: options.Run,
    dataset: options.Dataset,
    out: Annotated[Path, typer.Option(metavar="MAPS", help="Folder to create.")],
    per: Annotated[
        str, typer.Option(metavar="cell|cell-type", help="One map a cell or a cell type.")
    ] = "cell-type",
    truth: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Known regulation to compare with (crossrec).")
    ] = None,
    truth_kind: Annotated[
        str | None,
        typer.Option(
            metavar="tf|crispr|bedpe|links",
            help="What FILE holds: ChIP-seq of a factor, perturbed enhancers, loops or eQTL, or a link table (default).",
        ),
    ] = None,
    motifs: Annotated[
        Path | None, typer.Option(metavar="FILE", help="JASPAR or MEME motifs to find in the peaks' DNA.")
    ] = None,
    gtf: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Genes and exons: where the peaks of a type lie.")
    ] = None,
    split: Annotated[
        str | None, typer.Option(metavar="train|validation|test", help="Only these cells.")
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with an interrupted map --per cell.")
    ] = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Stream attention out as tables: which peak goes with which gene (crossrec) or tells which type (annotators)."""
    from .commands.maps import map_run
    from .interpret.terminal import show_map

    summary = map_run(
        run,
        dataset,
        out,
        per=per,
        truth=truth,
        truth_kind=truth_kind,
        motifs=motifs,
        gtf=gtf,
        split=split,
        resume=resume,
        progress=not quiet,
    )
    tell(summary, as_json, lambda: show_map(summary, out))


@app.command(
    epilog=example(
        "scweave report runs/maps --out report.html",
        "scweave report runs/crossrec runs/maps --out report.html",
    )
)
def report(
    sources: Annotated[
        list[Path], typer.Argument(metavar="RUN|MAPS...", help="Made by train, map or study; one or more.")
    ],
    out: Annotated[Path, typer.Option(metavar="REPORT.html", help="File to write.")],
    title: Annotated[str | None, typer.Option(help="Of the page.")] = None,
    max_links: Annotated[
        int, typer.Option(min=1, help="Links of a map in the page; the strongest of each gene and type.")
    ] = 200_000,
    as_json: Json = False,
) -> None:
    """Write one HTML page that needs no network: metrics beside baselines, curves, and a browser of the map."""
    from .interpret.report import write_report

    summary = write_report(sources, out, title=title, max_links=max_links)
    tell(summary, as_json, lambda: print_lines([f"written: {out} ({summary['bytes'] / 1e6:.1f} MB)"]))


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
