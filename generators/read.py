"""One checked RNA/ATAC experiment from an h5mu, or from two h5ad files in any order."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Final, Literal, NoReturn

import h5py
import numpy as np
import pandas as pd
from anndata.io import read_elem
from numpy.typing import NDArray
from scipy import sparse

from ..graphs.errors import InputError
from .peak_names import peak_like

Name = Literal["rna", "atac"]

_ALIASES: Final[dict[Name, frozenset[str]]] = {
    "rna": frozenset({"rna", "gex", "gene expression", "gene_expression", "genes", "scrna"}),
    "atac": frozenset({"atac", "peaks", "peak", "scatac", "chromatin accessibility"}),
}
_SAME_GENOME: Final = {"grch38": "hg38", "grch37": "hg19", "grcm38": "mm10", "grcm39": "mm39"}
_SAMPLE: Final = 200  # cells looked at before anything is built
_GAP: Final = 4096  # stored values that are cheaper to read over than to seek past
_DENSE: Final = 2**24  # values of dense storage held at a time
# What h5py and anndata raise on damaged or foreign content.
_DAMAGED: Final = (
    OSError,
    KeyError,
    ValueError,
    TypeError,
    RuntimeError,
    AttributeError,
    NotImplementedError,
)


@dataclass(frozen=True)
class Modality:
    """One matrix of counts on disk, with its two tables in memory.

    Attributes
    ----------
    name
        ``"rna"`` or ``"atac"``.
    path
        File that holds it.
    barcodes
        Cells, in the order of the file.
    obs, var
        Tables of cells and features; the index of `var` are the feature names.
    genome
        ``uns["genome"]`` as the file gives it, or None.
    matrix
        Place of the counts inside the file, such as ``X`` or ``mod/rna/layers/counts``.
    layers
        Layers that the file has for this modality.
    """

    name: Name
    path: Path
    barcodes: pd.Index
    obs: pd.DataFrame
    var: pd.DataFrame
    genome: str | None
    matrix: str = "X"
    layers: tuple[str, ...] = ()

    def chunks(self, rows: NDArray[np.int64], *, size: int = 2048) -> Iterator[sparse.csr_matrix]:
        """Stream the counts of the wanted cells, each chunk checked to be counts.

        CSR and dense storage are read piece by piece; CSC storage is loaded whole once a call,
        as its rows cannot be found otherwise. Rows in the order of the file are read
        fastest.

        Parameters
        ----------
        rows
            int64, rows of the file in the order wanted.
        size
            Cells a chunk.

        Yields
        ------
        csr_matrix
            int32 counts, shape (up to `size`, features), int32 indices sorted within rows, no
            stored zeros.

        Raises
        ------
        InputError
            On negative, missing or fractional values, and on damaged storage.
        """
        rows = np.asarray(rows, dtype=np.int64)
        try:
            with h5py.File(self.path, "r") as file:
                node = file[self.matrix]
                whole = _load_csc(node) if _encoding(node) == "csc_matrix" else None
                shape = (len(self.barcodes), len(self.var))
                for first in range(0, len(rows), size):
                    wanted = rows[first : first + size]
                    yield self._counts(_read_rows(node, wanted, shape) if whole is None else whole[wanted])
        except InputError:
            raise
        except _DAMAGED as error:
            _refuse_damaged(self.path, self.matrix, error)

    def nonzeros(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the number of stored values of each wanted cell, int64; CSR storage reads no counts for it."""
        with h5py.File(self.path, "r") as file:
            node = file[self.matrix]
            if _encoding(node) == "csr_matrix":
                return np.diff(node["indptr"][:].astype(np.int64))[rows]
        return np.concatenate([np.diff(chunk.indptr) for chunk in self.chunks(rows)]).astype(np.int64)

    def _counts(self, chunk: sparse.csr_matrix) -> sparse.csr_matrix:
        if chunk.indices.size and not 0 <= chunk.indices.min() <= chunk.indices.max() < len(self.var):
            raise ValueError("column indices exceed the number of features")
        chunk.sum_duplicates()
        problem = _not_counts(chunk.data)
        if problem:
            raise InputError(
                f"values of {self.matrix} in {self.path.name} are not counts: {problem} Pass raw counts,"
                f" or name the layer that holds them with --layer (layers here: {_listed(self.layers)})."
            )
        chunk.eliminate_zeros()
        return sparse.csr_matrix(
            (chunk.data.astype(np.int32), chunk.indices.astype(np.int32), chunk.indptr), shape=chunk.shape
        )


@dataclass(frozen=True)
class Experiment:
    """Both modalities of the same cells, in the order of the RNA file.

    Attributes
    ----------
    rna, atac
        The two matrices.
    rows_rna, rows_atac
        int64, shape (cells,): row of each shared cell in its file.
    barcodes
        Shared cells.
    obs
        Columns of both modalities for the shared cells; the RNA file's where both have one.
    report
        What was dropped or chosen, a line each.
    """

    rna: Modality
    atac: Modality
    rows_rna: NDArray[np.int64]
    rows_atac: NDArray[np.int64]
    barcodes: pd.Index
    obs: pd.DataFrame
    report: list[str]


def read(inputs: Sequence[Path], *, layer: str | None = None) -> Experiment:
    """Read a paired experiment and refuse what is not one.

    Barcodes are matched by name. A seeded sample of cells of both matrices is checked to be
    counts; the rest is checked while it streams.

    Parameters
    ----------
    inputs
        One .h5mu with an RNA and an ATAC modality, or two .h5ad files in any order.
    layer
        Layer that holds the counts of both modalities (default: X); ``rna:NAME`` or ``atac:NAME``
        names it for one modality only.

    Returns
    -------
    Experiment

    Raises
    ------
    InputError
        If a file is missing, damaged or foreign, the modalities cannot be told apart, barcodes or
        gene names are repeated, no barcode is shared, genomes differ, or values are not counts.
    """
    paths = [Path(path) for path in inputs]
    kinds = [_kind(path) for path in paths]
    if kinds == ["h5mu"]:
        rna, atac, shared_obs = _read_h5mu(paths[0], layer)
    elif kinds == ["h5ad", "h5ad"]:
        rna, atac = _read_pair(paths, layer)
        shared_obs = None
    else:
        given = (
            ", ".join(f"{path.name} ({kind})" for path, kind in zip(paths, kinds, strict=True)) or "nothing"
        )
        raise InputError(f"input is {given}. Pass one .h5mu, or the .h5ad of RNA and the .h5ad of ATAC.")
    report = _check_gene_names(rna)
    for modality in (rna, atac):
        _check_barcodes(modality)
    _check_genomes(rna, atac)
    for modality in (rna, atac):
        _check_sample(modality)
    return _match(rna, atac, shared_obs, report)


def _kind(path: Path) -> str:
    if not path.is_file():
        what = "is a folder" if path.is_dir() else "does not exist"
        raise InputError(f"input {path} {what}. Pass the path of a .h5mu or .h5ad file.")
    try:
        with h5py.File(path, "r") as file:
            if "mod" in file:
                return "h5mu"
            if "obs" in file and "var" in file:
                return "h5ad"
            found = ", ".join(list(file)[:5]) or "nothing"
    except _DAMAGED as error:
        raise InputError(
            f"{path.name} cannot be opened as HDF5 ({_first_line(error)}). It is truncated or no .h5ad/.h5mu:"
            " copy it again, or convert it with anndata."
        ) from error
    raise InputError(
        f"{path.name} is HDF5 but no AnnData: it has {found}, not X, obs and var. Pass a .h5ad or .h5mu."
    )


def _read_pair(paths: Sequence[Path], layer: str | None) -> tuple[Modality, Modality]:
    with h5py.File(paths[0], "r") as first, h5py.File(paths[1], "r") as second:
        vars_ = [_table(file, "var", path) for file, path in zip((first, second), paths, strict=True)]
    guesses = [_guess(var) for var in vars_]
    for at, path in enumerate(paths):
        if guesses[at] == "both":
            raise InputError(
                f"{path.name} holds genes and peaks in one matrix. Split it by var['feature_types']."
            )
    known = {guess for guess in guesses if guess}
    if len(known) == 2:
        at = guesses.index("rna")
    elif len(known) == 1 and None in guesses:
        at = guesses.index("rna") if "rna" in known else guesses.index(None)
    else:
        told = "; ".join(
            f"{path.name}: {guess or 'unclear'}, features {', '.join(map(str, var.index[:2]))}"
            for path, guess, var in zip(paths, guesses, vars_, strict=True)
        )
        raise InputError(
            f"cannot tell which file is RNA and which is ATAC ({told}). Pass one of each; name peaks"
            " chrom:start-end, or set var['feature_types'] to 'Gene Expression' and 'Peaks'."
        )
    return _read_modality(paths[at], "rna", "", layer), _read_modality(paths[1 - at], "atac", "", layer)


def _guess(var: pd.DataFrame) -> Literal["rna", "atac", "both"] | None:
    """Tell what the features are, by their declared type, else by their names."""
    if "feature_types" in var:
        types = set(var["feature_types"].dropna().astype(str).str.lower())
        found = [name for name, aliases in _ALIASES.items() if types & aliases]
        if found:
            return "both" if len(found) == 2 else found[0]
    if len(var) and peak_like(var.index.tolist()).mean() > 0.5:
        return "atac"
    if "interval" in var or {"chromStart", "chromEnd"} <= set(var.columns):
        return None
    placed = {"start", "end"} <= set(var.columns)
    return None if placed and not {"gene_ids", "gene_name", "strand"} & set(var.columns) else "rna"


def _read_h5mu(path: Path, layer: str | None) -> tuple[Modality, Modality, pd.DataFrame | None]:
    with h5py.File(path, "r") as file:
        available = list(file["mod"])
        obs = _table(file, "obs", path) if "obs" in file else None
    found: dict[str, str] = {}
    for name, aliases in _ALIASES.items():
        matching = [key for key in available if key.lower() in aliases]
        if len(matching) != 1:
            raise InputError(
                f"{path.name} has {len(matching)} modalities that are {name.upper()} (it has:"
                f" {_listed(available)}). Name them 'rna' and 'atac'."
            )
        found[name] = matching[0]
    rna = _read_modality(path, "rna", f"mod/{found['rna']}/", layer)
    return rna, _read_modality(path, "atac", f"mod/{found['atac']}/", layer), obs


def _read_modality(path: Path, name: Name, prefix: str, layer: str | None) -> Modality:
    with h5py.File(path, "r") as file:
        root = file[prefix] if prefix else file
        layers = tuple(root.get("layers", {}))
        matrix = prefix + _choose(path, name, layer, layers)
        obs, var = _table(root, "obs", path), _table(root, "var", path)
        _check_matrix(file, matrix, path, (len(obs), len(var)))
        genome = _genome(root) or _genome(file)
    return Modality(name, path, obs.index, obs, var, genome, matrix, layers)


def _choose(path: Path, name: Name, layer: str | None, layers: tuple[str, ...]) -> str:
    if layer is None:
        return "X"
    only, _, named = layer.partition(":")
    if layer not in layers and named and only in _ALIASES:
        if only != name:
            return "X"
        layer = named
    if layer not in layers:
        other = "atac" if name == "rna" else "rna"
        raise InputError(
            f"{path.name} has no layer '{layer}' for {name.upper()} (layers here: {_listed(layers)})."
            f" Pass one of these, or --layer {other}:{layer} if only the other modality has it."
        )
    return f"layers/{layer}"


def _table(root: Any, key: str, path: Path) -> pd.DataFrame:
    """Read obs or var with names as text and without unused categories."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # old encodings are read; others end below
            table = read_elem(root[key])
        table.index = pd.Index(table.index.astype(str), dtype=object)
    except _DAMAGED as error:
        _refuse_damaged(path, key, error)
    return _without_unused(table)


def _without_unused(table: pd.DataFrame) -> pd.DataFrame:
    return table.assign(
        **{
            str(name): column.cat.remove_unused_categories()
            for name, column in table.items()
            if isinstance(column.dtype, pd.CategoricalDtype)
        }
    )


def _check_matrix(file: Any, matrix: str, path: Path, expected: tuple[int, int]) -> None:
    if matrix not in file:
        layers = _listed(file.get(matrix.removesuffix("X") + "layers", ()))
        raise InputError(
            f"{path.name} has no matrix {matrix} (layers here: {layers}). Name the layer with the counts"
            " with --layer, or write the counts into X."
        )
    node = file[matrix]
    encoding = _encoding(node)
    if encoding not in ("csr_matrix", "csc_matrix", "array"):
        raise InputError(
            f"{matrix} in {path.name} is stored as {encoding!r}, not as a CSR, CSC or dense matrix. Write the"
            " file again with a current anndata."
        )
    try:
        shape = tuple(int(n) for n in (node.shape if encoding == "array" else node.attrs["shape"]))
    except _DAMAGED as error:
        _refuse_damaged(path, matrix, error)
    if shape != expected:
        raise InputError(
            f"{matrix} in {path.name} has shape {shape}, but obs and var say {expected}. The file is damaged:"
            " write it again."
        )


def _encoding(node: Any) -> str:
    if isinstance(node, h5py.Dataset):
        return "array" if node.dtype.kind in "iufb" else str(node.dtype)
    return str(node.attrs.get("encoding-type", "group without encoding-type"))


def _genome(root: Any) -> str | None:
    node = root.get("uns/genome")
    if not isinstance(node, h5py.Dataset) or node.shape not in ((), (1,)):
        return None
    value = np.ravel(node[()])[0]
    return value.decode() if isinstance(value, bytes) else str(value)


def _read_rows(node: Any, rows: NDArray[np.int64], shape: tuple[int, int]) -> sparse.csr_matrix:
    """Rows of CSR or dense storage in the order given; neighbours in the file are read at once."""
    unique, inverse = np.unique(rows, return_inverse=True)
    read_sorted = _read_dense if isinstance(node, h5py.Dataset) else _read_csr
    block = read_sorted(node, unique, shape[1])
    return block if np.array_equal(inverse, np.arange(len(unique))) else block[inverse]


def _read_csr(node: Any, rows: NDArray[np.int64], n_columns: int) -> sparse.csr_matrix:
    bounds = node["indptr"][rows[0] : rows[-1] + 2].astype(np.int64)
    start, stop = bounds[rows - rows[0]], bounds[rows - rows[0] + 1]
    lengths = stop - start
    if (lengths < 0).any() or stop.max(initial=0) > len(node["data"]):
        raise ValueError("row pointers run backwards or past the data")
    cuts = np.flatnonzero(start[1:] - stop[:-1] > _GAP) + 1
    edges = np.concatenate([[0], cuts, [len(rows)]])
    stored, columns = node["data"], node["indices"]
    data, indices = [], []
    for a, b in pairwise(edges.tolist()):  # a run of neighbouring rows, not a row
        piece = slice(int(start[a]), int(stop[b - 1]))
        keep = _within(start[a:b] - start[a], lengths[a:b], piece.stop - piece.start)
        data.append(stored[piece][keep])
        indices.append(columns[piece][keep])
    indptr = np.concatenate([[0], np.cumsum(lengths)])
    values = np.concatenate(data)
    return sparse.csr_matrix((values, np.concatenate(indices), indptr), shape=(len(rows), n_columns))


def _within(start: NDArray[np.int64], lengths: NDArray[np.int64], total: int) -> Any:
    """Positions of the rows wanted inside a run, all of it where nothing lies between them."""
    if int(lengths.sum()) == total:
        return slice(None)
    before = np.cumsum(lengths) - lengths
    return np.repeat(start - before, lengths) + np.arange(int(lengths.sum()))


def _read_dense(node: Any, rows: NDArray[np.int64], n_columns: int) -> sparse.csr_matrix:
    most = max(1, _DENSE // max(1, n_columns))
    window = (rows - rows[0]) // most
    cuts = np.flatnonzero(np.diff(window)) + 1
    pieces = [
        sparse.csr_matrix(node[piece[0] : piece[-1] + 1][piece - piece[0]]) for piece in np.split(rows, cuts)
    ]
    return sparse.csr_matrix(sparse.vstack(pieces, format="csr"))


def _load_csc(node: Any) -> sparse.csr_matrix:
    parts = (node["data"][:], node["indices"][:], node["indptr"][:])
    return sparse.csc_matrix(parts, shape=tuple(node.attrs["shape"])).tocsr()


def _not_counts(values: NDArray[Any]) -> str | None:
    """Measure what keeps values from being counts; None if nothing does."""
    if values.size == 0 or values.dtype.kind == "b":
        return None
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        return f"{(~np.isfinite(values)).sum():,} of {values.size:,} values are NaN or infinite."
    if (negative := values < 0).any():
        examples = _some(values[negative])
        return f"{_share(negative, values)} are negative (for example {examples}). This looks scaled."
    if values.dtype.kind == "f" and (fractional := values != np.rint(values)).any():
        highest = float(values.max())
        looks = "log-normalised" if highest < 25 else "normalised"
        return (
            f"{_share(fractional, values)} are not integers (for example {_some(values[fractional])}),"
            f" maximum {highest:.3g}. This looks {looks}."
        )
    if values.max() > np.iinfo(np.int32).max:
        return f"the maximum is {float(values.max()):.3g}, more than an int32 holds."
    return None


def _share(wrong: NDArray[np.bool_], values: NDArray[Any]) -> str:
    percent = 100 * float(wrong.mean())
    return (
        f"{percent:.0f} % of the non-zeros"
        if percent >= 1
        else f"{wrong.sum():,} of {values.size:,} non-zeros"
    )


def _some(values: NDArray[Any]) -> str:
    return ", ".join(f"{float(value):.3g}" for value in np.unique(values[:1000])[:2])


def _check_sample(modality: Modality) -> None:
    n_cells = len(modality.barcodes)
    rng = np.random.default_rng(0)
    rows = np.sort(rng.choice(n_cells, size=min(_SAMPLE, n_cells), replace=False))
    for _ in modality.chunks(rows, size=_SAMPLE):
        pass


def _check_barcodes(modality: Modality) -> None:
    twice = modality.barcodes.duplicated()
    if twice.any():
        names = ", ".join(modality.barcodes[twice].unique()[:3])
        raise InputError(
            f"{twice.sum():,} of {len(twice):,} {modality.name.upper()} barcodes in {modality.path.name}"
            f" repeat another ({names}). Make them unique, for example with the sample's name as prefix."
        )


def _check_gene_names(rna: Modality) -> list[str]:
    twice = rna.var.index.duplicated()
    if not twice.any():
        return []
    names = ", ".join(rna.var.index[twice].unique()[:3])
    told = f"{twice.sum():,} of {len(twice):,} gene names in {rna.path.name} repeat another ({names})"
    if "gene_ids" in rna.var and rna.var["gene_ids"].is_unique and rna.var["gene_ids"].notna().all():
        return [f"{told}; var['gene_ids'] tells them apart"]
    raise InputError(f"{told}. Make them unique, or give var a column gene_ids with one id a gene.")


def _check_genomes(rna: Modality, atac: Modality) -> None:
    if rna.genome is None or atac.genome is None:
        return
    builds = {_SAME_GENOME.get(name.lower(), name.lower()) for name in (rna.genome, atac.genome)}
    if len(builds) > 1:
        raise InputError(
            f"uns['genome'] is {rna.genome} in {rna.path.name} (RNA) but {atac.genome} in {atac.path.name}"
            " (ATAC). Pass files of one build, or correct the entry."
        )


def _match(rna: Modality, atac: Modality, shared_obs: pd.DataFrame | None, report: list[str]) -> Experiment:
    found = atac.barcodes.get_indexer(rna.barcodes)
    rows_rna = np.flatnonzero(found >= 0).astype(np.int64)
    rows_atac = found[rows_rna].astype(np.int64)
    if len(rows_rna) == 0:
        raise InputError(
            f"no barcode is in both modalities (RNA: {', '.join(rna.barcodes[:2])} …; ATAC:"
            f" {', '.join(atac.barcodes[:2])} …). Rename the cells so that a cell has one name in both."
        )
    for modality in (rna, atac):
        extra = len(modality.barcodes) - len(rows_rna)
        if extra:
            total = len(modality.barcodes)
            report.append(f"{extra:,} of {total:,} {modality.name.upper()} cells have no partner: dropped")
    barcodes = rna.barcodes[rows_rna]
    obs = _merge(rna.obs.iloc[rows_rna], atac.obs.iloc[rows_atac], "the ATAC file's", report)
    if shared_obs is not None:
        prefixed = shared_obs.columns.str.match(r".+:")  # copies that mudata makes of a modality's columns
        obs = _merge(obs, shared_obs.loc[:, ~prefixed].reindex(barcodes), "the h5mu's", report)
    return Experiment(rna, atac, rows_rna, rows_atac, barcodes, _without_unused(obs), report)


def _merge(ours: pd.DataFrame, theirs: pd.DataFrame, whose: str, report: list[str]) -> pd.DataFrame:
    for name in ours.columns.intersection(theirs.columns):
        a, b = ours[name].to_numpy(dtype=object), theirs[name].to_numpy(dtype=object)
        differs = ~((a == b) | (pd.isna(a) & pd.isna(b)))
        if differs.any():
            report.append(
                f"obs column '{name}' differs from {whose} in {differs.sum():,} of {len(a):,} cells:"
                " the first is kept"
            )
    return pd.concat([ours, theirs[theirs.columns.difference(ours.columns, sort=False)]], axis=1)


def _refuse_damaged(path: Path, place: str, error: Exception) -> NoReturn:
    raise InputError(
        f"{place} in {path.name} cannot be read ({_first_line(error)}). The file is truncated, not written by"
        " anndata, or compressed by a filter that h5py lacks: copy it again, or write it with gzip."
    ) from error


def _listed(names: Iterable[object]) -> str:
    return ", ".join(map(str, names)) or "none"


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), "") or type(error).__name__
