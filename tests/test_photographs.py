"""Photographs as people have them: in every layout, of every usual format, upright;
and a folder of another layout or with other names is told what it is.
"""

import numpy as np
import pytest
from PIL import Image

from mvad.core.sample import MvadError
from mvad.data.base import DatasetError, list_categories, load_dataset
from mvad.data.check import check
from mvad.data.layout import make
from mvad.data.mvtec3d import toy_scan, write_mvtec3d

SCANS = [
    toy_scan(i, d, s, 60)
    for s, d, n in (("train", "good", 2), ("test", "good", 1), ("test", "stain", 1))
    for i in range(n)
]


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("MVAD_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def scans(tmp_path):
    "Three scans in the layout of MVTec 3D-AD."
    return write_mvtec3d(SCANS, tmp_path / "scans", progress=False)


@pytest.fixture
def photos(tmp_path):
    "The same as photographs in the layout of MVTec AD."
    root = tmp_path / "photos"
    for s in SCANS:
        stem = s.id.split("/")[-1]
        save(root / f"ball/{s.split}/{s.defect}/{stem}.png", s.view.rgb)
        if s.label:
            gt = np.stack([s.view.gt] * 3).astype(float)
            save(root / f"ball/ground_truth/{s.defect}/{stem}_mask.png", gt, "L")
    return root


def save(path, rgb, mode="RGB", **more):
    path.parent.mkdir(parents=True, exist_ok=True)
    a = np.round(255 * np.asarray(rgb)).astype(np.uint8).transpose(1, 2, 0)
    Image.fromarray(a).convert(mode).save(path, **more)


def stored_as(suffix, folder, **more):
    "All photographs below a folder, saved again in another format."
    for path in list(folder.rglob("*.png")):
        if "gt" not in path.parts and "ground_truth" not in path.parts:
            with Image.open(path) as im:
                im.save(path.with_suffix(suffix), **more)
            path.unlink()


@pytest.mark.parametrize("suffix", [".jpg", ".JPEG", ".bmp"])
@pytest.mark.parametrize("layout", ["mvtec", "mvtec3d"])
def test_formats(layout, suffix, scans, photos):
    root = {"mvtec": photos, "mvtec3d": scans}[layout]
    before = load_dataset(layout, root, "ball", "test")
    images = {s.id: s.view.rgb for s in before}
    stored_as(suffix, root, **({} if suffix == ".bmp" else {"quality": 95}))
    assert not check(layout, root, deep=True, workers=1, progress=False).faults
    after = load_dataset(layout, root, "ball", "test")
    assert after.ids == before.ids
    near = 0 if suffix == ".bmp" else 0.02
    assert all(np.abs(s.view.rgb - images[s.id]).mean() <= near for s in after)


def test_an_upright_photograph_has_an_upright_mask(photos):
    "A phone stores it lying down; its mask was drawn as the screen shows it."
    path = photos / "ball/test/stain/000.png"
    with Image.open(path) as im:
        upright = im.crop((0, 0, 60, 40))
    exif = Image.Exif()
    exif[0x0112] = 6
    upright.transpose(Image.ROTATE_90).save(path.with_suffix(".jpg"), exif=exif, quality=100)
    path.unlink()
    mask = photos / "ball/ground_truth/stain/000_mask.png"
    with Image.open(mask) as im:
        im.crop((0, 0, 60, 40)).save(mask)
    assert not check("mvtec", photos, deep=True, workers=1, progress=False).faults
    view = load_dataset("mvtec", photos, "ball", "test")["ball/test/stain/000"].view
    assert view.size == (40, 60)
    assert np.abs(view.rgb - np.asarray(upright).transpose(2, 0, 1) / 255).mean() < 0.02


def told(call) -> str:
    with pytest.raises(MvadError) as e:
        call()
    return str(e.value)


def test_another_layout_is_recognised(scans, photos, tmp_path):
    asked = told(lambda: list_categories("mvtec3d", photos))
    assert "looks like mvtec" in asked and "--dataset mvtec" in asked and "mvtec.com" not in asked
    asked = told(lambda: load_dataset("mvtec", scans, "ball", "train"))
    assert "looks like mvtec3d" in asked and "--dataset mvtec3d" in asked
    eyecandies = make("eyecandies", tmp_path / "e", categories=["puck"], splits=["test"])
    assert "looks like eyecandies" in told(lambda: list_categories("mvtec3d", eyecandies))
    (tmp_path / "flat").mkdir()
    save(tmp_path / "flat/0.png", SCANS[0].view.rgb)
    asked = told(lambda: list_categories("mvtec", tmp_path / "flat"))
    assert "mvad data make mvtec" in asked and "mvtec.com" not in asked


@pytest.mark.parametrize("name", ["ok", "OK", "Normal", "Good"])
@pytest.mark.parametrize("layout", ["mvtec", "mvtec3d"])
def test_good_is_called_good(layout, name, scans, photos):
    root = {"mvtec": photos, "mvtec3d": scans}[layout]
    (root / "ball/test/good").rename(root / f"ball/test/{name}")
    asked = told(lambda: load_dataset(layout, root, "ball", "test"))
    assert f"found {name}; expected good; rename it" in asked
    assert len(check(layout, root, workers=1, progress=False).faults) == 1
    (root / "ball/train/good").rename(root / f"ball/train/{name}")
    asked = told(lambda: load_dataset(layout, root, "ball", "train"))
    assert "called good" in asked and f"ball/{'train' if layout == 'mvtec3d' else 'test'}" in asked


def test_what_is_not_read_is_named(scans, photos):
    stored_as(".webp", photos)
    with pytest.raises(DatasetError, match="format that is not read.*3? files .webp"):
        load_dataset("mvtec", photos, "ball", "train")
    stored_as(".webp", scans)
    with pytest.raises(DatasetError, match="rgb/ holds .webp instead of .png or .jpg"):
        load_dataset("mvtec3d", scans, "ball", "train")
