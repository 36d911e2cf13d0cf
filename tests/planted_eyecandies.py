"""Faults that a person can make in an Eyecandies tree, and what the check must say of each.

See test_planted_faults.py.
"""

import shutil
from pathlib import Path

import numpy as np
import yaml
from PIL import Image

from mvad.data.layout import make

SPLIT = "puck/test_public/data"  # 00 to 02 are good, 03 to 08 have a defect each


def make_tree(folder: Path):
    make(
        "eyecandies",
        folder,
        categories=["puck"],
        splits=["train", "test", "test_private"],
        workers=1,
        progress=False,
    )


def _at(root: Path, item: str, index: str = "04", folder: str = SPLIT) -> Path:
    return root / folder / f"{index}_{item}"


def _pixels(path: Path) -> np.ndarray:
    with Image.open(path) as im:
        return np.asarray(im).copy()


def _save(path: Path, pixels: np.ndarray):
    Image.fromarray(pixels).save(path)


def _edit_yaml(path: Path, **changes):
    value = yaml.safe_load(path.read_text())
    path.write_text(yaml.safe_dump({**value, **changes}))


def _edit_pose(path: Path, change):
    np.savetxt(path, change(np.loadtxt(path)))


def no_depth(root):
    _at(root, "depth.png").unlink()


def no_mask(root):
    _at(root, "mask.png").unlink()


def one_light_short(root):
    _at(root, "image_2.png", "007", "puck/test_private/data").unlink()


def depth_of_eight_bits(root):
    _save(_at(root, "depth.png"), (_pixels(_at(root, "depth.png")) >> 8).astype(np.uint8))


def constant_depth(root):
    _save(_at(root, "depth.png"), np.full((100, 100), 777, np.uint16))


def truncated_image(root):
    path = _at(root, "image_4.png")
    path.write_bytes(path.read_bytes()[:4000])


def truncated_other_light(root):
    path = _at(root, "image_1.png", "001", "puck/train/data")
    path.write_bytes(path.read_bytes()[:-40])


def bounds_without_keys(root):
    _at(root, "info_depth.yaml").write_text("normalization: {low: 0.1, high: 0.2}\n")


def bounds_turned_round(root):
    _at(root, "info_depth.yaml").write_text("normalization: {min: 0.3, max: 0.2}\n")


def bounds_not_yaml(root):
    _at(root, "info_depth.yaml").write_text("normalization: {min: 0.1, max")


def pose_with_nan(root):
    def change(pose):
        pose[1, 3] = np.nan
        return pose

    _edit_pose(_at(root, "pose.txt"), change)


def pose_of_three_rows(root):
    _edit_pose(_at(root, "pose.txt"), lambda pose: pose[:3])


def pose_with_scale(root):
    _edit_pose(_at(root, "pose.txt"), lambda pose: pose @ np.diag([10, 10, 10, 1]))


def normals_of_another_size(root):
    _save(_at(root, "normals.png"), _pixels(_at(root, "normals.png"))[:90])


def normals_in_grey(root):
    _save(_at(root, "normals.png"), _pixels(_at(root, "normals.png"))[..., 0])


def empty_mask_of_a_bad_sample(root):
    _save(_at(root, "mask.png"), np.zeros((100, 100), np.uint8))


def mask_on_a_good_sample(root):
    mask = np.zeros((100, 100), np.uint8)
    mask[40:44, 50:55] = 255
    _save(_at(root, "mask.png", "01"), mask)


def mask_in_colour(root):
    Image.new("RGB", (100, 100)).save(_at(root, "mask.png"))


def two_indices(root):
    shutil.copy(_at(root, "depth.png"), _at(root, "depth.png", "004"))


def bad_among_the_good(root):
    _edit_yaml(_at(root, "metadata.yaml", "003", "puck/train/data"), anomalous=1)


def label_that_is_none(root):
    _edit_yaml(_at(root, "metadata.yaml"), anomalous="perhaps")


def copied_sample(root):
    for p in sorted((root / "puck/train/data").glob("000_*")):
        shutil.copy(p, _at(root, p.name[4:], "02"))


# name: what to do, then what one line of the report must say
FAULTS = {
    "no depth.png": (
        no_depth,
        f"{SPLIT}/04_depth.png",
        "found no depth.png",
        "all 17 files of puck/test 04",
    ),
    "no mask.png": (no_mask, f"{SPLIT}/04_mask.png", "found no mask.png", "expected all 17 files"),
    "one light short in the private split": (
        one_light_short,
        "puck/test_private/data/007_image_2.png",
        "found no image_2.png",
        "expected all 10 files",
    ),
    "depth saved with 8 bits": (
        depth_of_eight_bits,
        "04_depth.png",
        "found uint8",
        "expected uint16",
        "re-encoded",
    ),
    "constant depth": (
        constant_depth,
        "04_depth.png",
        "found only the value 777",
        "expected a scene",
    ),
    "truncated image": (truncated_image, "04_image_4.png", "found", "truncated"),
    "truncated image of another light": (
        truncated_other_light,
        "001_image_1.png",
        "found",
        "truncated",
    ),
    "bounds without their keys": (
        bounds_without_keys,
        "04_info_depth.yaml",
        "lack normalization.min",
        "expected normalization.min and normalization.max",
    ),
    "bounds turned round": (
        bounds_turned_round,
        "04_info_depth.yaml",
        "found 0.3 to 0.2",
        "expected 0 <= min < max",
    ),
    "bounds that are no YAML": (bounds_not_yaml, "04_info_depth.yaml", "found", "expected YAML"),
    "pose with NaN": (
        pose_with_nan,
        "04_pose.txt",
        "NaN",
        "found 1 such numbers",
        "expected finite numbers",
    ),
    "pose of three rows": (
        pose_of_three_rows,
        "04_pose.txt",
        "found (3, 4)",
        "expected (4, 4)",
    ),
    "pose with a scale": (
        pose_with_scale,
        "04_pose.txt",
        "not a rigid motion",
        "found off by 99",
        "expected a rotation (within 0.001)",
    ),
    "normals of another size": (
        normals_of_another_size,
        "04_normals.png",
        "found (90, 100)",
        "expected (100, 100)",
    ),
    "normals in grey": (
        normals_in_grey,
        "04_normals.png",
        "found uint8, 1 channel",
        "expected uint8, 3 channels",
    ),
    "empty mask of a bad sample": (
        empty_mask_of_a_bad_sample,
        "04_mask.png",
        "found 0 pixels > 0",
        "expected at least 1",
    ),
    "mask on a good sample": (
        mask_on_a_good_sample,
        "01_mask.png",
        "found 20 pixels > 0",
        "expected none",
    ),
    "mask in colour": (
        mask_in_colour,
        "04_mask.png",
        "found uint8, 3 channels",
        "expected uint8, 1 channel",
    ),
    "two files of one index": (
        two_indices,
        SPLIT,
        "found 004_depth.png and 04_depth.png",
        "expected each number once",
    ),
    "bad sample among the good": (
        bad_among_the_good,
        "puck/train/data/003_metadata.yaml",
        "found anomalous: 1",
        "expected 0",
    ),
    "label that is none": (
        label_that_is_none,
        "04_metadata.yaml",
        "found 'perhaps'",
        "expected 0 or 1",
    ),
    "training sample copied to the test split": (
        copied_sample,
        "found puck/test/02 and puck/train/000",
        "expected each scan once",
    ),
}
