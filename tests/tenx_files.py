"""Matrices as Cell Ranger writes them, made from a dense matrix of cells × (genes, then peaks)."""

from __future__ import annotations

import gzip

import h5py
import numpy as np
from scipy import sparse


def random_counts(n_cells, n_features, seed=0):
    return np.random.default_rng(seed).poisson(0.7, (n_cells, n_features))


def features(n_genes, n_peaks):
    """Rows of features.tsv: id, name, type, chrom, start, end."""
    genes = [(f"ENSG{i}", f"GENE{i}", "Gene Expression", "chr1", str(i), str(i + 1)) for i in range(n_genes)]
    spans = [("chr2", str(100 * i), str(100 * i + 50)) for i in range(n_peaks)]
    return genes + [(name := f"{c}:{a}-{b}", name, "Peaks", c, a, b) for c, a, b in spans]


def write_h5(path, matrix, n_genes, *, genome="GRCh38", rows=None):
    rows = rows or features(n_genes, matrix.shape[1] - n_genes)
    stored = sparse.csr_matrix(matrix)
    with h5py.File(path, "w") as file:
        group = file.create_group("matrix")
        group["barcodes"] = np.array([f"c{i}" for i in range(len(matrix))], dtype="S")
        group["shape"] = np.array(matrix.shape[::-1], np.int32)
        group.create_dataset("data", data=stored.data, compression="gzip")
        group.create_dataset("indices", data=stored.indices.astype(np.int64), compression="gzip")
        group["indptr"] = stored.indptr.astype(np.int64)
        genomes = [genome] * len(rows) if isinstance(genome, str) else genome
        columns = zip(*rows, strict=True)
        names = ("id", "name", "feature_type", "chrom", "start", "end")
        texts = dict(zip(names, columns, strict=True)) | {"genome": genomes}
        places = zip(texts.pop("chrom"), texts.pop("start"), texts.pop("end"), strict=True)
        texts["interval"] = [f"{c}:{a}-{b}" for c, a, b in places]
        for name, values in texts.items():
            group[f"features/{name}"] = np.array(values, dtype="S")
    return path


def write_text(path, text, *, zipped):
    if zipped:
        path = path.with_name(path.name + ".gz")
        path.write_bytes(gzip.compress(text.encode()))
    else:
        path.write_text(text)
    return path


def mtx_text(matrix, *, field="integer", order=None, separator=" "):
    cells, columns = np.nonzero(matrix)
    order = np.arange(len(cells)) if order is None else order
    values = matrix[cells, columns]
    triples = [(columns[i] + 1, cells[i] + 1, values[i])[: 2 if field == "pattern" else 3] for i in order]
    lines = [separator.join(map(str, triple)) for triple in triples]
    sizes = f"{matrix.shape[1]} {matrix.shape[0]} {len(cells)}"
    return "\n".join([f"%%MatrixMarket matrix coordinate {field} general", "%made up", sizes, *lines, ""])


def write_mtx(folder, matrix, n_genes, *, rows=None, zipped=True, **options):
    folder.mkdir(exist_ok=True)
    rows = rows or features(n_genes, matrix.shape[1] - n_genes)
    write_text(folder / "matrix.mtx", mtx_text(matrix, **options), zipped=zipped)
    write_text(folder / "features.tsv", "".join("\t".join(row) + "\n" for row in rows), zipped=zipped)
    write_text(folder / "barcodes.tsv", "".join(f"c{i}\n" for i in range(len(matrix))), zipped=zipped)
    return folder
