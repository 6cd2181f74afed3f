"""Opening what Cell Ranger writes: the .h5 and the folder of matrix.mtx, features.tsv and barcodes.tsv."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import h5py
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ...graphs.errors import InputError
from .counts import Name
from .damaged import listed, told
from .hdf5 import need_filters
from .mtx import open_plain, read_head
from .parts import Opening, Part, split_by_type
from .storage import RowStorage, Storage, check_row_pointers
from .transposed import Transposed

_MATRICES: Final = ("matrix.mtx.gz", "matrix.mtx")
_FEATURES: Final = (
    "features.tsv.gz",
    "features.tsv",
    "genes.tsv",
    "genes.tsv.gz",
    "peaks.bed",
    "peaks.bed.gz",
)
_BARCODES: Final = ("barcodes.tsv.gz", "barcodes.tsv")
_TSV_COLUMNS: Final = ("id", "name", "feature_types", "chrom", "start", "end")
_H5_COLUMNS: Final = {
    "id": "id", "name": "name", "feature_type": "feature_types", "interval": "interval", "genome": "genome"
}  # fmt: skip


def read_tenx_h5(path: Path, opening: Opening) -> list[Part]:
    """Open a ``filtered_feature_bc_matrix.h5`` of genes, peaks, or both.

    Parameters
    ----------
    path
        The file.
    opening
        What was chosen; ignored features are appended to its report.

    Raises
    ------
    InputError
        The file is damaged, holds several genomes, or neither genes nor peaks.
    """
    with told(path, "matrix"), h5py.File(path, "r") as file:
        matrix = file["matrix"]
        need_filters(matrix, path)
        barcodes = _texts(matrix["barcodes"])
        there = {key: matrix["features"][key] for key in _H5_COLUMNS if key in matrix["features"]}
        features = pd.DataFrame({_H5_COLUMNS[key]: _texts(node) for key, node in there.items()})
        found = tuple(int(n) for n in matrix["shape"][:2])
        stored = len(matrix["data"])
    shape = (len(barcodes), len(features))
    _check_shape(path, "matrix", found[::-1], shape, "barcodes", "features")
    with told(path, "matrix"), h5py.File(path, "r") as file:
        check_row_pointers(file["matrix"], shape[0])
    storage = RowStorage(path, "matrix", shape, stored)  # features × barcodes by column: cells by row
    return _parts(path, features, barcodes, storage, opening)


def read_tenx_folder(path: Path, opening: Opening) -> list[Part]:
    """Open a folder of matrix.mtx, features.tsv (or genes.tsv, peaks.bed) and barcodes.tsv, gzip or not.

    Parameters
    ----------
    path
        The folder.
    opening
        As `read_tenx_h5`; a matrix without values is told.

    Raises
    ------
    InputError
        A file is missing or damaged, or the three do not belong together.
    """
    matrix, feature_file, cell_file = (_find(path, names) for names in (_MATRICES, _FEATURES, _BARCODES))
    source = read_head(path, matrix)
    features = _features(path, feature_file)
    barcodes = _lines(path, cell_file)[0].to_numpy(dtype=object)
    _check_shape(path, matrix, source.shape, (len(barcodes), len(features)), cell_file, feature_file)
    if source.pattern:
        opening.report.append(f"{matrix} in {path.name} holds no values: each entry is read as a count of 1")
    return _parts(
        path, features, barcodes, Transposed(source, opening.scratch, progress=opening.progress), opening
    )


def tenx_files(path: Path) -> list[Path]:
    """Files of a 10x folder that are read."""
    return [path / _find(path, names) for names in (_MATRICES, _FEATURES, _BARCODES)]


def refuse_old_h5(path: Path, groups: list[str]) -> None:
    """Tell what a .h5 of Cell Ranger 2 (a group for each genome) is."""
    raise InputError(
        f"{path.name} is a matrix of Cell Ranger 2 (a group for each genome: {listed(groups)}). Convert it:"
        f" scanpy.read_10x_h5('{path.name}', genome='{groups[0]}').write_h5ad('rna.h5ad')"
    )


def _texts(node: Any) -> NDArray[np.object_]:
    texts: NDArray[np.object_] = node.asstr()[:]
    return texts


def _find(path: Path, names: tuple[str, ...]) -> str:
    found = [name for name in names if (path / name).is_file()]
    if not found:
        there = sorted(item.name for item in path.iterdir())
        more = ", …" if len(there) > 5 else ""
        raise InputError(
            f"folder {path.name} has no {' or '.join(names)} (it has: {listed(there[:5])}{more}). Pass the"
            " folder filtered_feature_bc_matrix, or an .h5ad, .h5mu or .h5 file."
        )
    if len(found) > 1:
        raise InputError(f"folder {path.name} has both {' and '.join(found)}. Remove one of them.")
    return found[0]


def _lines(path: Path, name: str) -> pd.DataFrame:
    """Fields of a tab-separated file; lines may be of different length."""
    with told(path, name), open_plain(path / name) as stream:
        text = stream.read().decode().replace("\r\n", "\n")
        lines = text.removesuffix("\n").split("\n") if text else []
        return pd.Series(lines, dtype=object).str.split("\t", expand=True).reindex(columns=range(6))


def _features(path: Path, name: str) -> pd.DataFrame:
    table = _lines(path, name)
    if name.startswith("peaks.bed"):
        names = table[0] + ":" + table[1] + "-" + table[2]
        return pd.DataFrame({"id": names, "name": names, "feature_types": "Peaks"})
    table.columns = pd.Index(_TSV_COLUMNS)
    table["name"] = table["name"].fillna(table["id"])
    return table.dropna(axis=1, how="all")  # genes.tsv has no types


def _check_shape(
    path: Path, matrix: str, found: tuple[int, ...], named: tuple[int, int], cells: str, features: str
) -> None:
    if found == named:
        return
    turned = " It is cells × features: transpose it." if found == named[::-1] else ""
    raise InputError(
        f"{matrix} in {path.name} has {found[1]:,} features × {found[0]:,} cells, but {features} lists"
        f" {named[1]:,} and {cells} {named[0]:,}.{turned or ' Pass files of one run, copied whole.'}"
    )


def _parts(
    path: Path, features: pd.DataFrame, barcodes: NDArray[np.object_], storage: Storage, opening: Opening
) -> list[Part]:
    obs = pd.DataFrame(index=pd.Index(barcodes, dtype=object))
    var = features.set_axis(pd.Index(features["name"], dtype=object, name=None))
    kinds = split_by_type(var, path, opening)
    used = [np.arange(len(var)) if columns is None else columns for _, columns in kinds]
    genome = _genome(path, features.iloc[np.concatenate(used)])
    return [
        Part(kind, path, obs, _var(var.iloc[at], kind), genome, (), _any(path, storage, opening), columns)
        for (kind, columns), at in zip(kinds, used, strict=True)
    ]


def _any(path: Path, storage: Storage, opening: Opening) -> Any:
    def of(name: Name) -> Storage:
        named = opening.layer if opening.layer is None else opening.layer.partition(":")
        if named is not None and (not named[1] or named[0] == name):
            raise InputError(f"{path.name} is of 10x and has no layers. Leave out --layer {opening.layer}.")
        return storage

    return of


def _genome(path: Path, features: pd.DataFrame) -> str | None:
    genomes = sorted(set(features["genome"]) - {"", "NA"}) if "genome" in features else []
    if len(genomes) > 1:
        raise InputError(
            f"{path.name} holds features of {len(genomes)} genomes ({listed(genomes)}). Count against one"
            " genome, or keep the features of one and write them as .h5ad."
        )
    return genomes[0] if genomes else None


def _var(features: pd.DataFrame, kind: Name | None) -> pd.DataFrame:
    """Table of genes or peaks; where genes lie is left to the annotation."""
    kept = ["feature_types"]
    if kind == "atac":
        kept = [*kept, "interval", *(("chrom", "start", "end") if _placed(features) else ())]
    var = features[[column for column in kept if column in features]]
    if kind != "atac":
        var = var.assign(gene_ids=features["id"])
    return var.astype({"start": np.int64, "end": np.int64}) if "start" in var else var


def _placed(features: pd.DataFrame) -> bool:
    """Tell whether all have chromosome, start and end."""
    if not {"chrom", "start", "end"} <= set(features.columns):
        return False
    numbers = [features[column].str.fullmatch("[0-9]{1,18}").eq(True).all() for column in ("start", "end")]
    return all(numbers) and bool(features["chrom"].fillna("").ne("").all())
