"""Images sorted into good and bad, and nobody drew masks:
the samples are scored and ranked, pixel metrics stay empty, a check says so and finds no fault.
"""

import json
import math
import shutil
from pathlib import Path

import pytest
from PIL import Image

from mvad.baselines.memory_bank import MemoryBank
from mvad.cli.train import predict_command
from mvad.core.evaluate import evaluate
from mvad.data.base import load_dataset
from mvad.data.check import check
from mvad.data.layout import make
from mvad.data.multiview import Rendered, render_dataset
from mvad.runs.examples import load_examples, save_examples
from mvad.runs.verbs import create_detector

MASKS = {  # what is taken away, below the tree
    "eyecandies": "puck/*/data/*_mask.png",
    "mvtec": "puck/ground_truth",
    "mvtec2": "puck/test_public/ground_truth",
    "loco": "puck/ground_truth",
    "mvtec3d": "puck/test/*/gt",
    "realiad": "realiad_100/puck/NG/*/*/*.png",
    "realiad_d3": "puck/test/*/gt",
    "visa": "puck/Data/Masks",
}


@pytest.fixture(scope="module")
def trees(tmp_path_factory):
    "Trees without masks, one a layout."
    made = {}

    def tree(layout):
        if layout not in made:
            root = tmp_path_factory.mktemp(layout) / "tree"
            how = dict(categories=["puck"], splits=["train", "test"], progress=False)
            make(layout, root, workers=1, **how)
            for place in root.glob(MASKS[layout]):
                place.unlink() if place.is_file() else shutil.rmtree(place)
            (root / "SHA256SUMS").unlink()
            FORGET.get(layout, Path)(root)
            made[layout] = root
        return made[layout]

    return tree


def _forget_in_tables(root):
    "The lists of VisA name no mask."
    for path in (root / "split_csv").glob("*.csv"):
        lines = [line.rsplit(",", 1) for line in path.read_text().splitlines()]
        path.write_text("\n".join([",".join(lines[0]), *(f"{a}," for a, _ in lines[1:])]) + "\n")


def _forget_in_lists(root):
    "The lists of Real-IAD name no mask."
    for path in root.glob("realiad_jsons*/*.json"):
        content = json.loads(path.read_text())
        for split in content.keys() - {"meta"}:
            content[split] = [entry | {"mask_path": None} for entry in content[split]]
        path.write_text(json.dumps(content))


FORGET = {"visa": _forget_in_tables, "realiad": _forget_in_lists}


@pytest.mark.parametrize("layout", MASKS)
def test_is_read_and_noted(layout, trees, tmp_path, monkeypatch):
    monkeypatch.setenv("MVAD_CACHE", str(tmp_path))
    root = trees(layout)
    data = load_dataset(layout, root, "puck", "test")
    good, bad = (next(s for s in data if s.label == label) for label in (0, 1))
    assert all(view.gt is None for view in bad.views)
    assert all(view.gt is not None and not view.gt.any() for view in good.views)
    report = check(layout, root, deep=True, workers=1, progress=False)
    assert not report.faults, report.faults[0]
    n = data.labels.count(1)
    note = f"puck/test: {n} of {n} defective samples have no mask"
    assert any(note in text for text in report.notes), report.notes


def test_some_masks_are_a_fault(trees, tmp_path, monkeypatch):
    "One mask of many is a broken copy, or one that is not finished."
    monkeypatch.setenv("MVAD_CACHE", str(tmp_path))
    root = shutil.copytree(trees("mvtec"), tmp_path / "tree")
    bad = next(r for r in load_dataset("mvtec", root, "puck", "test").records if r.label)
    path = bad.files[0]["rgb"]
    masks = root / "puck/ground_truth" / path.parent.name
    masks.mkdir(parents=True)
    with Image.open(path) as im:
        Image.new("L", im.size, 255).save(masks / f"{path.stem}_mask.png")
    faults = check("mvtec", root, workers=1, progress=False).faults
    assert faults and all("an anomalous image has no mask" in f.line for f in faults)


def test_is_scored_and_ranked(trees, tmp_path, capsys):
    root = trees("mvtec")
    train = load_dataset("mvtec", root, "puck", "train")
    test = load_dataset("mvtec", root, "puck", "test")
    bank = create_detector("memory_bank", scale="smoke", cached=False)
    assert isinstance(bank, MemoryBank)
    bank.fit([train[0], train[1]], progress=False).save(tmp_path / "bank.safetensors")

    result = evaluate(bank, test, memory=False, progress=False)
    assert 0 <= result.value("I-AUROC") <= 1 and 0 <= result.value("S-AUROC") <= 1
    assert math.isnan(result.value("P-AUROC")) and math.isnan(result.value("AUPRO@30%"))
    samples, curves = load_examples(save_examples(tmp_path, bank, test, progress=False))
    assert len(samples) > 1 and not curves

    out = tmp_path / "out"
    place = dict(root=str(root), dataset="mvtec", category="puck", out=str(out))
    assert predict_command(str(tmp_path / "bank.safetensors"), **place) == 0
    printed = capsys.readouterr().out
    assert f"S-AUROC {result.value('S-AUROC'):.3f}" in printed
    assert (out / "scores.csv").read_text().count("\n") == len(test) + 1


def test_views_are_rendered_from_scans_without_masks(trees, tmp_path):
    root, out = trees("mvtec3d"), tmp_path / "views"
    render_dataset("mvtec3d", root, out, views=2, size=32, workers=1, progress=False)
    views = Rendered(out, "puck", "test")
    good, bad = (next(s for s in views if s.label == label) for label in (0, 1))
    assert [v.gt for v in bad.views] == [None, None]
    assert not any(v.gt.any() for v in good.views)


def test_a_single_view_is_labelled_by_its_class(trees):
    "Where no mask tells whether the top view shows the defect, the list does."
    root = trees("realiad")
    listed = json.loads((root / "realiad_jsons_sv/puck.json").read_text())["test"]
    told = sum(entry["anomaly_class"] != "OK" for entry in listed)
    top = load_dataset("realiad", root, "puck", "test", jsons="realiad_jsons_sv")
    assert top.counts["good"] == len(listed) - told


def test_parts_seen_from_five_sides_are_scored_and_ranked(trees):
    root = trees("realiad")
    train = load_dataset("realiad", root, "puck", "train")
    test = load_dataset("realiad", root, "puck", "test")
    bank = create_detector("memory_bank", scale="smoke", cached=False)
    bank.fit([train[0]], progress=False)
    result = evaluate(bank, test, memory=False, progress=False)
    assert 0 <= result.value("S-AUROC") <= 1
    assert math.isnan(result.value("I-AUROC")) and math.isnan(result.value("P-AUROC"))


JPEGS = {  # a mask that was saved as JPEG, in layouts that read none
    "mvtec": "puck/ground_truth/dent/000_mask.jpg",
    "loco": "puck/ground_truth/logical_anomalies/000/000.jpg",
    "mvtec3d": "puck/test/dent/gt/000.jpg",
    "realiad_d3": "puck/test/dent/gt/0000_GT.jpg",
}


@pytest.mark.parametrize("layout", JPEGS)
def test_a_mask_as_jpeg_is_named(layout, trees, tmp_path, monkeypatch):
    monkeypatch.setenv("MVAD_CACHE", str(tmp_path))
    root = shutil.copytree(trees(layout), tmp_path / "tree")
    path = root / JPEGS[layout]
    path.parent.mkdir(parents=True)
    Image.new("L", (100, 100), 255).save(path)
    faults = check(layout, root, workers=1, progress=False).faults
    told = [f.line for f in faults if f"{path.name}, which is not read" in f.line]
    assert told and "a JPEG changes the values along edges" in told[0]


def test_inverted_masks_are_noted_without_reading_all(trees, tmp_path, monkeypatch):
    monkeypatch.setenv("MVAD_CACHE", str(tmp_path))
    root = shutil.copytree(trees("mvtec"), tmp_path / "tree")
    test = load_dataset("mvtec", root, "puck", "test")
    bad = [r for r in test.records if r.label]
    for r in bad:
        path = r.files[0]["rgb"]
        mask = root / "puck/ground_truth" / r.defect / f"{path.stem}_mask.png"
        mask.parent.mkdir(parents=True, exist_ok=True)
        with Image.open(path) as im:
            inverted = Image.new("L", im.size, 255)
        inverted.paste(0, (40, 40, 50, 50))
        inverted.save(mask)
    report = check("mvtec", root, workers=1, progress=False)
    note = f"puck/test: {len(bad)} of {len(bad)} masks mark most of the image and its border"
    assert not report.faults and any(note in text for text in report.notes), report.notes
    with pytest.warns(UserWarning, match="mark most of the image and its border: inverted"):
        load_dataset("mvtec", root, "puck", "test")[bad[0].id]
