"""What can be wrong with a tree in the SiM3D layout:
{fault: (how it is planted, what its line must say)}.
"""

import shutil

import numpy as np
from PIL import Image

from mvad.data.base import write_exr
from mvad.data.layout import Item, write_sums
from mvad.data.sim3d import SiM3DLayout


def make_tree(root):
    "Fewer objects than `make` writes: every fault costs a deep check of all of them."
    kind, test = SiM3DLayout("small"), [("good", 0), ("colour", 0)]
    items = (
        [Item(c, "train", "good", 0) for c in ("puck", "tile")]
        + [Item("puck", "test", *i) for i in (*test, ("good", 1), ("dent", 0))]
        + [Item("tile", "test", *i) for i in test]
    )
    for i in items:
        kind.write(root, i)
    kind.finish(root, items)
    write_sums(root)


def depth(path, change):
    np.save(path, change(np.load(path)))


def poked(value):
    def change(a):
        a[50, 50] = value
        return a

    return change


def cut(path, keep):
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * keep)])


def a_missing_view(root):
    (root / "puck/puck_02/depth/7.npy").unlink()
    (root / "puck/puck_02/rgb/7_2.png").unlink()


def a_pickle(root):
    np.save(
        root / "puck/puck_real/depth/4.npy", np.array([[{"a": 1}, None]], object), allow_pickle=True
    )


def an_empty_rendering(root):
    write_exr(
        root / "tile/tile_synth/DEPTH/4_depth.exr", {c: np.full((100, 100), 1e10) for c in "BGR"}
    )


def no_bad_one(root):
    for folder in (root / "tile").glob("tile_[0-9]*_bad"):
        shutil.rmtree(folder)


def a_reflected_pose(root):
    pose = root / "tile/calibration/pose_2.txt"
    np.savetxt(pose, np.loadtxt(pose) * [1, 1, -1, 1])


def a_volume(root, name, change):
    path = root / name
    with np.load(path if path.exists() else root / "puck/puck_04_bad/volume.npz") as f:
        arrays = dict(f)
    np.savez(path, **change(arrays))


def a_labelled_good_one(root):
    a_volume(root, "puck/puck_01/volume.npz", lambda a: a)


def an_empty_volume(root):
    a_volume(root, "puck/puck_04_bad/volume.npz", lambda a: {**a, "labels": a["labels"] & False})


def a_pickled_volume(root):
    a_volume(root, "puck/puck_04_bad/volume.npz", lambda a: {**a, "labels": np.array([{}], object)})


def a_test_instance_twice(root):
    shutil.rmtree(root / "puck/puck_02")
    shutil.copytree(root / "puck/puck_01", root / "puck/puck_02")


def another_setup_in_the_same_class(root):
    shutil.copytree(root / "tile/tile_real", root / "tile/tile_real_again")


FAULTS = {
    "missing view": (a_missing_view, "puck/puck_02", "found missing 7", "expected 12 views"),
    "image without depth map": (
        lambda r: (r / "puck/puck_02/depth/11.npy").unlink(),
        "puck/puck_02/depth/11.npy",
        "found no such file",
        "expected the partner of 11_2.png",
    ),
    "depth map without image": (
        lambda r: (r / "tile/tile_synth/RGB/2_2.png").unlink(),
        "tile/tile_synth/RGB/2_2.png",
        "found no such file",
        "expected the partner of 2_depth.exr",
    ),
    "NaN for missing": (
        lambda r: depth(r / "puck/puck_01/depth/3.npy", poked(np.nan)),
        "puck/puck_01/depth/3.npy",
        "found 1 NaN",
        "expected +inf where nothing was measured",
    ),
    "negative depth": (
        lambda r: depth(r / "puck/puck_01/depth/3.npy", poked(-1)),
        "puck/puck_01/depth/3.npy",
        "found 1 values < 0",
        "expected positive depth",
    ),
    "depth in whole millimetres": (
        lambda r: depth(
            r / "puck/puck_05_bad/depth/10.npy",
            lambda a: np.nan_to_num(a, posinf=0).astype(np.int16),
        ),
        "puck/puck_05_bad/depth/10.npy",
        "found int16",
        "expected float32 or float64",
    ),
    "cloud for depth": (
        lambda r: depth(r / "tile/tile_01/depth/1.npy", lambda a: np.stack([a, a, a], -1)),
        "tile/tile_01/depth/1.npy",
        "found (100, 100, 3)",
        "expected 2 axes",
    ),
    "pickled objects": (a_pickle, "puck/puck_real/depth/4.npy", "cannot read", "found", "bject"),
    "nothing measured": (
        lambda r: depth(r / "puck/puck_05_bad/depth/6.npy", lambda a: np.full_like(a, np.inf)),
        "puck/puck_05_bad/depth/6.npy",
        "found 0 of 10000 pixels",
        "expected at least 1%",
    ),
    "truncated EXR": (
        lambda r: cut(r / "puck/puck_synth/DEPTH/9_depth.exr", 0.6),
        "puck/puck_synth/DEPTH/9_depth.exr",
        "cannot read",
        "truncated",
    ),
    "EXR of background only": (
        an_empty_rendering,
        "tile/tile_synth/DEPTH/4_depth.exr",
        "found 0 of 10000 pixels",
        "expected at least 1%",
    ),
    "calibration with another view": (
        lambda r: (r / "tile/calibration/pose_7.txt").rename(r / "tile/calibration/pose_77.txt"),
        "tile/calibration",
        "found missing 7; extra 77",
        "expected 12 views",
    ),
    "pose that is no rotation": (
        a_reflected_pose,
        "tile/calibration/pose_2.txt",
        "found R = ",
        "expected an orthonormal right-handed R",
    ),
    "no bad test instance": (
        no_bad_one,
        "/tile;",
        "found 1 good, 0 bad",
        "expected at least one of each",
    ),
    "no scanned training instance": (
        lambda r: shutil.rmtree(r / "puck/puck_real"),
        "/puck;",
        "found no folder with real in its name",
        "expected puck_real",
    ),
    "two training instances": (
        another_setup_in_the_same_class,
        "/tile;",
        "found tile_real, tile_real_again",
        "expected tile_real",
    ),
    "labels on a good instance": (
        a_labelled_good_one,
        "puck/puck_01/volume.npz",
        "voxels",
        "expected none",
    ),
    "empty volume of a bad instance": (
        an_empty_volume,
        "puck/puck_04_bad/volume.npz",
        "found 0 labelled voxels",
        "expected at least 1",
    ),
    "pickled volume": (
        a_pickled_volume,
        "puck/puck_04_bad/volume.npz",
        "cannot read this volume",
        "allow_pickle=False",
    ),
    "image of floats": (
        lambda r: Image.fromarray(np.full((100, 100), 0.5, np.float32)).save(
            r / "tile/tile_01/rgb/12_2.png", format="TIFF"
        ),
        "tile/tile_01/rgb/12_2.png",
        "mode F",
        "expected 8 or 16 bits",
    ),
    "the same instance twice": (
        a_test_instance_twice,
        "same content",
        "puck/test/good/puck_01 and puck/test/good/puck_02",
        "each scan once",
    ),
}
