"""Results that appear whole or not at all: written beside their place, then renamed."""

from __future__ import annotations

import json
import os
import platform
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from glob import escape
from importlib.metadata import version
from pathlib import Path
from typing import Any

import psutil

from .errors import InputError


@contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """Fill a hidden sibling of ``path`` that takes its name on success and is removed on any error.

    What killed processes of this machine left under the same name is removed first.

    Parameters
    ----------
    path
        Folder to create; it must not exist.

    Raises
    ------
    InputError
        ``path`` exists, cannot be written, or the disk is full.
    """
    refuse_existing(path)
    missing = [parent for parent in (path.parent, *path.parent.parents) if not parent.exists()]
    partial = _partial(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _remove_stale(path)
        partial.mkdir()
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror}. Choose another --out.") from error
    try:
        yield partial
        partial.rename(path)
    except BaseException as error:
        shutil.rmtree(partial, ignore_errors=True)
        with suppress(OSError):
            for parent in missing:
                parent.rmdir()
        if isinstance(error, OSError):
            reason = error.strerror or error
            raise InputError(
                f"writing {path} failed: {reason}. Free space or choose another --out."
            ) from error
        raise


def refuse_existing(path: Path) -> None:
    """Refuse to write where something is.

    Raises
    ------
    InputError
        ``path`` exists.
    """
    if path.exists():
        raise InputError(f"{path} exists already. Remove it or choose another --out.")


@contextmanager
def new_file(path: Path) -> Iterator[Path]:
    """Fill a hidden sibling of ``path`` that replaces it on success.

    Raises
    ------
    InputError
        ``path`` cannot be written, or the disk is full.
    """
    partial = _partial(path)
    try:
        yield partial
        partial.chmod(0o666 & ~_umask())  # some writers make files that only their owner may read
        partial.replace(path)
    except OSError as error:
        raise InputError(
            f"cannot write {path}: {error.strerror or error}. Free space or write elsewhere."
        ) from error
    finally:
        partial.unlink(missing_ok=True)


def write_json(path: Path, content: Any) -> None:
    """Write JSON as a whole; numbers that are not finite are refused."""
    with new_file(path) as partial:
        text = json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False, default=_plain)
        partial.write_text(text + "\n")


def versions() -> dict[str, str]:
    """Return the versions that a result depends on, for its ``config.json``."""
    packages = ("scweave", "torch", "torch-geometric", "lightning", "anndata", "numpy", "pandas", "scipy")
    return {"python": platform.python_version(), **{name: version(name) for name in packages}}


def _plain(value: Any) -> Any:
    if isinstance(value, Path):
        return str(value)
    raise TypeError(f"{type(value).__name__} is no JSON")


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _partial(path: Path) -> Path:
    return path.parent / f".{path.name}.partial-{os.getpid()}"


def _remove_stale(path: Path) -> None:
    for left in path.parent.glob(f".{escape(path.name)}.partial-*"):
        owner = left.name.rpartition("-")[2]
        if owner.isdecimal() and (int(owner) == os.getpid() or not psutil.pid_exists(int(owner))):
            shutil.rmtree(left, ignore_errors=True)
