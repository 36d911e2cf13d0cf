"""The MVTec AD loader on real photographs:
cracked and whole cookies, not part of the project. Skips where they are absent.

Looks in $MVAD_REAL_DATA, else in ../shared/data beside the project, for cookie_photos in the layout
of MVTec AD.
"""

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mvad.data.base import load_dataset
from mvad.data.check import check

ROOT = Path(
    os.environ.get("MVAD_REAL_DATA") or Path(__file__).resolve().parents[2] / "shared" / "data"
)
if not (ROOT / "cookie_photos").is_dir():
    pytest.skip(
        f"no photographs at {ROOT} (set MVAD_REAL_DATA to the folder that holds cookie_photos)",
        allow_module_level=True,
    )


@pytest.fixture(scope="module")
def test() -> list:
    return load_dataset("mvtec", ROOT, "cookie_photos", "test")


def test_counts(test):
    train = load_dataset("mvtec", ROOT, "cookie_photos", "train")
    assert train.counts == {"good": 31} and test.counts == {"good": 14, "cracked": 32}
    assert test.expected_counts() is None and train.category == "cookie_photos"


def test_every_image_with_its_own_mask(test):
    "Against a plain reading of the files, written down name by name."
    for record in test.records[:3] + test.records[-3:]:
        image, mask = record.files[0]["rgb"], record.files[0].get("gt")
        view = test[record.id].view
        assert np.allclose(
            view.rgb.transpose(1, 2, 0) * 255,
            np.asarray(Image.open(image).convert("RGB")),
            atol=1e-3,
        )
        assert (mask is None) == (record.label == 0)
        assert (
            (
                view.gt
                == (
                    np.asarray(
                        Image.open(
                            f"{ROOT}/cookie_photos/ground_truth/cracked/{image.stem}_mask.png"
                        )
                    )
                    > 0
                )
            ).all()
            if mask
            else not view.gt.any()
        )


def test_deep_check_finds_no_fault(tmp_path, monkeypatch):
    monkeypatch.setenv("MVAD_CACHE", str(tmp_path))
    report = check(
        "mvtec", ROOT, categories=["cookie_photos"], deep=True, workers=1, progress=False
    )
    assert not report.faults, str(report)
    assert report.samples == 31 + 46
