"""What does a regulatory map cost? Links of single cells written to disk, going on after a stop, and the map of types.

Cells are those of benchmarks/build.py: pbmc_mosim40 (10x PBMC Multiome, 36,601 genes x 108,377 peaks) resampled
and thinned, built with the default window prior; the model is a corrected CrossRec with random attention, whose
links cost what those of a trained one do. All sides compute on one thread (parquet is written by Arrow's own), and
all have the same links from the same model.

dense (the main case)
    links of single cells as `scweave map --per cell` writes them, in seconds a cell, against what the published
    program keeps of a cell: all its expressed genes beside all its open peaks, float32, an .npy each; a few cells
parquet_each, csv_each
    the same against a loop over cells that writes the same table of links, a file each
difference
    seconds a permutation of `differences.difference` between two cell types, all that it does included, against a
    loop over permutations (the loop alone); with the same permutations both find the same p-values

Ours adds up the map of cell types as it goes, which no other side does; shards_only_s is a cell without that.
read_s is the time of reading all that was written, a cell; mb_a_cell what it takes on disk. peak_mb_4_times is our
memory at four times as many cells of one type, to be compared with peak_mb_once. resume_s is the time of going on
when half of the files are there, beside whole_s. types_s, nulls_s, read_map_s and filter_s are seconds of the links
of all types, of the null of null_edges prior edges, of reading a map folder, and of filtering it.

Each side runs in a process of its own; the timed runs alternate, and medians are given. Memory is growth over the
loaded model and dataset, pages of mapped files left out.
"""

from __future__ import annotations

import os
import statistics
import sys
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import torch
from build import MODALITIES, data_folder, write_pair
from map_sides import FULL, QUICK, CellByCell, Difference, OurCells, Size, serve_cells, serve_difference
from measure import Waiting, Worker, alternate
from two_sides import Figures, check, command_line, start, tell

from scweave.generators.build import BuildOptions, build
from scweave.graphs.dataset import MultiomeGraphs
from scweave.models.checkpoint import save_model
from scweave.models.crossrec_cis import CisConfig, CisCrossRec

REFERENCES = ("dense", "parquet_each", "csv_each")


def make_inputs(folder: Path, n_cells: int) -> None:
    """Build resampled cells with window edges, and save a model of them whose attention is not uniform."""
    write_pair(folder, n_cells)
    gtf = data_folder() / "genome" / "hg38_gencode43_genes.gtf.gz"
    pair = [folder / f"{name}.h5ad" for name in MODALITIES]
    build(pair, folder / "dataset", gtf=gtf, options=BuildOptions(labels="cell_type"), progress=False)
    graphs = MultiomeGraphs(folder / "dataset")
    torch.manual_seed(0)
    model = CisCrossRec.from_graphs(graphs, CisConfig())
    with torch.no_grad():
        model.expression.attention.query.normal_(0, 0.3)
        assert model.expression.attention.bias is not None
        model.expression.attention.bias.normal_()
    (folder / "run").mkdir()
    save_model(folder / "run", model, graphs)


def compare_cells(
    begin: Callable[[str, str], Worker], cases: tuple[str, ...], repeats: int
) -> tuple[dict[str, Figures], Figures]:
    """Run the cases of single cells, and all that ours alone has of them."""
    with ExitStack() as stack:
        workers = [stack.enter_context(begin("ours", "cells"))]
        workers += [stack.enter_context(begin("reference", case)) for case in cases]
        growth, links = ([worker.ask(name) for worker in workers] for name in ("growth_mb", "links"))
        times = [statistics.median(own) for own in alternate(workers, repeats)]
        read, disk = ([worker.ask(name) for worker in workers] for name in ("read_s", "mb_a_cell"))
        alone = {"cells_per_s": 1 / times[0], **workers[0].ask("alone")}
    rows = {}
    for place, case in enumerate(cases, 1):
        if links[place][0] != links[0][0]:
            sys.exit(f"{case}: {links[place][0]:,.0f} links were written, and {links[0][0]:,.0f} by ours.")
        apart = check(case, {"sum": abs(links[place][1] - links[0][1]) / links[0][1]}, {"sum": 1e-6})
        rows[case] = {
            "ours_s": times[0],
            "reference_s": times[place],
            "speedup": times[place] / times[0],
            "ours_peak_mb": growth[0],
            "reference_peak_mb": growth[place],
            "ours_read_s": read[0],
            "reference_read_s": read[place],
            "ours_mb_a_cell": disk[0],
            "reference_mb_a_cell": disk[place],
            **apart,
        }
    return rows, alone


def compare_difference(begin: Callable[[str, str], Worker], repeats: int) -> Figures:
    """Run the permutation test on both sides."""
    with begin("ours", "difference") as ours, begin("reference", "difference") as other:
        found, expected = (np.array(worker.ask("pvalues")) for worker in (ours, other))
        apart = {"pvalues": float(np.abs(found - expected)[found >= 0].max())}
        agreement = check("difference", apart, {"pvalues": 1e-12})
        growth = [worker.ask("growth_mb") for worker in (ours, other)]
        our_s, other_s = (statistics.median(own) for own in alternate([ours, other], repeats))
    return {
        "ours_s": our_s,
        "reference_s": other_s,
        "speedup": other_s / our_s,
        "ours_peak_mb": growth[0],
        "reference_peak_mb": growth[1],
        **agreement,
    }


def run_all(folder: Path, quick: bool) -> tuple[dict[str, Figures], Figures]:
    """Make the inputs and run every case: what is compared, and what ours alone has."""
    size = QUICK if quick else FULL
    make_inputs(folder, size.dataset)
    options = [str(folder), *(["--quick"] if quick else [])]

    def begin(side: str, case: str) -> Worker:
        return start(__file__, side, case, options)

    rows, alone = compare_cells(begin, REFERENCES[: 1 if quick else None], size.repeats)
    for times in () if quick else ("once", "4_times"):
        with begin("ours", "cells") as worker:
            alone[f"peak_mb_{times}"] = worker.ask(times)
    rows["difference"] = compare_difference(begin, min(size.repeats, 2))
    alone["difference_s"] = rows["difference"]["ours_s"] * size.permutations[0]
    return rows, alone


def work(side: str, case: str, folder: Path, size: Size) -> None:
    """Be one side."""
    if case == "difference":
        serve_difference(Difference(folder, size, side))
    else:
        serve_cells(OurCells(folder, size) if side == "ours" else CellByCell(folder, size, case))


def main() -> None:
    parser = command_line(__doc__, quick="fewer cells, permutations, repeats and cases")
    parser.add_argument("--data", type=Path, help="folder of the real data (default: SCWEAVE_DATA)")
    arguments = parser.parse_args()
    if arguments.data:
        os.environ["SCWEAVE_DATA"] = str(arguments.data)
    if arguments.worker:
        side, case, folder = arguments.worker
        work(side, case, Path(folder), QUICK if arguments.quick else FULL)
        return
    data_folder()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name, Waiting() as waiting:
        rows, about = run_all(Path(name), arguments.quick)
    about["waiting_for_cores"] = waiting.share if waiting.share is not None else float("nan")
    tell(rows, "dense", about, what="a cell, a dealing", as_json=arguments.json)


if __name__ == "__main__":
    main()
