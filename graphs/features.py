"""The features of a dataset without its cells: what another experiment needs to be expressed in them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from scipy import sparse

from .schema import MANIFEST_KEYS, MODALITIES, RNA, TABLES
from .store import Store, StoreWriter

_CIS = ("cis_indptr", "cis_peak", "cis_distance")


def write_features(store: Store, folder: Path) -> None:
    """Write a dataset of the same genes, peaks, fitted attributes and prior, with no cell and no DNA.

    ``scweave build --like`` takes such a folder as it takes any dataset.

    Parameters
    ----------
    store
        Dataset, in the fold whose attributes are wanted.
    folder
        Folder to create.
    """
    with StoreWriter(folder) as writer:
        for name in TABLES:
            table = store.table(name)
            writer.table(name, table if name in ("genes", "peaks") else table.iloc[:0])
        for name in (name for name in _CIS if store.has_array(name)):
            writer.array(name, store.array(name))
        for name in MODALITIES:
            n_columns = len(store.table("genes" if name == RNA else "peaks"))
            matrix = writer.csr(name, n_columns)
            matrix.append(sparse.csr_matrix(np.zeros((0, n_columns), np.float32)))
            matrix.close()
        kept = {key: store.manifest[key] for key in MANIFEST_KEYS if key != "checksums"}
        writer.finish({**kept, "folds": 0, "like": store.fingerprint})
