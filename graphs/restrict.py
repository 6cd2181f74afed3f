"""Another division of a dataset's cells: new tables beside the same arrays, which are linked, not copied."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from .schema import MANIFEST_KEYS, TABLES
from .store import MANIFEST, Store, checksum
from .whole import new_folder, write_json


def replace_tables(store: Store, folder: Path, tables: Mapping[str, pd.DataFrame], **noted: Any) -> None:
    """Write a dataset that shares the arrays of another and has some tables of its own.

    Arrays are hard links where the file system has them, else copies: the new dataset costs its tables
    only, and outlives the old one. It has no folds.

    Parameters
    ----------
    store
        Dataset whose arrays and other tables are taken over, tables in its fold.
    folder
        Folder to create.
    tables
        Name -> table in place of that of ``store``, with the same rows (of pairs: any).
    **noted
        Further entries of ``dataset.json``.

    Raises
    ------
    InputError
        ``folder`` exists or cannot be written.
    """
    known: dict[str, str] = store.manifest["checksums"]
    arrays = {name: known[name] for name in known if name.endswith(".npy")}
    with new_folder(folder) as partial:
        for name in arrays:
            _link(store.path / name, partial / name)
        sums = {}
        for name in TABLES:
            file = partial / f"{name}.parquet"
            (tables[name] if name in tables else store.table(name)).to_parquet(file, index=False)
            sums[file.name] = checksum(file)
        kept = {key: store.manifest[key] for key in ("schema_version", *MANIFEST_KEYS)}
        own = {"folds": 0, "checksums": {**arrays, **sums}, "restricted_from": store.fingerprint}
        write_json(partial / MANIFEST, {**kept, **own, **noted})


def _link(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError:  # another file system, or one without links
        shutil.copyfile(source, target)
