"""A new method or data set is one notebook and one registry entry: everything else finds it."""

import importlib.util
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import mvad
from mvad.core import registry
from mvad.core.detector import Detector, Prediction, settings_from
from mvad.core.registry import DatasetEntry, MatrixLine, MethodEntry
from mvad.core.sample import map_views, resize
from mvad.data.synthetic import Synthetic


def toy_detector():
    """A detector that remembers the mean image."""
    from dataclasses import dataclass

    @dataclass(frozen=True)
    class Settings:
        size: int = 32
        seed: int = 0

    class MeanImage(Detector):
        name = "mean_image"
        mean = None
        SCALES = {"smoke": {"size": 16}, "laptop": {}, "paper": {}}

        def transform(self, sample):
            return map_views(sample, lambda view: resize(view, self.settings.size))

        def fit(self, samples, *, progress=True, checkpoint=None):
            images = [sample.view.rgb for sample in self.prepare_good(samples)]
            self.mean = torch.from_numpy(np.mean(images, 0))
            return self

        def predict_prepared(self, sample):
            self.require_ready(sample)
            maps = np.abs(sample.view.rgb - self.mean.numpy()).mean(0)[None]
            return Prediction(maps, maps.max())

        def state(self):
            if self.mean is None:
                raise self.not_learned()
            return {"mean": self.mean}

        def restore(self, tensors):
            self.mean = tensors["mean"]

    MeanImage.Settings = Settings
    return MeanImage


class Squares(Synthetic):
    """A data set: the embedded objects under another name."""

    name = "squares"


MeanImage = toy_detector()


@pytest.fixture
def registered(monkeypatch):
    """The toys, for one test."""
    monkeypatch.setattr(registry, "_METHODS", dict(registry._METHODS))
    monkeypatch.setattr(registry, "_DATASETS", dict(registry._DATASETS))
    line = MatrixLine("mean image", "ours", "map", ("rgb",))
    place = f"{__name__}:MeanImage"
    registry.register_method(
        MethodEntry("mean_image", "Mean image", place, "papers/90_mean_image", lines=(line,))
    )
    registry.register_dataset(
        DatasetEntry("squares", "Squares", f"{__name__}:Squares", "", ("rgb", "xyz"), True)
    )


def test_the_verbs_find_them(registered, tmp_path):
    assert "mean_image" in mvad.list_detectors() and "squares" in mvad.list_datasets("xyz")
    train = mvad.load_data("squares", "puck", "train", root=tmp_path, size="smoke")
    detector = mvad.create_detector("mean_image", scale="smoke").fit(train)
    assert detector.settings == settings_from(MeanImage.Settings, size=16)
    detector.save(tmp_path / "m.safetensors")
    twin = mvad.load_detector(tmp_path / "m.safetensors")
    assert np.array_equal(twin.predict(train[0]).maps, detector.predict(train[0]).maps)


def test_the_command_finds_them(registered, tmp_path, capsys):
    from mvad.cli.main import main
    from mvad.data.base import write_png

    for i in range(2):
        write_png(tmp_path / f"good/{i}.png", np.full((3, 32, 32), 0.5))
    words = ["train", "mean_image", "--rgb", str(tmp_path / "good"), "--scale", "smoke"]
    assert main([*words, "--out", str(tmp_path / "m.safetensors")]) == 0
    assert "mean_image on 2 samples" in capsys.readouterr().out
    words = ["predict", str(tmp_path / "m.safetensors"), "--rgb", str(tmp_path / "good/0.png")]
    assert main([*words, "--out", str(tmp_path / "found")]) == 0


def test_import_is_light():
    code = "import sys, mvad; assert not {'torch', 'numpy', 'cyclopts'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
    assert "create_detector" in dir(mvad)
    with pytest.raises(AttributeError, match="nothing_of_that_name"):
        mvad.nothing_of_that_name  # noqa: B018


def test_tables_and_the_matrix_find_them(registered, tmp_path, monkeypatch):
    import nbformat

    from mvad.reproduce.plan import plan
    from mvad.reproduce.specs import Metric, Row, TableSpec, matrix_spec
    from mvad.runs.run import notebook_of

    parameters = nbformat.v4.new_code_cell("seed = 0", metadata={"tags": ["parameters"]})
    (tmp_path / "papers").mkdir()
    notebook = nbformat.v4.new_notebook(cells=[parameters])
    nbformat.write(notebook, tmp_path / "papers/90_mean_image.ipynb")
    monkeypatch.setenv("MVAD_NOTEBOOKS", str(tmp_path))
    assert notebook_of("mean_image").parent == tmp_path / "papers"

    (tmp_path / "data/puck").mkdir(parents=True)
    (tmp_path / "data/puck/0.png").write_bytes(b"")
    rows = (Row("Mean image", "ours", "map", "mean_image"),)
    table = TableSpec("mine/1", "A toy", "squares", rows, (Metric("I-AUROC"),))
    options = {
        "scale": "smoke",
        "categories": ["puck"],
        "roots": {"squares": str(tmp_path / "data")},
    }
    (run,) = plan([table], tmp_path / "out", **options)["mine/1"]
    assert (run.method, run.variant, run.dataset) == ("mean_image", "ours", "squares")

    lines = {(row.dataset, row.method) for row in matrix_spec().rows}
    assert {("mvtec3d", "mean_image"), ("squares", "mean_image"), ("squares", "cfm")} <= lines


def test_the_contract_is_asked_of_them(registered):
    path = Path(__file__).with_name("test_contract.py")  # imported anew: it asks who is there
    spec = importlib.util.spec_from_file_location("contract_of_toys", path)
    contract = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(contract)
    once = {}

    def learned(method):
        if method not in once:
            train = contract.objects(method, "train")
            once[method] = contract.fresh(method).fit([train[0], train[1]], progress=False)
        return once[method]

    assert "mean_image" in contract.METHODS
    contract.test_predicts_a_map_for_each_view("mean_image", learned)
    contract.test_prepares_once("mean_image", learned)
    contract.test_evaluate_judges_what_predict_says("mean_image", learned)
