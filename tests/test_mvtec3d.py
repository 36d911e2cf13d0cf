"What a notebook cell cannot test of the MVTec 3D-AD room: kills, processes, speed, the recipe."

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import yaml

from mvad.core.sample import MvadError
from mvad.data.base import Dataset, data_hash, read_rgb, read_xyz_tiff
from mvad.data.jobs import JOURNAL
from mvad.data.mvtec3d import MVTec3D, Preprocessing, preprocess, toy_scan, write_mvtec3d

ROOT = Path(__file__).resolve().parent.parent
CALL = (
    "import sys; from mvad.data.mvtec3d import preprocess; preprocess(sys.argv[1], sys.argv[2],"
    " workers=int(sys.argv[3]), progress=False)"
)


def content(folder):
    return {
        f.relative_to(folder).as_posix(): f.read_bytes()
        for f in folder.rglob("*")
        if f.is_file() and not f.name.startswith(".")
    }


@pytest.fixture(scope="module")
def raw(tmp_path_factory):
    scans = [
        toy_scan(i, d, s, 100)
        for s, d, n in (
            ("train", "good", 12),
            ("dev", "cut", 3),
            ("test", "good", 3),
            ("test", "cut", 6),
        )
        for i in range(n)
    ]
    return write_mvtec3d(scans, tmp_path_factory.mktemp("raw"), progress=False)


@pytest.fixture(scope="module")
def whole(raw, tmp_path_factory):
    "The tree that an undisturbed run in one process makes."
    return preprocess(raw, tmp_path_factory.mktemp("whole") / "out", workers=1, progress=False)


def test_the_dev_split_and_laziness(raw, whole, monkeypatch):
    monkeypatch.setattr(MVTec3D, "read", None)  # nothing may be read
    for root in (raw, whole):
        d = MVTec3D(root, "ball", "dev")
        assert (
            d.labels == [1, 1, 1]
            and d[1:].ids == ["ball/dev/cut/001", "ball/dev/cut/002"]
            and "dev" in repr(d)
        )
    assert len(data_hash(d)) == 40


@pytest.mark.parametrize("workers", [1, 2])
def test_killed_and_resumed(raw, whole, tmp_path, workers):
    out = tmp_path / "out"
    program = subprocess.Popen([sys.executable, "-c", CALL, raw, out, str(workers)], cwd=ROOT)
    deadline = time.monotonic() + 120
    while not (out / JOURNAL).exists() or len((out / JOURNAL).read_text().splitlines()) < 4:
        assert time.monotonic() < deadline and program.poll() is None, (
            "it ended before it could be killed"
        )
        time.sleep(0.005)
    program.send_signal(signal.SIGKILL)
    program.wait()
    done = content(out)
    if "manifest.json" not in done:
        assert 3 <= len(done) < len(content(whole)), "it was killed in the middle"
        with pytest.raises(MvadError, match="not finished"):
            MVTec3D(out, "ball", "train")
    for name, data in content(out).items():
        assert data == content(whole)[name]  # what is there is whole
    with open(out / JOURNAL, "a") as f:
        f.write('{"id": "ball/tra')  # and a torn last line
    (out / "ball/train/good/rgb").mkdir(parents=True, exist_ok=True)
    (out / "ball/train/good/rgb/.000.png.77.part").write_bytes(b"half")
    kept = {f: f.stat().st_mtime_ns for f in out.rglob("*.tiff")}
    preprocess(raw, out, workers=1, progress=False)
    assert content(out) == content(whole)
    assert (
        sum(f.stat().st_mtime_ns == t for f, t in kept.items()) >= 3
    )  # finished samples were not done again
    assert not list(out.rglob(".*.part"))


def test_workers_end_with_their_parent(raw, tmp_path):
    program = subprocess.Popen(
        [sys.executable, "-c", CALL, raw, tmp_path / "out", "2"],
        cwd=ROOT,
        env={**os.environ, "MVAD_TEST_MARK": str(tmp_path)},
    )

    def marked():
        found = []
        for p in Path("/proc").glob("[0-9]*/environ"):
            try:
                if f"MVAD_TEST_MARK={tmp_path}".encode() in p.read_bytes():
                    found.append(int(p.parent.name))
            except OSError:
                pass
        return found

    while len(marked()) < 3 and program.poll() is None:
        time.sleep(0.02)
    program.send_signal(signal.SIGKILL)
    program.wait()
    deadline = time.monotonic() + 60
    while marked() and time.monotonic() < deadline:
        time.sleep(0.2)
    assert not marked()


def test_two_processes_give_the_same_bytes(raw, whole, tmp_path):
    assert content(preprocess(raw, tmp_path / "out", workers=2, progress=False)) == content(whole)


def test_two_programs_at_once(raw, whole, tmp_path):
    programs = [
        subprocess.Popen([sys.executable, "-c", CALL, raw, tmp_path / "out", "1"], cwd=ROOT)
        for _ in range(2)
    ]
    assert [p.wait(300) for p in programs] == [0, 0]
    assert content(tmp_path / "out") == content(whole)


def test_a_sample_changed_after_the_fact(raw, tmp_path):
    copy = write_mvtec3d(
        [toy_scan(i, "good", "train", 100) for i in range(3)], tmp_path / "raw", progress=False
    )
    out = preprocess(copy, tmp_path / "out", workers=1, progress=False)
    before = content(out)
    os.utime(
        copy / "ball/train/good/xyz/000.tiff"
    )  # touched only: the hash says that it is the same
    stamps = {f: f.stat().st_mtime_ns for f in out.rglob("*.tiff")}
    preprocess(copy, out, workers=1, progress=False)
    assert (
        stamps == {f: f.stat().st_mtime_ns for f in out.rglob("*.tiff")} and content(out) == before
    )
    (copy / "ball/train/good/xyz/001.tiff").write_bytes(b"broken")
    with pytest.raises(MvadError, match="1 of 3 samples"):
        preprocess(copy, out, workers=1, progress=False)
    with pytest.raises(MvadError, match="not finished"):
        MVTec3D(out, "ball", "train")


def test_categories_are_added_one_by_one(tmp_path):
    raw = write_mvtec3d(
        [toy_scan(0, "good", "train", 100, c) for c in ("ball", "globe")],
        tmp_path / "raw",
        progress=False,
    )
    (raw / "ball/calibration").mkdir()
    (raw / "ball/calibration/camera_parameters.json").write_text("{}")
    out = preprocess(raw, tmp_path / "out", categories=["ball"], workers=1, progress=False)
    assert (
        MVTec3D.categories(out) == ["ball"]
        and (out / "ball/calibration/camera_parameters.json").exists()
    )
    preprocess(raw, out, categories=["globe"], workers=1, progress=False)
    assert json.loads((out / "manifest.json").read_text())["complete"] == ["ball", "globe"]
    assert content(out) == content(preprocess(raw, tmp_path / "both", workers=1, progress=False))
    with pytest.raises(MvadError, match="did you mean 'ball'"):
        preprocess(raw, out, categories=["bal"], progress=False)


def test_writing_goes_on_where_it_stopped(tmp_path):
    class Scans(Dataset):
        made = []

        def __init__(self):
            from mvad.data.base import Record

            super().__init__(
                None,
                "ball",
                "train",
                [Record(f"ball/train/good/{i:03}", "ball", "train", "good") for i in range(4)],
            )

        def read(self, r):
            if len(self.made) == 2:
                raise KeyboardInterrupt
            self.made.append(r.id)
            return toy_scan(int(r.id[-3:]), "good", "train", 60)

    scans = Scans()
    with pytest.raises(KeyboardInterrupt):
        write_mvtec3d(scans, tmp_path / "raw", progress=False)
    Scans.made = ["another day"]
    with pytest.raises(KeyboardInterrupt):
        write_mvtec3d(scans, tmp_path / "raw", skip_existing=True, progress=False)
    assert (
        Scans.made == ["another day", "ball/train/good/002"]
        and len(list(tmp_path.rglob("*.tiff"))) == 3
    )


@pytest.mark.parametrize("convention", ["original", "black"])
@pytest.mark.parametrize("size", [(100, 100), (120, 90), (75, 130)])
def test_both_conventions_stay_in_step(tmp_path, convention, size):
    scans = [toy_scan(i, d, "test", size) for d in ("good", "stain") for i in range(2)]
    raw = write_mvtec3d(scans, tmp_path / "raw", progress=False)
    out = preprocess(raw, tmp_path / "out", rgb=convention, workers=1, progress=False)
    side = -(-max(size) // 100) * 100
    top, left = (side - size[0]) // 2, (side - size[1]) // 2
    for before, after in zip(MVTec3D(raw, "ball", "test"), MVTec3D(out, "ball", "test")):
        b, a = before.view, after.view
        inner = np.s_[..., top : top + size[0], left : left + size[1]]
        valid = a.valid[inner]
        assert (
            a.size == (side, side)
            and a.valid.sum() == valid.sum() > 100
            and (valid <= b.valid).all()
        )
        assert (
            (a.xyz[inner][:, valid] == b.xyz[:, valid]).all()
            and (a.gt[inner] == b.gt).all()
            and a.gt.sum() == b.gt.sum()
        )
        removed = b.valid & ~valid
        assert (a.rgb[inner][:, ~removed] == b.rgb[:, ~removed]).all()
        assert (
            a.rgb[inner][:, removed] == (b.rgb[:, removed] if convention == "original" else 0)
        ).all()
        stem = before.id.removeprefix("ball/test/")
        on_disk = read_rgb(out / "ball/test" / (stem.replace("/", "/rgb/") + ".png"))
        assert on_disk.shape[1:] == (size if convention == "original" else (side, side))
        assert read_xyz_tiff(
            out / "ball/test" / (stem.replace("/", "/xyz/") + ".tiff"), min_valid=0
        )[0].shape[1:] == (side, side)


def test_the_recipe_says_what_the_code_does():
    recipe = yaml.safe_load((ROOT / "data_recipes/mvtec3d.yaml").read_text())
    for kind, total in recipe["totals"].items():
        assert kind == "all" or sum(c[kind] for c in recipe["categories"].values()) == total
    p = Preprocessing()
    assert recipe["conversion"]["parameters"] == {
        k: getattr(p, k) for k in recipe["conversion"]["parameters"]
    }
    assert set(recipe["conversion"]["rgb"]) == {"original", "black"}
    assert (
        sum(recipe["totals"][k] for k in ("train", "validation", "test_good", "test_anomalous"))
        == recipe["totals"]["all"]
    )


def test_unknown_parameters(raw, tmp_path):
    with pytest.raises(MvadError, match="original or black"):
        preprocess(raw, tmp_path / "out", rgb="grey")
    with pytest.raises(MvadError, match="unknown parameter.*thresold.*did you mean 'threshold'"):
        preprocess(raw, tmp_path / "out", thresold=0.01)
    assert not (tmp_path / "out").exists()


def test_the_category_of_official_size(tmp_path):
    "What rehearsals read, here at a small size: the layout is sound, and the table can be found."
    from official_size import write_category

    root = write_category(tmp_path / "raw", train=2, test=4, side=100, workers=1)
    test = MVTec3D(root, "bagel", "test")
    assert test.counts == {"good": 2, "colour": 1, "dent": 1}
    for sample in (*MVTec3D(root, "bagel", "train"), *test):
        assert sample.view.valid.mean() < 0.96 and sample.view.gt.any() == sample.label
    ready = preprocess(root, tmp_path / "ready", workers=1, progress=False)
    shares = [s.view.valid.mean() for s in MVTec3D(ready, "bagel", "test")]
    assert 0.1 < min(shares) and max(shares) < 0.5
