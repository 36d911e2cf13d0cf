"""What can be wrong with a tree in the MVTec 3D-AD layout:
{fault: (how it is planted, what its line must say)}.
"""

import shutil

import numpy as np
import tifffile
from PIL import Image


def swap(a, b):
    a.rename(a.with_suffix(".x"))
    b.rename(a)
    a.with_suffix(".x").rename(b)


def cut(path, keep=0.5):
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * keep)])


def cloud(path, change):
    tifffile.imwrite(
        path, change(tifffile.imread(path)), photometric="minisblack", planarconfig="contig"
    )


def poked(value):
    def change(a):
        a[5, 5] = value
        return a

    return change


def a_training_scan_in_the_test_split(root):
    for role, suffix in (("rgb", "png"), ("xyz", "tiff")):
        shutil.copy(
            root / f"tile/train/good/{role}/000.{suffix}",
            root / f"tile/test/good/{role}/000.{suffix}",
        )


def a_file_that_links_to_itself(root):
    f = root / "puck/train/good/rgb/004.png"
    f.unlink()
    f.symlink_to(f.name)


def a_folder_that_links_to_its_parent(root):
    (root / "puck/train/good/xyz/004.tiff").unlink()
    (root / "puck/train/good/xyz/004.tiff").symlink_to("..")


def an_image_of_floats(root):
    im = Image.fromarray(np.full((100, 100), 0.5, np.float32))
    im.save(root / "tile/train/good/rgb/000.png", format="TIFF")


FAULTS = {
    "cloud without image": (
        lambda r: (r / "puck/train/good/rgb/003.png").unlink(),
        "puck/train/good",
        "no rgb 003",
        "expected the same names",
    ),
    "image without cloud": (
        lambda r: (r / "puck/test/dent/xyz/000.tiff").unlink(),
        "puck/test/dent",
        "no xyz 000",
        "expected the same names",
    ),
    "defective sample without mask": (
        lambda r: (r / "tile/test/hole/gt/000.png").unlink(),
        "tile/test/hole/000",
        "1 such",
        "expected gt/",
    ),
    "swapped stems": (
        lambda r: swap(r / "puck/train/good/rgb/001.png", r / "puck/train/good/rgb/002.png"),
        "rgb/001.png",
        "found sha256",
        "SHA256SUMS",
        "swapped",
    ),
    "truncated PNG": (
        lambda r: cut(r / "tile/test/colour/rgb/000.png"),
        "tile/test/colour/rgb/000.png",
        "found",
        "truncated",
    ),
    "truncated TIFF": (
        lambda r: cut(r / "tile/test/bump/xyz/000.tiff"),
        "tile/test/bump/xyz/000.tiff",
        "found",
        "truncated",
    ),
    "empty file": (
        lambda r: (r / "tile/test/bump/xyz/000.tiff").write_bytes(b""),
        "tile/test/bump/xyz/000.tiff",
        "cannot read",
        "truncated",
    ),
    "cloud of half floats": (
        lambda r: cloud(r / "puck/dev/dent/xyz/000.tiff", np.float16),
        "puck/dev/dent/xyz/000.tiff",
        "found float16",
        "expected float32",
    ),
    "cloud without z": (
        lambda r: cloud(r / "puck/dev/dent/xyz/000.tiff", lambda a: a[..., :2].copy()),
        "puck/dev/dent/xyz/000.tiff",
        "(100, 100, 2)",
        "expected (H, W, 3)",
    ),
    "NaN": (
        lambda r: cloud(r / "puck/train/good/xyz/000.tiff", poked(np.nan)),
        "puck/train/good/xyz/000.tiff",
        "1 such points",
        "expected finite numbers",
    ),
    "infinity for missing": (
        lambda r: cloud(r / "puck/train/good/xyz/000.tiff", poked(np.inf)),
        "puck/train/good/xyz/000.tiff",
        "NaN or infinity",
        "(0, 0, 0) where nothing was measured",
    ),
    "nothing measured": (
        lambda r: cloud(r / "puck/train/good/xyz/000.tiff", lambda a: a * 0),
        "puck/train/good/xyz/000.tiff",
        "found 0 of 10000 points",
        "expected at least",
    ),
    "cloud of another size": (
        lambda r: cloud(r / "puck/train/good/xyz/005.tiff", lambda a: a[:90].copy()),
        "puck/train/good/xyz/005.tiff",
        "found (90, 100)",
        "expected (100, 100)",
    ),
    "mask of another size": (
        lambda r: Image.new("L", (50, 50)).save(r / "puck/test/dent/gt/000.png"),
        "puck/test/dent/gt/000.png",
        "found (50, 50)",
        "expected (100, 100)",
    ),
    "colour image as mask": (
        lambda r: Image.new("RGB", (100, 100), "red").save(r / "puck/test/dent/gt/000.png"),
        "puck/test/dent/gt/000.png",
        "mode RGB",
        "expected 1 channel",
    ),
    "empty mask on a defective sample": (
        lambda r: Image.new("L", (100, 100)).save(r / "puck/test/dent/gt/000.png"),
        "puck/test/dent/gt/000.png",
        "no pixel > 0",
        "expected at least 1",
    ),
    "mask on a good sample": (
        lambda r: Image.new("L", (100, 100), 1).save(r / "puck/test/good/gt/001.png"),
        "puck/test/good/gt/001.png",
        "10000 pixels",
        "expected none",
    ),
    "two clouds of one stem": (
        lambda r: shutil.copy(
            r / "puck/train/good/xyz/000.tiff", r / "puck/train/good/xyz/000.tif"
        ),
        "puck/train/good/xyz",
        "000.tif and 000.tiff",
        "expected one",
    ),
    "image of floats": (
        an_image_of_floats,
        "tile/train/good/rgb/000.png",
        "mode F",
        "expected 8 or 16 bits",
    ),
    "training scan in the test split": (
        a_training_scan_in_the_test_split,
        "same content",
        "tile/test/good/000 and tile/train/good/000",
        "no training scan",
    ),
    "link to itself": (a_file_that_links_to_itself, "puck/train/good/rgb/004.png", "found"),
    "link to its parent folder": (
        a_folder_that_links_to_its_parent,
        "puck/train/good/xyz/004.tiff",
        "found",
    ),
}
