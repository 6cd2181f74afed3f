"""`scweave map`: what is read from files before a model is mapped."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from ..generators.genomes.regions import Regions, check_genes, read_regions
from ..graphs.dataset import MultiomeGraphs
from ..graphs.whole import refuse_existing, unfinished
from ..interpret.map_folder import write_maps
from ..interpret.motifs.context import PeakContext
from ..interpret.motifs.read import read_motifs


def map_run(
    run: Path,
    dataset: Path,
    out: Path,
    *,
    motifs: Path | None = None,
    gtf: Path | None = None,
    **options: Any,
) -> dict[str, Any]:
    """Map a dataset with a trained model; see `interpret.map_folder.write_maps`.

    Parameters
    ----------
    run, dataset, out, options
        As there.
    motifs
        JASPAR or MEME file: names transcription factors on links, and which of them a type's peaks are rich in.
    gtf
        Gene annotation: exons for pictures, and where a type's peaks lie.

    Returns
    -------
    As there.

    Raises
    ------
    InputError
        As there; or a file cannot be read, or the annotation is of another species or build.
    """
    refuse_existing(out)
    found = None if motifs is None else read_motifs(motifs)
    regions = None if gtf is None else _regions(gtf, dataset)
    files = {name: str(path) for name, path in (("motifs", motifs), ("gtf", gtf)) if path is not None}
    context = PeakContext(found, regions, files)
    try:
        return write_maps(run, dataset, out, context=context, **options)
    except KeyboardInterrupt:
        if unfinished(out).is_dir():
            print("scweave: what is done is kept; the same command with --resume goes on", file=sys.stderr)
        raise


def _regions(gtf: Path, dataset: Path) -> Regions:
    graphs = MultiomeGraphs(dataset)
    regions = read_regions(gtf, graphs.store.manifest["chromosomes"])
    return check_genes(regions, graphs.genes.frame, gtf.name)
