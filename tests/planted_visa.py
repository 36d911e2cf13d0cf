"""Faults to plant in a freshly made VisA tree:
how to spoil it, and what the line of the check must say (file, found, expected).
"""

from pathlib import Path

import numpy as np
from PIL import Image

LIST = "split_csv/1cls.csv"


def change(root: Path, old: str, new: str):
    text = (root / LIST).read_text()
    assert old in text
    (root / LIST).write_text(text.replace(old, new, 1))


def outside(root: Path):
    change(root, "puck/Data/Images/Normal/001.JPG", "../../elsewhere/001.JPG")


def absolute(root: Path):
    change(root, "puck/Data/Images/Normal/001.JPG", "/etc/passwd")


def lacking_column(root: Path):
    change(root, "label,image", "kind,image")


def missing_image(root: Path):
    (root / "tile/Data/Images/Normal/000.JPG").unlink()


def missing_mask(root: Path):
    (root / "puck/Data/Masks/Anomaly/007.png").unlink()


def empty_mask(root: Path):
    Image.fromarray(np.zeros((100, 100), np.uint8)).save(root / "puck/Data/Masks/Anomaly/006.png")


def wrong_label(root: Path):
    change(
        root, "normal,puck/Data/Images/Normal/003.JPG", "anomaly,puck/Data/Images/Normal/003.JPG"
    )


def named_twice(root: Path):
    change(root, "puck/Data/Images/Normal/000.JPG", "puck/Data/Images/Normal/001.JPG")


def without_list(root: Path):
    (root / LIST).unlink()


FAULTS = {
    "a path outside of the root": (
        outside,
        LIST,
        "found ../../elsewhere/001.JPG",
        "expected a path below",
    ),
    "an absolute path": (absolute, LIST, "found /etc/passwd", "expected a path below"),
    "a list without a column": (
        lacking_column,
        LIST,
        "lacks label",
        "expected keys object, split, label, image, mask",
    ),
    "a list that names a missing file": (
        missing_image,
        LIST,
        "tile/Data/Images/Normal/000.JPG",
        "found line",
        "expected a file",
    ),
    "a missing mask": (
        missing_mask,
        "puck/Data/Images/Anomaly/007.JPG",
        "found puck/Data/Masks/Anomaly/007.png",
        "expected one that is there",
    ),
    "an empty mask on an anomaly": (
        empty_mask,
        "puck/Data/Masks/Anomaly/006.png",
        "found no pixel > 0",
        "expected at least 1",
    ),
    "a label against its folder": (
        wrong_label,
        LIST,
        "anomaly for puck/Data/Images/Normal/003.JPG",
        "expected normal",
    ),
    "an image named twice": (
        named_twice,
        LIST,
        "found puck/Data/Images/Normal/001.JPG in lines",
        "expected once",
    ),
    "no list": (
        without_list,
        LIST,
        "found 2cls_fewshot.csv, 2cls_highshot.csv",
        "expected object,split,label,image,mask",
    ),
}
