"""An RGB memory bank and reverse distillation on real photographs:
cracked cookies against whole ones, not part of the project. Skips where they are absent.

Looks in $MVAD_REAL_DATA, else in ../shared/data beside the project, for cookie_photos in the layout
of MVTec AD.
The settings are the defaults of `MemoryBank` and the laptop scale of `ReverseDistillation`, fixed
before the test photographs were first looked at.
The latter's whole training takes a minute of one core and runs only with MVAD_SLOW=1; the short one
that always runs is an eighth of it at half the size.
"""

from __future__ import annotations
import os
from pathlib import Path
import numpy as np
import pytest
from mvad.baselines.memory_bank import MemoryBank
from mvad.baselines.reverse_distillation import ReverseDistillation
from mvad.core.evaluate import Result, evaluate
from mvad.core.metrics import auroc
from mvad.core.sample import Sample, View

ROOT = (
    Path(
        os.environ.get("MVAD_REAL_DATA") or Path(__file__).resolve().parents[2] / "shared" / "data"
    )
    / "cookie_photos"
)
if not ROOT.is_dir():
    pytest.skip(
        f"no photographs at {ROOT} (set MVAD_REAL_DATA to the folder that holds cookie_photos)",
        allow_module_level=True,
    )


def photo(path: Path, split: str) -> Sample:
    "One photograph with its mask, if it has one."
    from PIL import Image

    defect, mask = (
        path.parent.name,
        ROOT / "ground_truth" / path.parent.name / f"{path.stem}_mask.png",
    )
    gt = np.asarray(Image.open(mask).convert("L")) > 0 if mask.exists() else None
    rgb = np.asarray(Image.open(path).convert("RGB")).transpose(2, 0, 1) / np.float32(255)
    return Sample(
        f"cookie/{split}/{defect}/{path.stem}",
        "cookie",
        split,
        defect,
        (View(rgb, gt=gt, name=str(path)),),
    )


def photos(split: str) -> list[Sample]:
    return [photo(p, split) for p in sorted((ROOT / split).glob("*/*.jpg"))]


@pytest.fixture(scope="module")
def bank() -> MemoryBank:
    return MemoryBank().fit(photos("train"), progress=False)


@pytest.fixture(scope="module")
def result(bank) -> Result:
    return evaluate(bank, photos("test"), progress=False)


def test_counts():
    defects = [s.defect for s in photos("test")]
    assert (
        len(photos("train")) == 31
        and defects.count("good") == 14
        and defects.count("cracked") == 32
    )
    assert all(s.view.gt is not None and s.view.gt.any() for s in photos("test") if s.label)


def test_cracked_from_whole(result):
    print({r["metric"]: round(r["value"], 4) for r in result.rows if r["defect"] == "all"})
    assert result.value("I-AUROC") >= 0.97


@pytest.fixture(scope="module")
def prepared(bank) -> tuple[list[Sample], list[np.ndarray]]:
    samples = [bank.prepare(s) for s in photos("test")]
    return samples, [bank.predict_prepared(s).maps[0] for s in samples]


def test_maps_lie_on_the_cracks(prepared, result):
    assert result.value("P-AUROC") > 0.9
    on = [m[s.view.gt].mean() / m[~s.view.gt].mean() for s, m in zip(*prepared) if s.label]
    assert np.median(on) > 1.5 and min(on) > 1, on


def test_the_cracks_alone_would_do(prepared):
    "Crumbs and neighbours on the tray are strange too, but the score must not live on them."
    from scipy.ndimage import binary_dilation

    scores = [
        (m[binary_dilation(s.view.gt, iterations=4)] if s.label else m).max()
        for s, m in zip(*prepared)
    ]
    assert auroc(scores, [s.label for s in prepared[0]]) >= 0.97


def test_padding_is_not_scored(prepared):
    "512 x 384 becomes 28 + 168 + 28 columns; smoothing carries a little into them."
    for s, m in zip(*prepared):
        assert not s.view.valid[:, :28].any() and m[:, :12].max() < 0.05 * m.max()


def test_a_student_taught_for_seconds_tells_most_cookies_apart():
    detector = ReverseDistillation(
        ReverseDistillation.settings_for("laptop"), image_size=128, steps=60
    ).fit(photos("train"), progress=False)
    test = photos("test")
    predictions = [detector.predict(s) for s in test]
    assert detector.losses[-5:].mean() < 0.6 * detector.losses[:3].mean() and all(
        p.maps.shape == (1, 128, 128) for p in predictions
    )
    assert (
        auroc([p.score for p in predictions], [s.label for s in test]) >= 0.85
    )  # 0.94 when this was written


@pytest.mark.skipif(
    os.environ.get("MVAD_SLOW") != "1",
    reason="trains for a minute: set MVAD_SLOW=1 (first run: I-AUROC 1.000, P-AUROC 0.961)",
)
def test_a_student_taught_for_a_minute_finds_the_cracks():
    result = evaluate(
        ReverseDistillation(ReverseDistillation.settings_for("laptop")).fit(
            photos("train"), progress=False
        ),
        photos("test"),
        progress=False,
    )
    assert result.value("I-AUROC") >= 0.95 and result.value("P-AUROC") > 0.9
