"""Bad data: one clear error that names the file, what was found and what was expected.

Nothing half-written.
"""

import errno
import os
import sys
from dataclasses import replace

import numpy as np
import pytest
import tifffile
from PIL import Image

from mvad.core.files import WriteError
from mvad.core.sample import MvadError, View, import_open3d
from mvad.data import base
from mvad.data.base import read_mask, read_rgb, read_xyz_tiff, write_xyz_tiff
from mvad.data.check import check
from mvad.data.mvtec3d import MVTec3D, preprocess, toy_scan, write_mvtec3d

SIZE = 80
SCANS = [
    toy_scan(i, d, s, SIZE)
    for s, d, n in (("train", "good", 2), ("test", "good", 1), ("test", "stain", 2))
    for i in range(n)
]


@pytest.fixture
def tree(tmp_path):
    return write_mvtec3d(
        SCANS, tmp_path / "xyz_rgb_gt", progress=False
    )  # a root whose name holds the roles' names


@pytest.fixture
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("MVAD_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def stain(tree):
    "The folder of one defect type; its first sample is what the tests spoil."
    return tree / "ball/test/stain"


def load(tree):
    return MVTec3D(tree, "ball", "test")["ball/test/stain/000"]


def says(error, *texts, kind=MvadError):
    assert isinstance(error.value, kind)
    for t in texts:
        assert str(t) in str(error.value), str(error.value)
    assert "\n" not in str(error.value)


def files_in(folder):
    return (
        sorted(
            str(f.relative_to(folder))
            for f in folder.rglob("*")
            if f.is_file() and f.name != ".lock"
        )
        if folder.is_dir()
        else []
    )


def test_the_untouched_tree_is_fine(tree):
    assert load(tree).label == 1 and len(MVTec3D(tree, "ball", "train")) == 2


# pairs


@pytest.mark.parametrize("role,text", [("xyz", "no xyz 000"), ("rgb", "no rgb 000")])
def test_unpaired(tree, stain, role, text):
    next((stain / role).glob("000.*")).unlink()
    with pytest.raises(base.PairingError) as e:
        load(tree)
    says(e, stain, text, "expected the same names")


def test_a_mask_without_image(tree, stain):
    (stain / "gt/000.png").rename(stain / "gt/999.png")
    with pytest.raises(base.PairingError) as e:
        load(tree)
    says(e, "999", stain)


def test_a_folder_without_clouds(tree, stain):
    for f in (stain / "xyz").iterdir():
        f.unlink()
    (stain / "xyz").rmdir()
    with pytest.raises(base.PairingError) as e:
        load(tree)
    says(e, "no xyz 000, 001")


def test_two_files_of_one_stem(tree, stain):
    (stain / "xyz/000.tif").write_bytes((stain / "xyz/000.tiff").read_bytes())
    with pytest.raises(base.DatasetError) as e:
        load(tree)
    says(e, "000.tif and 000.tiff")


# unreadable files


@pytest.mark.parametrize("keep", [0, 3, 40, 0.5, 0.75])
@pytest.mark.parametrize("role", ["rgb", "xyz", "gt"])
def test_truncated(tree, stain, role, keep):
    file = next((stain / role).glob("000.*"))
    data = file.read_bytes()
    file.write_bytes(data[: keep if isinstance(keep, int) else int(len(data) * keep)])
    with pytest.raises(base.DatasetError) as e:
        load(tree)
    says(e, file, "found", "truncated")


@pytest.mark.parametrize("role", ["rgb", "xyz", "gt"])
def test_foreign_content(tree, stain, role):
    file = next((stain / role).glob("000.*"))
    file.write_text("<html>404</html>" * 50)
    with pytest.raises(base.DatasetError) as e:
        load(tree)
    says(e, file)


@pytest.mark.parametrize("read", [read_rgb, read_mask, read_xyz_tiff, base.file_hash])
def test_absent_file(tmp_path, read):
    with pytest.raises(base.DatasetError) as e:
        read(tmp_path / "000.png")
    says(e, tmp_path / "000.png", "there is no such")


@pytest.mark.parametrize("read", [read_rgb, read_mask, read_xyz_tiff])
def test_a_folder_in_place_of_a_file(tmp_path, read):
    with pytest.raises(base.DatasetError) as e:
        read(tmp_path)
    says(e, tmp_path)


# wrong content


@pytest.mark.parametrize(
    "shape", [(SIZE, SIZE), (5, SIZE, SIZE), (SIZE, SIZE, 4), (2, SIZE, SIZE, 3)]
)
def test_tiff_of_wrong_shape(tree, stain, shape):
    tifffile.imwrite(stain / "xyz/000.tiff", np.ones(shape, np.float32))
    with pytest.raises(base.DatasetError) as e:
        load(tree)
    says(e, stain / "xyz/000.tiff", f"found {shape}", "expected (H, W, 3)")


@pytest.mark.parametrize("dtype", [np.float16, np.uint16, np.uint8])
def test_tiff_of_wrong_dtype(tree, stain, dtype):
    tifffile.imwrite(
        stain / "xyz/000.tiff", np.ones((SIZE, SIZE, 3), dtype), photometric="minisblack"
    )
    with pytest.raises(base.DatasetError) as e:
        load(tree)
    says(e, stain / "xyz/000.tiff", f"found {np.dtype(dtype)}", "expected float32", "re-encoded")


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_nan_where_zeros_mark_missing_points(tree, stain, value):
    xyz = load(tree).view.xyz.copy()
    xyz[:, 3, :7] = value
    write_xyz_tiff(stain / "xyz/000.tiff", xyz)
    with pytest.raises(base.InvalidDepth) as e:
        load(tree)
    says(e, stain / "xyz/000.tiff", "found 7 such points", "(0, 0, 0)")
    back, valid = read_xyz_tiff(stain / "xyz/000.tiff", missing="nan")
    assert np.isfinite(back).all() and not valid[3, :7].any()


@pytest.mark.parametrize("points", [0, 5])
def test_empty_and_tiny_cloud(tree, stain, tmp_path, points):
    xyz = np.zeros((3, SIZE, SIZE), np.float32)
    xyz[:, 40, :points] = 0.4
    write_xyz_tiff(stain / "xyz/000.tiff", xyz)
    with pytest.raises(base.InvalidDepth) as e:
        load(tree)
    says(e, stain / "xyz/000.tiff", f"found {points} of {SIZE * SIZE} points", "at least 1.00%")
    with pytest.raises(base.DatasetError) as e:
        preprocess(tree, tmp_path / "out", workers=1, progress=False)
    says(e, "1 of 5 samples", stain / "xyz/000.tiff", f"found {points} of")


def test_image_of_sixteen_bits(tree, stain):
    values = np.linspace(0, 4095, SIZE * SIZE).astype(np.uint16).reshape(SIZE, SIZE)
    Image.fromarray(values).save(stain / "rgb/000.png")
    assert np.allclose(load(tree).view.rgb, values / 4095)


def test_image_of_floats(tree, stain):
    im = Image.fromarray(np.full((SIZE, SIZE), 4000, np.float32))
    im.save(stain / "rgb/000.png", format="TIFF")
    with pytest.raises(base.DatasetError) as e:
        load(tree)
    says(e, stain / "rgb/000.png", "8 or 16 bits")


def test_photograph_turned_by_exif_beside_a_cloud(tree, stain):
    exif = Image.Exif()
    exif[0x0112] = 6
    with Image.open(stain / "rgb/000.png") as im:
        im.save(stain / "rgb/000.png", exif=exif)
    with pytest.raises(base.DatasetError) as e:
        load(tree)
    says(e, stain / "rgb/000.png", "EXIF orientation 6")


# masks


@pytest.mark.parametrize("shape", [(SIZE, SIZE - 1), (SIZE // 2, SIZE // 2), (100, 100)])
def test_mask_of_another_size(tree, stain, tmp_path, shape):
    base.write_png(stain / "gt/000.png", np.ones(shape, bool))
    for act in (
        lambda: load(tree),
        lambda: preprocess(tree, tmp_path / "out", workers=1, progress=False),
    ):
        with pytest.raises(base.DatasetError) as e:
            act()
        says(e, stain / "gt/000.png", f"found {shape}", f"expected {(SIZE, SIZE)}")
    assert not [f for f in files_in(tmp_path / "out") if "stain" in f and "000" in f]


def test_cloud_of_another_size(tree, stain):
    write_xyz_tiff(stain / "xyz/000.tiff", np.ones((3, SIZE, SIZE + 1)))
    with pytest.raises(base.DatasetError) as e:
        load(tree)
    says(
        e,
        stain / "xyz/000.tiff",
        f"found {(SIZE, SIZE + 1)}",
        f"expected {(SIZE, SIZE)}",
        (100, 100),
    )


def test_mask_in_colour(tree, stain):
    Image.new("RGB", (SIZE, SIZE), "red").save(stain / "gt/000.png")
    with pytest.raises(base.DatasetError) as e:
        load(tree)
    says(e, stain / "gt/000.png", "mode RGB", "1 channel")


def test_anomalous_sample_without_mask(tree, stain):
    (stain / "gt/001.png").unlink()
    with pytest.raises(base.DatasetError) as e:
        load(tree)
    says(e, "ball/test/stain/001", "found 1 such")


def test_mask_on_a_good_sample(tree):
    mask = tree / "ball/test/good/gt/000.png"
    assert (
        mask.exists() and not MVTec3D(tree, "ball", "test")["ball/test/good/000"].view.gt.any()
    )  # empty: fine
    base.write_png(mask, np.eye(SIZE, dtype=bool))
    with pytest.raises(base.DatasetError) as e:
        load(tree)
    says(e, mask, f"found {SIZE} pixels", "none, or no mask")


# folders and names


def test_empty_category(tree):
    (tree / "cone").mkdir()
    with pytest.raises(base.EmptyCategory) as e:
        MVTec3D(tree, "cone", "train")
    says(e, tree, "found 0 samples")
    (tree / "cone/train/good/rgb").mkdir(parents=True)
    with pytest.raises(base.EmptyCategory):
        MVTec3D(tree, "cone", "train")


@pytest.mark.parametrize(
    "make,found",
    [
        (lambda p: p / "absent", "no such folder"),
        (lambda p: (p / "empty").mkdir() or p / "empty", "no folder in it"),
        (lambda p: (p / "file").touch() or p / "file", "a file"),
    ],
)
def test_wrong_root(tmp_path, make, found):
    root = make(tmp_path)
    for act in (
        lambda: MVTec3D(root, "ball", "test"),
        lambda: base.list_categories("mvtec3d", root),
        lambda: preprocess(root, tmp_path / "out"),
    ):
        with pytest.raises(base.DatasetNotFound) as e:
            act()
        says(e, root, f"found {found}", "bagel/train/good/rgb", "mvtec.com", "CC BY-NC-SA 4.0")
    assert not (tmp_path / "out").exists()


def test_root_one_level_too_high_or_low(tree):
    with pytest.warns(UserWarning, match="using"):
        assert len(MVTec3D(tree.parent, "ball", "train")) == 2
    with pytest.raises(base.DatasetNotFound) as e:
        MVTec3D(tree / "ball", "ball", "train")
    says(e, f"give its parent, {tree}")


@pytest.mark.parametrize("name", ["bal", "Ball", "", "..", "../xyz_rgb_gt/ball"])
def test_unknown_category(tree, name):
    with pytest.raises(base.DatasetError) as e:
        base.load_dataset("mvtec3d", tree, name, "test")
    says(e, "expected ball")
    if name in ("bal", "Ball"):
        says(e, "did you mean 'ball'")


def test_unknown_split_data_set_and_defect(tree):
    with pytest.raises(base.DatasetError) as e:
        MVTec3D(tree, "ball", "val")
    says(e, "found val", "test or train")
    with pytest.raises(MvadError) as e:
        base.load_dataset("mvtec_3d", tree, "ball", "test")
    says(e, "did you mean 'mvtec3d'")
    with pytest.raises(MvadError) as e:
        MVTec3D(tree, "ball", "test").only("stains")
    says(e, "did you mean 'stain'", "found good, stain")


def test_counts(tree, own_cache):
    (tree / "ball").rename(tree / "bagel")
    counted = check("mvtec3d", tree, progress=False)
    assert counted.samples == 5 and not counted.faults and "'anomalous': 88" in str(counted)
    told = [f.line for f in check("mvtec3d", tree, strict=True, progress=False).faults]
    assert any("'anomalous': 2" in t and "'anomalous': 88" in t for t in told), told


def test_a_training_scan_in_the_test_split(tree, own_cache):
    for file in ("rgb/000.png", "xyz/000.tiff"):
        good = (tree / "ball/train/good" / file).read_bytes()
        (tree / "ball/test/good" / file).write_bytes(good)
    told = [f.line for f in check("mvtec3d", tree, deep=True, progress=False).faults]
    assert len(told) == 1 and "ball/test/good/000 and ball/train/good/000" in told[0]


# planes


def test_no_plane(tree, stain, tmp_path):
    write_xyz_tiff(stain / "xyz/000.tiff", np.random.default_rng(0).random((3, SIZE, SIZE)) + 0.1)
    with pytest.raises(base.DatasetError) as e:
        preprocess(tree, tmp_path / "out", workers=1, progress=False)
    says(e, "no plane", stain / "xyz/000.tiff", "found", "expected", "the others are done")
    assert not [
        f for f in files_in(tmp_path / "out") if "stain" in f and "000" in f
    ] and "ball/test/stain/xyz/001.tiff" in files_in(tmp_path / "out")
    with pytest.raises(base.DatasetError) as e:
        MVTec3D(tmp_path / "out", "ball", "test")
    says(e, "not finished", "run it again")
    write_mvtec3d([SCANS[3]], tree, progress=False)  # repaired: the same call finishes the work
    assert (
        len(MVTec3D(preprocess(tree, tmp_path / "out", workers=1, progress=False), "ball", "test"))
        == 3
    )


def test_a_border_without_points(tree, stain, tmp_path):
    xyz = load(tree).view.xyz.copy()
    xyz[:, :10] = xyz[:, -10:] = 0
    xyz[:, :, :10] = xyz[:, :, -10:] = 0
    write_xyz_tiff(stain / "xyz/000.tiff", xyz)
    with pytest.raises(base.DatasetError) as e:
        preprocess(tree, tmp_path / "out", workers=1, progress=False)
    says(e, "too few points", stain / "xyz/000.tiff", "found 0", "at least 50")


def test_nothing_but_the_table(tree, stain, tmp_path):
    xyz = load(tree).view.xyz
    flat = np.stack([xyz[0], xyz[1], np.where(xyz[2] > 0, 0.4, 0)])
    write_xyz_tiff(stain / "xyz/000.tiff", flat)
    with pytest.raises(base.DatasetError) as e:
        preprocess(tree, tmp_path / "out", workers=1, progress=False)
    says(e, "no object is left", stain / "xyz/000.tiff", "found 0 of")


def test_open3d_without_its_system_libraries(tree, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "open3d", None)
    with pytest.raises(MvadError) as e:
        import_open3d()
    says(e, "Open3D cannot be loaded", "apt-get install", "libusb-1.0-0 libegl1 libgl1")
    preprocess(tree, tmp_path / "out", workers=1, progress=False)  # needs none of it
    assert load(tree).label == load(tmp_path / "out").label == 1


# writing


def no_space(*args, **kwargs):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def read_only(*args, **kwargs):
    raise OSError(errno.EROFS, os.strerror(errno.EROFS))


WRITES = {
    "write": lambda tree, out: write_mvtec3d(SCANS, out, progress=False),
    "preprocess": lambda tree, out: preprocess(tree, out, workers=1, progress=False),
    "black": lambda tree, out: preprocess(tree, out, rgb="black", workers=1, progress=False),
}


@pytest.mark.parametrize(
    "fault,text,fix",
    [
        (no_space, "No space left on device", "free some space"),
        (read_only, "Read-only file system", "may write"),
    ],
)
@pytest.mark.parametrize("act", WRITES)
def test_full_disk_and_read_only_folder(tree, tmp_path, monkeypatch, act, fault, text, fix):
    with monkeypatch.context() as m:
        m.setattr(os, "replace", fault)
        with pytest.raises(WriteError) as e:
            WRITES[act](tree, tmp_path / "out")
    says(e, tmp_path / "out", text, fix)
    assert files_in(tmp_path / "out") == []
    WRITES[act](tree, tmp_path / "out")  # space again: the same call succeeds
    assert len(MVTec3D(tmp_path / "out", "ball", "test")) == 3


@pytest.mark.parametrize("when", [3, 9])
def test_disk_full_half_way(tree, tmp_path, monkeypatch, when):
    real, calls = os.replace, []

    def later(*args):
        calls.append(args)
        return real(*args) if len(calls) < when else no_space()

    with monkeypatch.context() as m:
        m.setattr(os, "replace", later)
        with pytest.raises(WriteError):
            preprocess(tree, tmp_path / "out", workers=1, progress=False)
    assert not [f for f in files_in(tmp_path / "out") if f.endswith(".part")]
    with pytest.raises(base.DatasetError, match="not finished"):
        MVTec3D(tmp_path / "out", "ball", "test")  # half a data set is not taken for a small one
    assert (
        len(MVTec3D(preprocess(tree, tmp_path / "out", workers=1, progress=False), "ball", "test"))
        == 3
    )


@pytest.mark.parametrize("act", WRITES)
def test_output_under_a_file(tree, tmp_path, act):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(WriteError) as e:
        WRITES[act](tree, tmp_path / "file" / "out")
    says(e, tmp_path / "file" / "out")
    assert (tmp_path / "file").read_text() == "mine"


def test_output_that_is_someone_elses(tree, tmp_path):
    other = write_mvtec3d(SCANS[:1], tmp_path / "other", progress=False)
    before = files_in(other)
    with pytest.raises(base.DatasetError) as e:
        preprocess(tree, other, progress=False)
    says(e, "did not make", other)
    assert files_in(other) == before
    with pytest.raises(base.DatasetError) as e:
        preprocess(tree, tree, progress=False)
    says(e, "in place")


def test_samples_that_the_layout_cannot_hold(tmp_path):
    s = SCANS[-1]
    for bad, text in (
        (replace(s, defect=None), "found None"),
        (replace(s, category="../x"), "no place"),
        (replace(s, views=(View(s.view.rgb),)), "without xyz"),
        (replace(s, views=(replace(s.view, gt=None),)), "gt is None"),
        (replace(s, views=s.views * 2), "found 2 views"),
    ):
        with pytest.raises(MvadError) as e:
            write_mvtec3d([bad], tmp_path / "out", progress=False)
        says(e, text, s.id)
        assert files_in(tmp_path / "out") == []
