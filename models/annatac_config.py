"""What can be chosen of annATAC."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, ClassVar, Final

from ..graphs.errors import InputError

SIZES: Final[dict[str, dict[str, Any]]] = {
    "s": {"width": 64, "layers": 2, "heads": 2, "head_width": 32, "slots": 32, "hidden": 256},
    "m": {"width": 128, "layers": 3, "heads": 4, "head_width": 64, "slots": 48, "hidden": 512},
    "l": {"width": 200, "layers": 4, "heads": 4, "head_width": 128, "slots": 64, "hidden": 800},
}


OPEN_SIZES: Final[dict[str, dict[str, Any]]] = {
    "s": {"width": 64, "layers": 1, "heads": 2, "head_width": 16, "slots": 16, "hidden": 64},
    "m": {"width": 128, "layers": 2, "heads": 4, "head_width": 32, "slots": 32, "hidden": 256},
    "l": SIZES["l"],
}
_FREE = ("dropout", "summary_dropout", "mask", "pretrain_cycle")  # may differ between stages


@dataclass(frozen=True)
class IslandConfig:
    """What both stages share: a run is fine-tuned with what it was pre-trained with.

    Attributes
    ----------
    island
        Width of an island in bp.
    tss
        Keep the islands with a transcription start site only.
    width, layers, heads, head_width, hidden, slots
        Sizes of the encoder; see `AllIslands` and `OpenIslands`.
    dropout
        In the encoder.
    mask
        Share of a cell's open islands that pre-training asks for.
    """

    island: int = 5000
    tss: bool = True
    width: int = 200
    layers: int = 4
    heads: int = 4
    head_width: int = 128
    hidden: int = 800
    slots: int = 64
    dropout: float = 0.0
    mask: float = 0.15

    fewest_layers: ClassVar[int] = 1

    def __post_init__(self) -> None:
        if self.layers < self.fewest_layers:
            raise InputError(f"--set layers={self.layers}: choose {self.fewest_layers} or more.")
        for name in ("island", "width", "heads", "head_width", "hidden", "slots"):
            if not getattr(self, name) > 0:
                raise InputError(f"--set {name}={getattr(self, name)}: must be positive.")
        if not 0 <= self.dropout < 1:
            raise InputError(f"--set dropout={self.dropout}: choose a number from 0 to below 1.")
        if not 0 < self.mask < 1:
            raise InputError(f"--set mask={self.mask}: choose a number between 0 and 1.")

    def sizes(self) -> dict[str, int]:
        """Return what the encoder is made of."""
        return {name: getattr(self, name) for name in SIZES["l"]}


def check_same_encoder(ours: IslandConfig, theirs: IslandConfig) -> None:
    """Refuse to take up an encoder of other sizes.

    Raises
    ------
    InputError
        Names what differs.
    """
    names = [f.name for f in fields(theirs) if f.name not in _FREE]
    differ = [
        f"{name}={getattr(theirs, name)} (asked for: {getattr(ours, name)})"
        for name in names
        if getattr(ours, name) != getattr(theirs, name)
    ]
    if differ:
        raise InputError(
            f"--init is of a model that was pre-trained with {', '.join(differ)}. Leave --size and --set of these out."
        )
