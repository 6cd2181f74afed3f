"""pyproject.toml, constraints.txt, environment.yml and the wheel agree on what is needed and what is shipped."""

from __future__ import annotations

import ast
import importlib.metadata
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
RUNTIME = [Requirement(line) for line in PYPROJECT["project"]["dependencies"]]
DEV = [Requirement(line) for line in PYPROJECT["project"]["optional-dependencies"]["dev"]]
BUILD = [Requirement(line) for line in PYPROJECT["build-system"]["requires"]]
CONDA_NAMES = {"pytorch": "torch", "pytorch_geometric": "torch-geometric", "matplotlib-base": "matplotlib"}
FOLDERS = ("commands", "graphs", "generators", "models", "interpret")
# A CUDA build of torch brings these and pins them itself.
CUDA_LIBRARIES = re.compile(r"nvidia-|cuda-|triton")
NOT_IN_A_CHECKOUT = shutil.ignore_patterns(
    ".venv", ".git", ".mypy", ".*_cache", ".hypothesis", "__pycache__", "*.egg-info", "build", "dist", "runs"
)


def room_files() -> set[str]:
    """Every module of the rooms and the commands, and what the report's page is made of, as paths in the checkout."""
    modules = [path for room in FOLDERS for path in (ROOT / room).rglob("*.py")]
    page = [path for kind in ("css", "js") for path in (ROOT / "interpret" / "reports").glob(f"*.{kind}")]
    return {path.relative_to(ROOT).as_posix() for path in modules + page}


def pins() -> dict[str, str]:
    """The version of each package that constraints.txt pins."""
    lines = (line.strip() for line in (ROOT / "constraints.txt").read_text().splitlines())
    requirements = [Requirement(line) for line in lines if line and not line.startswith("#")]
    versions = {
        canonicalize_name(r.name): re.fullmatch(r"==([^*+]+)", str(r.specifier)) for r in requirements
    }
    assert len(versions) == len(requirements), "constraints.txt names a package twice"
    loose = [name for name, version in versions.items() if version is None]
    assert not loose, f"constraints.txt must pin {loose} as NAME==VERSION, without a local suffix"
    return {name: version[1] for name, version in versions.items() if version}


def needed(roots: list[Requirement]) -> set[str]:
    """Names of the installed packages that the given ones need, themselves included."""
    seen: set[tuple[str, frozenset[str]]] = set()
    todo = list(roots)
    while todo:
        requirement = todo.pop()
        key = (canonicalize_name(requirement.name), frozenset(requirement.extras))
        if key in seen:
            continue
        seen.add(key)
        for line in importlib.metadata.requires(requirement.name) or []:
            child = Requirement(line)
            extras = ["", *requirement.extras]
            if child.marker is None or any(child.marker.evaluate({"extra": extra}) for extra in extras):
                todo.append(child)
    return {name for name, _ in seen if not CUDA_LIBRARIES.match(name)}


@pytest.mark.parametrize("requirement", RUNTIME + DEV + BUILD, ids=str)
def test_pins_lie_in_the_declared_ranges(requirement: Requirement) -> None:
    version = pins()[canonicalize_name(requirement.name)]
    assert requirement.specifier.contains(version), f"constraints.txt pins {requirement.name} {version}"


def test_pins_are_those_that_are_needed() -> None:
    assert set(pins()) == needed(RUNTIME + DEV + BUILD)


def test_conda_environment_agrees_with_pyproject() -> None:
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())
    conda = [line for line in environment["dependencies"] if isinstance(line, str)]
    (pip,) = (entry["pip"] for entry in environment["dependencies"] if isinstance(entry, dict))
    assert pip[-1] == "-e ."
    requirements = [Requirement(line) for line in [*conda, *pip[:-1]]]
    ranges = {CONDA_NAMES.get(r.name, r.name): r.specifier for r in requirements}
    assert len(ranges) == len(requirements), "environment.yml names a package twice"
    assert ranges.pop("python") == SpecifierSet(PYPROJECT["project"]["requires-python"])
    assert ranges.pop("pip") == SpecifierSet()
    assert ranges == {r.name: r.specifier for r in RUNTIME}


def test_every_folder_of_modules_is_a_declared_package() -> None:
    folders = {
        path.parent.relative_to(ROOT).as_posix() for room in FOLDERS for path in (ROOT / room).rglob("*.py")
    }
    directories = PYPROJECT["tool"]["setuptools"]["package-dir"]
    assert set(directories.values()) == folders | {"."}
    assert set(PYPROJECT["tool"]["setuptools"]["packages"]) == set(directories)


def imported_modules() -> set[str]:
    """First names of everything that the package's modules import, other than themselves."""
    sources = [ROOT / name for name in (*room_files(), "cli.py", "train.py") if name.endswith(".py")]
    nodes = [node for path in sources for node in ast.walk(ast.parse(path.read_text()))]
    plain = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    of = {node.module or "" for node in nodes if isinstance(node, ast.ImportFrom) and node.level == 0}
    return {name.partition(".")[0] for name in plain | of} - {"scweave"}


def test_every_import_is_a_declared_dependency() -> None:
    distributions = importlib.metadata.packages_distributions()
    foreign = imported_modules() - set(sys.stdlib_module_names)
    declared = {canonicalize_name(requirement.name) for requirement in RUNTIME}
    wrong = {
        name
        for name in foreign
        if not declared & {canonicalize_name(d) for d in distributions.get(name, [name])}
    }
    assert not wrong, "declare them in pyproject.toml, constraints.txt and environment.yml"


@pytest.fixture(scope="module")
def wheel_files(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    """Files of a wheel that `make wheel` builds in a clean copy but for the leftovers of an earlier build."""
    if shutil.which("make") is None:
        pytest.skip("make is not installed")
    checkout = tmp_path_factory.mktemp("wheel") / "scweave-checkout"
    shutil.copytree(ROOT, checkout, ignore=NOT_IN_A_CHECKOUT)
    stale = checkout / "build" / "lib" / "scweave" / "graphs" / "deleted.py"
    stale.parent.mkdir(parents=True)
    stale.write_text("")
    stamp = checkout.parent / "installed"
    stamp.write_text(f"{checkout}\n")
    command = ["make", "wheel", f"VENV={sys.prefix}", f"STAMP={stamp}"]
    done = subprocess.run(command, cwd=checkout, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    (wheel,) = (checkout / "dist").glob("scweave-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        return {name for name in archive.namelist() if ".dist-info/" not in name}


@pytest.mark.slow
def test_wheel_holds_the_package_and_nothing_else(wheel_files: set[str]) -> None:
    top = {"scweave/__init__.py", "scweave/cli.py", "scweave/train.py", "scweave/py.typed"}
    assert wheel_files == top | {f"scweave/{path}" for path in room_files()}


@pytest.mark.slow
def test_wheel_ships_nothing_from_an_earlier_build(wheel_files: set[str]) -> None:
    assert "scweave/graphs/deleted.py" not in wheel_files
