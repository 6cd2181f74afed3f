"""The direction of imports between the rooms, and what no module of the package may do."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
MAY_IMPORT = {
    "graphs": {"graphs"},
    "generators": {"generators", "graphs"},
    "models": {"models", "graphs"},
    "interpret": {"interpret", "graphs", "models"},
}
TOP = {"cli", "commands", "train"}
OWN = TOP | set(MAY_IMPORT)
UNPICKLERS = {"pickle", "_pickle", "cPickle", "cloudpickle", "dill", "joblib", "marshal", "shelve"}
FORBIDDEN_CALLS = {"eval", "exec", "torch.load", "read_pickle", "load_from_checkpoint"}
LONGEST_FILE = 500


def may_import(path: Path, room: str) -> set[str]:
    """`python -m scweave.ROOM` is an entry point to the command line, and nothing else."""
    return {"cli"} if path.name == "__main__.py" else MAY_IMPORT[room]


def modules(room: str) -> list[Path]:
    """All modules of a room, subfolders included."""
    return sorted((ROOT / room).rglob("*.py"))


PACKAGE = [ROOT / "__init__.py", *(p for p in (ROOT / "cli.py", ROOT / "train.py") if p.exists())]
PACKAGE += [path for folder in (*MAY_IMPORT, "commands") for path in modules(folder)]


def label(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def imports(source: str, package: str) -> list[tuple[str, bool]]:
    """Every imported name in full, and whether the import was relative, of a module in `package`."""
    found: list[tuple[str, bool]] = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found += [(alias.name, False) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            stem = ".".join([*base, *([node.module] if node.module else [])])
            found += [(f"{stem}.{alias.name}", node.level > 0) for alias in node.names]
    return found


def rooms_imported(source: str, package: str) -> set[str]:
    """The rooms (or cli, train) of scweave that a module names in its imports."""
    names = [name.split(".") for name, _ in imports(source, package)]
    return {parts[1] for parts in names if parts[0] == "scweave" and parts[1:] and parts[1] in OWN}


def absolute_own_imports(source: str, package: str) -> set[str]:
    """Imports of the package's own modules that are not relative, with or without `scweave.` before them."""
    absolute = [name for name, relative in imports(source, package) if not relative]
    return {name for name in absolute if name.split(".")[0] in OWN | {"scweave"}}


def offences(source: str) -> set[str]:
    """What a module does that could run code from a file."""
    found = {name.split(".")[0] for name, _ in imports(source, "scweave")} & UNPICKLERS
    found |= {name for name, _ in imports(source, "scweave") if name == "torch.load"}
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Name | ast.Attribute):
            dotted = ast.unparse(node)
            method = dotted.rpartition(".")[2] if isinstance(node, ast.Attribute) else ""
            found |= {dotted, method} & (FORBIDDEN_CALLS if method not in {"eval", "exec"} else set())
        elif isinstance(node, ast.keyword) and node.arg == "allow_pickle":
            found |= set() if ast.unparse(node.value) == "False" else {"allow_pickle"}
    return found


def package_of(path: Path) -> str:
    return ".".join(["scweave", *path.relative_to(ROOT).parent.parts])


@pytest.mark.parametrize(
    ("source", "package", "expected"),
    [
        ("from ..graphs.schema import GENE", "scweave.generators", {"graphs"}),
        ("from .. import graphs", "scweave.generators", {"graphs"}),
        ("from ...graphs import store", "scweave.models.layers", {"graphs"}),
        ("from .linformer import pool", "scweave.models.layers", {"models"}),
        ("import scweave.models.crossrec as m", "scweave.graphs", {"models"}),
        ("def f():\n    from scweave import interpret", "scweave.graphs", {"interpret"}),
        ("from .. import __version__, cli", "scweave.graphs", {"cli"}),
        ("import numpy.models\nfrom networkx import graphs", "scweave.graphs", set()),
    ],
)
def test_the_check_sees_every_form_of_import(source: str, package: str, expected: set[str]) -> None:
    assert rooms_imported(source, package) == expected


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("import pickle", {"pickle"}),
        ("from joblib import load", {"joblib"}),
        ("import torch\ntorch.load('x')", {"torch.load"}),
        ("from torch import load", {"torch.load"}),
        ("eval('1')", {"eval"}),
        ("run = exec", {"exec"}),
        ("pd.read_pickle('x')", {"read_pickle"}),
        ("np.load('x', allow_pickle=True)", {"allow_pickle"}),
        ("np.load('x', mmap_mode='r', allow_pickle=False)", set()),
        ("model.eval()\nself.model.eval()\nsafetensors.torch.load_file('x')", set()),
    ],
)
def test_the_check_sees_every_way_to_run_code_from_a_file(source: str, expected: set[str]) -> None:
    assert offences(source) == expected


@pytest.mark.parametrize("room", MAY_IMPORT)
def test_rooms_import_in_one_direction(room: str) -> None:
    assert modules(room), f"{room}/ has no modules"
    wrong = {
        label(path): sorted(beyond)
        for path in modules(room)
        if (beyond := rooms_imported(path.read_text(), package_of(path)) - may_import(path, room))
    }
    assert not wrong, f"{room} may import only {sorted(MAY_IMPORT[room])}"


def test_imports_inside_the_package_are_relative() -> None:
    # `python train.py` runs that file as a script, where a relative import has nothing to be relative to.
    relative = [path for path in PACKAGE if path.name != "train.py" or path.parent != ROOT]
    wrong = {label(path): absolute_own_imports(path.read_text(), package_of(path)) for path in relative}
    assert not {path: names for path, names in wrong.items() if names}


def test_no_module_runs_code_from_a_file() -> None:
    wrong = {label(path): offences(path.read_text()) for path in PACKAGE}
    assert not {path: names for path, names in wrong.items() if names}


@pytest.mark.parametrize("room", [*MAY_IMPORT, "commands"])
def test_files_stay_short(room: str) -> None:
    lengths = {label(path): len(path.read_text().splitlines()) for path in modules(room)}
    assert not {path: n for path, n in lengths.items() if n > LONGEST_FILE}


def test_the_command_starts_without_heavy_imports() -> None:
    heavy = "{'torch', 'torch_geometric', 'lightning', 'scanpy'}"
    code = f"import sys, scweave.cli; print(sorted({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.strip()) == (0, "[]"), done.stderr
