"""Are simulated counts like real ones? Compares the simulation with 10x PBMC Multiome (pbmc_mosim40).

Both sides are measured on 40 cells, 10 of each of 4 cell types, with all features kept, because the
real data are that: its own 40 cells once, and of the simulation random tens of its 4 largest types,
many times, of which the median is given. For RNA and for ATAC:

nonzero_share
    median over cells of the share of features with a count
zero_fraction
    share of zeros in the matrix
dispersion
    median of variance / mean (variance with n - 1) over the features seen in at least 4 of the 40 cells

Exits with status 1 where a ratio simulated / real leaves 0.75 to 1.25.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from pathlib import Path

import anndata as ad
import mudata as md
import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from scweave.generators.simulate import simulate

TYPES, CELLS_PER_TYPE, LEAST_CELLS = 4, 10, 4
TOLERANCE = 0.25
Figures = dict[str, dict[str, float]]


def statistics(counts: sparse.csr_matrix) -> dict[str, float]:
    """Figures of one (cells, features) matrix of counts."""
    cells, features = counts.shape
    columns = counts.tocsc().astype(np.float64)
    mean = np.asarray(columns.mean(axis=0)).ravel()
    square = np.asarray(columns.power(2).mean(axis=0)).ravel()
    variance = (square - mean**2) * cells / (cells - 1)
    seen = columns.getnnz(axis=0) >= LEAST_CELLS
    return {
        "nonzero_share": float(np.median(counts.getnnz(axis=1)) / features),
        "zero_fraction": 1 - counts.nnz / (cells * features),
        "dispersion": float(np.median(variance[seen] / mean[seen])),
    }


def real_statistics(folder: Path) -> dict[str, float]:
    """Figures of pbmc_mosim40, named ``rna_...`` and ``atac_...``."""
    figures = {}
    for modality in ("rna", "atac"):
        path = folder / f"pbmc_mosim40_{modality}.h5ad"
        if not path.is_file():
            sys.exit(
                f"{path} not found. Set SCWEAVE_DATA to the folder that holds pbmc_mosim40_{{rna,atac}}.h5ad."
            )
        counts = sparse.csr_matrix(ad.read_h5ad(path).X)
        figures |= {f"{modality}_{name}": value for name, value in statistics(counts).items()}
    return figures


def simulated_statistics(seed: int, cells: int, draws: int) -> dict[str, float]:
    """Figures of one simulation of the default sizes, as medians over draws of 40 cells."""
    with tempfile.TemporaryDirectory() as folder, md.set_options(pull_on_update=False):
        files = simulate(Path(folder) / "simulated.h5mu", cells=cells, seed=seed, progress=False)
        experiment = md.read_h5mu(files.h5mu)
    kind = experiment["rna"].obs["cell_type"].to_numpy()
    rng = np.random.default_rng(seed)
    results = []
    for _ in range(draws):
        rows = draw_cells(kind, rng)
        results.append(
            {
                f"{modality}_{name}": value
                for modality in ("rna", "atac")
                for name, value in statistics(experiment[modality].X[rows]).items()
            }
        )
    return {name: float(np.median([result[name] for result in results])) for name in results[0]}


def draw_cells(kind: NDArray[np.object_], rng: np.random.Generator) -> NDArray[np.int64]:
    """Rows of ten random cells of each of the four largest types."""
    names, counts = np.unique(kind.astype(str), return_counts=True)
    largest = names[np.argsort(-counts, kind="stable")[:TYPES]]
    return np.concatenate(
        [rng.choice(np.flatnonzero(kind == name), CELLS_PER_TYPE, replace=False) for name in largest]
    )


def compare(folder: Path, seeds: int, cells: int, draws: int) -> Figures:
    """Each figure simulated (mean over seeds) and real, their ratio, and the ratio's extremes over seeds."""
    real = real_statistics(folder)
    runs = [simulated_statistics(seed, cells, draws) for seed in range(seeds)]
    comparison = {}
    for name, value in real.items():
        simulated = np.array([run[name] for run in runs])
        comparison[name] = {
            "simulated": float(simulated.mean()),
            "real": value,
            "ratio": float(simulated.mean() / value),
            "ratio_min": float(simulated.min() / value),
            "ratio_max": float(simulated.max() / value),
        }
    return comparison


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", action="store_true", help="print one line of JSON")
    parser.add_argument("--quick", action="store_true", help="one seed, 1,000 cells, 10 draws")
    parser.add_argument("--seeds", type=int, default=5, help="simulations (default 5)")
    arguments = parser.parse_args()
    default = Path(__file__).resolve().parents[2] / "shared" / "data"
    folder = Path(os.environ.get("SCWEAVE_DATA", default))
    seeds, cells, draws = (1, 1000, 10) if arguments.quick else (arguments.seeds, 2000, 40)
    comparison = compare(folder, seeds, cells, draws)
    if arguments.json:
        print(json.dumps(comparison))
    else:
        print(f"{'':20}{'simulated':>11}{'real':>9}{'ratio':>8}{'over seeds':>15}")
        for name, row in comparison.items():
            extremes = f"{row['ratio_min']:.2f}-{row['ratio_max']:.2f}"
            print(f"{name:20}{row['simulated']:11.4f}{row['real']:9.4f}{row['ratio']:8.2f}{extremes:>15}")
    if any(abs(row["ratio"] - 1) > TOLERANCE for row in comparison.values()):
        sys.exit(1)


if __name__ == "__main__":
    main()
