"""The published AnnData format, with its quirks, through every preset."""

from dataclasses import replace

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from handmade_experiment import run_build, stored
from scweave.generators.build import BuildOptions, build
from scweave.generators.presets import PRESETS
from scweave.graphs.bases import decode
from scweave.graphs.errors import InputError
from scweave.graphs.store import Store


def published_files(folder, made, preset, *, by_name=True):
    """Write the published AnnData format with its quirks; the FASTA has a record a peak."""
    folder.mkdir(exist_ok=True)
    rng = np.random.default_rng(0)
    order = rng.permutation(made.rna.n_obs)
    rna, atac = made.rna.copy(), made.atac[made.rna.obs_names].copy()
    issaac = preset == "issaac"
    parts = atac.var_names.str.extract(r"(\w+):(\d+)-(\d+)")
    names = {"rna": rna.var_names.copy(), "atac": atac.var_names.copy()}
    chrom = {line.split('gene_name "')[1].split('"')[0]: line.split("\t") for line in made.gtf.splitlines()}
    rna.var["chrom"] = [chrom[name][0] if name in chrom else "chrUnknown" for name in rna.var_names]
    rna.var["chromStart"] = [int(chrom[name][3]) - 1 if name in chrom else 0 for name in rna.var_names]
    rna.var["chromEnd"] = [int(chrom[name][4]) if name in chrom else 1 for name in rna.var_names]
    rna.var["_" if issaac else "strand"] = [chrom[n][6] if n in chrom else "+" for n in rna.var_names]
    rna.var["means"], rna.var["variances"] = rng.random(rna.n_vars), rng.random(rna.n_vars)
    rna.var["variances_norm"] = rng.random(rna.n_vars)
    rna.var["highly_variable"] = rng.random(rna.n_vars) < 0.5
    atac.var["chrom"], atac.var["chromStart"] = parts[0].to_numpy(), parts[1].astype(int).to_numpy()
    atac.var["chromEnd"] = parts[2].astype(int).to_numpy()
    if issaac:
        rna.var["gene"], atac.var["peak"] = names["rna"].to_numpy(), names["atac"].to_numpy()
        for data in (rna, atac):
            data.var_names = [str(i) for i in range(data.n_vars)]
            data.obs["cell"] = data.obs_names
    for data in (rna, atac):
        data.obs["cell_type"] = data.obs.pop("kind")
    where = PRESETS[preset]
    rna[order].copy().write_h5ad(folder / where.rna)
    data = atac[order].copy()
    data.X = data.X.toarray() if issaac else sparse.csr_matrix(data.X)
    data.write_h5ad(folder / where.atac)
    with (folder / "peaks.fa").open("w") as file:
        for i, (name, at) in enumerate(zip(names["atac"], parts.itertuples(), strict=True)):
            text = made.dna[at[1]][int(at[2]) : int(at[3])][:256].ljust(256, "N")
            file.write(f">{name if by_name else f'record{i}'}\n{text.lower() if i % 2 else text}\n")
    return [folder / where.rna, folder / where.atac], folder / "peaks.fa"


@pytest.mark.parametrize("by_name", [True, False])
@pytest.mark.parametrize("preset", PRESETS)
def test_presets_read_the_published_format(made, tmp_path, preset, by_name):
    inputs, fasta = published_files(tmp_path / "files", made, preset, by_name=by_name)
    options = BuildOptions(preset=preset)
    report = build(inputs, tmp_path / "dataset", fasta=fasta, options=options, progress=False)
    store = Store(tmp_path / "dataset")
    genes, peaks = store.table("genes").set_index("gene"), store.table("peaks")
    assert store.manifest["genome"] == PRESETS[preset].genome
    assert store.manifest["cell_types"] == ["b cell", "t cell"]
    given = ad.read_h5ad(inputs[0]).var
    given.index = given["gene"] if preset == "issaac" else given.index
    for name in ("means", "variances_norm", "highly_variable"):
        assert (genes[name] == given[name][genes.index]).all()
    strand = given["_" if preset == "issaac" else "strand"][genes.index]
    placed = genes["chrom"].notna()
    assert placed.sum() == 10
    assert (genes["strand"] == strand)[placed].all()
    end = given["chromEnd"][genes.index] - 1
    tss = given["chromStart"][genes.index].where(strand == "+", end)
    assert (genes["tss"] == tss)[placed].all()
    letters = decode(store.array("sequences"))
    for peak, found in zip(peaks.itertuples(), letters, strict=True):
        assert found == made.dna[peak.chrom][peak.start : peak.end][:256]
    found = stored(tmp_path / "dataset", "atac")
    expected = made.atac.to_df().loc[found.index, found.columns]
    pd.testing.assert_frame_equal(found, expected, check_names=False, check_dtype=False)
    assert any(f"preset {preset}" in note and "published were" in note for note in report.notes)


def test_refitting_ignores_what_var_brings(made, tmp_path):
    inputs, _ = published_files(tmp_path / "files", made, "snare")
    for refit in (False, True):
        options = BuildOptions(preset="snare", refit=refit)
        report = build(inputs, tmp_path / str(refit), options=options, progress=False)
        fitted = [note for note in report.notes if note.startswith("means, variances, variances_norm")]
        assert any("training cells" in note and "fitted on" in note for note in fitted) == refit
    kept, refitted = (Store(tmp_path / str(refit)).table("genes") for refit in (False, True))
    assert (kept["means"] != refitted["means"]).any()


def test_an_unknown_preset_is_told():
    with pytest.raises(InputError, match=r"--preset mars: there is none\. Choose one of issaac, pbmc, share"):
        BuildOptions(preset="mars")


def test_files_of_another_genome_than_the_preset_are_refused(made, tmp_path):
    rna = made.rna.copy()
    rna.uns["genome"] = "hg38"
    rna.obs["cell_type"] = rna.obs["kind"]
    with pytest.raises(InputError, match=r"the preset is on mm10, but the files say hg38"):
        run_build(tmp_path, replace(made, rna=rna), labels=None, preset="snare")


def test_a_preset_without_its_labels_is_told(made, tmp_path):
    told = (
        r"preset issaac expects its labels in obs\['cell_type'\]; the columns are kind, donor\. Pass --labels"
    )
    with pytest.raises(InputError, match=told):
        run_build(tmp_path, made, labels=None, preset="issaac")
