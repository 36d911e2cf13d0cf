"""Thirteen posed depth frames of a room and six Kinect scans of boxes, not part of the project.

Skips where they are absent.

Looks in $MVAD_REAL_DATA, else in ../shared/data beside the project, for
posed_rgbd/{camera-intrinsics.txt, frame-NNNNNN.depth.png (mm, 0 or 65535 = none),
frame-NNNNNN.pose.txt (camera to world)} and kinect_scenes/.
"""

from __future__ import annotations
import os
import time
from pathlib import Path
import numpy as np
import pytest
from mvad.core.geometry import project, remove_background, valid_points
from mvad.core.sample import Camera, Sample, View
from mvad.data.base import read_xyz_tiff
from mvad.data.check import check
from mvad.data.depth_maps import (
    depth_to_xyz_files,
    read_depth,
    read_intrinsics,
    read_pose,
    xyz_to_depth_files,
)
from mvad.data.multiview import Rendered, fit_camera, render_dataset, render_views
from mvad.data.mvtec3d import preprocess, write_mvtec3d

DATA = Path(
    os.environ.get("MVAD_REAL_DATA") or Path(__file__).resolve().parents[2] / "shared" / "data"
)
ROOM, BOXES = DATA / "posed_rgbd", DATA / "kinect_scenes"
needs_room = pytest.mark.skipif(
    not ROOM.is_dir(),
    reason=f"no posed frames at {ROOM} (set MVAD_REAL_DATA to the folder that holds posed_rgbd)",
)
needs_boxes = pytest.mark.skipif(
    not BOXES.is_dir(),
    reason=f"no real scans at {BOXES} (set MVAD_REAL_DATA to the folder that holds kinect_scenes)",
)

# metres: surfaces further apart along the ray are taken for different ones (one hides the other)
SAME = 0.10


@pytest.fixture(scope="module")
def room(tmp_path_factory):
    "Camera, poses, and the clouds that the converter made of the depth frames."
    out, camera = tmp_path_factory.mktemp("room"), read_intrinsics(ROOM / "camera-intrinsics.txt")
    depth_to_xyz_files(ROOM, out / "xyz", camera=camera, pattern="*.depth.png", progress=False)
    names = sorted(p.name.split(".")[0] for p in ROOM.glob("*.depth.png"))
    clouds = {n: read_xyz_tiff(out / "xyz" / f"{n}.depth.tiff") for n in names}
    return out, camera, {n: read_pose(ROOM / f"{n}.pose.txt") for n in names}, clouds


@needs_room
def test_depth_to_points_and_back(room):
    out, camera, _, clouds = room
    xyz_to_depth_files(out / "xyz", out / "depth", camera=camera, progress=False)
    for name, (_, valid) in clouds.items():
        depth, measured = read_depth(ROOM / f"{name}.depth.png")
        assert (
            (valid == measured).all() and 0.7 < valid.mean() < 0.99 and depth.max() < 10
        )  # 65535 is not a wall at 65 m
        assert np.abs(np.load(out / "depth" / f"{name}.depth.npy") - depth).max() <= 1e-5


def landed(a, b, camera, clouds, poses) -> tuple[np.ndarray, float]:
    """Depth in frame b minus depth of a's points there (positive:
    b sees farther), where both measured; and the share of a's points that fall into b's image.
    """
    points = valid_points(*clouds[a])[0][::6]
    move = np.linalg.inv(poses[b]) @ poses[a]
    uv, z = project(points @ move[:3, :3].T + move[:3, 3], Camera(camera.K))
    xyz, valid = clouds[b]
    at = np.rint(np.where(z[:, None] > 0.1, uv, -1)).astype(int)
    inside = ((at >= 0) & (at < valid.shape[::-1])).all(1)
    at, z = at[inside], z[inside]
    both = valid[at[:, 1], at[:, 0]]
    return xyz[2][at[both, 1], at[both, 0]] - z[both], inside.mean()


@needs_room
def test_a_point_lands_on_its_surface_in_the_other_frames(room):
    """Measured: in the 139 pairs of frames that share 5,000 points, 86 % of these agree within 10
    cm (median over pairs), with a median distance of 12.5 mm, 34 mm in the worst pair.
    """
    _, camera, poses, clouds = room
    rows = []
    for a in clouds:
        for b in clouds:
            off, share = landed(a, b, camera, clouds, poses) if a != b else (np.zeros(0), 0)
            if len(off) < 5000 / 6:
                continue
            same = np.abs(off) < SAME
            rows.append(
                (
                    share,
                    same.mean(),
                    (off <= -SAME).mean(),
                    (off >= SAME).mean(),
                    np.median(np.abs(off[same])),
                    np.median(np.abs(off)),
                )
            )
    rows = np.array(rows)
    share, agree, hidden, through, distance, of_all = np.median(rows, 0)
    print(
        f"\n{len(rows)} pairs, medians over them: {share:.0%} of a frame's points fall into the"
        f" other; {agree:.1%} of those agree within {SAME * 100:.0f} cm, {hidden:.1%} are hidden"
        f" behind something, {through:.1%} lie before what is seen; distance where they agree"
        f" {1000 * distance:.1f} mm (worst pair {1000 * rows[:, 4].max():.1f}), of all"
        f" {1000 * of_all:.1f} mm"
    )
    assert len(rows) > 100 and agree > 0.75 and distance < 0.02 and rows[:, 4].max() < 0.04


@needs_room
def test_without_poses_nothing_fits(room):
    "The check above can fail: with the inverse poses, or none, far fewer points agree."
    _, camera, poses, clouds = room
    pairs = list(zip(sorted(clouds), sorted(clouds)[1:]))
    share = {
        k: np.mean([(np.abs(landed(a, b, camera, clouds, p)[0]) < SAME).mean() for a, b in pairs])
        for k, p in (
            ("poses", poses),
            ("none", {n: np.eye(4) for n in poses}),
            ("inverse", {n: np.linalg.inv(p) for n, p in poses.items()}),
        )
    }
    print({k: f"{v:.0%}" for k, v in share.items()})
    assert share["poses"] > 0.75 and share["none"] < 0.5 and share["inverse"] < 0.5


def scan(name: str) -> View:
    "A Kinect scan: NaN where nothing was measured."
    import tifffile
    from PIL import Image

    xyz = tifffile.imread(BOXES / "xyz" / f"{name}.tiff").transpose(2, 0, 1)
    valid = np.isfinite(xyz).all(0)
    return View(
        np.asarray(Image.open(BOXES / "rgb" / f"{name}.png")).transpose(2, 0, 1) / np.float32(255),
        np.where(valid, xyz, 0),
        valid,
        name=name,
    )


NAMES = sorted(p.stem for p in (BOXES / "xyz").glob("*.tiff"))
SENSOR = dict(threshold=0.005, distance=0.010, ransac_n=3)  # see test_real_kinect.py


@needs_boxes
@pytest.mark.parametrize("name", NAMES[:3])
def test_boxes_from_five_sides(name):
    view = remove_background(scan(name), fit="cloud", **SENSOR)
    np.testing.assert_allclose(
        fit_camera(view).K, [[525, 0, 319.5], [0, 525, 239.5], [0, 0, 1]], atol=0.1
    )
    start = time.process_time()
    views, coverage = render_views(view, projection="camera", scale=500.0)
    print(
        f"\n{name}: {view.valid.sum()} points, {time.process_time() - start:.2f} s; direct"
        f" {coverage.direct.round(3)}, holes {coverage.holes.round(3)}, visible"
        f" {coverage.visible.round(3)}"
    )
    assert (
        coverage.holes[0] < 0.01
        and coverage.holes[1:].max() < 0.2
        and (coverage.visible > 0.8).all()
    )  # boxes behind boxes: tears of up to 18 %
    for v in views:
        at, _ = project(v.xyz[:, v.valid].T, Camera(v.camera.K))
        assert np.abs(at - np.argwhere(v.valid)[:, ::-1]).max() < 0.01


@needs_boxes
def test_boxes_through_convert_check_and_render(tmp_path):
    samples = [
        Sample(f"boxes/train/good/{n}", "boxes", "train", "good", (scan(n),)) for n in NAMES[:1]
    ]
    raw = write_mvtec3d(samples, tmp_path / "raw", progress=False)
    clean = preprocess(
        raw, tmp_path / "clean", fit="cloud", eps=0.02, **SENSOR, workers=1, progress=False
    )
    assert not check("mvtec3d", clean, deep=True, workers=1, progress=False).faults
    told = render_dataset(
        "mvtec3d",
        clean,
        tmp_path / "views",
        projection="camera",
        scale=600.0,
        workers=1,
        progress=False,
    )
    print(told)
    report = check("rendered", tmp_path / "views", deep=True, workers=1, progress=False)
    assert (
        not report.faults
        and report.samples == told["samples"] == 1
        and told["holes"] < 0.05
        and told["visible"] > 0.9
    )
    assert len(Rendered(tmp_path / "views", "boxes", "train")[0].views) == 5
