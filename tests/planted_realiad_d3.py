"""Faults that a person can make in a Real-IAD D3 tree, and what the check must say of each.

See test_planted_faults.py.
"""

from pathlib import Path

import numpy as np
import tifffile
from PIL import Image

from mvad.data.layout import make

PUCK, TILE = "puck/test", "tile/test"  # the two spellings: GOOD and gt; good and gt/rgb


def make_tree(root: Path):
    "Both spellings, two splits."
    make("realiad_d3", root, splits=["train", "test"], progress=False)


def _cloud(path: Path, change):
    a = tifffile.imread(path)
    tifffile.imwrite(path, change(a), photometric="minisblack", planarconfig="contig")


def _with(a, value):
    a = a.copy()
    a[50, 50] = value
    return a


def all_nan(root):
    _cloud(root / PUCK / "dent/xyz/0000_XYZ.tiff", lambda a: a * np.float32(np.nan))


def infinite(root):
    _cloud(root / TILE / "good/xyz/0001_XYZ.tiff", lambda a: _with(a, np.inf))


def half_floats(root):
    _cloud(root / "puck/train/GOOD/xyz/0002_XYZ.tiff", lambda a: a.astype(np.float16))


def two_channels(root):
    _cloud(root / TILE / "bump/xyz/0000_XYZ.tiff", lambda a: np.ascontiguousarray(a[..., 2]))


def half_cloud(root):
    _cloud(root / TILE / "hole/xyz/0000_XYZ.tiff", lambda a: np.ascontiguousarray(a[::2, ::2]))


def swapped_stems(root):
    "The photographs under L05 of two samples change places."
    a, b = (root / PUCK / f"GOOD/rgb/{k}/{k}_L05_RGB.jpg" for k in ("0000", "0001"))
    a.rename(b.with_name(a.name))
    b.rename(a.with_name(b.name))


def no_light(root):
    (root / TILE / "good/rgb/0002/0002_L05_RGB.jpg").unlink()


def no_cloud(root):
    (root / PUCK / "hole/xyz/0000_XYZ.tiff").unlink()


def no_photographs(root):
    [p.unlink() for p in (root / "tile/train/good/rgb/0003").iterdir()]


def no_stereo(root):
    (root / PUCK / "GOOD/ps/0001_PS.png").unlink()


def no_mask(root):
    (root / TILE / "colour/gt/rgb/0000_GT.png").unlink()


def small_mask(root):
    Image.new("L", (90, 100), 255).save(root / PUCK / "bump/gt/0000_GT.png")


def empty_mask(root):
    Image.new("L", (100, 100), 0).save(root / TILE / "dent/gt/rgb/0000_GT.png")


def colour_mask(root):
    Image.new("RGB", (100, 100), "red").save(root / PUCK / "colour/gt/0000_GT.png")


def marked_good(root):
    (root / PUCK / "GOOD/gt").mkdir()
    Image.new("L", (100, 100), 255).save(root / PUCK / "GOOD/gt/0002_GT.png")


def cut_cloud(root):
    path = root / PUCK / "GOOD/xyz/0000_XYZ.tiff"
    path.write_bytes(path.read_bytes()[:5000])


def cut_photograph(root):
    path = root / "tile/train/good/rgb/0001/0001_L05_RGB.jpg"
    path.write_bytes(path.read_bytes()[:600])


def two_clouds(root):
    path = root / TILE / "good/xyz/0000_XYZ.tiff"
    path.with_name("0000_again.tiff").write_bytes(path.read_bytes())


FAULTS = {
    "a cloud of NaN": (
        all_nan,
        "dent/xyz/0000_XYZ.tiff",
        "found 0 of 10000 points",
        "expected at least 1.00%",
    ),
    "infinity in a cloud": (
        infinite,
        "good/xyz/0001_XYZ.tiff",
        "infinity",
        "found 1 such points",
        "expected finite numbers, NaN",
    ),
    "a float16 cloud": (
        half_floats,
        "GOOD/xyz/0002_XYZ.tiff",
        "found float16",
        "expected float32",
    ),
    "a cloud of one channel": (two_channels, "bump/xyz/0000_XYZ.tiff", "found", "expected"),
    "a cloud of another size": (
        half_cloud,
        "hole/xyz/0000_XYZ.tiff",
        "found (50, 50)",
        "expected (100, 100)",
        "sizes=",
    ),
    "stems swapped between two samples": (
        swapped_stems,
        "0001/0000_L05_RGB.jpg",
        "found 0000",
        "expected 0001",
    ),
    "a missing light": (no_light, "good/rgb/0002", "found L01, L03, L07", "expected L05"),
    "a missing cloud": (no_cloud, "puck/test/hole", "found no xyz 0000", "expected one 0000_"),
    "a sample without photographs": (
        no_photographs,
        "tile/train/good",
        "found no rgb 0003",
        "expected one 0003_",
    ),
    "a missing photometric-stereo image": (
        no_stereo,
        "puck/test/GOOD",
        "found no ps 0001",
        "expected one 0001_",
    ),
    "a missing mask": (no_mask, "tile/test/colour", "found no mask 0000", "expected a mask 0000_"),
    "a mask of another size": (
        small_mask,
        "bump/gt/0000_GT.png",
        "found (100, 90)",
        "expected (100, 100)",
    ),
    "an empty mask": (
        empty_mask,
        "dent/gt/rgb/0000_GT.png",
        "found no pixel > 0",
        "expected at least 1",
    ),
    "a mask in colour": (
        colour_mask,
        "colour/gt/0000_GT.png",
        "found mode RGB",
        "expected 1 channel",
    ),
    "a mask on a good sample": (
        marked_good,
        "GOOD/gt/0002_GT.png",
        "found 10000 pixels > 0",
        "expected none",
    ),
    "a truncated TIFF": (cut_cloud, "GOOD/xyz/0000_XYZ.tiff", "cannot read this", "truncated"),
    "a truncated JPEG": (cut_photograph, "0001_L05_RGB.jpg", "cannot read this image", "truncated"),
    "two clouds of one sample": (
        two_clouds,
        "tile/test/good/xyz",
        "0000_XYZ.tiff and 0000_again.tiff",
        "expected one",
    ),
}
