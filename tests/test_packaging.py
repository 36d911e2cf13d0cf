"""The wheel holds what an installed kit needs, and works away from the checkout."""

import sys
import zipfile
from pathlib import Path

from conftest import start

ROOT = Path(__file__).resolve().parent.parent


def public(folder: Path, pattern: str = "*") -> set[str]:
    "Files below a folder that belong to the project."
    names = (p.relative_to(folder) for p in folder.rglob(pattern) if p.is_file())
    return {
        n.as_posix()
        for n in names
        if not any(s.startswith(("_", ".")) for s in n.parts) and n.suffix != ".pyc"
    }


def test_wheel_holds_library_notebooks_values_and_recipes(wheel):
    found = set(zipfile.ZipFile(wheel).namelist())
    expected = {f"mvad/{n}" for n in public(ROOT / "mvad")} | {"mvad/__init__.py"}
    expected |= {f"mvad/_nbs/{n}" for n in public(ROOT / "nbs", "*.ipynb")} | {
        f"mvad/_recipes/{n}" for n in public(ROOT / "data_recipes")
    }
    assert expected <= found, f"missing in the wheel: {sorted(expected - found)}"
    assert any(n.startswith("mvad/_nbs/") for n in found)
    extra = {n.split("/")[0] for n in found} - {"mvad"}
    assert all(n.endswith(".dist-info") for n in extra), f"the wheel would also install {extra}"
    assert not [
        n for n in found if "checkpoint" in n.lower() and n.endswith(".ipynb") or "/test" in n
    ]


def test_wheel_names_its_licence_and_command(wheel):
    files = zipfile.ZipFile(wheel)

    def read(end):
        return next(files.read(n).decode() for n in files.namelist() if n.endswith(end))

    metadata = read("METADATA")
    assert (
        "Apache-2.0" in metadata
        and "Provides-Extra: notebooks" in metadata
        and "Provides-Extra: ray" in metadata
    )
    plain = [
        line
        for line in metadata.splitlines()
        if line.startswith("Requires-Dist") and "extra ==" not in line
    ]
    assert not [
        line for line in plain if "jupyterlab" in line or "nbdev" in line or "ray" in line
    ], "the library alone must install lean"
    assert "mvad = mvad.cli.main:main" in read("entry_points.txt")


def test_installed_command_lists_tables(installed, tmp_path):
    where = start(
        [sys.executable, "-c", "import mvad; print(mvad.__file__)"],
        tmp_path,
        PYTHONPATH=str(installed),
    ).stdout.strip()
    assert Path(where).parent == installed / "mvad", f"another copy is in the way: {where}"
    done = start(
        [sys.executable, "-m", "mvad.cli.main", "tables"], tmp_path, PYTHONPATH=str(installed)
    )
    assert "cfm/6" in done.stdout


def test_installed_command_reproduces(reproduced):
    "The notebooks, the values and the loaders of the wheel, without the checkout."
    out, printed = reproduced
    assert "psi" in printed and (out / "report.html").stat().st_size > 0
    assert list(out.rglob("*.ipynb")) and list(out.rglob("*.json")), sorted(out.rglob("*"))
