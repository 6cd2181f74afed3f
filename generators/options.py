"""What a build may choose, checked before anything is read."""

from __future__ import annotations

import csv
from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import Final, Literal, get_args

from ..graphs.bases import Anchor
from ..graphs.errors import InputError
from ..graphs.schema import SEQUENCE_LENGTH
from .pairs import Negatives
from .presets import Preset, preset_named
from .prior import Around

Window = int | Literal["chromosome", "none"]
Scaffolds = Literal["keep", "drop"]
DEFAULT_WINDOW: Final = 250_000
_LONGEST: Final = 1_000_000_000  # bp, more than any chromosome has
_MOST: Final = 1_000  # negatives for each positive


@dataclass(frozen=True)
class BuildOptions:
    """What a build may choose.

    Attributes
    ----------
    labels, donor, batch
        Columns of ``obs`` or of the labels file: cell types, donors to split by, batches.
    unlabelled
        Labels that mean "unknown", beside the empty ones.
    cell_types
        Keep the cells of these types only; all when empty.
    layer
        Layer that holds the counts; X when None.
    preset
        One of the published data sets, by name; see `presets.PRESETS`.
    window
        Reach of the prior peak-gene edges in bp, ``chromosome`` for all peaks of a gene's
        chromosome, or ``none`` (with loops: these alone).
    around
        What the window surrounds: the TSS or the gene body.
    scaffolds
        Keep peaks on scaffolds, or drop them (genes there lose their place).
    sequence_length, sequence_from
        Bases a peak, and whether they surround its centre or begin at its start (published).
    test_donors
        Donors held out for test; drawn by chance when empty.
    folds
        Real folds beside the ordinary split; each has splits, pairs and fitted attributes of its own.
    negatives, ratio
        Kind of negative pairs, and how many for each positive.
    discovery
        Positive pairs of test cells only, for a model that is trained already.
    refit
        Fit means, variances_norm and highly_variable even where ``var`` has them.
    n_top
        Highly variable genes to mark.
    min_placed
        Smallest share of genes and of peaks that must find a place: on the genome, or in the
        dataset that the new one shall be like.
    only
        Modalities to read, where an experiment has more than are wanted; all when empty.
    seed
        Decides splits, folds and pairs.

    Raises
    ------
    InputError
        A value is out of its range, or two exclude each other.
    """

    labels: str | None = None
    donor: str | None = None
    batch: str | None = None
    unlabelled: tuple[str, ...] = ()
    cell_types: tuple[str, ...] = ()
    layer: str | None = None
    preset: str | None = None
    window: Window = DEFAULT_WINDOW
    around: Around = "tss"
    scaffolds: Scaffolds = "keep"
    sequence_length: int = SEQUENCE_LENGTH
    sequence_from: Anchor = "centre"
    test_donors: tuple[str, ...] = ()
    folds: int = 0
    negatives: Negatives = "easy"
    ratio: float = 1.0
    discovery: bool = False
    refit: bool = False
    n_top: int = 2000
    min_placed: float = 0.3
    only: tuple[str, ...] = ()
    seed: int = 0

    def __post_init__(self) -> None:
        for option, choices in (
            ("around", get_args(Around)),
            ("scaffolds", get_args(Scaffolds)),
            ("sequence_from", get_args(Anchor)),
            ("negatives", get_args(Negatives)),
        ):
            _check_choice(option, getattr(self, option), choices)
        for option in ("unlabelled", "cell_types", "test_donors"):
            if isinstance(getattr(self, option), str):
                raise InputError(f"{option} is a text. Pass a tuple of names.")
        self._check_numbers()
        if self.preset is not None:
            preset_named(self.preset)
        if self.test_donors and self.donor is None:
            raise InputError("--test-donors names donors, but no --donor column is given. Pass --donor COL.")
        if self.discovery and (self.folds or self.test_donors or self.negatives != "easy" or self.ratio != 1):
            raise InputError(
                "--discovery puts every cell into the test split, in positive pairs: leave out --folds,"
                " --test-donors, --negatives and --ratio."
            )

    def _check_numbers(self) -> None:
        bp = self.window if isinstance(self.window, int) else -1
        if self.window not in ("chromosome", "none") and not 0 <= bp <= _LONGEST:
            raise InputError(
                f"--window is {self.window}. Pass a number of bp from 0 to {_LONGEST:,}, chromosome or none."
            )
        if not 0 <= self.min_placed <= 1:
            raise InputError(f"--min-placed is {self.min_placed:g}. Pass a share of genes from 0 to 1.")
        if not 0 <= self.ratio <= _MOST:
            raise InputError(
                f"--ratio is {self.ratio:g}. Pass 0 to {_MOST:,} negative pairs for each positive."
            )
        if self.folds == 1 or self.folds < 0:
            raise InputError(f"--folds is {self.folds}. Pass 2 or more folds, or 0 for none.")
        if not 1 <= self.sequence_length <= 1_000_000:
            raise InputError(f"--sequence-length is {self.sequence_length}. Pass 1 to 1,000,000 bases.")
        if self.n_top < 1 or not 0 <= self.seed < 2**32:
            raise InputError(
                f"n_top is {self.n_top}, seed {self.seed}. Pass n_top >= 1 and seed >= 0, below {2**32:,}."
            )

    def filled_from(self, preset: Preset, columns: Collection[object], *, labelled: bool) -> BuildOptions:
        """Take from a preset the columns that were not chosen, where the experiment has them.

        Parameters
        ----------
        preset
            How the published files name things.
        columns
            Columns of ``obs``.
        labelled
            Whether labels come from a file of their own.

        Raises
        ------
        InputError
            There are no labels.
        """
        theirs = {name: getattr(preset, name) for name in ("labels", "batch")}
        if not (self.labels or labelled or preset.labels in columns):
            raise InputError(
                f"preset {preset.name} expects its labels in obs['{preset.labels}']; the columns are"
                f" {', '.join(map(str, columns)) or 'none'}. Pass --labels COL or --labels-file."
            )
        return replace(
            self,
            **{
                name: column
                for name, column in theirs.items()
                if getattr(self, name) is None and column in columns
            },
        )


def _check_choice(option: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise InputError(f"--{option.replace('_', '-')} {value}: choose {' or '.join(choices)}.")


def parse_window(text: str) -> Window:
    """Read a window from a command line.

    Raises
    ------
    InputError
        It is neither a number nor one of the words.
    """
    if text == "chromosome":
        return "chromosome"
    if text == "none":
        return "none"
    if not text.isdecimal():
        raise InputError(f"--window {text}: pass a number of bp, like 250000, chromosome or none.")
    return int(text)


def parse_names(text: str | None, option: str) -> tuple[str, ...]:
    """Split ``A,B`` from a command line; names that hold a comma stand in double quotes.

    Raises
    ------
    InputError
        The option is given and names nothing.
    """
    if text is None:
        return ()
    fields = next(csv.reader([text], skipinitialspace=True), [])
    names = tuple(name.strip() for name in fields if name.strip())
    if not names:
        raise InputError(f"{option} names nothing. Pass A,B, or leave it out.")
    return names
