"""Notebooks are the source:
exporting them again, or cleaning them, must change nothing. Checked on a copy.
"""

import difflib
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def copied(tmp_path_factory):
    folder = tmp_path_factory.mktemp("checkout")
    shutil.copytree(ROOT / "nbs", folder / "nbs", ignore=shutil.ignore_patterns("_*", ".*"))
    for name in ("settings.ini", "ruff.toml"):
        shutil.copy(ROOT / name, folder)
    return folder


def nbdev(command: str, folder: Path):
    env = {
        k: v for k, v in os.environ.items() if k not in ("IN_TEST", "PYTHONPATH")
    }  # IN_TEST would turn it into a no-op
    done = subprocess.run(
        [sys.executable, "-c", command], cwd=folder, env=env, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


def sources(library: Path) -> dict[str, str]:
    """The exported modules.

    Mvad/__init__.py, which only says where the verbs are, is written by hand.
    """
    return {
        p.relative_to(library).as_posix(): p.read_text(encoding="utf-8")
        for p in sorted(library.rglob("*.py"))
        if p != library / "__init__.py"
    }


def difference(old: str, new: str) -> str:
    return "\n".join(
        list(
            difflib.unified_diff(
                old.splitlines(),
                new.splitlines(),
                "committed",
                "from the notebooks",
                lineterm="",
                n=1,
            )
        )[:20]
    )


def test_export_changes_nothing(copied):
    nbdev("from nbdev.doclinks import nbdev_export; nbdev_export()", copied)
    subprocess.run(
        [sys.executable, "-m", "ruff", "format", "--quiet", "mvad"], cwd=copied, check=True
    )
    committed, exported = sources(ROOT / "mvad"), sources(copied / "mvad")
    assert committed.keys() == exported.keys(), (
        "run `make export`: modules without a notebook, or notebooks without a module: "
        f"{sorted(committed.keys() ^ exported.keys())}"
    )
    for name in committed:
        assert committed[name] == exported[name], (
            f"run `make export`: mvad/{name} is not what the notebooks say\n"
            + difference(committed[name], exported[name])
        )


def test_clean_changes_nothing(copied):
    nbdev("from nbdev.clean import nbdev_clean; nbdev_clean()", copied)
    for path in sorted((copied / "nbs").rglob("*.ipynb")):
        name = path.relative_to(copied)
        old, new = (ROOT / name).read_text(encoding="utf-8"), path.read_text(encoding="utf-8")
        assert old == new, f"run `make export`: {name} is not clean\n{difference(old, new)}"
