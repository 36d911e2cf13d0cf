"""What a cell of nbs/data/26_multiview.ipynb cannot test:
time on one core, several processes, a run that is cut short.
"""

import os
import time
from pathlib import Path

import numpy as np
import pytest

from mvad.core.sample import View
from mvad.data import multiview
from mvad.data.multiview import Rendered, render_dataset, render_views
from mvad.data.mvtec3d import toy_scan, write_mvtec3d


def bytes_of(root: Path) -> dict[str, bytes]:
    return {
        p.relative_to(root).as_posix(): p.read_bytes()
        for p in sorted(root.rglob("*"))
        if p.is_file() and not p.name.startswith(".")
    }


@pytest.fixture(scope="module")
def raw(tmp_path_factory) -> Path:
    scans = [
        toy_scan(i, d, s, size=64)
        for s, d, n in (("train", "good", 2), ("test", "good", 2), ("test", "cut", 2))
        for i in range(n)
    ]
    return write_mvtec3d(scans, tmp_path_factory.mktemp("raw"), progress=False)


def test_two_processes_make_the_same_tree_as_one(raw, tmp_path):
    for n in (1, 2):
        render_dataset("mvtec3d", raw, tmp_path / str(n), size=48, workers=n, progress=False)
    one = bytes_of(tmp_path / "1")
    assert one == bytes_of(tmp_path / "2") and len(one) == 2 * 16 + 4 * 21 + 1


def test_a_run_cut_short_goes_on(raw, tmp_path, monkeypatch):
    render_dataset("mvtec3d", raw, tmp_path / "whole", size=48, workers=1, progress=False)
    write, done = multiview.write_json, []

    def dies(path, value):
        if Path(path).name == "views.json":
            done.append(path)
            if len(done) == 3:
                raise KeyboardInterrupt
        write(path, value)

    monkeypatch.setattr(multiview, "write_json", dies)
    with pytest.raises(KeyboardInterrupt):
        render_dataset("mvtec3d", raw, tmp_path / "part", size=48, workers=1, progress=False)
    monkeypatch.undo()
    assert not (tmp_path / "part/manifest.json").exists()
    with pytest.raises(multiview.DatasetError, match="was not finished"):
        Rendered(tmp_path / "part", "ball", "test")
    told = render_dataset("mvtec3d", raw, tmp_path / "part", size=48, workers=1, progress=False)
    assert told["rendered"] == 4 and bytes_of(tmp_path / "part") == bytes_of(tmp_path / "whole")


@pytest.mark.skipif(
    not os.environ.get("MVAD_SLOW"), reason="a time, for a quiet machine: MVAD_SLOW=1"
)
def test_half_a_second_for_five_views():
    """A wavy sheet of 57,600 points with normals to estimate.

    Processor time, best of three, so that other work on the machine does not count.
    """
    n = 240
    v, u = np.mgrid[:n, :n] / n - 0.5
    z = 0.5 + 0.02 * np.sin(20 * u) * np.cos(15 * v)
    view = View(
        np.stack([u + 0.5, v + 0.5, 0 * u]), np.stack([u * 0.2, v * 0.2, z]), np.ones((n, n), bool)
    )
    seconds = []
    for _ in range(3):
        start = time.process_time()
        views, coverage = render_views(view, size=256)
        seconds.append(time.process_time() - start)
    print(
        f"{view.valid.sum()} points, five views: {min(seconds):.2f} s; holes"
        f" {coverage.holes.mean():.2%}"
    )
    assert len(views) == 5 and min(seconds) < 0.5
