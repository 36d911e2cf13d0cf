"""Eyecandies: what takes several trees or processes.

Parts, round trip and pitfalls are tested in the notebook, single faults in planted_eyecandies.py.
"""

import pickle
import shutil

import numpy as np
import pytest
import yaml

from mvad.core.sample import MvadError
from mvad.data import base
from mvad.data.eyecandies import (
    Eyecandies,
    EyecandiesLayout,
    Organising,
    _organise_jobs,
    organise,
    _organise_one,
)
from mvad.data.layout import Item, make
from mvad.data.mvtec3d import MVTec3D


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return make(
        "eyecandies",
        tmp_path_factory.mktemp("made") / "tree",
        categories=["tile"],
        splits=["validation", "test"],
        workers=1,
        progress=False,
    )


@pytest.fixture
def tree(made, tmp_path):
    return shutil.copytree(made, tmp_path / "tree")


def files_of(folder):
    return {
        p.relative_to(folder).as_posix(): p.read_bytes()
        for p in sorted(folder.rglob("*"))
        if p.is_file() and not p.name.startswith(".")
    }


def test_the_same_object_gives_the_same_bytes(made, tmp_path):
    layout = EyecandiesLayout("small")
    for item in (Item("tile", "test", "hidden", 0), Item("tile", "validation", "good", 1)):
        layout.write(tmp_path, item)
    again = files_of(tmp_path)
    assert len(again) == 34 and again.items() <= files_of(made).items()


@pytest.mark.parametrize("defect", ["good", "colour", "dent", "bump", "hole", "mismatch", "hidden"])
def test_round_trip_of_every_defect(made, defect):
    layout, loaded = EyecandiesLayout("small"), Eyecandies(made, "tile", "test", light=2)
    want = layout.sample(Item("tile", "test", defect, 0), light=2)
    got = loaded[want.id]
    a, b = want.view, got.view
    assert got.defect == defect and got.label == want.label == int(a.gt.any())
    for x, y in (
        (a.rgb, b.rgb),
        (a.gt, b.gt),
        (a.camera.K, b.camera.K),
        (a.camera.world_to_camera, b.camera.world_to_camera),
    ):
        np.testing.assert_array_equal(x, y)
    assert (
        np.abs(a.depth - b.depth).max() <= np.ptp(a.depth) / 65535 / 2 + 3e-8
        and np.abs(a.normals - b.normals).max() <= 1 / 127.5
    )


def test_work_travels_to_another_process(tree, tmp_path):
    assert pickle.dumps(_organise_one)
    jobs = list(_organise_jobs(tree, tmp_path / "out", Organising(), ["tile"], []))
    assert len(jobs) == 11 and pickle.dumps(jobs)
    assert (
        len(MVTec3D(organise(tree, tmp_path / "out", workers=1, progress=False), "tile", "test"))
        == 9
    )


def test_a_conversion_goes_on_after_a_fault(tree, tmp_path):
    whole = files_of(organise(tree, tmp_path / "whole", workers=1, progress=False))
    depth = tree / "tile/test_public/data/04_depth.png"
    good = depth.read_bytes()
    depth.write_bytes(good[:3000])
    with pytest.raises(base.DatasetError) as e:
        organise(tree, tmp_path / "torn", workers=1, progress=False)
    assert (
        str(depth) in str(e.value)
        and "1 of 11 samples" in str(e.value)
        and not list((tmp_path / "torn").rglob("*/bad/*/04*"))
    )
    depth.write_bytes(good)
    assert files_of(organise(tree, tmp_path / "torn", workers=1, progress=False)) == whole
    with pytest.raises(base.DatasetError) as e:
        organise(tree, tmp_path / "torn", frame="camera", workers=1, progress=False)
    assert "frame" in str(e.value) and "released" in str(e.value)


@pytest.mark.parametrize(
    "parameters,text",
    [({"height": 0.5}, "found 0 of 10000 points"), ({"tolerance": 1e-9}, "no plane")],
)
def test_a_scene_without_belt_or_object(tree, tmp_path, parameters, text):
    with pytest.raises(base.DatasetError) as e:
        organise(tree, tmp_path / "out", workers=1, progress=False, **parameters)
    assert text in str(e.value) and "_depth.png" in str(e.value)


def test_names_are_corrected_in_the_recipe(tree, tmp_path, monkeypatch):
    before = Eyecandies(tree, "tile", "validation")[1]
    for p in (tree / "tile/val/data").iterdir():
        p.rename(p.with_name(p.name.replace("mask.png", "gt.png").replace("_image_", "_img-")))
    (tree / "tile/val/data").rename(tree / "tile/val/files")
    (tree / "tile/val").rename(tree / "tile/valid")
    shutil.rmtree(tree / "tile/test_public")
    with pytest.raises(base.DatasetNotFound) as e:
        Eyecandies(tree, "tile", "validation")
    assert "expected folders such as" in str(e.value) and "eyecan" in str(e.value)
    own = base.recipe("eyecandies")
    files = yaml.safe_load(
        yaml.safe_dump(own["files"])
        .replace("mask.png", "gt.png")
        .replace("image_", "img-")
        .replace("data: data", "data: files")
    )
    files["splits"]["validation"] = "valid"
    base.write_yaml(tmp_path / "recipes/eyecandies.yaml", {**own, "files": files})
    monkeypatch.setenv("MVAD_RECIPES", str(tmp_path / "recipes"))
    after = Eyecandies(tree, "tile", "validation")[1]
    assert (
        after.id == before.id
        and (after.view.rgb == before.view.rgb).all()
        and (after.view.gt == before.view.gt).all()
    )


def test_a_copy_without_the_other_lights(tree):
    for p in (tree / "tile/test_public/data").glob("*_image_[0-35].png"):
        p.unlink()
    with pytest.raises(base.PairingError):
        Eyecandies(tree, "tile", "test")
    d = Eyecandies(tree, "tile", "test", complete=False)
    assert len(d) == 9 and d[3].label == 1
    for r in d.records:
        d.headers(r)
        d.read_all(r)
    with pytest.raises(base.PairingError) as e:
        Eyecandies(tree, "tile", "test", complete=False, light=0)
    assert "00_image_0.png" in str(e.value)


def test_strangers_do_no_harm_and_faults_do_not_hide_the_rest(tree):
    data = tree / "tile/test_public/data"
    for name in ("Thumbs.db", "notes_depth.png", "12_comment.txt", ".DS_Store"):
        (data / name).write_text("x")
    (data / "03_pose.txt").unlink()
    (data / "07_normals.png").unlink()
    faults = []
    d = Eyecandies(tree, "tile", "test", faults=faults)
    assert len(d) == 7 and [type(f) for f in faults] == [base.PairingError] * 2
    assert d.ids == [f"tile/test/0{i}" for i in (0, 1, 2, 4, 5, 6, 8)]


def test_masks_that_are_no_union(tree):
    kinds = tree / "tile/test_public/data/04_dents_mask.png"
    base.write_png(kinds, np.eye(100, dtype=bool))
    d = Eyecandies(tree, "tile", "test")
    d[4]
    with pytest.raises(base.DatasetError) as e:
        d.read_all(d.records[4])
    assert "04_mask.png" in str(e.value) and "pixels differ" in str(e.value)


def test_roots(tree):
    with pytest.warns(UserWarning, match="no category in"):
        assert len(Eyecandies(tree.parent, "tile", "test")) == 9
    with pytest.raises(base.DatasetNotFound) as e:
        Eyecandies(tree / "tile", "tile", "test")
    assert "give its parent" in str(e.value)
    with pytest.raises(base.DatasetError) as e:
        Eyecandies(tree, "Tyle", "test")
    assert "did you mean 'tile'" in str(e.value)
    with pytest.raises(base.DatasetError) as e:
        Eyecandies(tree, "tile", "val")
    assert "expected validation or test" in str(e.value)


@pytest.mark.parametrize("light", [6, -1, True, "4", None])
def test_no_such_light(made, light):
    with pytest.raises(MvadError) as e:
        Eyecandies(made, "tile", "test", light=light)
    assert "4 (left)" in str(e.value)


def enlarge(root, to, times=10.0):
    "A copy of a tree whose lengths are so many times as large: what is rendered stays the same."
    shutil.copytree(root, to)
    (to / "SHA256SUMS").unlink()
    for path in to.rglob("*_info_depth.yaml"):
        bounds = yaml.safe_load(path.read_text())["normalization"]
        base.write_yaml(path, {"normalization": {k: times * v for k, v in bounds.items()}})
    for path in to.rglob("*_pose.txt"):
        pose = np.loadtxt(path)
        pose[:3, 3] *= times
        np.savetxt(path, pose, fmt="%.17g")
    return to


@pytest.fixture(scope="module")
def sizes(tmp_path_factory):
    "Candies as the kit embeds them, and as large as published: the same scenes."
    place = tmp_path_factory.mktemp("sizes")
    how = dict(categories=["pebble"], splits=["train", "test"], workers=1, progress=False)
    small = make("eyecandies", place / "small", **how)
    return {"embedded": small, "published": enlarge(small, place / "large")}


def run_of(method, root, out="", **more):
    from mvad.core.evaluate import RunSettings

    about = dict(dataset="eyecandies", root=str(root), category="pebble", scale="smoke")
    return RunSettings(method, **about, out=str(out) if out else "", **more)


RUNS = [("cfm", "paper"), ("cfm", "released"), ("mafr", "paper")]


@pytest.mark.parametrize(("method", "protocol"), RUNS)
def test_published_size_gives_what_the_embedded_size_gives(
    method, protocol, sizes, tmp_path, monkeypatch
):
    "Clouds reach the networks a tenth as large as published: once, not twice."
    from mvad.core.evaluate import evaluate, read_record
    from mvad.core.registry import method_entry
    from mvad.runs.method_run import load_run, record_run

    monkeypatch.setenv("MVAD_CACHE", str(tmp_path / "cache"))
    found, cls = {}, method_entry(method).load()
    for size, root in sizes.items():
        data = load_run(run_of(method, root, tmp_path / size, protocol=protocol))
        detector = data.detector(cls, data.settings(cls, epochs=2))
        shrink = 0.1 if (size, protocol) == ("published", "paper") else 1.0
        assert data.unit == detector.settings.shrink == shrink
        cloud = detector.prepare(data.test[0]).view
        detector.fit(*data.learned, progress=False)
        result = evaluate(detector, data.test, memory=False, progress=False)
        record = read_record(record_run(data, detector, result))
        found[size] = cloud.xyz[:, cloud.valid], [s["map"] for s in result.scores], record
    (small, scores, record), (large, large_scores, large_record) = found.values()
    assert 0.02 < np.ptp(small, axis=1).max() < 0.4  # metres: the networks' neighbourhoods
    np.testing.assert_allclose(large, small, rtol=1e-5, atol=1e-6)
    # the last bit of a coordinate may decide which of two points that are as far is picked
    np.testing.assert_allclose(large_scores, scores, rtol=0.1)
    assert np.median(np.abs(np.array(large_scores) / scores - 1)) < 0.005
    for metric, most in (("P-AUROC", 0.01), ("AUPRO@30%", 0.02), ("I-AUROC", 0.12)):
        values = [_value(r, metric) for r in (record, large_record)]
        assert abs(values[0] - values[1]) < most, (metric, values)


def _value(record, metric):
    "A record's number over all defects."
    about = dict(metric=metric, branch="map", defect="all", estimator="exact")
    (row,) = [row for row in record["rows"] if about.items() <= row.items()]
    return row["value"]


def test_a_checkpoint_takes_candies_of_the_size_that_it_learned(sizes, tmp_path, monkeypatch):
    "Trained and scored as large as published, by commands: the scores are those of small ones."
    from mvad.cli.main import main

    monkeypatch.setenv("MVAD_CACHE", str(tmp_path / "cache"))
    scores = []
    for size, root in sizes.items():
        place = ["--root", root, "--dataset", "eyecandies", "--category", "pebble"]
        file, out = tmp_path / f"{size}.safetensors", tmp_path / size
        words = ["train", "cfm", *place, "--scale", "smoke", "--out", file]
        assert main([str(w) for w in words]) == 0
        words = ["predict", file, *place, "--out", out]
        assert main([str(w) for w in words]) == 0
        lines = (out / "scores.csv").read_text().splitlines()[1:]
        scores.append([float(line.split(",")[1]) for line in lines])
    assert len(scores[0]) == 9
    assert np.median(np.abs(np.divide(*scores) - 1)) < 0.005
