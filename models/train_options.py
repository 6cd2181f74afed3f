"""How to train: what every training loop asks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from ..graphs.errors import InputError

PRECISIONS: Final = ("32-true", "64-true", "bf16-mixed")


@dataclass(frozen=True)
class TrainOptions:
    """How to train.

    Attributes
    ----------
    epochs, batch_size, lr, weight_decay
        At most so many epochs, in batches of so many pairs or cells; what the optimisers take.
    accumulate
        Batches whose gradients make one step.
    clip
        Largest norm of the gradient of a step; None does not clip it.
    devices
        Processes that share every batch, on a GPU each or on one processor.
    patience
        Epochs without a better validation score before training stops.
    seed
        Decides initial weights, order and dropout.
    precision
        ``32-true``, ``64-true`` or ``bf16-mixed``, as Lightning names them; recommenders do not mix.
    accelerator
        As Lightning names it; ``auto`` takes a GPU when there is one.
    """

    epochs: int = 100
    batch_size: int = 32
    lr: float = 5e-4
    weight_decay: float = 1e-5
    patience: int = 10
    seed: int = 0
    precision: str = "32-true"
    accelerator: str = "auto"
    devices: int = 1
    accumulate: int = 1
    clip: float | None = None

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size", "patience", "seed", "devices", "accumulate"):
            if int(getattr(self, name)) != getattr(self, name):
                raise InputError(f"--{name.replace('_', '-')} {getattr(self, name)}: must be a whole number.")
        if not (self.weight_decay >= 0 and 0 <= self.seed < 2**32):
            raise InputError(f"weight_decay {self.weight_decay} and --seed {self.seed} must not be negative.")
        for name in ("epochs", "batch_size", "lr", "patience", "devices", "accumulate", "clip"):
            value = getattr(self, name)
            if value is not None and not value > 0:  # also refuses NaN
                raise InputError(f"--{name.replace('_', '-')} {getattr(self, name)}: must be positive.")
        if self.precision not in PRECISIONS:
            raise InputError(f"--precision {self.precision}: choose {', '.join(PRECISIONS)}.")
