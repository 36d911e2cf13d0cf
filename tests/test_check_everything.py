"""`mvad data check --deep` on one folder with an example of every kind of fault names them all,
and notes what is legal and still worth a sentence.
"""

import os
import struct
import zlib

import numpy as np
import pytest
import tifffile
from PIL import Image

from mvad.cli.main import main
from mvad.data.base import write_png, write_xyz_tiff
from mvad.data.layout import write_sums
from mvad.data.mvtec3d import toy_scan, write_mvtec3d

SIZE = 60
BAD = "part/test/stain"


def scans():
    "Good ones to train with, stains to damage, each scan of its own."
    for split, defect, n in (("train", "good", 12), ("test", "good", 3), ("test", "stain", 16)):
        for i in range(n):
            yield toy_scan(i, defect, split, SIZE, category="part")


def photograph(root, name):
    return root / "part/train/good/rgb" / f"{name:03}.png"


def cloud(root, name):
    return root / "part/train/good/xyz" / f"{name:03}.tiff"


def mask(root, name):
    return root / BAD / "gt" / f"{name:03}.png"


def plant_photographs(root):
    def open_again(i):
        with Image.open(photograph(root, i)) as im:
            return im.copy()

    whole = photograph(root, 0).read_bytes()
    photograph(root, 0).write_bytes(whole[: len(whole) // 2])
    open_again(1).save(photograph(root, 1), format="EPS")
    photograph(root, 2).unlink()
    os.mkfifo(photograph(root, 2))
    Image.fromarray(np.ones((SIZE, SIZE), np.float32)).save(photograph(root, 3), format="TIFF")
    exif = Image.Exif()
    exif[0x0112] = 3
    open_again(4).save(photograph(root, 4), exif=exif)
    open_again(5).resize((40, 40)).save(photograph(root, 5))
    head = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    chunk = struct.pack(">I", 13) + b"IHDR" + head + struct.pack(">I", zlib.crc32(b"IHDR" + head))
    photograph(root, 6).write_bytes(whole[:8] + chunk + whole[33:])
    return {
        "rgb/000.png": "truncated",
        "rgb/001.png": "begins with b'%!PS",
        "rgb/002.png": "a pipe",
        "rgb/003.png": "found mode F",
        "rgb/004.png": "EXIF orientation 3",
        "xyz/005.tiff": "another size",
        "rgb/006.png": "too many pixels",
    }


def plant_clouds(root):
    def changed(i, change):
        xyz = tifffile.imread(cloud(root, i)).transpose(2, 0, 1).copy()
        change(xyz)
        write_xyz_tiff(cloud(root, i), xyz)

    folder = root / "part/train/good/xyz"
    changed(7, lambda xyz: xyz.__setitem__((slice(None), 3, slice(5)), np.nan))
    changed(8, lambda xyz: xyz.__imul__(1000))
    changed(9, lambda xyz: xyz.__imul__(0))
    few = np.arange(SIZE * SIZE).reshape(SIZE, SIZE) < 31  # 0.86 % of the pixels: a mark, or not?
    changed(10, lambda xyz: xyz.__setitem__((slice(None), few), [[0.01], [0.02], [0.4]]))
    tifffile.imwrite(folder / "011.tiff", np.ones((SIZE, SIZE, 3), np.uint8), photometric="rgb")
    return {
        "xyz/007.tiff": "NaN",
        "xyz/008.tiff": "looks like millimetres",
        "xyz/009.tiff": "(nearly) empty",
        "xyz/010.tiff": "repeated",
        "xyz/011.tiff": "number type",
    }


def plant_masks(root):
    write_png(mask(root, 0), np.zeros((SIZE, SIZE), bool))
    write_png(mask(root, 1), np.ones((30, 30), bool))
    Image.new("RGB", (SIZE, SIZE), "red").save(mask(root, 2))
    mask(root, 3).unlink()
    write_png(root / "part/test/good/gt/000.png", np.eye(SIZE, dtype=bool))
    return {
        "gt/000.png": "mask is empty",
        "gt/001.png": "another size",
        "gt/002.png": "several channels",
        f"{BAD}/003": "without mask",
        "good/gt/000.png": "marks a defect",
    }


def plant_notes(root):
    disc = Image.fromarray((np.hypot(*np.mgrid[-30:30, -30:30]) < 8).astype(np.uint8) * 255)
    disc.resize((240, 240)).resize((SIZE, SIZE), Image.LANCZOS).save(mask(root, 4))
    disc.save(mask(root, 5), format="JPEG")
    write_png(mask(root, 6), np.asarray(disc) == 0)
    for split, white in (("train", 4095), ("test", 1000)):
        values = np.linspace(0, white, SIZE * SIZE).astype(np.uint16).reshape(SIZE, SIZE)
        for path in (root / f"wide/{split}/good/rgb").glob("*.png"):
            Image.fromarray(values).save(path)
    return [
        "masks have values between 0 and their maximum",
        "masks are JPEG",
        "are they inverted?",
        "bare/test: 1 of 1 defective samples have no mask",
        "16-bit photographs that use 12 bits",
        "not among the publisher's categories",
    ]


def plant_names(root):
    stain = root / "part/test"
    for name in ("unpaired", "twins", "webp", "OK", "alone"):
        for role in ("rgb", "xyz", "gt"):
            source = sorted((stain / f"stain/{role}").glob("01*"))[0]
            (stain / name / role).mkdir(parents=True)
            (stain / name / role / f"000{source.suffix}").write_bytes(source.read_bytes())
    (stain / "unpaired/xyz/000.tiff").unlink()
    with Image.open(stain / "twins/rgb/000.png") as im:
        im.save(stain / "twins/rgb/000.bmp")
    (stain / "webp/rgb/000.png").rename(stain / "webp/rgb/000.webp")
    (stain / "alone/gt/000.png").rename(stain / "alone/gt/001.png")
    for role, suffix in (("rgb", "png"), ("xyz", "tiff")):  # a training scan in the test split
        first = root / f"bare/train/good/{role}/000.{suffix}"
        (root / f"bare/test/good/{role}/000.{suffix}").write_bytes(first.read_bytes())
    return {
        "test/unpaired": "no xyz 000",
        "test/twins": "000.bmp and 000.png",
        "test/webp": "holds .webp instead of",
        "test/OK": "expected good",
        "test/alone": "no rgb/xyz for gt 001",
        "bare/test/good/000 and bare/train/good/000": "same content",
        "wide/test/good/rgb/000.png": "different numbers of bits",
    }


def plant_changes(root):
    "What only the list of checksums tells."
    path = root / "part/test/good/rgb/002.png"
    with Image.open(path) as im:
        im.rotate(90).save(path)
    (root / "notes.txt").unlink()
    return {"good/rgb/002.png": "not the one that is listed", "notes.txt": "is not there"}


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    "The folder, {a piece of a file's name: a piece of the fault's line}, and pieces of notes."
    root = write_mvtec3d(scans(), tmp_path_factory.mktemp("all") / "tree", progress=False)
    for category in ("bare", "wide"):
        some = [("train", "good", 0), ("test", "good", 1)]
        some += [("test", "stain", 2)] if category == "bare" else []
        kinds = [toy_scan(100 + i, d, s, SIZE, category) for s, d, i in some]
        write_mvtec3d(kinds, root, progress=False)
        for path in sorted((root / category).rglob("1??.*")):
            path.rename(path.with_stem("000"))
    for path in (root / "bare").rglob("gt/*.png"):
        path.unlink()
    (root / "notes.txt").write_text("listed")
    write_sums(root)
    faults = {}
    for plant in (plant_photographs, plant_clouds, plant_masks, plant_names, plant_changes):
        faults |= plant(root)
    return root, faults, plant_notes(root)


def test_every_fault_is_named(tree, tmp_path, monkeypatch, capsys):
    root, faults, notes = tree
    monkeypatch.setenv("MVAD_CACHE", str(tmp_path))
    assert main(["data", "check", "mvtec3d", "--root", str(root), "--deep", "--jobs", "1"]) == 1
    lines = capsys.readouterr().out.splitlines()
    told = [line for line in lines if line.startswith("fault: ")]
    for name, text in faults.items():
        assert any(name in t and text in t for t in told), (name, text, *told)
    noted = [line for line in lines if line.startswith("note: ")]
    for text in notes:
        assert any(text in t for t in noted), (text, *noted)
    assert all("found" in t or "expected" in t for t in told), told
