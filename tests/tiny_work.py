"""What processes do together in tests."""

from __future__ import annotations

import os
import signal
import threading
import warnings

import torch
import torch.distributed as dist
from tqdm import tqdm

from scweave.models.epochs import _train_together
from scweave.models.exchange import EpochSums, add_up, gather_rows, share


def exchange(n):
    """Check what each of n processes is told, the last of which has nothing to tell."""
    warnings.simplefilter("error")
    rank, world = share()
    assert world == n
    assert isinstance(tqdm.get_lock(), type(threading.RLock()))  # not one of many processes
    assert add_up(torch.tensor([rank, 1])).tolist() == [n * (n - 1) // 2, n]
    own = torch.full((n - 1 - rank, 2), rank)
    expected = [rank for rank in range(n) for _ in range(n - 1 - rank)]
    assert gather_rows(own)[:, 1].tolist() == expected
    assert gather_rows(torch.zeros(0, 3)).shape == (0, 3)
    sums = EpochSums()
    for value in range(n - 1 - rank):
        sums.add({"table": torch.full((2, 2), 1)})
        sums.add_means({"mean": torch.tensor(float(value))}, torch.tensor(2.0))
    taken = sums.take(torch.device("cpu"))
    assert taken["table"].tolist() == [[len(expected)] * 2] * 2
    assert taken["mean"].tolist() == [2.0 * sum(sum(range(k)) for k in range(n)), 2.0 * len(expected)]
    assert sums.take(torch.device("cpu")) == {}


def train_all(trainings):
    """Train one model after another."""
    warnings.simplefilter("error")
    for training in trainings:
        _train_together(training)
        dist.barrier()  # the first writes what the others may read next


def die(_):
    """Be killed, while the other waits."""
    if share()[0] == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    add_up(torch.ones(1))


def fail(_):
    """Meet an error that is ours."""
    raise KeyError("ours")
