"""Faults to plant in a freshly made LOCO tree:
how to spoil it, and what the line of the check must say (file, found, expected).
"""

import json
import shutil
from pathlib import Path

import numpy as np
from PIL import Image

STRUCTURAL = "puck/ground_truth/structural_anomalies"


def orphaned(root: Path):
    (root / "puck/test/structural_anomalies/001.png").unlink()


def without_folder(root: Path):
    shutil.rmtree(root / STRUCTURAL / "001")


def without_config(root: Path):
    (root / "tile/defects_config.json").unlink()


def other_size(root: Path):
    Image.fromarray(np.full((50, 60), 255, np.uint8)).save(root / STRUCTURAL / "000/000.png")


def torn_config(root: Path):
    (root / "tile/defects_config.json").write_text('[{"defect_name": "dent",')


def emptied_folder(root: Path):
    for f in (root / STRUCTURAL / "002").iterdir():
        f.unlink()


def unknown_value(root: Path):
    path = root / "puck/defects_config.json"
    path.write_text(
        json.dumps([e for e in json.loads(path.read_text()) if e["defect_name"] != "mismatch"])
    )


def lacking_key(root: Path):
    path = root / "puck/defects_config.json"
    entries = json.loads(path.read_text())
    del entries[2]["saturation_threshold"]
    path.write_text(json.dumps(entries))


def two_values(root: Path):
    mask = np.zeros((100, 100), np.uint8)
    mask[3, 4:6] = 254, 255
    Image.fromarray(mask).save(root / STRUCTURAL / "000/000.png")


FAULTS = {
    "a folder of masks without its image": (
        orphaned,
        f"{STRUCTURAL}/001",
        "found no 001 in",
        "expected an image 001.png",
    ),
    "an image without its folder of masks": (
        without_folder,
        f"{STRUCTURAL}/001",
        "found no such folder",
        "expected a folder with a mask for each region of 001.png",
    ),
    "an empty folder of masks": (
        emptied_folder,
        f"{STRUCTURAL}/002",
        "found an empty folder",
        "expected a folder with a mask for each region of 002.png",
    ),
    "a pixel value that the configuration lacks": (
        unknown_value,
        "puck/ground_truth/logical_anomalies/000/000.png",
        "found 251",
        "expected 250 or 252 or 253",
    ),
    "a configuration without a key": (
        lacking_key,
        "puck/defects_config.json",
        "lacks saturation_threshold",
        "expected keys defect_name, pixel_value",
    ),
    "no configuration": (
        without_config,
        "tile/defects_config.json",
        "found no such file",
        "expected the defects_config.json",
    ),
    "a torn configuration": (torn_config, "tile/defects_config.json", "found", "expected JSON"),
    "a region of another size": (
        other_size,
        f"{STRUCTURAL}/000/000.png",
        "found (50, 60)",
        "expected (100, 100)",
    ),
    "a region of two values": (
        two_values,
        f"{STRUCTURAL}/000/000.png",
        "found pixel values 254, 255",
        "expected one value above 0",
    ),
}
