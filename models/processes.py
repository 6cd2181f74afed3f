"""Processes that train together on one machine, and end together: an error, Ctrl-C or a kill ends them all."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing import get_context, parent_process
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final, TypeVar

import torch
import torch.distributed as dist
from tqdm import tqdm

from ..graphs.errors import InputError

Task = TypeVar("Task")

_ECHO: Final = 0.3  # seconds in which the cause of a failure shows


@dataclass(frozen=True)
class Place:
    """The place of a process among those that train together.

    Attributes
    ----------
    rank, world
        Its number, from 0, and how many there are.
    backend
        How they exchange tensors: ``gloo`` or ``nccl``.
    threads
        How many threads it may use.
    meeting
        File by which they find each other.
    """

    rank: int
    world: int
    backend: str
    threads: int
    meeting: Path


def run_together(work: Callable[[Task], None], task: Task, n: int, *, cuda: bool = False) -> None:
    """Do some work in several processes that are connected, and wait for all of them.

    Parameters
    ----------
    work
        Function of a module, called with ``task`` in each process.
    task
        Is copied to each process.
    n
        How many processes; this one is none of them.
    cuda
        Each has a GPU of its own.

    Raises
    ------
    InputError, OSError
        As raised in one of them, or one was killed.
    RuntimeError
        Another error in one of them, with its traceback.
    """
    context = get_context("spawn")
    threads = max(1, torch.get_num_threads() // n)
    with TemporaryDirectory() as folder:
        processes, lines = [], []
        for rank in range(n):
            place = Place(rank, n, "nccl" if cuda else "gloo", threads, Path(folder) / "meeting")
            ours, theirs = context.Pipe()
            processes.append(context.Process(target=_member, args=(place, theirs), daemon=True))
            lines.append((ours, theirs))
        try:
            with _deaf_to_interrupts():
                for process in processes:
                    process.start()
            _send(lines, (work, task))
            failed = _join(processes)
        finally:
            for process in processes:
                if process.pid is not None:
                    process.kill()  # one that waits for another one in a tensor exchange hears nothing else
                    process.join()
        if failed is not None:
            _raise_first([ours for ours, _ in lines], failed, processes[failed].exitcode)


def _send(lines: Sequence[tuple[Connection, Connection]], what: Any) -> None:
    """Send once all were started: it waits for each to be ready, and Ctrl-C is heard again."""
    for ours, theirs in lines:
        theirs.close()
        with suppress(BrokenPipeError, ConnectionResetError):  # it died: its exit code tells
            ours.send(what)


def _join(processes: Sequence[SpawnProcess]) -> int | None:
    """Wait until all have ended well, or return the number of one that has not: one that was killed, if any.

    Others fail after it, as they lose the connection, and may be seen first.
    """
    running = {process.sentinel: rank for rank, process in enumerate(processes)}
    while running:
        for sentinel in wait(list(running)):
            assert isinstance(sentinel, int)
            rank = running.pop(sentinel)
            processes[rank].join()
            if processes[rank].exitcode:
                time.sleep(_ECHO)
                killed = [other for other, process in enumerate(processes) if (process.exitcode or 0) < 0]
                return killed[0] if killed else rank
    return None


def _raise_first(lines: Sequence[Connection], rank: int, code: int | None) -> None:
    """Raise what was met first: others fail after it, as they lose the connection."""
    errors: list[tuple[float, Exception]] = []
    for line in lines:
        with suppress(EOFError, ConnectionResetError):
            if line.poll():
                errors.append(line.recv())
    if (code or 0) < 0:  # what the others tell is that they lost it
        errors = [met for met in errors if not isinstance(met[1], RuntimeError)]
    if errors:
        raise min(errors, key=lambda met: (isinstance(met[1], RuntimeError), met[0]))[1]
    why = (
        "was killed, perhaps for its memory. Take fewer --devices or a smaller --batch-size"
        if (code or 0) < 0
        else 'did not start. A script that trains on several devices needs `if __name__ == "__main__":`'
    )
    raise InputError(f"process {rank + 1} of {len(lines)} {why}.")


@contextmanager
def _deaf_to_interrupts() -> Iterator[None]:
    """Let processes that start here ignore Ctrl-C: the one that started them ends them."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    handler = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, handler)


def _member(place: Place, line: Connection) -> None:
    """Take part, as one of the processes."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    tqdm.set_lock(threading.RLock())  # its own is of many processes, and one that is killed leaves it behind
    try:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        work, task = line.recv()
        with _connected(place):
            work(task)
    except (InputError, OSError) as error:
        _fail(line, error)
    except Exception:
        _fail(line, RuntimeError(f"process {place.rank + 1} of {place.world}:\n{traceback.format_exc()}"))


def _fail(line: Connection, error: Exception) -> None:
    """Tell the error and end, without waiting for the others."""
    line.send((time.time(), error))
    os._exit(1)


def _end_with_parent() -> None:
    """End when the process that started this one is killed: nobody would know that this one still writes."""
    parent = parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


@contextmanager
def _connected(place: Place) -> Iterator[None]:
    torch.set_num_threads(place.threads)
    os.environ["LOCAL_RANK"] = str(place.rank)  # Lightning reads it, and starts no processes of its own
    if place.backend == "nccl":
        torch.cuda.set_device(place.rank)
    if sys.platform == "linux":  # all are on this machine, whose name need not resolve
        os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    dist.init_process_group(
        place.backend, init_method=place.meeting.as_uri(), rank=place.rank, world_size=place.world
    )
    yield  # after an error the connection stays until it was told, or that of the others would come first
    dist.barrier()  # the first to leave takes the connection of the others with it
    dist.destroy_process_group()
