"""What every detector promises, asked of each of them: learn, predict, save, load, prepare once."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from mvad.core.detector import maps_on_images
from mvad.core.evaluate import evaluate
from mvad.core.registry import list_detectors
from mvad.core.sample import PreparedSample, refused, resize
from mvad.core.training import OtherTraining
from mvad.data.synthetic import Synthetic
from mvad.papers.cfm import CFM
from mvad.papers.mafr import MAFR
from mvad.runs.verbs import create_detector

# what makes a method quick here; sizes and steps only, never what it computes
QUICK = {
    "cfm": {"epochs": 1},
    "mafr": {"epochs": 1},
    "crd": {"epochs": 1, "depth_fallback": True},
    "idif": {"steps": (1, 1)},
    "modmap": {"epochs": 2},
    "destseg": {"steps": (1, 1), "batch_size": 2},
    "reverse_distillation": {"epochs": 1},
}
VIEWS = {"idif": 5, "modmap": 4}
METHODS = list_detectors()


def objects(method, split):
    """The embedded objects that a method is tried on."""
    return Synthetic(category="puck", split=split, size="smoke", views=VIEWS.get(method, 1))


def fresh(method, **changes):
    """A detector that has learned nothing."""
    changes = {**QUICK.get(method, {}), **changes}
    views = VIEWS.get(method, 1)
    return create_detector(method, scale="smoke", views=views, cached=False, **changes)


def defective(method):
    """A defective sample with all its views."""
    return objects(method, "test").only("dent")[0]


@pytest.fixture(scope="module")
def learned():
    """Each method after two samples (MODMAP: one object), kept for all tests of this file."""
    made = {}

    def get(method):
        if method not in made:
            train = objects(method, "train")
            few = [train[i] for i in range(min(2, len(train)))]
            made[method] = fresh(method).fit(few[:1] if method == "modmap" else few, progress=False)
        return made[method]

    return get


@pytest.mark.parametrize("method", METHODS)
def test_predicts_a_map_for_each_view(method, learned):
    detector, sample = learned(method), defective(method)
    ready = detector.prepare(sample)
    prediction = detector.predict(sample)
    assert len(prediction.maps) == len(ready.views)
    assert prediction.maps.shape[1:] == ready.views[0].size
    assert np.isfinite(prediction.score) and prediction.maps.std() > 0


@pytest.mark.parametrize("method", METHODS)
def test_prepares_once(method, learned):
    detector, sample = learned(method), defective(method)
    ready = detector.prepare(sample)
    assert isinstance(ready, PreparedSample)
    both = detector.predict(sample), detector.predict_prepared(ready)
    assert np.array_equal(both[0].maps, both[1].maps) and both[0].score == both[1].score
    again = detector.predict(ready)  # "prepare" of what is ready is the sample itself
    assert np.array_equal(again.maps, both[0].maps) and again.score == both[0].score
    assert "prepared before" in refused(
        detector.fit, [detector.prepare(objects(method, "train")[0])] * 2
    )
    assert "not prepared" in refused(detector.predict_prepared, sample)


@pytest.mark.parametrize("method", METHODS)
def test_evaluate_judges_what_predict_says(method, learned):
    detector, data = learned(method), objects(method, "test")
    some = [data[0], data[len(data) - 1]]
    result = evaluate(detector, some, progress=False, memory=False)
    assert [s["map"] for s in result.scores] == [detector.predict(s).score for s in some]


@pytest.mark.parametrize("method", METHODS)
def test_saves_and_loads(method, learned, tmp_path):
    detector, sample = learned(method), defective(method)
    detector.save(tmp_path / "saved.safetensors")
    twin = type(detector).load(tmp_path / "saved.safetensors")
    assert twin.settings == detector.settings
    assert twin.state().keys() == detector.state().keys()
    assert np.array_equal(twin.predict(sample).maps, detector.predict(sample).maps)
    assert twin.preparation == detector.preparation and len(twin.preparation.content) == 64


@pytest.mark.parametrize("method", METHODS)
def test_gives_maps_for_the_images_as_they_came(method, learned):
    detector, sample = learned(method), defective(method)
    views = [view and resize(view, (60, 90)) for view in sample.views]
    sample = replace(sample, views=tuple(views))
    maps = maps_on_images(detector, sample, detector.predict(sample).maps)
    seen = [m for m in maps if m is not None]
    assert len(seen) == len(detector.prepare(sample).present)
    assert all(m.shape == (60, 90) and m.any() for m in seen)


@pytest.mark.parametrize("method", METHODS)
def test_goes_on_with_the_same_data_only(method, tmp_path):
    train = objects(method, "train")
    file = tmp_path / "training.safetensors"
    first, other = ([train[i]] * 2 if method != "modmap" else [train[i]] for i in (0, 1))
    fresh(method).fit(first, checkpoint=file, progress=False)
    with pytest.raises(OtherTraining) as told:
        fresh(method).fit(other, checkpoint=file, progress=False)
    assert "begin anew" in str(told.value) and str(file.with_suffix("")) in str(told.value)
    fresh(method).fit(first, checkpoint=file, progress=False)


@pytest.mark.parametrize("method", METHODS)
def test_one_seed_gives_the_same_numbers(method, learned):
    train = objects(method, "train")
    few = [train[i] for i in range(min(2, len(train)))]
    again = fresh(method).fit(few[:1] if method == "modmap" else few, progress=False)
    sample = defective(method)
    assert np.array_equal(again.predict(sample).maps, learned(method).predict(sample).maps)


@pytest.mark.parametrize("method", METHODS)
def test_a_missing_view_has_an_empty_map(method, learned):
    detector, sample = learned(method), defective(method)
    if len(sample.views) == 1:
        sample = replace(sample, views=(None, sample.view))
    else:
        sample = replace(sample, views=(None, *sample.views[1:]))
    prediction = detector.predict(sample)
    assert not prediction.maps[0].any() and np.isfinite(prediction.score)


@pytest.mark.parametrize("method", METHODS)
def test_an_unfitted_one_says_so(method, tmp_path):
    detector, sample = fresh(method), defective(method)
    for call in (detector.predict, detector.state, detector.save):
        arguments = {detector.predict: (sample,), detector.save: (tmp_path / "x",)}.get(call, ())
        assert "not learned anything" in refused(call, *arguments)
    assert "defective sample" in refused(detector.fit, [sample] * 2)


@pytest.mark.parametrize("method", METHODS)
def test_says_where_it_computes(method, learned):
    detector = learned(method)
    assert detector.device == torch.device("cpu")
    assert {t.device.type for t in detector.state().values()} == {"cpu"}


@pytest.mark.parametrize("cls", [CFM, MAFR])
def test_shrinks_clouds_once(cls, monkeypatch):
    """Eyecandies come ten times as large:
    with shrink=.1 the encoder sees a tenth, not a hundredth.
    """
    sample = objects("cfm", "train")[0]
    large = replace(sample, views=(replace(sample.view, xyz=10 * sample.view.xyz),))
    settings = fresh(cls.name).settings
    detector = cls(replace(settings, shrink=0.1)).fit([large] * 2, progress=False)
    seen, encode = [], detector.f3.encode

    def watched(views):
        seen.extend(views)
        return encode(views)

    monkeypatch.setattr(detector.f3, "encode", watched)
    evaluate(detector, [large], progress=False, memory=False)
    detector.predict(large)
    expected = cls(settings).prepare(sample).view.xyz
    assert seen and all(np.allclose(view.xyz, expected, atol=1e-6) for view in seen)


@pytest.mark.parametrize("method, field", [("cfm", "3d"), ("mafr", "3d"), ("modmap", "depth")])
def test_an_image_network_on_normals_is_an_encoder_by_name(method, field):
    named = {f"encoder_{field}": "normals:efficientnet_lite0"}
    train = objects(method, "train")
    detector = fresh(method, **named).fit([train[0]], progress=False)
    assert np.isfinite(detector.predict(defective(method)).maps).all()
