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

_JOB = "job.json"  # in a folder that is not finished


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
    missing, partial = _missing_parents(path), _partial(path)
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
        _remove(partial, missing)
        if isinstance(error, OSError):
            reason = error.strerror or error
            raise InputError(
                f"writing {path} failed: {reason}. Free space or choose another --out."
            ) from error
        raise


@contextmanager
def resumable_folder(path: Path, job: dict[str, Any], *, kept: str, resume: bool) -> Iterator[Path]:
    """Fill a hidden sibling of ``path`` that takes its name on success and can be gone on with after a stop.

    What can be gone on with are the files of one subfolder; the rest is made anew. Bad input leaves nothing where
    there are no such files yet.

    Parameters
    ----------
    path
        Folder to create; it must not exist.
    job
        What decides the content, as JSON: only the same job may go on.
    kept
        Name of the subfolder.
    resume
        Whether to go on with what was left.

    Raises
    ------
    InputError
        ``path`` exists or cannot be written; or what was left is there without ``resume``, is not there with it, is of
        another job, or another process is writing it.
    """
    refuse_existing(path)
    partial = unfinished(path)
    _check_unfinished(partial, job, resume)
    missing = _missing_parents(path)
    try:
        partial.mkdir(parents=True, exist_ok=resume)
        _clear_but(partial, kept)
        write_json(partial / _JOB, {"job": job, **_this_process()})
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror}. Choose another --out.") from error
    try:
        yield partial
        partial.rename(path)
        (path / _JOB).unlink()
    except InputError:
        if not any((partial / kept).glob("[!.]*")):
            _remove(partial, missing)
        raise
    except OSError as error:
        raise InputError(
            f"writing {path} failed: {error.strerror or error}. What was done is kept: free space and pass --resume."
        ) from error


def unfinished(path: Path) -> Path:
    """Return where what can be gone on with lies until a folder is finished."""
    return path.parent / f".{path.name}.unfinished"


def _clear_but(partial: Path, kept: str) -> None:
    """Remove what an earlier attempt wrote beside what is kept: it may have been asked for other things."""
    for left in partial.iterdir():
        if left.name != kept:
            shutil.rmtree(left) if left.is_dir() else left.unlink()


def _this_process() -> dict[str, Any]:
    return {"process": os.getpid(), "started": psutil.Process().create_time(), "host": platform.node()}


def _is_running(told: dict[str, Any]) -> bool:
    """Whether a process of this machine is still there; a number alone may have been given to another."""
    if told["host"] != platform.node() or told["process"] == os.getpid():
        return False
    try:
        return bool(abs(psutil.Process(told["process"]).create_time() - told["started"]) < 1.0)
    except psutil.Error:
        return False


def _check_unfinished(partial: Path, job: dict[str, Any], resume: bool) -> None:
    if not partial.exists():
        if resume:
            raise InputError(f"there is nothing to resume: {partial} is not there. Leave out --resume.")
        return
    try:
        told = json.loads((partial / _JOB).read_text())
        before, running = dict(told["job"]), _is_running(told)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{partial} is not what an interrupted command left. Remove it.") from error
    if running:
        raise InputError(f"process {told['process']} is writing {partial}. Wait for it, or stop it.")
    if not resume:
        raise InputError(
            f"{partial} was left by an interrupted command. Pass --resume to go on, or remove it."
        )
    asked = json.loads(json.dumps(job, default=_plain))
    changed = [name for name in {**before, **asked} if before.get(name) != asked.get(name)]
    if changed:
        words = "; ".join(
            f"{name} was {before.get(name)} and is {asked.get(name)}" for name in sorted(changed)
        )
        raise InputError(f"{partial} cannot be gone on with: {words}. Give what it began with, or remove it.")


def _missing_parents(path: Path) -> list[Path]:
    return [parent for parent in (path.parent, *path.parent.parents) if not parent.exists()]


def _remove(partial: Path, parents: list[Path]) -> None:
    """Remove a folder that was not finished, and the parents that were made for it."""
    shutil.rmtree(partial, ignore_errors=True)
    with suppress(OSError):
        for parent in parents:
            parent.rmdir()


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
