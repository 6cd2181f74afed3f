"""What processes that train together tell each other; a process that trains alone has it already."""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.distributed as dist
from torch import Tensor


def share() -> tuple[int, int]:
    """Return the number of this process, and how many there are."""
    return (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)


def add_up(tensor: Tensor) -> Tensor:
    """Add a tensor over all processes, in place."""
    if dist.is_initialized():
        dist.all_reduce(tensor)
    return tensor


def gather_rows(rows: Tensor) -> Tensor:
    """Return the rows of all processes, (rows, ...), one after another; each may have another number."""
    if not dist.is_initialized():
        return rows
    sizes = [0] * dist.get_world_size()
    sizes[dist.get_rank()] = len(rows)
    counts = add_up(torch.tensor(sizes, device=rows.device)).tolist()
    padded = rows.new_zeros(max(counts), *rows.shape[1:])
    padded[: len(rows)] = rows
    parts = [torch.empty_like(padded) for _ in counts]
    dist.all_gather(parts, padded)
    return torch.cat([part[:count] for part, count in zip(parts, counts, strict=True)])


class EpochSums:
    """Sums over the batches of an epoch and over processes, in double precision."""

    def __init__(self) -> None:
        self._sums: dict[str, Tensor] = {}

    def add(self, values: Mapping[str, Tensor]) -> None:
        """Add the values of a batch, each of any shape."""
        for name, value in values.items():
            value = value.detach().double()
            self._sums[name] = self._sums[name] + value if name in self._sums else value

    def add_means(self, means: Mapping[str, Tensor], weight: Tensor) -> None:
        """Add means of a batch, each over so many items: `take_means` then weighs them alike."""
        self.add({name: torch.stack([mean * weight, weight]) for name, mean in means.items()})

    def take(self, device: torch.device) -> dict[str, Tensor]:
        """Return the sums, on the processor's memory, and begin anew; processes meet on ``device``."""
        found, self._sums = self._sums, {}
        if dist.is_initialized():
            # A process without a cell has no names; the first has a part of every batch.
            shapes = [{name: tuple(value.shape) for name, value in found.items()}]
            dist.broadcast_object_list(shapes, src=0)
            zero = torch.zeros((), dtype=torch.float64, device=device)
            found = {
                name: add_up(found.get(name, zero.new_zeros(shape))) for name, shape in shapes[0].items()
            }
        return {name: value.cpu() for name, value in found.items()}

    def take_means(self, device: torch.device) -> dict[str, float]:
        """Return what `add_means` added as means over all items, and begin anew."""
        return {name: float(both[0] / both[1]) for name, both in self.take(device).items()}
