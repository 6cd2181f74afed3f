"""The notebooks run from a clean kernel, and what is committed of them is small and tells nothing of a machine."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nbformat
import pytest
from ipykernel import kernelspec
from nbclient import NotebookClient

NOTEBOOKS = sorted((Path(__file__).parents[1] / "notebooks").glob("*.ipynb"))
NAMES = [
    "01_quickstart",
    "02_build_a_dataset",
    "03_annotate_cells",
    "04_map_of_a_cell",
    "05_map_against_tf_binding",
    "06_your_own_model",
]
LARGEST = 300_000  # bytes
PICTURES = {"04_map_of_a_cell": 4, "05_map_against_tf_binding": 4}  # at most; 2 elsewhere
A_MACHINES_PATH = re.compile(r"/(tmp|work|root|home|Users|private|var)\b|\b[A-Z]:\\")


def outputs(notebook: Any) -> Iterator[Any]:
    """Every output of every code cell."""
    for cell in notebook.cells:
        yield from cell.get("outputs", [])


def texts(notebook: Any) -> Iterator[str]:
    """Whatever the outputs say in words."""
    for output in outputs(notebook):
        yield output.get("text", "")
        yield from (text for kind, text in output.get("data", {}).items() if kind.startswith("text/"))


@pytest.fixture
def kernel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A kernel of the Python that runs the tests, whatever kernels the user has installed."""
    kernelspec.install(prefix=str(tmp_path), kernel_name="under-test")
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path / "share" / "jupyter"))
    for name in ("JUPYTER_CONFIG_DIR", "JUPYTER_RUNTIME_DIR", "IPYTHONDIR"):
        monkeypatch.setenv(name, str(tmp_path / name.lower()))
    return "under-test"


def imports(tree: ast.AST) -> Iterator[str]:
    """Every module and name that code imports, with all its parts."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{'.' * node.level}{node.module or ''}.{alias.name}" for alias in node.names)


def private_names(tree: ast.AST) -> Iterator[str]:
    """Attributes, arguments and imported names that begin with one underscore: not for others to use."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            yield from [node.attr] if is_private(node.attr) else []
        elif isinstance(node, ast.keyword) and node.arg is not None:
            yield from [node.arg] if is_private(node.arg) else []
    yield from (name for name in imports(tree) if any(is_private(part) for part in name.split(".")))


def is_private(name: str) -> bool:
    return name.startswith("_") and not (name.startswith("__") and name.endswith("__"))


def test_the_six_notebooks_are_there() -> None:
    assert [path.stem for path in NOTEBOOKS] == NAMES


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_only_public_names_are_used(path: Path) -> None:
    notebook = nbformat.read(path, as_version=4)
    tree = ast.parse("\n".join(cell.source for cell in notebook.cells if cell.cell_type == "code"))
    assert not list(private_names(tree))
    own = [name for name in imports(tree) if name.startswith((".", "scweave"))]
    assert own
    assert all(name.startswith("scweave.") for name in own)


def test_private_names_are_found() -> None:
    code = "from scweave._hidden import a\nfrom scweave.graphs import _b\nc._d\nf(_g=1)\nh.__class__\nself.i"
    found = ["_d", "_g", "scweave._hidden.a", "scweave.graphs._b"]
    assert sorted(private_names(ast.parse(code))) == sorted(found)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebooks_named_in_the_text_are_there(path: Path) -> None:
    notebook = nbformat.read(path, as_version=4)
    text = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    assert set(re.findall(r"`(\d\d_\w+)`", text)) <= set(NAMES)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_one_cell_names_the_files(path: Path) -> None:
    cells = [cell.source for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]
    named = [bool(re.search(r"^(INPUTS|REFERENCE) = \[\]", source, re.MULTILINE)) for source in cells]
    assert named == [True] + [False] * (len(cells) - 1)


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_runs_from_a_clean_kernel(path: Path, kernel: str, tmp_path: Path) -> None:
    where = tmp_path / "here"
    where.mkdir()
    notebook = nbformat.read(path, as_version=4)
    resources = {"metadata": {"path": str(where)}}
    NotebookClient(notebook, kernel_name=kernel, timeout=300, resources=resources).execute()
    assert not [output.text for output in outputs(notebook) if output.get("name") == "stderr"]
    assert any("image/png" in output.get("data", {}) for output in outputs(notebook))
    assert [entry.name for entry in where.iterdir()] == ["runs"]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_committed_outputs_are_small_and_of_no_machine(path: Path) -> None:
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    assert path.stat().st_size < LARGEST
    assert sum("image/png" in output.get("data", {}) for output in outputs(notebook)) <= PICTURES.get(
        path.stem, 2
    )
    assert not [text for text in texts(notebook) if A_MACHINES_PATH.search(text)]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_committed_outputs_are_of_one_run_without_complaints(path: Path) -> None:
    notebook = nbformat.read(path, as_version=4)
    counts = [cell.execution_count for cell in notebook.cells if cell.cell_type == "code"]
    assert counts == list(range(1, len(counts) + 1))
    assert not [output for output in outputs(notebook) if output.output_type == "error"]
    assert not [output.text for output in outputs(notebook) if output.get("name") == "stderr"]
