"""HDF5 compression filters: loaded when a file needs them, named when they are missing."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any, Final

import h5py

from ...graphs.errors import InputError

_NAMES: Final = {
    4: "szip",
    307: "bzip2",
    32000: "lzf",
    32001: "blosc",
    32004: "lz4",
    32008: "bitshuffle",
    32013: "zfp",
    32015: "zstd",
    32026: "blosc2",
}


def need_filters(node: Any, path: Path) -> None:
    """Make sure that a dataset, or every dataset of a group, can be decompressed.

    The package hdf5plugin is imported only when a filter is missing without it.

    Parameters
    ----------
    node
        Open HDF5 group or dataset.
    path
        Its file, for the message.

    Raises
    ------
    InputError
        A filter is missing; the message names it and what to install.
    """
    if not _missing(node):
        return
    plugins = _load_plugins()
    if missing := _missing(node):
        code = missing[0]
        found = f"{node.name} in {path.name} is compressed with {_NAMES.get(code, 'an unknown filter')}"
        if plugins:
            raise InputError(
                f"{found} (HDF5 filter {code}), which neither h5py nor hdf5plugin reads. Write the file"
                " again with gzip."
            )
        raise InputError(
            f"{found} (HDF5 filter {code}), which h5py alone does not read. Run: pip install hdf5plugin"
        )


def _load_plugins() -> bool:
    try:
        importlib.import_module("hdf5plugin")  # an optional dependency: it registers its filters
    except ImportError:
        return False
    return True


def _missing(node: Any) -> list[int]:
    """Return the codes of the filters that are used and not available."""
    used: set[int] = set()

    def collect(_: str, item: Any) -> None:
        if isinstance(item, h5py.Dataset):
            plan = item.id.get_create_plist()
            used.update(plan.get_filter(i)[0] for i in range(plan.get_nfilters()))

    collect("", node)
    if isinstance(node, h5py.Group):
        node.visititems(collect)
    return sorted(code for code in used if not h5py.h5z.filter_avail(code))
