"""The table under real boxes:
six Kinect scans, not part of the project. Skips where they are absent.

Looks in $MVAD_REAL_DATA, else in ../shared/data beside the project, for
kinect_scenes/{rgb,xyz,label}/NNN.*:
xyz float32 metres with NaN where nothing was measured; label 0 = no data, 1 = table, above = boxes.
"""

from __future__ import annotations
import os
from pathlib import Path
import numpy as np
import pytest
from mvad.core.geometry import (
    border_points,
    fit_plane,
    remove_background,
    remove_plane,
    valid_points,
)
from mvad.core.sample import MvadError, View

ROOT = (
    Path(
        os.environ.get("MVAD_REAL_DATA") or Path(__file__).resolve().parents[2] / "shared" / "data"
    )
    / "kinect_scenes"
)
if not ROOT.is_dir():
    pytest.skip(
        f"no real scans at {ROOT} (set MVAD_REAL_DATA to the folder that holds kinect_scenes)",
        allow_module_level=True,
    )

# One disparity step of this sensor is 2.9 mm z^2, so 5 mm at the far end of the table (1.3 m):
# votes count within one step, two steps are removed.
SENSOR = dict(fit="cloud", threshold=0.005, distance=0.010, ransac_n=3)
STRIP = ("020", "028")  # of their border only the bottom ten rows hold points


def scan(name: str) -> tuple[View, np.ndarray, np.ndarray]:
    "The scan as a View, its table pixels, its box pixels."
    import tifffile
    from PIL import Image

    xyz = tifffile.imread(ROOT / "xyz" / f"{name}.tiff").transpose(2, 0, 1)
    rgb, label = (np.asarray(Image.open(ROOT / k / f"{name}.png")) for k in ("rgb", "label"))
    valid = np.isfinite(xyz).all(0)
    return (
        View(rgb.transpose(2, 0, 1) / np.float32(255), np.where(valid, xyz, 0), valid, name=name),
        (label == 1) & valid,
        (label > 1) & valid,
    )


def shares(view: View, table: np.ndarray, boxes: np.ndarray) -> tuple[float, float]:
    "Share of the table's pixels removed, of the boxes' pixels kept."
    return 1 - view.valid[table].mean(), view.valid[boxes].mean()


scans = pytest.mark.parametrize("name", sorted(p.stem for p in (ROOT / "xyz").glob("*.tiff")))


@scans
def test_nan_stays_outside(name):
    view, *_ = scan(name)
    points, _ = valid_points(view.xyz, view.valid)
    assert 0.2 < 1 - view.valid.mean() < 0.5  # about a third is not measured
    assert np.isfinite(points).all() and (points[:, 2] > 0.3).all()
    assert (view.xyz[:, ~view.valid] == 0).all()


@scans
def test_the_whole_cloud_finds_the_table(name):
    view, table, boxes = scan(name)
    clean = remove_background(view, **SENSOR)
    removed, kept = shares(clean, table, boxes)
    print(f"{name}: {removed:.2%} of the table removed, {kept:.2%} of the boxes kept")
    assert removed > 0.995 and kept > 0.95
    for seed in range(1, 4):
        other = shares(remove_background(view, **SENSOR, seed=seed), table, boxes)
        np.testing.assert_allclose(other, (removed, kept), atol=0.005)


@scans
def test_same_seed_same_plane(name):
    view, *_ = scan(name)
    assert (
        remove_background(view, **SENSOR, seed=3).valid
        == remove_background(view, **SENSOR, seed=3).valid
    ).all()


@scans
def test_mvtec_border_fit(name):
    """MVTec's recipe: good borders leave some of the table, a bare strip gives a wrong plane with
    many votes, and is refused.
    """
    view, table, boxes = scan(name)
    plane = fit_plane(border_points(view.xyz, view.valid), ransac_n=50, min_width=0)
    removed, _ = shares(remove_plane(view, plane), table, boxes)
    print(
        f"{name}: border fit removes {removed:.2%}, with {plane.share:.0%} agreement and a width of"
        f" {plane.width * 1000:.0f} mm"
    )
    if name in STRIP:
        assert removed < 0.2 and plane.share > 0.8
        with pytest.raises(MvadError, match=f"narrow strip .border fit.; in {name}"):
            remove_background(view)
    else:
        assert 0.7 < removed < 0.995 and plane.width > 0.04
        remove_background(view)
