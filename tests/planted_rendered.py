"""Faults that a person can make in a tree of rendered views, and what the check must say of each.
See test_planted_faults.py.
"""

import json
import shutil
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

from mvad.data.multiview import render_dataset
from mvad.data.mvtec3d import toy_scan, write_mvtec3d

BAD, GOOD = "ball/test/cut/000", "ball/test/good/001"


def make_tree(folder: Path):
    "Seven small scans of a ball, five views each."
    scans = [
        toy_scan(i, d, s, size=96)
        for s, d, n in (("train", "good", 3), ("test", "good", 2), ("test", "cut", 2))
        for i in range(n)
    ]
    with tempfile.TemporaryDirectory() as raw:
        render_dataset(
            "mvtec3d",
            write_mvtec3d(scans, raw, progress=False),
            folder,
            size=64,
            workers=1,
            progress=False,
        )


def _pixels(path: Path) -> np.ndarray:
    with Image.open(path) as im:
        return np.asarray(im).copy()


def _save(path: Path, pixels: np.ndarray):
    Image.fromarray(pixels).save(path)


def _edit(path: Path, change):
    views = json.loads(path.read_text())["views"]
    path.write_text(json.dumps({"views": change(views)}))


def _swap(a: Path, b: Path):
    first = a.read_bytes()
    a.write_bytes(b.read_bytes())
    b.write_bytes(first)


def no_depth_of_a_view(root):
    (root / BAD / "depth_C3.png").unlink()


def no_mask_of_a_view(root):
    (root / BAD / "gt_C2.png").unlink()


def no_mask_at_all(root):
    for f in (root / BAD).glob("gt_*.png"):
        f.unlink()


def no_index(root):
    (root / BAD / "views.json").unlink()


def index_without_cameras(root):
    _edit(
        root / BAD / "views.json",
        lambda views: [{k: v for k, v in e.items() if k != "world_to_camera"} for e in views],
    )


def index_that_is_torn(root):
    path = root / BAD / "views.json"
    path.write_text(path.read_text()[:200])


def camera_with_two_rows(root):
    _edit(root / BAD / "views.json", lambda views: [{**e, "K": e["K"][:2]} for e in views])


def bounds_turned_round(root):
    _edit(
        root / BAD / "views.json", lambda views: [{**e, "depth": e["depth"][::-1]} for e in views]
    )


def four_views(root):
    _edit(root / BAD / "views.json", lambda views: views[:4])
    for f in (root / BAD).glob("*_C5.png"):
        f.unlink()


def other_order(root):
    _edit(root / BAD / "views.json", lambda views: [views[1], views[0], *views[2:]])


def one_view_too_many(root):
    shutil.copy(root / BAD / "rgb_C5.png", root / BAD / "rgb_C6.png")


def swapped_pictures(root):
    _swap(root / BAD / "rgb_C2.png", root / BAD / "rgb_C3.png")


def depth_of_eight_bits(root):
    _save(root / BAD / "depth_C2.png", (_pixels(root / BAD / "depth_C2.png") >> 8).astype(np.uint8))


def a_view_of_another_size(root):
    _save(root / BAD / "rgb_C4.png", _pixels(root / BAD / "rgb_C4.png")[:-3])


def truncated_normals(root):
    path = root / BAD / "normals_C1.png"
    path.write_bytes(path.read_bytes()[:900])


def mask_on_a_good_sample(root):
    _save(root / GOOD / "gt_C1.png", np.eye(64, dtype=np.uint8) * 255)


def copied_sample(root):
    for f in (root / "ball/train/good/001").iterdir():
        shutil.copy(f, root / GOOD / f.name)


def unfinished(root):
    (root / "manifest.json").unlink()


FAULTS = {
    "no depth of one view": (
        no_depth_of_a_view,
        BAD,
        "found no depth_C3.png",
        "expected 16 files for 5 views",
    ),
    "no mask of one view": (
        no_mask_of_a_view,
        BAD,
        "masks are missing",
        "expected gt_<view>.png for each view",
    ),
    "no mask at all": (no_mask_at_all, BAD, "found none", "expected gt_<view>.png for each view"),
    "no views.json": (no_index, f"{BAD}/views.json", "there is no such"),
    "views.json without cameras": (
        index_without_cameras,
        f"{BAD}/views.json",
        "lacks world_to_camera",
        "expected keys name, K, world_to_camera",
    ),
    "views.json torn": (index_that_is_torn, f"{BAD}/views.json", "found"),
    "a camera of two rows": (camera_with_two_rows, f"{BAD}/views.json", "bad K", "shape (3, 3)"),
    "depth bounds turned round": (
        bounds_turned_round,
        f"{BAD}/views.json",
        "bad depth bounds",
        "expected 0 < nearest <= farthest",
    ),
    "four views instead of five": (
        four_views,
        f"{BAD}/views.json",
        "found 4 views",
        "expected 5 views: C1, C2, C3, C4, C5",
    ),
    "views in another order": (
        other_order,
        f"{BAD}/views.json",
        "C2, C1, C3",
        "expected 5 views: C1, C2, C3",
    ),
    "a picture of a sixth view": (
        one_view_too_many,
        BAD,
        "found rgb_C6.png",
        "expected C1, C2, C3, C4, C5",
    ),
    "pictures of two views swapped": (
        swapped_pictures,
        f"{BAD}/rgb_C",
        "shows something where its depth has none",
        "swapped",
    ),
    "depth saved with 8 bits": (
        depth_of_eight_bits,
        "depth_C2.png",
        "found uint8",
        "expected uint16",
        "re-encoded",
    ),
    "a picture of another size": (a_view_of_another_size, f"{BAD}/", "found", "(61, 64)"),
    "truncated normals": (truncated_normals, "normals_C1.png", "found", "truncated"),
    "mask on a good sample": (
        mask_on_a_good_sample,
        f"{GOOD}/gt_C1.png",
        "found 64 pixels > 0",
        "expected none",
    ),
    "training sample copied to the test split": (
        copied_sample,
        "ball/train/good/001",
        GOOD,
        "expected each scan once",
    ),
    "rendering not finished": (
        unfinished,
        "the rendering of ball was not finished",
        "run it again",
    ),
}
