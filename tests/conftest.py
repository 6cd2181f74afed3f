"""Shared fixtures: where the real data lies, when it is there."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

from random_dataset import write_random_dataset

if TYPE_CHECKING:
    from handmade_experiment import Inputs
    from scweave.generators.simulate import SimulatedFiles

# An example may be slow where other work shares the machine; that is no failure.
settings.register_profile("scweave", deadline=None)
settings.load_profile("scweave")

SHARED_DATA = Path(os.environ.get("SCWEAVE_DATA", Path(__file__).parents[2] / "shared" / "data"))


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of third-party data, or a skip that says so."""
    if not SHARED_DATA.is_dir():
        pytest.skip(f"real data not found at {SHARED_DATA}; set SCWEAVE_DATA to its folder")
    return SHARED_DATA


@pytest.fixture(scope="session")
def random_dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small dataset of random counts with every feature of the format, window prior included."""
    return write_random_dataset(tmp_path_factory.mktemp("random") / "dataset", window=True)


@pytest.fixture(scope="session")
def chromosome_dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same with a chromosome prior."""
    return write_random_dataset(tmp_path_factory.mktemp("random") / "dataset", window=False)


@pytest.fixture(scope="session")
def made() -> Inputs:
    """The handmade experiment in memory; tests change copies of it."""
    from handmade_experiment import handmade

    return handmade()


@pytest.fixture(scope="session")
def handmade_dataset(tmp_path_factory: pytest.TempPathFactory, made: Inputs) -> Path:
    """Its graph dataset."""
    from handmade_experiment import run_build

    folder = tmp_path_factory.mktemp("handmade")
    run_build(folder, made, window=1000)
    return folder / "dataset"


@pytest.fixture(scope="session")
def simulated(tmp_path_factory: pytest.TempPathFactory) -> SimulatedFiles:
    """A small simulated experiment with its genome and truth."""
    from scweave.generators.simulate import simulate

    out = tmp_path_factory.mktemp("simulated") / "experiment.h5mu"
    return simulate(out, cells=240, genes=60, peaks=600, types=4, seed=1, progress=False)


@pytest.fixture(scope="session")
def simulated_dataset(simulated: SimulatedFiles) -> Path:
    """The graph dataset of the simulated experiment."""
    from scweave.generators.build import BuildOptions, build

    out = simulated.h5mu.parent / "dataset"
    options = BuildOptions(labels="cell_type", seed=1)
    build([simulated.h5mu], out, gtf=simulated.gtf, fasta=simulated.fasta, options=options, progress=False)
    return out


@pytest.fixture
def pair(tmp_path: Path) -> Callable[..., list[Path]]:
    """Write two h5ad files after changing them; give their paths."""
    from small_pair import GENES, PEAKS, modality

    def write(change_rna=lambda data: data, change_atac=lambda data: data):
        paths = [tmp_path / "rna.h5ad", tmp_path / "atac.h5ad"]
        change_rna(modality(GENES)).write_h5ad(paths[0])
        change_atac(modality(PEAKS, seed=1)).write_h5ad(paths[1])
        return paths

    return write
