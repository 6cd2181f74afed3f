"""Time and memory of a piece of work, each in a process of its own."""

from __future__ import annotations

import ctypes
import gc
import json
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

_STATUS = Path("/proc/self/status")
_CLEAR = Path("/proc/self/clear_refs")
_PRESSURE = Path("/proc/pressure/cpu")


def resident_mb(field: str = "VmRSS") -> float:
    """Resident memory of this process now (``VmRSS``) or at its peak (``VmHWM``), in MB of 10⁶ bytes.

    Without ``/proc`` (macOS) `PeakMemory` is of no use and the benchmark ends with a message.
    """
    if not _STATUS.exists():
        sys.exit("these benchmarks read memory from /proc and so run on Linux only.")
    line = next(line for line in _STATUS.read_text().splitlines() if line.startswith(field + ":"))
    return int(line.split()[1]) * 1024 / 1e6


def _reset_high_water() -> bool:
    try:
        _CLEAR.write_text("5")
    except OSError:
        return False
    return True


class PeakMemory:
    """Growth of resident memory inside a ``with`` block over what was resident before, in MB.

    Freed memory is handed back first, so that leftovers of loading hide no growth. The kernel's
    own high-water mark is used where it may be reset, else a thread that samples every 2 ms.

    Parameters
    ----------
    private
        Leave out pages of mapped files, which the system shares and drops at will; sampled.

    Attributes
    ----------
    before_mb, growth_mb
        Resident memory on entry, and how far it rose above that.
    """

    def __init__(self, *, private: bool = False) -> None:
        self._private = private
        self._field = "RssAnon" if private else "VmRSS"

    def __enter__(self) -> PeakMemory:
        gc.collect()
        if sys.platform == "linux":
            getattr(ctypes.CDLL(None), "malloc_trim", lambda _: 0)(0)
        self._highest, self._done = 0.0, threading.Event()
        self._sampler: threading.Thread | None = None
        if self._private or not _reset_high_water():
            self._sampler = threading.Thread(target=self._sample, daemon=True)
            self._sampler.start()
        self.before_mb = resident_mb(self._field)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._sampler is not None:
            self._done.set()
            self._sampler.join()
        peak = resident_mb("VmHWM") if self._sampler is None else max(self._highest, resident_mb(self._field))
        self.growth_mb = max(peak - self.before_mb, 0.0)

    def _sample(self) -> None:
        while not self._done.wait(0.002):
            self._highest = max(self._highest, resident_mb(self._field))


class Worker:
    """A second Python process running a benchmark script, asked one question at a time.

    Parameters
    ----------
    script
        File that calls `serve` when it is given ``arguments``.
    arguments
        Command line of the process.
    """

    def __init__(self, script: str | Path, arguments: Sequence[str]) -> None:
        self._process = subprocess.Popen(
            [sys.executable, str(script), *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def ask(self, question: str) -> Any:
        """Send a question and wait for its answer."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(question + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            sys.exit(f"a worker of the benchmark died (exit status {self._process.wait()}).")
        return json.loads(line)

    def __enter__(self) -> Worker:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.communicate()


def serve(answers: dict[str, Callable[[], Any]]) -> None:
    """Answer the questions of a `Worker` until its owner closes the pipe."""
    for line in sys.stdin:
        print(json.dumps(answers[line.strip()]()), flush=True)


def seconds(work: Callable[[], object], *, at_least: float = 0.0) -> float:
    """Wall-clock time of a call, the median of as many as fill ``at_least`` seconds."""
    times: list[float] = []
    while not times or sum(times) < at_least:
        begin = time.perf_counter()
        work()
        times.append(time.perf_counter() - begin)
    return statistics.median(times)


def alternate(workers: Sequence[Worker], repeats: int, question: str = "seconds") -> list[list[float]]:
    """Ask each worker in turn, ``repeats`` rounds, so that a noisy machine troubles all alike.

    Returns
    -------
    The answers of each worker, in order.
    """
    rounds = [[_rested(worker, question) for worker in workers] for _ in range(repeats)]
    return [list(times) for times in zip(*rounds, strict=True)]


def _rested(worker: Worker, question: str) -> float:
    time.sleep(0.25)  # threads of the worker asked before spin a while when their work is done
    return float(worker.ask(question))


class Waiting:
    """Share of time in a ``with`` block in which some process waited for a core; null where Linux does not tell.

    The benchmark's own processes count: with no more threads than cores it is near 0 on a quiet machine.
    Where it is more, timings are too long, and most so those of many short parallel pieces.

    Attributes
    ----------
    share
        Between 0 and 1, or None.
    """

    share: float | None = None

    def __enter__(self) -> Waiting:
        self._begin, self._waited = time.perf_counter(), _waited_s()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        waited = _waited_s()
        if waited is not None and self._waited is not None:
            self.share = (waited - self._waited) / (time.perf_counter() - self._begin)


def _waited_s() -> float | None:
    try:
        some = _PRESSURE.read_text().splitlines()[0]
    except OSError:
        return None
    return int(some.rsplit("=", 1)[1]) / 1e6
