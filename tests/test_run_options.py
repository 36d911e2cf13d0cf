"""The options of a run: what is asked for is done and named in the record, or refused.

And what becomes of a run whose memory runs out.
"""

import json

import nbrun  # noqa: F401  its engine
import numpy as np
import pytest
import torch

from mvad.core import computing
from mvad.core.evaluate import RunSettings, make_record, option_words
from mvad.core.registry import list_detectors, method_entry
from mvad.core.sample import MvadError, View
from mvad.encoders.features import TimmEncoder
from mvad.reproduce.plan import plan, reproduce
from mvad.reproduce.specs import SPECS
from mvad.runs.execute import from_outside
from mvad.runs.method_run import load_run, option_settings
from mvad.runs.run import valid_record

WITH_EPOCHS = {"cfm", "mafr", "crd", "modmap", "reverse_distillation"}


def small(method: str, **options):
    "A detector for the smallest run of a method, and its data."
    run = RunSettings(method, "", dataset=method_entry(method).home, scale="smoke", **options)
    data = load_run(run)
    return data.detector(method_entry(method).load()), data


def test_a_run_names_the_version_of_its_data(tmp_path, monkeypatch):
    """Version 2 has a glossy category that version 1 refuses; runs of both are two runs."""
    monkeypatch.setenv("MVAD_CACHE", str(tmp_path))
    which = dict(category="knob", scale="smoke")
    with pytest.raises(MvadError, match="take version 2"):
        load_run(RunSettings("modmap", dataset="sim3d", **which, data_version=1))
    run = RunSettings("modmap", dataset="sim3d", **which, data_version=2)
    data = load_run(run, splits=("train", "test"))
    assert len(data.train) == 1 and len(data.test[0].views) == 12
    plans = [
        plan([SPECS["cfm/6"]], tmp_path, scale="smoke", categories=["puck"], data_version=v)
        for v in (1, 2)
    ]
    first, second = (set(p["cfm/6"].values()) for p in plans)
    assert first and second and not first & second  # other folders
    words = {r.options() for r in plans[1]["cfm/6"]}
    assert words == {("data version 2",)} and {r.options() for r in plans[0]["cfm/6"]} == {()}


@pytest.mark.parametrize("method", list_detectors())
def test_epochs_are_followed_or_refused(method):
    entry = method_entry(method)
    cls, run = entry.load(), RunSettings(method, "", scale="smoke", epochs=1)
    if method not in WITH_EPOCHS:
        with pytest.raises(MvadError, match="has no epochs"):
            option_settings(cls.class_for(""), run)
        return
    options = option_settings(cls.class_for(""), run)
    settings = cls.settings_for("smoke", dataset=entry.home, **options)
    assert settings.epochs == 1 and not getattr(settings, "steps", None)


def rounded(detector, data):
    "A prediction after a short training in bf16, and how many products each of them rounded."
    products = []

    class Counting(torch.overrides.TorchFunctionMode):
        def __torch_function__(self, func, types, args=(), kwargs=None):
            out = func(*args, **(kwargs or {}))
            if isinstance(out, torch.Tensor) and out.dtype == torch.bfloat16:
                products.append(func)
            return out

    with Counting():
        detector.fit(*data.learned, progress=False)
        in_training = len(products)
        prediction = detector.predict(data.test[-1])
    return prediction, in_training, len(products) - in_training


@pytest.mark.parametrize("method", list_detectors())
def test_bf16_reaches_training_and_prediction_of_every_method(method):
    detector, data = small(method, precision="bf16")
    detector.cache = None  # which would have kept what was rounded before
    prediction, training, in_prediction = rounded(detector, data)
    assert training and in_prediction, (training, in_prediction)
    assert prediction.maps.dtype == "float32"


def test_a_run_with_options_is_another_run_and_says_so(tmp_path, monkeypatch):
    which = dict(scale="smoke", categories=["puck"], variants=["ours"])
    options = dict(epochs=1, precision="bf16")
    monkeypatch.chdir(tmp_path)
    done = reproduce(
        [SPECS["cfm/6"]], tmp_path, engine="inprocess", progress=False, **which, **options
    )
    assert done.ok, done.every
    (folder,) = tmp_path.glob("runs/*")
    (usual,) = plan([SPECS["cfm/6"]], tmp_path, **which)["cfm/6"].items()
    assert usual[1] != folder and not valid_record(folder, usual[0])
    record = json.loads(next(folder.glob("*.record.json")).read_text())
    assert option_words(record["run"]) == ("1 epoch", "bf16")
    assert {"epochs", "precision", "compiled", "cudnn_benchmark"} <= record["run"].keys()
    left = {p.name: p.stat().st_size for p in folder.iterdir()}
    assert "cfm.safetensors" in left and not [name for name in left if "training" in name]
    assert sum(left.values()) - left["cfm.safetensors"] < 100e6, left


def test_a_record_names_every_option():
    result = type("Result", (), dict(rows=[], scores=[], areas={}, measured={}))()
    run = RunSettings("cfm", precision="bf16", epochs=3)
    told = make_record(run, result, {"data": "d"})["run"]
    usual = dict(compiled=False, cudnn_benchmark=False)
    assert told.items() >= (dict(epochs=3, precision="bf16") | usual).items()


class Room:
    """Memory that holds so many rows: stands before a function and raises as a GPU does."""

    def __init__(self, monkeypatch, owner, name: str, rows: int, size):
        function = getattr(owner, name)

        def guarded(*args, **kwargs):
            if size(*args) > rows:
                raise torch.cuda.OutOfMemoryError("CUDA out of memory")
            return function(*args, **kwargs)

        monkeypatch.setattr(owner, name, guarded)


@pytest.fixture
def nothing_fitted(monkeypatch):
    monkeypatch.setattr(computing, "_FITTED", {})


def features(batch_size: int):
    encoder = TimmEncoder("efficientnet_lite0", layers=(2,), size=64, batch_size=batch_size)
    views = [View(rgb=np.full((3, 64, 64), k / 8, np.float32)) for k in range(7)]
    return torch.stack([f.data for f in encoder.encode(views)])


@pytest.mark.usefixtures("nothing_fitted")
def test_an_encoder_goes_on_in_smaller_batches(monkeypatch):
    whole = features(7)
    Room(monkeypatch, TimmEncoder, "maps", 2, lambda encoder, images: len(images))
    with pytest.warns(UserWarning, match="memory ran out: images for .* go on in chunks of 1"):
        halved = features(7)
    gap = (whole - halved).abs().max()  # a smaller batch may be summed in another order
    assert gap < 1e-5 * whole.abs().max(), gap
    Room(monkeypatch, TimmEncoder, "maps", 0, lambda encoder, images: len(images))
    with pytest.raises(MvadError, match=r"in chunks of \[1\]; .*--precision bf16"):
        features(7)


@pytest.mark.usefixtures("nothing_fitted")
@pytest.mark.parametrize("method", ["cfm", "mafr", "memory_bank"])
def test_a_prediction_goes_on_in_smaller_chunks(method, monkeypatch):
    detector, data = small(method)
    detector.fit(*data.learned, progress=False)
    sample = detector.prepare(data.test[-1])
    maps = detector.predict_prepared(sample).maps
    calls = []
    attempt = computing.in_fitting_chunks

    def starved(what, compute, chunk):
        def little(size):
            calls.append(size)
            if size > max(1, chunk // 8):
                raise torch.cuda.OutOfMemoryError("CUDA out of memory")
            return compute(size)

        return attempt(what, little, chunk)

    for module in ("core.crossmodal", "papers.mafr", "baselines.memory_bank"):
        monkeypatch.setattr(f"mvad.{module}.in_fitting_chunks", starved)
    with pytest.warns(UserWarning, match="memory ran out"):
        found = detector.predict_prepared(sample).maps
    assert len(set(calls)) > 1 and np.allclose(found, maps, atol=1e-4 * np.abs(maps).max())


def test_a_training_is_not_changed_but_says_what_helps(monkeypatch):
    detector, data = small("cfm")
    Room(monkeypatch, torch.optim.Adam, "step", 0, lambda *args: 1)
    with pytest.raises(MvadError, match="memory ran out in CFM.fit; .*--precision bf16") as told:
        detector.fit(*data.learned, progress=False)
    assert from_outside(told.value)  # so that the next call tries again
