"""Faults to plant in a freshly made MVTec AD tree:
how to spoil it, and what the line of the check must say (file, found, expected).
"""

from pathlib import Path

import numpy as np
from PIL import Image


def unmasked(root: Path):
    (root / "puck/ground_truth/hole/000_mask.png").unlink()


def orphaned(root: Path):
    (root / "puck/test/hole/000.png").unlink()


def other_size(root: Path):
    Image.fromarray(np.full((64, 80), 255, np.uint8)).save(
        root / "tile/ground_truth/dent/000_mask.png"
    )


def of_floats(root: Path):
    im = Image.fromarray(np.full((100, 100), 0.5, np.float32))
    im.save(root / "puck/train/good/003.png", format="TIFF")


def emptied(root: Path):
    Image.fromarray(np.zeros((100, 100), np.uint8)).save(
        root / "puck/ground_truth_dev/bump/000_mask.png"
    )


def in_colour(root: Path):
    Image.new("RGB", (100, 100), "red").save(root / "puck/ground_truth/bump/000_mask.png")


def nameless(root: Path):
    (root / "puck/ground_truth/dent/000_mask.png").rename(root / "puck/ground_truth/dent/000.png")


def twice(root: Path):
    (root / "tile/test/good/001.png").write_bytes((root / "tile/train/good/000.png").read_bytes())


def truncated(root: Path):
    path = root / "puck/test/colour/000.png"
    path.write_bytes(path.read_bytes()[:2000])


def mask_on_good(root: Path):
    mask = np.zeros((100, 100), np.uint8)
    mask[:5, :7] = 255
    (root / "tile/ground_truth/good").mkdir()
    Image.fromarray(mask).save(root / "tile/ground_truth/good/002_mask.png")


def loop(root: Path):
    path = root / "tile/train/good/000.png"
    path.unlink()
    path.symlink_to(path)


FAULTS = {
    "an image without its mask": (
        unmasked,
        "puck/test/hole/000.png",
        "found none",
        "expected",
        "puck/ground_truth/hole/000_mask.png",
    ),
    "a mask without its image": (
        orphaned,
        "puck/ground_truth/hole/000_mask.png",
        "found no 000 in",
        "expected an image 000.png",
    ),
    "a mask of another size": (
        other_size,
        "tile/ground_truth/dent/000_mask.png",
        "found (64, 80)",
        "expected (100, 100)",
    ),
    "a truncated PNG": (
        truncated,
        "puck/test/colour/000.png",
        "found image file is truncated",
        "copy or export it again",
    ),
    "an image of floats": (
        of_floats,
        "puck/train/good/003.png",
        "found mode F",
        "expected 8 or 16 bits a channel",
    ),
    "a mask on a good sample": (
        mask_on_good,
        "tile/ground_truth/good/002_mask.png",
        "found 35 pixels > 0",
        "expected none",
    ),
    "an empty mask on a defect": (
        emptied,
        "puck/ground_truth_dev/bump/000_mask.png",
        "found no pixel > 0",
        "expected at least 1",
    ),
    "a mask in colour": (
        in_colour,
        "puck/ground_truth/bump/000_mask.png",
        "found mode RGB",
        "expected 1 channel",
    ),
    "a mask without its ending": (
        nameless,
        "puck/ground_truth/dent/000.png",
        "found 000.png",
        "expected 000_mask.png",
    ),
    "a training image in the test split": (
        twice,
        "found",
        "tile/test/good/001 and tile/train/good/000",
        "expected each scan once",
    ),
    "a link to itself": (
        loop,
        "tile/train/good/000.png",
        "found",
        "symbolic links",
        "copy or export it again",
    ),
}
