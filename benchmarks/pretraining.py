"""Does masked pre-training pay, and at how many labels? annATAC on a real experiment, beside HitAnno and baselines.

SNARE-seq of the mouse cortex (15 types, by cell) from $SCWEAVE_DATA or --data. For each share of the labels of training
and validation cells: annATAC from scratch; after pre-training on all training cells; after pre-training on them and on as
many simulated ones; HitAnno on the same labels; and the baselines on the same labels, all judged on the same test
cells. A simulated cell is made of a training cell and two of its ten nearest neighbours (LSI): their counts are added up, and as many
are drawn from the sum as the first has; no label is used. Repeats differ in the labels that are kept and in the seed.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from pathlib import Path
from typing import Any

import anndata as ad
import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from scipy import sparse
from sklearn.neighbors import NearestNeighbors

from scweave.commands.jobs import Job
from scweave.commands.study import study_run
from scweave.generators.build import BuildOptions, build
from scweave.graphs.dataset import MultiomeGraphs
from scweave.models.lsi import reduce

DATA = Path(os.environ.get("SCWEAVE_DATA", Path(__file__).parents[2] / "shared" / "data"))
ATAC, GTF = "snareseq_mouse_cortex_atac.h5ad", "genome/mm10_gencode_genes.gtf.gz"
SHARES = (0.05, 0.1, 0.5, 1.0)
METRICS = ("macro_f1", "accuracy", "balanced_accuracy")
_PARENTS, _NEIGHBOURS = 3, 10


def simulate(graphs: MultiomeGraphs, file: Path, *, seed: int = 0) -> None:
    """Write simulated cells, as many as there are training cells, with the peaks of the dataset."""
    rng = np.random.default_rng([seed, 8])
    train = np.flatnonzero((graphs.cells["split"] == "train").to_numpy())
    components = reduce(graphs.atac_rows, train, "tf-idf", width=30, seed=seed).of(train)
    near = NearestNeighbors(n_neighbors=_NEIGHBOURS).fit(components).kneighbors(return_distance=False)
    parents = rng.permuted(near, axis=1)[:, : _PARENTS - 1]
    counts = graphs.atac_rows.matrix(train)
    rows = [np.arange(len(train)), *parents.T]
    pooled = sum(counts[row] for row in rows)
    made = _thinned(sparse.csr_matrix(pooled), np.asarray(counts.sum(1)).ravel(), rng)
    names = pd.Index(graphs.peaks.frame["peak"].astype(str))
    cells = pd.Index([f"simulated-{i}" for i in range(len(train))])
    data = ad.AnnData(made, obs=pd.DataFrame(index=cells), var=pd.DataFrame(index=names))
    data.uns["genome"] = graphs.store.manifest["genome"]
    data.write_h5ad(file)


def _thinned(
    pooled: sparse.csr_matrix, depth: NDArray[np.floating[Any]], rng: np.random.Generator
) -> sparse.csr_matrix:
    """Draw ``depth`` counts of each row, without replacement."""
    counts = pooled.data.astype(np.int64)
    cell = np.repeat(np.repeat(np.arange(pooled.shape[0]), np.diff(pooled.indptr)), counts)
    peak = np.repeat(pooled.indices, counts)
    order = np.lexsort((rng.random(len(cell)), cell))
    first = np.concatenate([[0], np.cumsum(np.bincount(cell, minlength=pooled.shape[0]))])[:-1]
    rank = np.arange(len(cell)) - first[cell[order]]
    kept = order[rank < depth[cell[order]]]
    return sparse.csr_matrix((np.ones(len(kept), np.float32), (cell[kept], peak[kept])), shape=pooled.shape)


def studies(folder: Path, dataset: Path, simulated: Path, shares: tuple[float, ...], repeats: int) -> None:
    """Run the three studies; each draws the same labels."""
    common: dict[str, Any] = {"shares": shares, "repeats": repeats, "progress": False}
    study_run(Job(dataset, folder / "own", "annatac"), "pretraining", **common)
    study_run(Job(dataset, folder / "joined", "annatac"), "pretraining", unlabelled=[simulated], **common)
    study_run(Job(dataset, folder / "hitanno", "hitanno"), "fractions", **common)


def gather(folder: Path) -> pd.DataFrame:
    """Return ``setting, method, metric, value`` of all repeats."""
    own, joined, hitanno = (pd.read_csv(folder / name / "table.csv") for name in ("own", "joined", "hitanno"))
    own["method"] = own["method"].replace({"annatac": "annatac_pretrained"})
    joined = joined[joined["method"] == "annatac"].assign(method="annatac_pretrained_with_simulated")
    hitanno = hitanno[hitanno["method"] == "hitanno"]
    return pd.concat([own, joined, hitanno], ignore_index=True).query("metric in @METRICS")


def summarise(table: pd.DataFrame) -> dict[str, dict[str, dict[str, float]]]:
    """Return {share/metric: {method: {mean, std}}}."""
    found: dict[str, dict[str, dict[str, float]]] = {}
    for (share, metric, method), values in table.groupby(["setting", "metric", "method"])["value"]:
        std = float(values.std()) if len(values) > 1 else 0.0
        told = found.setdefault(f"{float(share):g}/{metric}", {})
        told[str(method)] = {"mean": float(values.mean()), "std": std}
    return found


def show(found: dict[str, dict[str, dict[str, float]]]) -> None:
    """Print macro-F1, a row a method."""
    shares = [name for name in found if name.endswith("/macro_f1")]
    print(f"{'macro-F1 at a share of labels':36}" + "".join(f"{name.split('/')[0]:>16}" for name in shares))
    for method in found[shares[0]]:
        cells = (found[name].get(method, {"mean": np.nan, "std": np.nan}) for name in shares)
        print(f"{method:36}" + "".join(f"{c['mean']:9.3f} ±{c['std']:5.3f}" for c in cells))


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", action="store_true", help="print one line of JSON")
    parser.add_argument("--quick", action="store_true", help="one share, one repeat, one cell in eight")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument(
        "--keep", type=Path, help="folder for data sets and studies; a temporary one by default"
    )
    arguments = parser.parse_args()
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", torch.get_num_threads())))
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.keep or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        source = arguments.data / ATAC
        if arguments.quick:
            data = ad.read_h5ad(source)
            data[np.arange(0, data.n_obs, 8)].copy().write_h5ad(folder / "some.h5ad")
            source = folder / "some.h5ad"
        gtf, options = arguments.data / GTF, BuildOptions(labels="cell_type_coarse")
        build([source], folder / "snare", gtf=gtf, options=options, progress=False)
        simulate(MultiomeGraphs(folder / "snare"), folder / "simulated.h5ad")
        build([folder / "simulated.h5ad"], folder / "simulated", gtf=gtf, progress=False)
        shares, repeats = ((0.5,), 1) if arguments.quick else (SHARES, arguments.repeats)
        studies(folder, folder / "snare", folder / "simulated", shares, repeats)
        found = summarise(gather(folder))
    if arguments.json:
        print(json.dumps({**found, "seeds": repeats}))
    else:
        show(found)


if __name__ == "__main__":
    main()
