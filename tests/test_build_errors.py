"""What fails a build is told in one line, and neither errors nor kills leave half a dataset behind."""

import errno
import gzip
import os
import re
import signal
import subprocess
import sys
from contextlib import redirect_stderr
from dataclasses import replace
from io import StringIO
from unittest.mock import patch

import anndata as ad
import h5py
import numpy as np
import pandas as pd
import pytest

from handmade_experiment import N_CELLS, emptied, run_build
from scweave.cli import main
from scweave.generators.build import BuildOptions, build
from scweave.graphs.csr import CsrWriter
from scweave.graphs.errors import InputError
from scweave.graphs.store import Store, StoreWriter, verify


def assert_nothing_left(folder):
    assert [path.name for path in folder.iterdir() if "dataset" in path.name] == []


def with_obs(data, **columns):
    data = data.copy()
    for name, values in columns.items():
        data.obs[name] = values
    return data


def with_peaks(data, change):
    data = data.copy()
    names = data.var_names.to_numpy(dtype=object, copy=True)
    change(names)
    data.var_names = names
    return data


def set_first(value):
    def change(names):
        names[0] = value

    return change


def with_values(data, value):
    data = data.copy()
    data.X.data[-1] = value
    return data


def of_genome(data, name):
    data = data.copy()
    data.uns["genome"] = name
    return data


def first_cells(data, n):
    return data[[f"cell{i}" for i in range(n)]].copy()


# What is changed in the handmade experiment, the options, and what the one line must say.
BAD = {
    "no such label": ({}, {"labels": "leiden"}, r"no column 'leiden' in obs for --labels\. The columns are: kind, donor\."),
    "no such donor": ({}, {"donor": "batch"}, r"no column 'batch' in obs for --donor\. The columns are: kind, donor\."),
    "one type": (
        {"rna": lambda m: with_obs(m.rna, kind="b cell")},
        {},
        r"all 40 labelled cells are of one type, so there are no easy negatives\. Pass another --labels",
    ),
    "no label at all": (
        {"rna": lambda m: with_obs(m.rna, kind=np.full(N_CELLS, np.nan))},
        {},
        r"column 'kind' \(--labels\) is empty for all 40 cells\. Choose",
    ),
    "missing donors": (
        {"rna": lambda m: with_obs(m.rna, donor=["d1", "d2", "d1", None] * 10)},
        {"donor": "donor"},
        r"10 of 40 cells have no donor\. Fill the column or leave out --donor",
    ),
    "fewer cells than splits": (
        {"rna": lambda m: first_cells(m.rna, 2)},
        {},
        r"2 cells cannot be split into train, validation, test\. Pass at least 3",
    ),
    "types too small": (
        {"rna": lambda m: first_cells(m.rna, 4)},
        {},
        r"the validation split has labelled cells of fewer than two types.*Pass more cells",
    ),
    "every label of its own": (
        {"rna": lambda m: with_obs(m.rna, kind=m.rna.obs_names.to_numpy())},
        {},
        r"the validation split has no cells \(40 cells in all\)",
    ),
    "all empty": (
        {"rna": lambda m: emptied(m.rna, m.rna.obs_names)},
        {},
        r"every cell \(40\) is empty in one modality \(40 in RNA, 0 in ATAC\)\. Pass raw counts",
    ),
    "genes of another genome": (
        {"gtf": lambda m: m.gtf.replace('"G', '"H').replace("ENSG", "ENSH")},
        {},
        r"0 of 12 genes have a place \(0%\), fewer than --min-placed 0\.3 \(the file has .*; the GTF has H0",
    ),
    "too few genes": (
        {},
        {"min_placed": 0.9},
        r"10 of 12 genes have a place \(83%\), fewer than --min-placed 0\.9 \(the file has lost",
    ),
    "peaks of another naming": (
        {"gtf": lambda m: m.gtf.replace("chr", "scaffold"), "dna": lambda m: {"scaffold2": "A"}},
        {},
        r"30 of 30 peaks are on chromosomes the GTF does not name",
    ),
    "peak that does not parse": (
        {"atac": lambda m: with_peaks(m.atac, set_first("chr2_here"))},
        {},
        r"1 of 30 peak names do not parse \('chr2_here'\)\. Write them as",
    ),
    "empty interval": (
        {"atac": lambda m: with_peaks(m.atac, set_first("chr2:10-10"))},
        {},
        r"1 of 30 peaks have start >= end \('chr2:10-10'\)",
    ),
    "peak past the end": (
        {"atac": lambda m: with_peaks(m.atac, set_first("chr2:5990-6001"))},
        {},
        r"1 of 30 peaks end past the end .*chr2 has 6,000 bp in g\.fa.*Wrong genome\?",
    ),
    "FASTA without a chromosome": (
        {"dna": lambda m: {name: text for name, text in m.dna.items() if name != "chrM"}},
        {},
        r"g\.fa lacks chrM, on which 2 of 30 peaks lie",
    ),
    "fractions": (
        {"rna": lambda m: with_values(m.rna, 0.5)},
        {},
        r"values of X in rna\.h5ad are not counts",
    ),
    "negative": ({"atac": lambda m: with_values(m.atac, -2)}, {}, r"values of X in atac\.h5ad are not counts: .*negative"),
    "not a number": (
        {"atac": lambda m: with_values(m.atac, np.nan)},
        {},
        r"values of X in atac\.h5ad are not counts: 1 of .* NaN or infinite",
    ),
    "log-normalised": (
        {"rna": lambda m: ad.AnnData(np.log1p(m.rna.X), m.rna.obs, m.rna.var)},
        {},
        r"values of X in rna\.h5ad are not counts: .*maximum .* looks log-normalised\. Pass raw counts",
    ),
    "a repeated peak": (
        {"atac": lambda m: with_peaks(m.atac, lambda names: names.__setitem__(0, names[1]))},
        {},
        r"1 of 30 peaks repeat the name of another \('.*'\)\. Keep one of each",
    ),
    "commas in a peak": (
        {"atac": lambda m: with_peaks(m.atac, set_first("chr2:1,000-1,300"))},
        {},
        r"1 of 30 peak names do not parse \('chr2:1,000-1,300'\).*Remove the commas",
    ),
    "scaffold peak that does not parse": (
        {"atac": lambda m: with_peaks(m.atac, set_first("chr1_KI270706v1_random"))},
        {},
        r"1 of 30 peak names do not parse \('chr1_KI270706v1_random'\)",
    ),
    "another build": (
        {"rna": lambda m: of_genome(m.rna, "mm10"), "atac": lambda m: of_genome(m.atac, "hg38")},
        {},
        r"uns\['genome'\] is mm10 in rna\.h5ad \(RNA\) but hg38 in atac\.h5ad",
    ),
    "no such cell type": ({}, {"cell_types": "b cell,z cell"}, r".*z cell.*b cell"),
    "every donor held out": ({}, {"donor": "donor", "test_donors": "d1,d2"}, r".*--test-donors.*d1"),
    "no such donor to hold out": ({}, {"donor": "donor", "test_donors": "d9"}, r".*d9.*d1"),
    "more folds than donors": ({}, {"donor": "donor", "folds": 3}, r".*2 donors.*--folds"),
    "hard negatives without labels": ({}, {"labels": "donor", "unlabelled": "d1,d2"}, r"column 'donor' \(--labels\) is empty for all 40"),
    "no such layer": ({}, {"layer": "raw"}, r"rna\.h5ad has no layer 'raw'"),
    "no shared barcode": (
        {"rna": lambda m: ad.AnnData(m.rna.X, m.rna.obs.set_index("x" + m.rna.obs_names), m.rna.var)},
        {},
        r"no barcode is in both modalities",
    ),
}  # fmt: skip


def truncate(path):
    path.write_bytes(path.read_bytes()[:2000])


def repeat_first(path, names):
    with h5py.File(path, "r+") as file:
        file[names][0] = file[names][1]


# What is done to the written files, and what the one line must say.
DAMAGED = {
    "truncated matrix": (
        lambda f: truncate(f / "rna.h5ad"),
        r"rna\.h5ad cannot be opened as HDF5 .*copy it again",
    ),
    "no HDF5": (lambda f: (f / "atac.h5ad").write_text("a,b"), r"atac\.h5ad cannot be opened as HDF5"),
    "foreign HDF5": (
        lambda f: h5py.File(f / "rna.h5ad", "w").close(),
        r"rna\.h5ad is HDF5 but .*nothing.*Pass",
    ),
    "a repeated barcode": (
        lambda f: repeat_first(f / "rna.h5ad", "obs/_index"),
        r"1 of 40 RNA barcodes in rna\.h5ad repeat another \(cell[0-9]+\)\. Make them unique",
    ),
    "missing matrix": (lambda f: (f / "rna.h5ad").unlink(), r"rna\.h5ad does not exist\. Pass"),
    "truncated annotation": (
        lambda f: (f / "g.gtf").write_bytes(b"\x1f\x8b\x08"),
        r"g\.gtf cannot be read as GTF: .*Pass a complete",
    ),
    "no annotation there": (lambda f: (f / "g.gtf").unlink(), r"g\.gtf does not exist\. Pass the path"),
    "empty annotation": (lambda f: (f / "g.gtf").write_text(""), r"g\.gtf .*Pass"),
    "foreign DNA": (
        lambda f: (f / "g.fa").write_text("ACGT"),
        r"g\.fa does not start like a FASTA.*Pass the DNA",
    ),
    "plain gzip DNA": (
        lambda f: (f / "g.fa").write_bytes(gzip.compress((f / "g.fa").read_bytes())),
        r"g\.fa is plain gzip.*bgzip",
    ),
}


def told_by_the_command(*arguments):
    """Run `scweave build` in this process; give its one line of complaint."""
    error = StringIO()
    with (
        patch.object(sys, "argv", ["scweave", "build", "--quiet", *map(str, arguments)]),
        redirect_stderr(error),
        pytest.raises(SystemExit) as ended,
    ):
        main()
    assert ended.value.code == 2
    assert error.getvalue().count("\n") == 1
    return error.getvalue().removeprefix("scweave: ")


def command(files, **options):
    given = {"labels": "kind", "gtf": files["gtf"], "fasta": files["fasta"]} | options
    out = files["gtf"].parent / "dataset"
    flags = [part for name, value in given.items() for part in (f"--{name.replace('_', '-')}", value)]
    return [*files["inputs"], *flags, "--out", out]


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_told_and_leaves_nothing(made, tmp_path, case):
    changes, options, told = BAD[case]
    changed = replace(made, **{name: change(made) for name, change in changes.items()})
    assert re.match(told, told_by_the_command(*command(changed.write(tmp_path), **options)))
    assert_nothing_left(tmp_path)


@pytest.mark.parametrize("case", DAMAGED)
def test_damaged_and_foreign_files_are_told_and_leave_nothing(made, tmp_path, case):
    damage, told = DAMAGED[case]
    files = made.write(tmp_path)
    damage(tmp_path)
    assert re.search(told, told_by_the_command(*command(files)))
    assert_nothing_left(tmp_path)


def test_no_annotation_is_told(made, tmp_path):
    with pytest.raises(InputError, match=r"no gene annotation given.*Pass --gtf"):
        run_build(tmp_path, made, gtf=False)
    assert_nothing_left(tmp_path)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"window": -1}, r"--window is -1\. Pass a number of bp"),
        ({"window": "gene"}, r"--window is gene\. Pass .* chromosome or none"),
        ({"min_placed": 30}, r"--min-placed is 30\. Pass a share of genes from 0 to 1"),
        ({"ratio": -0.5}, r"--ratio is -0\.5\. Pass 0 to"),
        ({"ratio": float("nan")}, r"--ratio is nan\. Pass 0 to"),
        (
            {"window": 10**20},
            r"--window is 100000000000000000000\. Pass a number of bp from 0 to 1,000,000,000",
        ),
        ({"ratio": 1e13}, r"--ratio is 1e\+13\. Pass 0 to 1,000"),
        ({"seed": 2**32}, r"seed 4294967296\. Pass .* below"),
        ({"cell_types": "b cell"}, r"cell_types is a text\. Pass a tuple"),
        ({"n_top": 0}, r"n_top is 0"),
        ({"folds": 1}, r"--folds is 1\. Pass 2 or more folds"),
        ({"sequence_length": 0}, r"--sequence-length is 0\. Pass 1 to 1,000,000"),
        ({"negatives": "soft"}, r"--negatives soft: choose easy or hard or both"),
        ({"around": "exon"}, r"--around exon: choose tss or gene-body"),
        ({"scaffolds": "some"}, r"--scaffolds some: choose keep or drop"),
        ({"sequence_from": "end"}, r"--sequence-from end: choose centre or start"),
        ({"test_donors": ("d1",)}, r"--test-donors names donors, but no --donor column is given"),
        ({"seed": -1}, r"seed -1\. Pass .* seed >= 0"),
    ],
)
def test_options_out_of_range_are_told(options, told):
    with pytest.raises(InputError, match=told):
        BuildOptions(**options)


def test_few_genes_pass_with_a_lower_bar(made, tmp_path):
    gtf = made.gtf.replace('"G', '"H').replace("ENSG", "ENSH")
    report = run_build(tmp_path, replace(made, gtf=gtf), min_placed=0)
    assert report.notes[0].startswith("0 of 12 genes placed")
    assert Store(tmp_path / "dataset").manifest["prior"]["edges"] == 0


def test_an_existing_output_is_not_touched(made, tmp_path):
    (tmp_path / "dataset").mkdir()
    (tmp_path / "dataset" / "mine").write_text("mine")
    with pytest.raises(InputError, match=r"dataset exists already\. Remove it or choose another --out"):
        run_build(tmp_path, made)
    assert [path.name for path in (tmp_path / "dataset").iterdir()] == ["mine"]


def test_an_output_that_cannot_be_made_is_told(made, tmp_path):
    arguments = made.write(tmp_path)
    with pytest.raises(InputError, match=r"cannot write .*g\.gtf.dataset: .*Choose another --out"):
        build(out=tmp_path / "g.gtf" / "dataset", progress=False, **arguments)


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_without_permission_is_told(made, tmp_path):
    locked = tmp_path / "locked"
    locked.mkdir(mode=0o500)
    with pytest.raises(InputError, match=r"cannot write .*Permission denied.*Choose another --out"):
        build(out=locked / "dataset", progress=False, **made.write(tmp_path))


def raising(error):
    def fail(*_, **__):
        raise error

    return fail


PLACES = {
    "counts": (CsrWriter, "append"),
    "array": (np, "save"),
    "table": (pd.DataFrame, "to_parquet"),
    "end": (StoreWriter, "finish"),
}


@pytest.mark.parametrize("place", PLACES)
def test_a_full_disk_is_told_and_leaves_nothing(made, tmp_path, monkeypatch, place):
    error = OSError(errno.ENOSPC, "No space left on device")
    monkeypatch.setattr(*PLACES[place], raising(error))
    arguments = made.write(tmp_path)
    with pytest.raises(
        InputError, match=r"writing .*dataset failed: No space left on device\. Free space or"
    ):
        build(out=tmp_path / "dataset", progress=False, **arguments)
    assert_nothing_left(tmp_path)


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("error", [KeyboardInterrupt, MemoryError])
def test_an_interrupt_leaves_nothing(made, tmp_path, monkeypatch, place, error):
    monkeypatch.setattr(*PLACES[place], raising(error))
    arguments = made.write(tmp_path)
    with pytest.raises(error):
        build(out=tmp_path / "dataset", progress=False, **arguments)
    assert_nothing_left(tmp_path)


KILLED = """
import os, random, signal, sys, time
from pathlib import Path
from scweave.generators.build import BuildOptions, build

atac, rna, gtf, fasta, folder = map(Path, sys.argv[1:])
options = BuildOptions(labels="kind")

def start(out):
    child = os.fork()
    if child == 0:
        build([rna, atac], out, gtf=gtf, fasta=fasta, options=options, progress=False)
        os._exit(0)
    return child

begin = time.perf_counter()
assert os.waitpid(start(folder / "whole"), 0)[1] == 0
duration = time.perf_counter() - begin
rng = random.Random(0)
for i in range(25):
    child = start(folder / f"try{i}")
    time.sleep(rng.uniform(0, 1.1 * duration))
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.parametrize("storage", ["csr", "csc"])
def test_a_killed_build_leaves_nothing_that_opens(made, tmp_path, storage):
    atac = ad.AnnData(made.atac.X.asformat(storage), made.atac.obs, made.atac.var)
    arguments = replace(made, atac=atac).write(tmp_path / "in")
    folder = tmp_path / "out"
    files = [*arguments["inputs"], arguments["gtf"], arguments["fasta"], folder]
    subprocess.run([sys.executable, "-c", KILLED, *map(str, files)], check=True)
    names = sorted(path.name for path in folder.iterdir())
    partial = [name for name in names if name.startswith(".")]
    for name in set(names) - set(partial):
        verify(folder / name)
    assert partial, "no build was killed halfway"
    assert all(name.startswith(".try") and ".partial-" in name for name in partial)
    again = folder / partial[0][1:].split(".")[0]
    build(out=again, options=BuildOptions(labels="kind"), progress=False, **arguments)
    verify(again)
    assert not (folder / partial[0]).exists()
    assert all((folder / name).exists() for name in partial[1:])


def test_folders_of_running_builds_and_of_others_stay(made, tmp_path):
    running = tmp_path / f".dataset.partial-{os.getppid()}"
    other = tmp_path / ".dataset2.partial-999999999"
    foreign = tmp_path / ".dataset.partial-notes"
    for folder in (running, other, foreign):
        folder.mkdir()
    run_build(tmp_path, made)
    assert all(folder.exists() for folder in (running, other, foreign))


def test_the_signal_of_ctrl_c_leaves_nothing(made, tmp_path, monkeypatch):
    append = CsrWriter.append

    def interrupted(self, rows):
        append(self, rows)
        signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(CsrWriter, "append", interrupted)
    arguments = made.write(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        build(out=tmp_path / "dataset", progress=False, **arguments)
    assert_nothing_left(tmp_path)
