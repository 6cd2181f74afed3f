"""How much the counted evidence of each modality weighs, alone and beside the other's."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn, optim

_STEPS = 50  # of L-BFGS


class EvidenceTrust(nn.Module):
    """Logits Σ_m softplus(t[m, paired])·z[m] of the evidence z of RNA and ATAC, t being other where one stands alone.

    Shapes
    ------
    Evidence is (cells, types) a modality; so are the logits.
    """

    def __init__(self) -> None:
        super().__init__()
        self.trust = nn.Parameter(torch.zeros(2, 2))  # (modality, alone or paired)

    def fit(self, evidence: Sequence[Tensor], loss: Callable[[Tensor], Tensor]) -> None:
        """Begin with the weights of least loss of all training cells, for RNA, for ATAC, and for both.

        Parameters
        ----------
        evidence
            Of training cells, each as if it had not been fitted on.
        loss
            Of logits (cells, types).
        """
        cells = len(evidence[0])
        for seen in ((True, False), (False, True), (True, True)):
            has = torch.tensor(seen).expand(cells, 2)
            solver = optim.LBFGS([self.trust], max_iter=_STEPS, line_search_fn="strong_wolfe")

            def closure(has: Tensor = has, solver: optim.LBFGS = solver) -> Tensor:
                solver.zero_grad()
                found = loss(self(evidence, has))
                found.backward()
                return found

            solver.step(closure)
        self.trust.grad = None

    def forward(self, evidence: Sequence[Tensor], has: Tensor) -> Tensor:
        """Weigh the evidence of modalities that are there, ``has`` (cells, 2)."""
        paired = has.all(1).long()
        weight = F.softplus(self.trust)[:, paired, None] * has.T[..., None]  # (2, cells, 1)
        logits: Tensor = weight[0] * evidence[0] + weight[1] * evidence[1]
        return logits
