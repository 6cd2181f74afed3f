"""What ``var`` itself says of genes and peaks: places, attributes that were fitted, DNA."""

from __future__ import annotations

from typing import Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ..graphs.bases import Anchor, encode, encode_bytes
from ..graphs.chromosomes import harmonise
from ..graphs.errors import InputError
from ..graphs.messages import few
from .genome import Genome
from .genomes.columns import CHROM_COLUMNS, POSITION_COLUMNS, positions, texts, unknown
from .genomes.dna import PeakDna, share, tallies

_PLACE: Final = ("chrom", "strand", "start", "end", "tss")
_STRANDS: Final = {"+": "+", "1": "+", "+1": "+", "-": "-", "-1": "-"}
_NUMBERS: Final = ("means", "variances", "variances_norm")
_MARKS: Final = ("highly_variable",)
_NO_LINE_ENDS: Final = bytes.maketrans(b"\r\n", b"NN")
_TRUTH: Final = {"true": True, "1": True, "1.0": True, "false": False, "0": False, "0.0": False}


def place_genes(var: pd.DataFrame, genome: Genome, *, notes: list[str]) -> tuple[pd.DataFrame, int]:
    """Place the genes of an experiment by ``var`` where it says where they lie, else by the GTF.

    ``var`` may say ``chrom`` (or ``chr``, ``seqnames``), ``strand`` (+, -, 1, -1), ``chromStart`` and
    ``chromEnd`` or ``start`` and ``end`` (0-based half-open, together), and ``tss``. What it leaves
    unknown the GTF fills; but of a gene that it puts on another chromosome than the GTF, nothing is
    taken from there. The TSS follows from start, end and strand unless `var` has it. Genes are sought
    in the GTF by ``gene_ids`` or ``gene_id``, then by name.

    Parameters
    ----------
    var
        Feature table of the RNA matrix, indexed by gene name.
    genome
        Annotation, or none; `var` takes its spelling of chromosomes.
    notes
        How many genes were found, and from where each attribute was taken that `var` has, is appended.

    Returns
    -------
    genes
        ``gene`` (name), ``gene_id, symbol, chrom, start, end, tss, strand, biotype``, aligned with
        `var` under a fresh index; None or missing where unknown.
    placed
        Genes that have a chromosome.

    Raises
    ------
    InputError
        If positions of `var` are no whole numbers, or start >= end.
    """
    names = pd.Series(var.index.astype(str).to_numpy(dtype=object))
    genes, found = genome.place_genes(names.tolist(), _ids(var, names))
    genes.insert(0, "gene", names)
    if genome.gtf is not None:
        notes.append(str(found))
    own = _own_places(var, names, genome.chromosomes)
    _tell_moved(own, genes, notes)
    merged = genes.assign(**_merge(own, genes))
    _tell_sources(own, merged, genome, notes)
    return merged, int(merged["chrom"].notna().sum())


def fitted_attributes(var: pd.DataFrame, *, notes: list[str]) -> pd.DataFrame:
    """Take the attributes of variability that the file brings, complete and valid ones only.

    Parameters
    ----------
    var
        Feature table of the RNA matrix.
    notes
        Which columns were taken, and which were not and why, is appended.

    Returns
    -------
    DataFrame
        Those of ``means``, ``variances``, ``variances_norm`` (float64, finite) and
        ``highly_variable`` (bool) that `var` has, aligned with it under a fresh index.
    """
    taken = pd.DataFrame(index=range(len(var)))
    for names, read, what in ((_NUMBERS, _numbers, "finite number"), (_MARKS, _marks, "True or False")):
        for name in (name for name in names if name in var):
            values = read(var[name])
            if (wrong := values.isna().to_numpy()).any():
                notes.append(
                    f"{name} of var is not taken: {wrong.sum():,} of {len(var):,} values are no {what}"
                    f" ({few(map(repr, var[name][wrong]))})"
                )
            else:
                taken[name] = values.to_numpy(dtype=bool if names is _MARKS else np.float64)
    if len(taken.columns):
        notes.append(
            f"{', '.join(map(str, taken))} taken from var: the file's maker fitted them, on all of its cells as far as"
            " anyone knows; --refit fits them on training cells instead"
        )
    return taken


def given_dna(var: pd.DataFrame, *, length: int, anchor: Anchor, notes: list[str]) -> PeakDna | None:
    """Take the DNA of peaks from the column ``dna_sequence``.

    Parameters
    ----------
    var
        Feature table of the ATAC matrix.
    length, anchor
        Bases a peak, and which ones; see :func:`scweave.graphs.bases.encode`.
    notes
        How many peaks have a sequence, and how long they are, is appended.

    Returns
    -------
    PeakDna or None
        N where a sequence is missing; GC content of all that is given; None where `var` has no sequence
        at all.

    Raises
    ------
    InputError
        If the column holds anything but text.
    """
    if "dna_sequence" not in var:
        return None
    column = pd.Series(var["dna_sequence"].to_numpy(dtype=object), dtype=object)
    missing = unknown(column)
    text = column.map(lambda value: isinstance(value, str)).to_numpy(dtype=bool)
    if (wrong := ~text & ~column.isna().to_numpy()).any():
        raise InputError(
            f"column 'dna_sequence' of var holds no text for {wrong.sum():,} of {len(var):,} peaks"
            f" ({few(map(repr, column[wrong]))}). Give letters, or remove the column so that the FASTA is used."
        )
    if missing.all():
        notes.append(f"dna_sequence of var is not taken: it is empty for all of {len(var):,} peaks")
        return None
    sequences = column.where(~missing, "")
    notes.append(_described(sequences[~missing], len(var), length))
    return PeakDna(encode(sequences.tolist(), length, anchor), _gc(sequences))


def _gc(sequences: pd.Series[str]) -> NDArray[np.float32]:
    """GC content of whole sequences; a line end inside one is no base, but keeps its place here."""
    letters = "".join(sequences).encode("latin-1", "replace").translate(_NO_LINE_ENDS)
    strong, called = tallies(encode_bytes(letters))
    ends = np.concatenate([[0], np.cumsum(sequences.str.len().to_numpy(np.int64))])
    return share(np.diff(strong[ends]), np.diff(called[ends]))


def _described(sequences: pd.Series[str], n_peaks: int, length: int) -> str:
    bases = sequences.str.len()
    return (
        f"DNA of {len(sequences):,} of {n_peaks:,} peaks taken from var ({bases.min():,} to {bases.max():,} bp,"
        f" {(bases < length).sum():,} of them shorter than {length:,}); missing bases are N"
    )


def _ids(var: pd.DataFrame, names: pd.Series[str]) -> list[str] | None:
    column = next((name for name in ("gene_ids", "gene_id") if name in var), None)
    return None if column is None else texts(var[column]).where(~unknown(var[column]), names).tolist()


def _own_places(var: pd.DataFrame, names: pd.Series[str], chromosomes: list[str]) -> pd.DataFrame:
    """Read what var says, missing where it says nothing; columns it lacks are absent."""
    own = pd.DataFrame(index=names.index)
    column = next((name for name in CHROM_COLUMNS if name in var), None)
    if column is not None:
        chrom = texts(var[column]).where(~unknown(var[column]))
        own["chrom"] = chrom.map(_spelling(list(chrom.dropna().unique()), chromosomes))
    if "strand" in var:
        own["strand"] = texts(var["strand"]).str.strip().map(_STRANDS)
    pair = next((pair for pair in POSITION_COLUMNS if set(pair) <= set(var.columns)), None)
    if pair is not None:
        own["start"], own["end"] = _bodies(var, pair, names)
    if "tss" in var:
        own["tss"] = positions(var["tss"], names, of="genes")
    return own


def _spelling(names: list[str], chromosomes: list[str]) -> dict[str, str]:
    return {name: known or name for name, known in harmonise(names, chromosomes).items()}


def _bodies(
    var: pd.DataFrame, pair: tuple[str, str], names: pd.Series[str]
) -> tuple[pd.Series[int], pd.Series[int]]:
    start, end = (positions(var[column], names, of="genes") for column in pair)
    both = start.notna() & end.notna()
    if (wrong := (both & (start >= end)).fillna(False).to_numpy(dtype=bool)).any():
        raise InputError(
            f"{wrong.sum():,} of {len(names):,} genes have {pair[0]} >= {pair[1]} in var"
            f" ({few(map(repr, names[wrong]))}). Gene bodies are 0-based half-open intervals: correct these."
        )
    return start.where(both), end.where(both)


def _moved(own: pd.DataFrame, genes: pd.DataFrame) -> pd.Series[bool]:
    """Tell which genes var puts on another chromosome than the GTF."""
    if "chrom" not in own:
        return pd.Series(False, index=genes.index)
    return own["chrom"].notna() & genes["chrom"].notna() & (own["chrom"] != genes["chrom"])


def _merge(own: pd.DataFrame, genes: pd.DataFrame) -> dict[str, pd.Series[str]]:
    moved = _moved(own, genes)
    merged = {}
    for name in _PLACE:
        theirs = genes[name] if name == "chrom" else genes[name].mask(moved)
        merged[name] = own[name].where(own[name].notna(), theirs) if name in own else theirs
    told = own.reindex(columns=list(_PLACE)).notna()
    first = merged["start"].mask(merged["strand"] == "-", merged["end"] - 1)
    merged["tss"] = merged["tss"].where(told["tss"] | ~(told["start"] | told["strand"]), first)
    for name in ("start", "end", "tss"):
        merged[name] = merged[name].where(merged["chrom"].notna())
    for name in ("chrom", "strand"):
        values = merged[name].to_numpy(dtype=object)
        values[pd.isna(values)] = None
        merged[name] = pd.Series(values, dtype=object)
    return merged


def _tell_moved(own: pd.DataFrame, genes: pd.DataFrame, notes: list[str]) -> None:
    moved = _moved(own, genes)
    if moved.any():
        both = zip(genes["gene"][moved], own["chrom"][moved], genes["chrom"][moved], strict=True)
        examples = few([f"{gene}: {here}, not {there}" for gene, here, there in both])
        notes.append(
            f"{moved.sum():,} of {len(genes):,} genes are on another chromosome in var than in the GTF"
            f" ({examples}); var is taken, and nothing else of theirs from the GTF"
        )


def _tell_sources(own: pd.DataFrame, merged: pd.DataFrame, genome: Genome, notes: list[str]) -> None:
    for name in (name for name in _PLACE if name in own):
        from_var = int((own[name].notna() & merged[name].notna()).sum())
        known = int(merged[name].notna().sum())
        gtf = f", of {known - from_var:,} from the GTF" if genome.gtf is not None else ""
        notes.append(f"{name} of {from_var:,} genes taken from var{gtf}, of {len(merged) - known:,} unknown")
    lost = int((merged["chrom"].notna() & merged["tss"].isna()).sum())
    if lost:
        notes.append(
            f"{lost:,} of {len(merged):,} genes have a chromosome but no TSS: no window reaches them"
        )


def _numbers(column: pd.Series[float]) -> pd.Series[float]:
    """Read finite numbers; all else is missing."""
    values = pd.to_numeric(column.astype(object), errors="coerce")
    if pd.api.types.is_bool_dtype(column.dtype):
        return pd.Series(np.nan, index=column.index)
    return values.astype(np.float64).where(np.isfinite(values.astype(np.float64)))


def _marks(column: pd.Series[bool]) -> pd.Series[bool]:
    return column.astype(object).astype(str).str.strip().str.lower().map(_TRUTH)
