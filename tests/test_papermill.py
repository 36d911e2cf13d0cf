"""Notebooks in a kernel of their own, as JupyterLab and the shell run them.

First the commands for a GPU that the paper notebooks print, typed as they stand: only device, scale
and folders are this machine's. Then every other notebook, cell by cell.
CI types the one of MAFR and opens the encoders' notebook, for time's sake. All:
MVAD_PAPERMILL=all pytest tests/test_papermill.py
"""

import json
import os
import re
import shlex
import sys
from pathlib import Path

import pytest
from conftest import start
from test_notebooks import NOTEBOOKS, TABLES, name, smoke

from mvad.data.embedded import embedded_root

PAPERS = Path(__file__).resolve().parent.parent / "nbs/papers"
COMMANDS = [
    c
    for p in sorted(PAPERS.glob("*.ipynb"))
    for cell in json.loads(p.read_text(encoding="utf-8"))["cells"]
    if cell["cell_type"] == "markdown"
    for c in re.findall(r"^papermill \S+\.ipynb .*-p device cuda.*$", "".join(cell["source"]), re.M)
]
asked = os.environ.get("MVAD_PAPERMILL", "mafr")
DATA = {
    "mvtec3d_ready": "mvtec3d",
    "mvtec_3d_anomaly_detection": "mvtec3d",
    "Real-IAD": "realiad",
    "sim3d": "sim3d",
}


def test_every_paper_prints_its_command():
    assert {c.split()[1] for c in COMMANDS} == {p.name for p in TABLES}


@pytest.mark.parametrize(
    "command",
    [c for c in COMMANDS if asked == "all" or any(a in c.split()[1] for a in asked.split())],
)
def test_typed_here(command, tmp_path):
    _, notebook, output, *rest = shlex.split(command)
    given = dict(zip(rest[1::3], rest[2::3]))
    assert rest[::3] == ["-p"] * len(given) and given["scale"] == "paper"
    raw = (
        given["root"] == "mvtec_3d_anomaly_detection"
        # CRD takes the table away itself, and asks for the split of good objects that the official
        # files have
    )
    root = embedded_root(
        DATA[given["root"]],
        ["puck"],
        "smoke",
        progress=False,
        **(dict(splits=("train", "validation", "test")) if raw else {}),
    )
    if raw:
        root = root.parent / "raw"
    given |= dict(
        device="cpu", scale="smoke", category="puck", root=str(root), out=str(tmp_path / "run")
    )
    words = [w for name, value in given.items() for w in ("-p", name, value)]
    start(
        [sys.executable, "-m", "papermill", "--no-progress-bar", PAPERS / notebook, output, *words],
        tmp_path,
    )
    (record,) = (json.loads(p.read_text()) for p in (tmp_path / "run").glob("*.record.json"))
    assert (
        record["run"]["data"] == "user"
        and record["run"]["scale"] == "smoke"
        and record["run"]["category"] == "puck"
        and (tmp_path / output).exists()
    )


@pytest.mark.parametrize(
    "path",
    [p for p in NOTEBOOKS if p.parent != PAPERS and (asked == "all" or p.stem == "10_features")],
    ids=name,
)
def test_as_jupyter_runs_it(path, tmp_path):
    "Its progress bars are widgets there, and libraries know that they are in a notebook."
    words = [
        str(w)
        for key, value in smoke(path, tmp_path / "run").items()
        for w in ("-y", json.dumps({key: value}))
    ]
    start(
        [
            sys.executable,
            "-m",
            "papermill",
            "--no-progress-bar",
            path,
            tmp_path / "ran.ipynb",
            *words,
        ],
        tmp_path,
    )
    said = [
        o.get("text", "")
        for c in json.loads((tmp_path / "ran.ipynb").read_text())["cells"]
        for o in c.get("outputs", [])
    ]
    assert not [s for s in said if "[Open3D" in "".join(s)]
