"""Motifs of transcription factors: files of JASPAR counts or of MEME, minimal format, as matrices."""

from __future__ import annotations

import gzip
import re
import zlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Final, NoReturn

import numpy as np
import numpy.typing as npt

from ...graphs.errors import InputError

Float64 = npt.NDArray[np.float64]
Lines = list[tuple[int, str]]  # numbered from 1, stripped

_BASES: Final = "ACGT"
_PASS: Final = "Pass motifs as JASPAR counts (>ID NAME and four rows) or MEME text (minimal format)."
_MEME_SITES: Final = 20.0  # that a MEME matrix stands for where it does not say
_ROW_SUM: Final = 0.05  # how far the probabilities of a position may be from 1
_NUMBER: Final = re.compile(r"[-+]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]+)?")
_MATRIX: Final = "letter-probability matrix"


@dataclass(frozen=True)
class Motif:
    """What a transcription factor binds.

    Attributes
    ----------
    name
        Transcription factor, as the file names it.
    id
        Matrix id, unique in its file; the name where the file gives one word.
    counts
        (length, 4) sites with A, C, G or T at each position; of MEME probability times number of sites.
    """

    name: str
    id: str
    counts: Float64

    def __len__(self) -> int:
        return len(self.counts)

    @property
    def probabilities(self) -> Float64:
        """Share of each base at each position, (length, 4)."""
        shares: Float64 = self.counts / self.counts.sum(1, keepdims=True)
        return shares

    @property
    def consensus(self) -> str:
        """Commonest base of each position."""
        return "".join(_BASES[base] for base in self.counts.argmax(1))


def read_motifs(path: Path) -> tuple[Motif, ...]:
    """Read all motifs of a file, plain or gzip; its first line tells which format it has.

    Parameters
    ----------
    path
        JASPAR (``>ID NAME`` and four rows of counts, with or without letters and brackets) or MEME
        text (``MOTIF ID NAME`` and a letter-probability matrix), in any case of file name.

    Returns
    -------
    tuple of Motif
        In file order.

    Raises
    ------
    InputError
        No such file, one of another format or without motifs, a matrix that is none, or an id that repeats.
    """
    path = Path(path)
    lines = _lines(path)
    if not lines:
        raise InputError(f"{path.name} is empty. {_PASS}")
    first = lines[0][1]
    if first.startswith(">"):
        motifs = tuple(_jaspar(lines, path.name))
    elif first.lower().startswith("meme version"):
        motifs = tuple(_meme(lines, path.name))
    else:
        raise InputError(f"{path.name} is no motif file: it begins with {first[:40]!r}. {_PASS}")
    if not motifs:
        raise InputError(f"{path.name} holds no motifs. {_PASS}")
    _check_ids(motifs, path.name)
    return motifs


def _lines(path: Path) -> Lines:
    """Lines that are not empty, with their numbers."""
    if not path.is_file():
        raise InputError(f"{path}: {'a folder' if path.is_dir() else 'no such file'}. {_PASS}")
    try:
        raw = path.read_bytes()
        text = (gzip.decompress(raw) if raw[:2] == b"\x1f\x8b" else raw).decode("utf-8-sig")
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(f"{path.name} cannot be read as text ({reason}). {_PASS}") from error
    return [(i, line.strip()) for i, line in enumerate(text.splitlines(), 1) if line.strip()]


def _jaspar(lines: Lines, file: str) -> Iterator[Motif]:
    heads = [i for i, (_, line) in enumerate(lines) if line.startswith(">")]
    for begin, end in pairwise([*heads, len(lines)]):
        number, title = lines[begin]
        identity, name = _named(title[1:], file, number)
        rows = lines[begin + 1 : end]
        if len(rows) != 4:
            turned = all(len(_bare(line).split()) == 4 for _, line in rows)
            hint = ": one a position, as HOMER and HOCOMOCO write them, not one a base" if turned else ""
            _refuse(
                file, number, f"motif {identity} has {len(rows)} rows of counts, not 4 (A, C, G, T){hint}"
            )
        letters = "".join(line[0].upper() for _, line in rows if line[0].isalpha())
        if letters not in ("", _BASES):
            _refuse(file, number, f"rows of motif {identity} are {', '.join(letters)}, not A, C, G, T")
        table = [_numbers(_bare(line), file, at) for at, line in rows]
        if len({len(row) for row in table}) > 1:
            widths = ", ".join(str(len(row)) for row in table)
            _refuse(file, number, f"rows of motif {identity} have {widths} counts, not as many each")
        yield _motif(name, identity, np.array(table).T, file, number)


def _bare(row: str) -> str:
    """Counts of a row, without its letter and its brackets."""
    return re.sub(r"^[ACGTacgt]?\s*\[?|\]$", "", row)


def _meme(lines: Lines, file: str) -> Iterator[Motif]:
    for number, line in lines:
        if line.upper().startswith("ALPHABET") and line.partition("=")[2].strip().upper() not in ("ACGT", ""):
            _refuse(file, number, f"the alphabet is {line.partition('=')[2].strip()}, not ACGT")
    heads = [i for i, (_, line) in enumerate(lines) if re.match(r"MOTIF\s", line)]
    for begin, end in pairwise([*heads, len(lines)]):
        number, title = lines[begin]
        identity, name = _named(title[5:], file, number)
        matrix = next((i for i in range(begin, end) if lines[i][1].lower().startswith(_MATRIX)), None)
        if matrix is None:
            _refuse(file, number, f"motif {identity} has no {_MATRIX}")
        yield _meme_matrix(name, identity, lines[matrix:end], file)


def _meme_matrix(name: str, identity: str, lines: Lines, file: str) -> Motif:
    number, head = lines[0]
    given = dict(re.findall(r"(\w+)\s*=\s*(\S+)", head))
    table = []
    for at, line in lines[1:]:
        if line[0].isalpha() or line.startswith(("-", "*")):  # URL, or a rule of the longer format
            break
        table.append(_numbers(line, file, at))
        if len(table[-1]) != 4:
            _refuse(file, at, f"motif {identity} has a row of {len(table[-1])} numbers, not 4 (A, C, G, T)")
    if "w" in given and given["w"] != str(len(table)):
        _refuse(file, number, f"motif {identity} says w= {given['w']}, and has {len(table)} rows")
    shares = np.array(table).reshape(-1, 4)
    if (np.abs(shares.sum(1) - 1) > _ROW_SUM).any():
        _refuse(file, number, f"a row of motif {identity} does not sum to 1")
    sites = _numbers(given.get("nsites", ""), file, number)
    shares = shares / np.maximum(shares.sum(1, keepdims=True), 1e-12)
    return _motif(
        name, identity, shares * (sites[0] if sites and sites[0] > 0 else _MEME_SITES), file, number
    )


def _named(title: str, file: str, number: int) -> tuple[str, str]:
    """Id and name of a title: its first word and the rest, or its only word twice."""
    words = title.split(maxsplit=1)
    if not words:
        _refuse(file, number, "a motif has no name")
    return words[0], words[-1].strip()


def _numbers(text: str, file: str, number: int) -> list[float]:
    words = text.replace(",", " ").split()
    wrong = next((word for word in words if not _NUMBER.fullmatch(word)), None)
    if wrong is not None:
        _refuse(file, number, f"{wrong[:20]!r} is no number")
    return [float(word) for word in words]


def _motif(name: str, identity: str, counts: Float64, file: str, number: int) -> Motif:
    if not len(counts):
        _refuse(file, number, f"motif {identity} has no positions")
    if (counts < 0).any() or not np.isfinite(counts).all():
        _refuse(file, number, f"motif {identity} has a negative or infinite number")
    if (counts.sum(1) <= 0).any():
        _refuse(
            file, number, f"position {int((counts.sum(1) <= 0).argmax()) + 1} of motif {identity} is all 0"
        )
    return Motif(name, identity, counts)


def _check_ids(motifs: tuple[Motif, ...], file: str) -> None:
    identity, times = Counter(motif.id for motif in motifs).most_common(1)[0]
    if times > 1:
        raise InputError(
            f"{file}: {times} motifs have the id {identity}. Give every matrix an id of its own."
        )


def _refuse(file: str, number: int, what: str) -> NoReturn:
    raise InputError(f"{file} line {number}: {what}. Correct the file.")
