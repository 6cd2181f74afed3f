"""Cell Ranger's .h5 and folders: what they hold is read by name, and what is not right is told."""

import h5py
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from scweave.generators.read import read
from scweave.graphs.errors import InputError
from tenx_files import features, mtx_text, random_counts, write_h5, write_mtx, write_text

N_CELLS, N_GENES, N_PEAKS = 20, 8, 12
COUNTS = random_counts(N_CELLS, N_GENES + N_PEAKS)


def stack(modality):
    return np.vstack([chunk.toarray() for chunk in modality.chunks(np.arange(N_CELLS), size=7)])


@pytest.fixture
def h5(tmp_path):
    return lambda **options: write_h5(tmp_path / "filtered.h5", COUNTS, N_GENES, **options)


@pytest.fixture
def mtx(tmp_path):
    return lambda **options: write_mtx(tmp_path / "filtered", COUNTS, N_GENES, **options)


@pytest.mark.parametrize("form", ["h5", "mtx"])
def test_both_modalities_are_read_from_one_input(request, form):
    experiment = read([request.getfixturevalue(form)()])
    rna, atac = experiment.modalities["rna"], experiment.modalities["atac"]
    assert (stack(rna) == COUNTS[:, :N_GENES]).all()
    assert (stack(atac) == COUNTS[:, N_GENES:]).all()
    assert experiment.barcodes.tolist() == [f"c{i}" for i in range(N_CELLS)]
    assert rna.var.index.tolist() == [f"GENE{i}" for i in range(N_GENES)]
    assert rna.var["gene_ids"].tolist() == [f"ENSG{i}" for i in range(N_GENES)]
    assert not {"chrom", "start", "end", "interval"} & set(rna.var)  # where genes lie, the annotation says
    assert atac.var.index.tolist() == [f"chr2:{100 * i}-{100 * i + 50}" for i in range(N_PEAKS)]
    if form == "h5":
        assert atac.var["interval"].tolist() == atac.var.index.tolist()
        assert experiment.genome == "GRCh38"
    else:
        assert atac.var["start"].tolist() == [100 * i for i in range(N_PEAKS)]
        assert atac.var["end"].dtype == np.int64
    assert (experiment.report, rna.stored) == ([], (COUNTS > 0).sum())


def typed(*kinds):
    kinds = np.resize(np.array(kinds, dtype=object), N_GENES + N_PEAKS)
    return [
        (*row[:2], kind, *row[3:])
        for row, kind in zip(features(N_GENES, N_PEAKS), kinds.tolist(), strict=True)
    ]


@pytest.mark.parametrize("form", ["h5", "mtx"])
def test_other_features_are_ignored_and_counted(request, form):
    kinds = ["Antibody Capture", "Gene Expression", "Peaks", "Peaks", "CRISPR Guide Capture"]
    experiment = read([request.getfixturevalue(form)(rows=typed(*kinds))])
    assert (stack(experiment.modalities["rna"]) == COUNTS[:, 1::5]).all()
    peaks = np.sort(np.concatenate([np.arange(2, 20, 5), np.arange(3, 20, 5)]))
    assert (stack(experiment.modalities["atac"]) == COUNTS[:, peaks]).all()
    (line,) = experiment.report
    assert line.endswith("ignored: Antibody Capture (4), CRISPR Guide Capture (4)")
    assert line.startswith("8 of 20 features in filtered")


@pytest.mark.parametrize("form", ["h5", "mtx"])
@pytest.mark.parametrize(("kind", "name"), [("Gene Expression", "rna"), ("Peaks", "atac")])
def test_one_modality_alone(request, form, kind, name):
    experiment = read([request.getfixturevalue(form)(rows=typed(kind))])
    assert list(experiment.modalities) == [name]
    assert (stack(experiment.modalities[name]) == COUNTS).all()


@pytest.mark.parametrize("form", ["h5", "mtx"])
def test_without_genes_and_peaks_the_types_are_listed(request, form):
    path = request.getfixturevalue(form)(rows=typed("Custom", "Antibody Capture"))
    told = r"no feature of filtered.* feature_types are (Custom|Antibody Capture) \(10\), .*Set them"
    with pytest.raises(InputError, match=told):
        read([path])


def test_repeated_symbols_are_told_apart_by_their_ids(h5):
    rows = features(N_GENES, N_PEAKS)
    rows[3] = ("ENSG3", "GENE1", *rows[3][2:])
    assert read([h5(rows=rows)]).report == [
        "1 of 8 gene names in filtered.h5 repeat another (GENE1); var['gene_ids'] tells them apart"
    ]


def test_an_h5_of_several_genomes_is_refused_but_not_for_ignored_features(h5):
    with pytest.raises(
        InputError, match=r"filtered\.h5 holds features of 2 genomes \(GRCh38, mm10\)\. Count"
    ):
        read([h5(genome=["GRCh38", "mm10"] * 10)])
    path = h5(genome=["GRCh38"] * 19 + [""], rows=typed(*["Gene Expression"] * 19, "Antibody Capture"))
    assert read([path]).genome == "GRCh38"


def test_an_h5_of_cell_ranger_2_is_named_with_the_way_out(tmp_path):
    with h5py.File(tmp_path / "old.h5", "w") as file:
        for name in ("barcodes", "data", "gene_names", "genes", "indices", "indptr", "shape"):
            file[f"GRCh38/{name}"] = [1]
    with pytest.raises(InputError, match=r"Cell Ranger 2 \(.*: GRCh38\)\. Convert it: scanpy\.read_10x_h5"):
        read([tmp_path / "old.h5"])


def test_an_h5_whose_sizes_disagree_is_told(h5):
    path = h5()
    with h5py.File(path, "r+") as file:
        file["matrix/shape"][:] = (20, 19)
    told = r"matrix in filtered\.h5 has 20 features × 19 cells, but features lists 20 and barcodes 20\. Pass"
    with pytest.raises(InputError, match=told):
        read([path])


def test_a_layer_of_a_10x_file_is_refused_unless_for_the_other_file(h5):
    path = h5(rows=typed("Peaks"))
    with pytest.raises(
        InputError, match=r"filtered\.h5 is of 10x and has no layers\. Leave out --layer counts"
    ):
        read([path], layer="counts")
    assert list(read([path], layer="rna:counts").modalities) == ["atac"]


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=12)
@given(
    seed=st.integers(0, 99),
    field=st.sampled_from(["integer", "real"]),
    separator=st.sampled_from([" ", "\t"]),
    zipped=st.booleans(),
    block=st.integers(40, 400),
)
def test_entries_of_an_mtx_may_come_in_any_order(mtx, seed, field, separator, zipped, block):
    order = np.random.default_rng(seed).permutation(np.count_nonzero(COUNTS))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("scweave.generators.files.mtx._BYTES", block)
        patch.setattr("scweave.generators.files.transposed._BUCKET", block)
        path = mtx(order=order, field=field, separator=separator)
        if not zipped:
            unzip(path)
        assert (stack(read([path]).modalities["atac"]) == COUNTS[:, N_GENES:]).all()
    for name in ("matrix.mtx", "features.tsv", "barcodes.tsv"):
        (path / name).unlink(missing_ok=True)


def unzip(path):
    """Leave only plain files in a folder."""
    for file in path.glob("*.gz"):
        file.unlink()
    write_mtx(path, COUNTS, N_GENES, zipped=False)


def test_a_gz_name_on_plain_text_is_read(mtx):
    path = mtx()
    (path / "barcodes.tsv.gz").write_text("".join(f"c{i}\n" for i in range(N_CELLS)))
    assert (stack(read([path]).modalities["rna"]) == COUNTS[:, :N_GENES]).all()


def test_an_mtx_without_values_counts_ones(mtx):
    experiment = read([mtx(field="pattern")])
    assert (stack(experiment.modalities["rna"]) == (COUNTS[:, :N_GENES] > 0)).all()
    assert experiment.report == [
        "matrix.mtx.gz in filtered holds no values: each entry is read as a count of 1"
    ]


def test_an_mtx_of_fractions_is_measured(tmp_path):
    path = write_mtx(tmp_path / "m", np.log1p(COUNTS), N_GENES, field="real")
    told = r"values of matrix\.mtx\.gz in m are not counts: .*\(for example 0\.693, 1\.1\).*log-norm.*raw counts\.$"
    with pytest.raises(InputError, match=told):
        read([path])


def test_folders_of_older_cell_rangers_are_read(tmp_path):
    for kind, lines in (
        ("genes.tsv", [f"ENSG{i}\tGENE{i}" for i in range(20)]),
        ("peaks.bed", [f"chr1\t{100 * i}\t{100 * i + 9}" for i in range(20)]),
    ):
        path = write_mtx(tmp_path / kind, COUNTS, N_GENES, zipped=False)
        (path / "features.tsv").unlink()
        (path / kind).write_text("\n".join(lines) + "\n")
        ((name, modality),) = read([path]).modalities.items()
        assert (stack(modality) == COUNTS).all()
        first = ("rna", "GENE0") if kind == "genes.tsv" else ("atac", "chr1:0-9")
        assert (name, modality.var.index[0]) == first


def test_places_of_peaks_are_kept_only_when_all_have_one(mtx):
    rows = features(N_GENES, N_PEAKS)
    rows[-1] = (*rows[-1][:3], "", "", "")
    assert "chrom" not in read([mtx(rows=rows)]).modalities["atac"].var


def test_missing_and_doubled_files_are_named(mtx):
    path = mtx()
    write_text(path / "barcodes.tsv", "c0\n", zipped=False)
    with pytest.raises(
        InputError, match=r"folder filtered has both barcodes\.tsv\.gz and barcodes\.tsv\. Remove"
    ):
        read([path])
    (path / "barcodes.tsv").unlink()
    (path / "matrix.mtx.gz").unlink()
    told = (
        r"has no matrix\.mtx\.gz or matrix\.mtx \(it has: barcodes\.tsv\.gz, features\.tsv\.gz\)\. Pass the"
    )
    with pytest.raises(InputError, match=told):
        read([path])


def replaced(old, new):
    return lambda text: text.replace(old, new, 1)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (replaced("%%MatrixMarket", "%"), r"matrix\.mtx begins with '% matrix.*not with '%%MatrixMarket"),
        (replaced("general", "symmetric"), r"begins with '.* integer symmetric', not with"),
        (replaced("coordinate", "array"), r"begins with '%%MatrixMarket matrix array"),
        (replaced("integer", "complex"), r"begins with .* complex general"),
        (
            replaced("20 20 ", "20 19 "),
            r"has 20 features × 19 cells, but features\.tsv lists 20 and .* 20\. Pass",
        ),
        (replaced("20 20 ", "20 "), r"matrix\.mtx in m cannot be read \(the line of sizes"),
        (lambda text: "", r"begins with '', not"),
        (
            lambda text: text[:-30],
            r"matrix\.mtx in m cannot be read \(.*(announced|Expected 3).*copy it again",
        ),
        (lambda text: text + "1 1 1\n", r"cannot be read \([0-9]+ values found, [0-9]+ announced\)"),
        (lambda text: text[: text.rindex("\n", 0, -1)] + "\n21 1 1\n", r"column indices exceed"),
        (lambda text: text[: text.rindex("\n", 0, -1)] + "\n1 0 1\n", r"cell indices exceed"),
        (
            lambda text: text[: text.rindex("\n", 0, -1)] + "\n1 1 x\n",
            r"cannot be read \(.*invalid value 'x'",
        ),
        (lambda text: text[: text.rindex("\n", 0, -1)] + "\n1 1 -3\n", r"are negative \(for example -3\)"),
        (lambda text: text[: text.rindex("\n", 0, -1)] + "\n1 1 nan\n", r"NaN or infinite"),
    ],
)
def test_a_wrong_mtx_is_told(tmp_path, change, told):
    path = write_mtx(tmp_path / "m", COUNTS, N_GENES, zipped=False)
    (path / "matrix.mtx").write_text(change(mtx_text(COUNTS)))
    with pytest.raises(InputError, match=told):
        stack(read([path]).modalities["rna"])


def test_a_transposed_mtx_is_recognised(tmp_path):
    path = write_mtx(tmp_path / "m", COUNTS[:9], N_GENES, zipped=False)
    (path / "matrix.mtx").write_text(mtx_text(COUNTS[:9].T))
    with pytest.raises(InputError, match=r"It is cells × features: transpose it\."):
        read([path])


@pytest.mark.parametrize("name", ["matrix.mtx.gz", "features.tsv.gz", "barcodes.tsv.gz"])
def test_a_truncated_gz_is_told(mtx, name):
    path = mtx()
    whole = (path / name).read_bytes()
    (path / name).write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match=rf"{name} in filtered cannot be read \(.*truncated or damaged"):
        stack(read([path]).modalities["rna"])


def test_barcodes_must_be_unique_and_genes_and_peaks_may_come_from_two_formats(h5, mtx):
    experiment = read([mtx(rows=typed("Peaks")), h5(rows=typed("Gene Expression"))])
    assert [m.path.name for m in experiment.modalities.values()] == ["filtered.h5", "filtered"]
    path = mtx()
    write_text(path / "barcodes.tsv", "c1\n" * N_CELLS, zipped=True)
    with pytest.raises(InputError, match=r"19 of 20 RNA barcodes in filtered repeat another \(c1\)\. Make"):
        read([path])
