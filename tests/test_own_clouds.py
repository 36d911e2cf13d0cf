"""Clouds, units and tables of one's own, through the commands, with the right values."""

import contextlib
import io
import json

import numpy as np
import pytest
import tifffile

from mvad.data.base import write_png, write_xyz_tiff
from mvad.data.mvtec3d import MVTec3D, toy_scan, write_mvtec3d


def mvad(*words) -> tuple[int, str]:
    "The command in this very process: its exit status, and what it prints."
    from mvad.cli.main import main

    with contextlib.redirect_stdout(io.StringIO()) as out:
        with contextlib.redirect_stderr(io.StringIO()) as err:
            status = main([str(w) for w in words])
    return status, out.getvalue() + err.getvalue()


@pytest.fixture
def scans(tmp_path, monkeypatch):
    "Three photographs with their clouds in millimetres beside them, missing points marked."
    monkeypatch.setenv("MVAD_CACHE", str(tmp_path / "cache"))
    for i in range(3):
        view = toy_scan(i, size=120).view
        write_png(tmp_path / f"scans/{i}.png", view.rgb)
        write_xyz_tiff(tmp_path / f"scans/{i}.tiff", np.where(view.valid, 1000 * view.xyz, -9999))
    return tmp_path / "scans"


def test_millimetres_beside_the_photographs(scans, tmp_path):
    words = ["train", "cfm", "--rgb", scans, "--remove-plane", "--scale", "smoke"]
    words += ["--out", tmp_path / "cfm.safetensors"]
    status, told = mvad(*words)
    assert status == 2 and "looks like millimetres" in told
    assert str(scans / "0.tiff") in told and "--unit mm" in told
    assert mvad(*words, "--unit", "mm")[0] == 0
    how = ["--rgb", scans / "1.png", "--remove-plane", "--unit", "mm", "--out", tmp_path / "found"]
    status, told = mvad("predict", tmp_path / "cfm.safetensors", *how)
    assert status == 0 and (tmp_path / "found/map.tiff").is_file()


def test_a_layout_in_millimetres_and_one_without_table(tmp_path):
    samples = [toy_scan(i, split="train", size=120) for i in range(2)]
    write_mvtec3d(samples, tmp_path / "m", progress=False)
    write_mvtec3d(samples, tmp_path / "mm", progress=False)
    for path in (tmp_path / "mm").rglob("*.tiff"):
        write_xyz_tiff(path, 1000 * tifffile.imread(path).transpose(2, 0, 1))
    convert = ["data", "convert", "mvtec3d", "--jobs", 1]
    assert mvad(*convert, "--root", tmp_path / "m", "--out", tmp_path / "ready")[0] == 0
    raw = ["--root", tmp_path / "mm", "--out", tmp_path / "ready_mm"]
    status, told = mvad(*convert, *raw)
    assert status == 2 and "--unit mm" in told and "000.tiff" in told
    assert mvad(*convert, *raw, "--unit", "mm")[0] == 0
    for a, b in zip(*(MVTec3D(tmp_path / k, "ball", "train") for k in ("ready", "ready_mm"))):
        assert (a.view.valid == b.view.valid).mean() > 0.999
        both = a.view.valid & b.view.valid
        assert np.allclose(a.view.xyz[:, both], b.view.xyz[:, both], atol=1e-6)
    status, told = mvad("data", "check", "mvtec3d", "--root", tmp_path / "mm", "--deep")
    assert status == 1 and "looks like millimetres" in told and "001.tiff" in told
    (tmp_path / "ready/manifest.json").unlink()  # somebody else's script leaves none
    for journal in (tmp_path / "ready").glob(".*.jsonl"):
        journal.unlink()
    for path in (tmp_path / "ready").rglob("*.tiff"):  # its clouds are padded, theirs need not be
        tifffile.imwrite(path, tifffile.imread(path)[40:160, 40:160], photometric="minisblack")
    status, told = mvad(*convert, "--root", tmp_path / "ready", "--out", tmp_path / "again")
    assert status == 2 and "found 0 points at the border" in told and "removed already?" in told


def test_depth_maps_with_a_camera_of_realsense(tmp_path):
    camera = dict(width=60, height=50, ppx=30, ppy=25, fx=800, fy=810, coeffs=[0] * 5)
    (tmp_path / "camera.json").write_text(json.dumps(camera))
    depth = np.full((50, 60), 0.4, np.float32)
    depth[0, 1] = -1
    (tmp_path / "maps").mkdir()
    tifffile.imwrite(tmp_path / "maps/a.tiff", depth)
    words = ["data", "convert", "depth", "--root", tmp_path / "maps", "--jobs", 1]
    words += ["--camera", tmp_path / "camera.json", "--out"]
    assert mvad(*words, tmp_path / "clouds")[0] == 0
    cloud = tifffile.imread(tmp_path / "clouds/a.tiff")
    assert np.allclose(cloud[0, 0], [-30 / 800 * 0.4, -25 / 810 * 0.4, 0.4], atol=1e-7)
    assert not cloud[0, 1].any()
    status, told = mvad(*words, tmp_path / "b", "--scale", 1000)
    assert status == 2 and "a.tiff" in told and "floats have no scale" in told
    (tmp_path / "camera.json").write_text(json.dumps(camera | dict(width=120, height=100)))
    status, told = mvad(*words, tmp_path / "c")
    assert status == 2 and "60 x 50" in told and "120 x 100" in told


def test_a_layout_of_numpy_and_ply_clouds(tmp_path):
    samples = [toy_scan(i, split="train", size=60) for i in range(3)]
    write_mvtec3d(samples, tmp_path / "m", progress=False)
    folder = tmp_path / "m/ball/train/good/xyz"
    for i, suffix in enumerate((".npy", ".ply")):
        view = samples[i].view
        points = np.where(view.valid, view.xyz, np.nan).transpose(1, 2, 0).astype(np.float64)
        (folder / f"{i:03}.tiff").unlink()
        if suffix == ".npy":
            np.save(folder / f"{i:03}.npy", points)
            continue
        head = "ply\nformat ascii 1.0\nelement vertex 3600\n"
        head += "".join(f"property double {k}\n" for k in "xyz") + "end_header\n"
        rows = "".join(f"{x!r} {y!r} {z!r}\n" for x, y, z in points.reshape(-1, 3).tolist())
        (folder / f"{i:03}.ply").write_text(head + rows)
    for read, sample in zip(MVTec3D(tmp_path / "m", "ball", "train"), samples):
        assert (read.view.valid == sample.view.valid).all()
        assert (read.view.xyz == sample.view.xyz).all()
    assert mvad("data", "check", "mvtec3d", "--root", tmp_path / "m", "--deep")[0] == 0
    ready = ["--out", tmp_path / "ready", "--jobs", 1]
    assert mvad("data", "convert", "mvtec3d", "--root", tmp_path / "m", *ready)[0] == 0
    assert len(list((tmp_path / "ready").rglob("*.tiff"))) == 3
    np.save(folder / "000.npy", points[:5])
    status, told = mvad("data", "check", "mvtec3d", "--root", tmp_path / "m", "--deep")
    assert status == 1 and "000.npy" in told and "another size" in told


def test_a_table_that_stays_is_told_with_what_takes_it_out():
    from mvad.core.sample import Sample, View
    from mvad.papers.cfm import CFM

    rows, columns = np.mgrid[:40, :40] / 1000
    table = np.stack([columns, rows, np.full_like(rows, 0.4)]).astype(np.float32)
    view = View(np.zeros((3, 40, 40), np.float32), xyz=table, valid=np.ones((40, 40), bool))
    detector = CFM(CFM.settings_for("smoke"))
    with pytest.warns(UserWarning, match="--remove-plane, or `mvad data convert mvtec3d`"):
        list(detector.prepare_good([Sample("a", "part", "train", "good", (view,))]))


def table_over_floor(radius: float, floor: bool = True, side: int = 200):
    """A round table 40 cm away that bears a part 3 cm high, 60 cm over a floor.

    Returns xyz (3, H, W), and the true pixels of the part.
    """
    v, u = np.mgrid[:side, :side] - (side - 1) / 2
    ray = np.stack([u / 300, v / 300, np.ones((side, side))])
    from_axis = np.hypot(u, v)
    depth = np.full((side, side), 1.0 if floor else 0.0)
    depth[from_axis < radius] = 0.4
    part = np.maximum(np.abs(u - 5), np.abs(v)) < 20
    depth[part] = 0.37
    noise = np.random.default_rng(0).normal(0, 0.0003, (side, side))
    return (ray * (depth + noise * (depth > 0))).astype(np.float32), part


@pytest.mark.filterwarnings("ignore:.*floor")
@pytest.mark.parametrize("radius", [60, 90, 130])
@pytest.mark.parametrize("tolerance", [None, 0.005])
@pytest.mark.parametrize("fit", ["border", "cloud"])
def test_a_table_over_a_floor_is_taken_out_too(radius, tolerance, fit):
    "Whether the border shows the floor, or table and floor: what is left is the part."
    from mvad.core.sample import View
    from mvad.data.mvtec3d import Preprocessing, segment_object

    xyz, part = table_over_floor(radius)
    view = View(np.zeros(xyz.shape, np.float32), xyz=xyz, valid=xyz[2] > 0)
    p = Preprocessing(fit=fit, distance=tolerance, ransac_n=3 if fit == "cloud" else 50)
    mask, plane = segment_object(view, p)
    assert (mask == part).mean() > 0.999
    assert abs(abs(plane[3]) - 0.4) < 0.005  # the plane of the table


def test_a_table_alone_and_a_flat_part_are_no_floor(recwarn):
    from mvad.core.sample import View
    from mvad.data.mvtec3d import Preprocessing, segment_object

    xyz, part = table_over_floor(300, floor=False)
    view = View(np.zeros(xyz.shape, np.float32), xyz=xyz, valid=xyz[2] > 0)
    assert (segment_object(view, Preprocessing())[0] == part).mean() > 0.999
    assert not recwarn.list


def test_a_table_and_a_floor_are_named(tmp_path):
    from mvad.data.own import OwnReading, _read_own_view

    xyz, part = table_over_floor(70)
    write_png(tmp_path / "0.png", np.zeros(xyz.shape))
    write_xyz_tiff(tmp_path / "0.tiff", xyz)
    with pytest.warns(UserWarning, match="0.6 m above the other: a floor and a table"):
        view = _read_own_view(tmp_path / "0.png", tmp_path / "0.tiff", OwnReading("m", True))
    assert (view.valid == part).mean() > 0.999
