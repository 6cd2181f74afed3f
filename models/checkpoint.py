"""Checkpoints: a folder of safetensors and JSON that holds all a model needs; nothing is ever unpickled."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import combinations, permutations
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from ..graphs.chromosomes import build_name
from ..graphs.dataset import MultiomeGraphs
from ..graphs.errors import InputError
from ..graphs.features import write_features
from ..graphs.schema import RNA, SPLITS, Split
from ..graphs.store import Store, checksum
from ..graphs.whole import new_file, write_json
from .annotation.islands import Islands, check_covered
from .annotation.model import AnnotatorModel
from .annotation.pretraining import PretrainingModel
from .devices import best_device
from .registry import KINDS, kind_of

SCHEMA_VERSION = 5
WEIGHTS, DESCRIPTION, SEEN = "model.safetensors", "model.json", "seen_cells.safetensors"
FEATURES = "features"  # a dataset without cells
TRAIN, PRETRAIN = "train", "pretrain"  # stages
_ISLANDS = "islands"  # what is seen of places
_SETS = "datasets"  # how many data sets seen cells are of
_TELLING = 5  # genes or peaks; cells with fewer may be alike by chance

Int64 = NDArray[np.int64]
Bools = NDArray[np.bool_]


@dataclass(frozen=True)
class LoadedModel:
    """A trained model with the features it was trained on.

    Attributes
    ----------
    model
        In evaluation mode, on a GPU where there is one.
    manifest
        ``model.json``: schema, kind, mode, config, chromosomes, genome; fingerprint and fold of the
        dataset it was trained on.
    genes, peaks
        Tables of the features, in the order of their ids.
    """

    model: Any
    manifest: dict[str, Any]
    genes: pd.DataFrame
    peaks: pd.DataFrame


def save_model(folder: Path, model: Any, graphs: MultiomeGraphs) -> None:
    """Write weights, description and features of a model into ``folder``, each whole or not at all.

    Parameters
    ----------
    folder
        Folder that exists.
    model
        A model of `registry.KINDS`.
    graphs
        What it was trained on.
    """
    if not (folder / FEATURES).exists():
        write_features(graphs.store, folder / FEATURES)
    save_tensors(folder / WEIGHTS, {name: value.detach() for name, value in model.state_dict().items()})
    manifest = {
        "schema_version": SCHEMA_VERSION,
        "kind": model.kind,
        "mode": model.mode,
        "stage": getattr(model, "stage", TRAIN),
        "cell_types": list(getattr(model, "cell_types", ())),
        "notes": list(getattr(model, "notes", ())),
        "config": asdict(model.config),
        "chromosomes": list(getattr(model, "chromosomes", graphs.store.manifest["chromosomes"])),
        "genome": graphs.store.manifest["genome"],
        "dataset": graphs.fingerprint,
        "fold": graphs.fold,
    }
    write_json(folder / DESCRIPTION, manifest)


def load_model(run: Path) -> LoadedModel:
    """Load the best weights of a run.

    Raises
    ------
    InputError
        No model there, a damaged one, or one of another schema.
    """
    run = Path(run)
    manifest = _read_manifest(run)
    try:
        kind = kind_of(manifest["kind"], manifest["mode"], manifest["stage"])
        tensors = load_file(run / WEIGHTS)
        config: Any = kind.config(**manifest["config"])
        model = kind.model.from_tensors(tensors, config, len(manifest["chromosomes"]))
        model = model.to(next(value.dtype for value in tensors.values() if value.is_floating_point()))
        model.load_state_dict(tensors)
        _check_vocabulary(manifest["cell_types"], tensors)
        model.cell_types, model.notes = tuple(manifest["cell_types"]), list(manifest["notes"])
        features = Store(run / FEATURES)
        genes, peaks = features.table("genes"), features.table("peaks")
        if model.reads_places:
            model.place([peaks], manifest["chromosomes"])
    except (InputError, OSError, KeyError, TypeError, ValueError, RuntimeError, SafetensorError) as error:
        raise InputError(f"the model in {run} is damaged ({_first_line(error)}). Train it anew.") from error
    return LoadedModel(model.eval().to(best_device()), manifest, genes, peaks)


def _check_vocabulary(cell_types: list[str], tensors: dict[str, Tensor]) -> None:
    told = len(tensors["calibration.centroids"]) if "calibration.centroids" in tensors else 0
    if len(set(cell_types)) != len(cell_types) or len(cell_types) != told:
        raise ValueError(f"{len(cell_types)} cell types for weights of {told}")


def open_for(
    loaded: LoadedModel, root: Path, *, split: Split | None = None
) -> tuple[MultiomeGraphs, list[str]]:
    """Open a dataset for a trained model, and `adapt` the model to it.

    Returns
    -------
    The dataset, in the fold the model was trained on where it is that dataset; and what a reader of the results
    should know of it.

    Raises
    ------
    InputError
        No dataset there, or one with other genes or peaks.
    """
    graphs = MultiomeGraphs(root, split=split)
    graphs.require(_read_of(loaded, graphs), loaded.manifest["kind"])
    notes = adapt(loaded, graphs)
    if graphs.fingerprint == loaded.manifest["dataset"]:
        return MultiomeGraphs(root, split=split, fold=loaded.manifest["fold"]), notes
    return graphs, notes


def save_seen(folder: Path, graphs: Sequence[MultiomeGraphs], model: Any, init: Path | None = None) -> None:
    """Write which cells a model sees while it is trained, by what was counted in them in each modality.

    Where it tells peaks by their place, cells are also known by their islands, which other peaks leave as they are.

    Parameters
    ----------
    folder
        Of the run.
    graphs
        Its data sets, in the fold that is trained on.
    model
        What is trained, made for them.
    init
        Run that it begins with, whose cells it has seen too.
    """
    seen = _read_seen(init) if init is not None else {_SETS: torch.tensor(0)}
    for source, some in enumerate(graphs):
        cells = some.cells["split"].isin(SPLITS[:2]).to_numpy()
        found = {name: _keys(some, name, cells)[0] for name in some.modalities}
        if model.reads_places:
            found[_ISLANDS] = _island_keys(model.islands, some, np.flatnonzero(cells), source)
        for name, keys in found.items():
            own = torch.from_numpy(keys)
            seen[name] = torch.cat([seen[name], own]).unique() if name in seen else own
    seen[_SETS] = seen[_SETS] + len(graphs)
    save_tensors(folder / SEEN, seen)


def _read_seen(run: Path) -> dict[str, Tensor]:
    try:
        seen = load_file(run / SEEN)
        return {_SETS: torch.tensor(1), **seen}
    except (OSError, SafetensorError) as error:
        raise InputError(f"{run / SEEN} is missing or damaged. Train the model anew.") from error


def _keys(graphs: MultiomeGraphs, modality: str, which: Bools) -> tuple[Int64, Int64]:
    """Return what tells cells of a mask apart in a modality, and the cells; those with few counts are left out."""
    rows = graphs.rna_rows if modality == RNA else graphs.atac_rows
    cells = np.flatnonzero(which & (np.diff(rows.indptr) >= _TELLING))
    return rows.keys(cells), cells


def _island_keys(islands: Islands, graphs: MultiomeGraphs, cells: Int64, source: int = 0) -> Int64:
    """Return what tells cells apart by their islands; 0 where they have few."""
    return islands.keys(graphs, cells, source=source, least=_TELLING)


def check_unseen(run: Path, loaded: LoadedModel, graphs: MultiomeGraphs, split: Split) -> None:
    """Refuse to judge a model on cells that it was trained on, whatever dataset they come in.

    Cells are recognised by their counts, or those of their islands, not by their barcodes, which experiments share
    by chance. A model that tells peaks by their place has been told those of the dataset; see `adapt`.

    Raises
    ------
    InputError
        Tells how many of the split's cells were seen.
    """
    own = (graphs.fingerprint, graphs.fold) == (loaded.manifest["dataset"], loaded.manifest["fold"])
    keys = _read_seen(run)
    if own and (loaded.manifest["stage"] == TRAIN or int(keys[_SETS]) == 1):
        return
    of_split = (graphs.cells["split"] == split).to_numpy()
    seen = np.zeros(len(of_split), bool)
    for name in (name for name in graphs.modalities if name in keys):
        found, cells = _keys(graphs, name, of_split)
        seen[cells[np.isin(found, keys[name].numpy())]] = True
    if _ISLANDS in keys and loaded.model.reads_places:
        cells = np.flatnonzero(of_split)
        found = _island_keys(loaded.model.islands, graphs, cells)
        seen[cells[np.isin(found, keys[_ISLANDS].numpy()) & (found != 0)]] = True
    if seen.any():
        raise InputError(
            f"{seen.sum():,} of {of_split.sum():,} {split} cells of {graphs.root} were seen when the model in {run} was"
            " trained. Evaluate it on the dataset it was trained on, or on other cells."
        )


def adapt(loaded: LoadedModel, graphs: MultiomeGraphs, *, least_covered: float | None = None) -> list[str]:
    """Make a model ready to read a dataset, or refuse one whose genes or peaks are not those it was trained on.

    A model that tells peaks by their place finds the dataset's peaks on the genome, and forgets those of the one
    before; ``least_covered`` is the smallest share of its islands in which there must be peaks, where a user may
    choose it.

    Returns
    -------
    What a reader of the results should know.

    Raises
    ------
    InputError
        Says which features differ and how many are shared.
    """
    if loaded.model.reads_places:
        check_same_build(loaded.manifest["genome"], graphs)
        loaded.model.place([graphs.peaks.frame], loaded.manifest["chromosomes"])
        model = loaded.model
        return [check_covered(model.islands, graphs, least_covered, every=not model.config.tss)]
    for modality in _read_of(loaded, graphs):
        if not same_features(loaded, graphs, modality):
            ours, theirs = _features(loaded, graphs, modality)
            shared, kind = theirs.isin(ours).sum(), "genes" if modality == RNA else "peaks"
            raise InputError(
                f"the dataset's {kind} are not those of the model: {shared:,} of {len(theirs):,} are among its "
                f"{len(ours):,}. Use the dataset that the model was trained on, or train on this one; `scweave build"
                f" --like RUN/{FEATURES}` makes one of other cells."
            )
    return []


def _read_of(loaded: LoadedModel, graphs: MultiomeGraphs) -> tuple[str, ...]:
    """Return the modalities of a dataset that a model reads, or needs and does not find."""
    model = loaded.model
    reads: tuple[str, ...] = (
        model.reads(graphs.modalities) if isinstance(model, AnnotatorModel) else model.modalities
    )
    return reads


def check_same_build(genome: str | None, graphs: MultiomeGraphs) -> None:
    """Refuse a dataset on another genome build than a model, where both are known."""
    theirs = graphs.store.manifest["genome"]
    if genome and theirs and build_name(genome) != build_name(theirs):
        raise InputError(
            f"{graphs.root} is on {theirs}, and the model on {genome}: peaks of two builds cannot be compared by"
            " position. Lift the peaks over, or train a model on this build."
        )


def check_apart(graphs: Sequence[MultiomeGraphs], islands: Islands | None = None) -> None:
    """Refuse data sets of which one holds test cells of another among its training or validation cells.

    Parameters
    ----------
    graphs
        The data sets.
    islands
        Placed on them, where the model reads islands: cells are also known by these.

    Raises
    ------
    InputError
        Names the two, and how many cells.
    """
    for one, other in combinations(graphs, 2):
        if one.fingerprint == other.fingerprint:
            raise InputError(f"{one.root} and {other.root} are the same data set. Pass one of the two.")
    if len(graphs) < 2:
        return
    known = [_keys_by_role(some, islands, source) for source, some in enumerate(graphs)]
    for (one, tested), (other, trained) in permutations(zip(graphs, known, strict=True), 2):
        for name in (name for name in tested if name in trained):
            test = tested[name][0]
            if shared := int(np.isin(test, trained[name][1]).sum()):
                raise InputError(
                    f"{shared:,} of {len(test):,} test cells of {one.root} are training or validation cells of"
                    f" {other.root}. Pass data sets of other cells, or one of the two."
                )


def _keys_by_role(
    graphs: MultiomeGraphs, islands: Islands | None, source: int
) -> dict[str, tuple[Int64, Int64]]:
    """Return by what its cells are known -> keys of test cells, and of training and validation cells."""
    split = graphs.cells["split"]
    test, trained = (split == SPLITS[2]).to_numpy(), split.isin(SPLITS[:2]).to_numpy()
    found = {
        name: (_keys(graphs, name, test)[0], _keys(graphs, name, trained)[0]) for name in graphs.modalities
    }
    if islands is not None:
        keys = [_island_keys(islands, graphs, np.flatnonzero(role), source) for role in (test, trained)]
        found[_ISLANDS] = keys[0][keys[0] != 0], keys[1][keys[1] != 0]
    return found


def pretrained_config(run: Path, model: str, mode: str) -> dict[str, Any]:
    """Return the settings of a run that was pre-trained, to go on as a model in a mode.

    Raises
    ------
    InputError
        No such run, a damaged one, or one of another model, mode or stage.
    """
    manifest = _read_manifest(run)
    try:
        kind, trained_in, stage = (manifest[name] for name in ("kind", "mode", "stage"))
        if stage != PRETRAIN:
            raise InputError(_not_pretrained(run, kind))
        if (kind, trained_in) != (model, mode):
            raise InputError(
                f"--init {run}: {kind}, pre-trained in {trained_in} mode, does not go on as {model} in {mode} mode."
                " Pass a run of the same --model and --mode."
            )
        return asdict(kind_of(kind, trained_in, stage).config(**manifest["config"]))
    except (KeyError, TypeError) as error:
        raise InputError(
            f"{run / DESCRIPTION} is damaged ({_first_line(error)}). Train the model anew."
        ) from error


def _not_pretrained(run: Path, kind: str) -> str:
    return f"--init {run}: its {kind} was not pre-trained but trained. Pass a run of --stage pretrain."


def weights_checksum(run: Path) -> str:
    """Return what tells the weights of a run from others."""
    return checksum(run / WEIGHTS)


def load_pretrained(run: Path, graphs: MultiomeGraphs) -> PretrainingModel:
    """Load a model that was trained on unlabelled cells, to go on with the labels of a dataset.

    Parameters
    ----------
    run
        Of ``--stage pretrain``.
    graphs
        The dataset, in the fold that is trained on.

    Raises
    ------
    InputError
        No such model, one of another genome, or one that has seen test cells of the dataset.
    """
    loaded = load_model(run)
    if not isinstance(loaded.model, PretrainingModel):
        raise InputError(_not_pretrained(run, loaded.manifest["kind"]))
    graphs.require(loaded.model.modalities, loaded.manifest["kind"])
    check_same_build(loaded.manifest["genome"], graphs)
    loaded.model.place([graphs.peaks.frame], loaded.manifest["chromosomes"])
    check_unseen(run, loaded, graphs, "test")
    return loaded.model


def same_features(loaded: LoadedModel, graphs: MultiomeGraphs, modality: str) -> bool:
    """Whether the genes (``rna``) or peaks (``atac``) of a dataset are those a model was trained with."""
    ours, theirs = _features(loaded, graphs, modality)
    return bool(ours.equals(theirs))


def _features(loaded: LoadedModel, graphs: MultiomeGraphs, modality: str) -> tuple[pd.Series, pd.Series]:
    if modality == RNA:
        return loaded.genes["gene"], graphs.genes.frame["gene"]
    return loaded.peaks["peak"], graphs.peaks.frame["peak"]


def save_tensors(path: Path, tensors: dict[str, Tensor]) -> None:
    """Write tensors as a whole, so that a crash never leaves half a file."""
    with new_file(path) as partial:
        save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, partial)


def _read_manifest(run: Path) -> dict[str, Any]:
    file = run / DESCRIPTION
    if not file.is_file():
        raise InputError(f"{run} holds no trained model (no {DESCRIPTION}). Make one with `scweave train`.")
    try:
        manifest: dict[str, Any] = json.loads(file.read_text())
        version, kind = int(manifest["schema_version"]), str(manifest["kind"])
        manifest.setdefault("stage", TRAIN)  # what runs older than pre-training are of
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{file} is damaged ({_first_line(error)}). Train the model anew.") from error
    if version != SCHEMA_VERSION:
        advice = "Update scweave" if version > SCHEMA_VERSION else "Train the model anew"
        raise InputError(f"{run} has model schema {version}; this scweave reads {SCHEMA_VERSION}. {advice}.")
    if kind not in KINDS:
        raise InputError(f"{run} holds the model {kind}, which this scweave does not know. Update scweave.")
    return manifest


def _first_line(error: Exception) -> str:
    """The first words of an error that say something; torch begins with a headline."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    if not lines:
        return type(error).__name__
    return lines[1] if lines[0].endswith(":") and len(lines) > 1 else lines[0]
