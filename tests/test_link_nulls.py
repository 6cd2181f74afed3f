"""What links of CrossRec are held against: asked alike of all peaks, whichever a gene was trained on."""

from __future__ import annotations

import numpy as np
import torch

from random_dataset import write_random_dataset
from scweave.graphs.dataset import MultiomeGraphs
from scweave.models.crossrec_cis import CisConfig, CisCrossRec
from scweave.models.layers.profiles import Profiles


def test_affinities_are_covariances_of_expression_and_what_peaks_pass_on(tmp_path):
    graphs = MultiomeGraphs(write_random_dataset(tmp_path / "dataset", window=True, n_cells=60))
    model = CisCrossRec.from_graphs(graphs, CisConfig(sequence=False, components=5, programmes=4)).eval()
    rna, atac = graphs.pairs_of(np.arange(len(graphs)))
    counts = np.asarray(graphs.rna_rows.matrix(rna).todense(), np.float64)
    level = np.log1p(1e4 * counts / np.maximum(counts.sum(1, keepdims=True), 1))
    with torch.no_grad():
        place = model.places(Profiles.of(graphs.atac_rows, atac)).double().numpy()
    value = place @ model.expression.programme.double().numpy().T
    expected = (level - level.mean(0)).T @ (value - value.mean(0)) / len(level)
    query, key = model.affinities(graphs)
    np.testing.assert_allclose((query @ key.T).numpy(), expected, atol=1e-9)
    with torch.no_grad():
        model.expression.attention.query.normal_()  # what is fitted to a gene's own edges says nothing here
    assert torch.equal(model.affinities(graphs)[0], query)
