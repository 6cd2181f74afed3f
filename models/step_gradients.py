"""StepGradients: the gradient of a step is the weighted mean over its batches, on all processes."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.optim import Optimizer

from .exchange import add_up, share


class StepGradients:
    """The gradient Σ w·∇loss / Σ w over the batches of a step and over processes, w items a batch.

    The sum of weights is not known before the last batch, so gradients are divided at the step. So two
    halves of a batch, taken one after another or by two processes, make the step of the whole.

    Parameters
    ----------
    optimisers
        Whose parameters are trained.
    several
        A step has more than one batch. Otherwise, in one process, gradients are left as they are.
    clip
        Largest norm of all gradients together; they are not clipped where it is None.
    """

    def __init__(self, optimisers: Sequence[Optimizer], *, several: bool, clip: float | None) -> None:
        self.optimisers, self.clip = optimisers, clip
        self.parameters = [p for o in optimisers for group in o.param_groups for p in group["params"]]
        self.processes = share()[1]
        self.weighted = several or self.processes > 1
        self.total = torch.zeros(())

    def begin(self) -> None:
        """Forget the gradients of the step before."""
        for optimiser in self.optimisers:
            optimiser.zero_grad()
        self.total = torch.zeros(())

    def add(self, loss: Tensor, weight: Tensor) -> Tensor:
        """Return what to go backward from, for the mean loss of a batch of so many items."""
        if not self.weighted:
            return loss
        self.total = self.total.to(weight.device) + weight.double()
        dtype = torch.promote_types(loss.dtype, torch.float32)  # half precision cannot count far
        return loss.to(dtype) * weight.to(dtype)

    @torch.no_grad()
    def finish(self) -> None:
        """Make the weighted mean, and clip it."""
        factor: Tensor | None = None
        if self.processes > 1:
            self._add_processes()
        if self.weighted:
            factor = 1 / self.total.clamp_min(1e-12)  # no item at all: gradients are zero
        if self.clip is not None:
            norm = self._norm() * (1 if factor is None else factor)
            clipped = (self.clip / norm.clamp_min(1e-12)).clamp_max(1)
            factor = clipped if factor is None else factor * clipped
        if factor is not None:
            for parameter in self.parameters:
                if parameter.grad is not None:
                    parameter.grad.mul_(factor.to(parameter.grad.device))

    def _add_processes(self) -> None:
        """Add weights and gradients; a parameter that no process reached keeps no gradient."""
        device = self.parameters[0].device
        reached = torch.tensor([p.grad is not None for p in self.parameters], device=device)
        head = add_up(torch.cat([reached.double(), self.total.to(device).double().reshape(1)]))
        self.total = head[-1]
        reached_by = head[:-1].tolist()
        used = [p for p, n in zip(self.parameters, reached_by, strict=True) if n]
        grads = [torch.zeros_like(p) if p.grad is None else p.grad for p in used]
        flat = add_up(torch.cat([grad.flatten() for grad in grads]))
        for parameter, part in zip(used, flat.split([p.numel() for p in used]), strict=True):
            parameter.grad = part.view_as(parameter)

    def _norm(self) -> Tensor:
        """Return the norm of all gradients together."""
        found = []
        for parameter in self.parameters:
            if parameter.grad is None:
                continue
            if parameter.grad.is_sparse:  # rows that are there twice are one
                parameter.grad = parameter.grad.coalesce()
            grad = parameter.grad.values() if parameter.grad.is_sparse else parameter.grad
            found.append(torch.linalg.vector_norm(grad))
        norm: Tensor = torch.linalg.vector_norm(torch.stack(found))
        return norm
