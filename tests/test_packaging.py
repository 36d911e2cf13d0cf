"""The wheel holds what an installed kit needs, and works away from the checkout."""
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
LEFT_OUT = shutil.ignore_patterns(".git", ".venv", "venv", "out*", "runs", "build", "dist", "*.egg-info", "__pycache__", ".pytest_cache", ".ruff_cache")


def start(command: list, cwd: Path, **env) -> subprocess.CompletedProcess:
    done = subprocess.run([str(c) for c in command], cwd=cwd, capture_output=True, text=True, env={**os.environ, **env})
    assert done.returncode == 0, f"{command}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    return done


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("build")
    shutil.copytree(ROOT, folder/"checkout", ignore=LEFT_OUT)
    start([sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", folder/"dist", folder/"checkout"], folder)
    return next((folder/"dist").glob("mvad-*.whl"))


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
    target = tmp_path_factory.mktemp("installed")
    start([sys.executable, "-m", "pip", "install", "--no-deps", "--quiet", "--target", target, wheel], target)
    return target


def public(folder: Path, pattern: str = "*") -> set[str]:
    "Files below a folder that belong to the project."
    names = (p.relative_to(folder) for p in folder.rglob(pattern) if p.is_file())
    return {n.as_posix() for n in names if not any(s.startswith(("_", ".")) for s in n.parts) and n.suffix != ".pyc"}


def test_wheel_holds_library_notebooks_values_and_recipes(wheel):
    found = set(zipfile.ZipFile(wheel).namelist())
    expected = {f"mvad/{n}" for n in public(ROOT/"mvad")} | {"mvad/__init__.py"}
    expected |= {f"mvad/_nbs/{n}" for n in public(ROOT/"nbs", "*.ipynb")} | {f"mvad/_recipes/{n}" for n in public(ROOT/"data_recipes")}
    assert expected <= found, f"missing in the wheel: {sorted(expected - found)}"
    assert any(n.startswith("mvad/_nbs/") for n in found)
    extra = {n.split("/")[0] for n in found} - {"mvad"}
    assert all(n.endswith(".dist-info") for n in extra), f"the wheel would also install {extra}"
    assert not [n for n in found if "checkpoint" in n.lower() and n.endswith(".ipynb") or "/test" in n]


def test_wheel_names_its_licence_and_command(wheel):
    files = zipfile.ZipFile(wheel)
    def read(end): return next(files.read(n).decode() for n in files.namelist() if n.endswith(end))
    metadata = read("METADATA")
    assert "Apache-2.0" in metadata and "Provides-Extra: notebooks" in metadata and "Provides-Extra: ray" in metadata
    plain = [line for line in metadata.splitlines() if line.startswith("Requires-Dist") and "extra ==" not in line]
    assert not [line for line in plain if "jupyterlab" in line or "nbdev" in line or "ray" in line], "the library alone must install lean"
    assert "mvad = mvad.reproduce.cli:main" in read("entry_points.txt")


needs_cli = pytest.mark.skipif(not (ROOT/"mvad/reproduce/cli.py").exists(), reason="the command line is not exported yet")


@needs_cli
def test_installed_command_lists_tables(installed, tmp_path):
    where = start([sys.executable, "-c", "import mvad; print(mvad.__file__)"], tmp_path, PYTHONPATH=str(installed)).stdout.strip()
    assert Path(where).parent == installed/"mvad", f"another copy is in the way: {where}"
    done = start([sys.executable, "-m", "mvad.reproduce.cli", "tables"], tmp_path, PYTHONPATH=str(installed))
    assert "cfm/6" in done.stdout


@needs_cli
def test_installed_command_reproduces(installed, tmp_path):
    "The notebooks, the values and the loaders of the wheel, without the checkout."
    done = start([sys.executable, "-m", "mvad.reproduce.cli", "reproduce", "cfm/6", "--scale", "smoke", "--out", tmp_path/"out"], tmp_path,
                 PYTHONPATH=str(installed))
    assert "psi" in done.stdout and (tmp_path/"out/report.html").exists()
