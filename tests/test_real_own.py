"""Real scans and photographs from plain folders, through `mvad train` and `mvad predict`.

They are no part of the project: $MVAD_REAL_DATA, else ../shared/data beside it, holds kinect_scenes
and cookie_photos. Skips where they are absent.
"""

import contextlib
import csv
import io
import os
from pathlib import Path

import numpy as np
import pytest
import tifffile

REAL = os.environ.get("MVAD_REAL_DATA") or Path(__file__).resolve().parents[2] / "shared/data"
REAL = Path(REAL)


@pytest.fixture(autouse=True)
def _cache(tmp_path, monkeypatch):
    monkeypatch.setenv("MVAD_CACHE", str(tmp_path / "cache"))


def mvad(*words) -> str:
    "The command in this very process; what it prints."
    from mvad.cli.main import main

    with contextlib.redirect_stdout(io.StringIO()) as out:
        with contextlib.redirect_stderr(io.StringIO()) as err:
            status = main([str(w) for w in words])
    assert status == 0, (words, err.getvalue())
    return out.getvalue()


def scores(folder: Path) -> dict[str, float]:
    with (folder / "scores.csv").open(encoding="utf-8") as f:
        return {line["id"]: float(line["score"]) for line in csv.DictReader(f)}


def linked(folder: Path, *files: Path) -> Path:
    "A folder with these files in it."
    folder.mkdir(parents=True)
    for file in files:
        (folder / file.name).symlink_to(file)
    return folder


@pytest.mark.skipif(not (REAL / "kinect_scenes").is_dir(), reason="no Kinect scenes")
def test_kinect_scenes(tmp_path):
    kinect = REAL / "kinect_scenes"
    names = ("000", "001", "010")
    rgb = linked(tmp_path / "rgb", *(kinect / f"rgb/{n}.png" for n in names))
    xyz = linked(tmp_path / "xyz", *(kinect / f"xyz/{n}.tiff" for n in names))
    data = ["--rgb", rgb, "--xyz", xyz, "--remove-plane", "--plane-fit", "cloud"]
    told = mvad("train", "cfm", *data, "--scale", "smoke", "--out", tmp_path / "cfm.safetensors")
    assert "neighbourhoods are" in told  # its points are 5 mm apart at that scale, and more
    mvad("predict", tmp_path / "cfm.safetensors", *data, "--out", tmp_path / "found")
    found = scores(tmp_path / "found")
    assert list(found) == list(names) and np.isfinite(list(found.values())).all()
    heat = tifffile.imread(tmp_path / "found/000/map.tiff")
    assert np.isfinite(heat).all() and 0 < (heat > 0).mean() < 0.5  # of the box, not of the table


@pytest.mark.skipif(not (REAL / "cookie_photos").is_dir(), reason="no cookies")
def test_cookies(tmp_path):
    cookies = REAL / "cookie_photos"
    good = linked(tmp_path / "good", *sorted((cookies / "train/good").iterdir())[:8])
    new = sorted((cookies / "test/good").iterdir())[:6]
    new = linked(tmp_path / "new", *new, *sorted((cookies / "test/cracked").iterdir())[:6])
    bank = tmp_path / "bank.safetensors"
    mvad("train", "memory_bank", "--rgb", good, "--scale", "smoke", "--out", bank)
    mvad("predict", bank, "--rgb", new, "--out", tmp_path / "found")
    found = scores(tmp_path / "found")
    cracked = [s for name, s in found.items() if name.startswith("anomaly")]
    sound = [s for name, s in found.items() if not name.startswith("anomaly")]
    assert len(cracked) == len(sound) == 6
    assert np.mean(np.array(cracked)[:, None] > sound) > 0.9  # the AUROC
