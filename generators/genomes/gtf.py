"""Genes of a GTF: gene lines as a table with 0-based places and transcription start sites."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import numpy as np
import pandas as pd
from gtfparse import ParsingError, read_gtf

from ...graphs.errors import InputError

GENE_COLUMNS: Final = ("gene_id", "symbol", "chrom", "start", "end", "tss", "strand", "biotype")


def read_genes(path: Path) -> pd.DataFrame:
    """Read the genes of a GTF, plain or gzip; see `Genome.genes` for the columns.

    Raises
    ------
    InputError
        If the file is missing, damaged, no GTF, or holds no genes.
    """
    lines = read_lines(path, {"gene"})
    if lines.empty:
        lines = _derive_genes(read_lines(path, {"transcript", "exon"}), path)
    start = lines["start"].to_numpy(dtype=np.int64) - 1  # GTF is 1-based closed
    end = lines["end"].to_numpy(dtype=np.int64)
    if (wrong := (start < 0) | (start >= end)).any():
        raise InputError(
            f"{path.name}: {wrong.sum():,} genes have start < 1 or start > end. Correct the GTF."
        )
    strand = lines["strand"].to_numpy(dtype=object)
    strand[~lines["strand"].isin(["+", "-"]).to_numpy()] = None
    gene_id = strip_version(lines["gene_id"].astype(str))
    symbol = lines["gene_name"].astype(str) if "gene_name" in lines else pd.Series("", index=lines.index)
    biotype = next((lines[name] for name in ("gene_biotype", "gene_type") if name in lines), "")
    genes = pd.DataFrame({"gene_id": gene_id, "symbol": symbol.mask(symbol == "", gene_id)})
    genes["chrom"] = lines["seqname"].astype(object).astype(str)
    genes["start"], genes["end"] = start, end
    genes["tss"] = np.where(strand == "-", end - 1, start)
    genes["strand"], genes["biotype"] = strand, biotype
    return genes[list(GENE_COLUMNS)].reset_index(drop=True)


def no_genes() -> pd.DataFrame:
    """Return the table of a genome without annotation."""
    return pd.DataFrame({name: pd.Series(dtype=object) for name in GENE_COLUMNS}).astype(
        {"start": np.int64, "end": np.int64, "tss": np.int64}
    )


def strip_version(ids: pd.Series[str]) -> pd.Series[str]:
    """Remove the version of Ensembl ids (``ENSG00000223972.5``); other names stay as they are.

    Parameters
    ----------
    ids
        Gene ids or names.

    Returns
    -------
    Series
        The same, without versions; ``_PAR_Y`` is kept, as it tells two genes apart.
    """
    return ids.str.replace(r"^(ENS[A-Z]*[0-9]+)\.[0-9]+", r"\1", regex=True)


def read_lines(path: Path, features: set[str]) -> pd.DataFrame:
    """Read the lines of a GTF that have one of these features, as gtfparse gives them.

    Raises
    ------
    InputError
        If the file is missing, damaged or no GTF.
    """
    if not path.is_file():
        found = "is a folder" if path.is_dir() else "does not exist"
        raise InputError(f"GTF {path} {found}. Pass the path of a gene annotation (.gtf or .gtf.gz).")
    try:
        lines: pd.DataFrame = read_gtf(str(path), features=features, result_type="pandas")
    except (ParsingError, OSError, EOFError, UnicodeDecodeError, ValueError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(
            f"{path.name} cannot be read as GTF: {reason}. Pass a complete .gtf or .gtf.gz."
        ) from error
    if len(lines) and "gene_id" not in lines:
        raise InputError(f"{path.name}: its lines have no gene_id attribute (GFF3?). Pass a GTF.")
    return lines


def _derive_genes(lines: pd.DataFrame, path: Path) -> pd.DataFrame:
    if lines.empty:
        raise InputError(f"{path.name} has no gene, transcript or exon lines. Pass the annotation of genes.")
    lines = lines.astype({"seqname": object, "strand": object})
    kept = [name for name in ("gene_name", "gene_biotype", "gene_type") if name in lines]
    how = {"start": "min", "end": "max", "strand": "first"} | dict.fromkeys(kept, "first")
    # pandas groups by chromosome too, as the two copies of a PAR gene may share their id.
    return lines.groupby(["gene_id", "seqname"], sort=False, as_index=False).agg(how)
