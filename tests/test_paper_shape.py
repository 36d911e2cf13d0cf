"""Every method as its paper has it, but small: a run must not break at a scale that no test sees.

Sizes, epochs and, where a network would take minutes, its width are cut; everything else is the
paper's: no standardising, an empty feature cache, the paper's own encoders with random weights.
"""

import copy
import functools
import weakref
from inspect import signature
from pathlib import Path

import numpy as np
import pytest

from mvad.core import training
from mvad.core.evaluate import evaluate
from mvad.core.registry import list_detectors, method_entry
from mvad.data import sim3d
from mvad.data.embedded import embedded_root
from mvad.data.sim3d import SiM3D
from mvad.data.synthetic import Synthetic
from mvad.encoders import features
from mvad.encoders.features import FeatureCache, give_weights
from mvad.papers.modmap import MODMAP

# of images, clouds and trainings; what a method computes stays the paper's
LIFTED = dict(size=32, image_size=32, centres=32, epochs=2)
TAUGHT = dict(teacher="resnet18", epochs=2)
PAINTED = dict(size=64, width=8, head_width=16, steps=(2, 2), textures=4)
SMALL = {
    "memory_bank": dict(image_size=64),
    "reverse_distillation": dict(TAUGHT, image_size=64),
    "destseg": dict(PAINTED, batch_size=4),
    "cfm": LIFTED,
    "mafr": dict(LIFTED, size=24),
    "crd": dict(TAUGHT, size=64, blocks=(1, 1, 1)),
    "idif": dict(PAINTED, batch_size=2, grid=4),
    "modmap": dict(size=56, epochs=2, weights_depth="random", voxels=16),
}
VIEWS = {"idif": 5, "modmap": 4}
RANDOM = ("dino_vitb8", "point_mae", "dinov2_vitb14_reg4", "wide_resnet50_2", "resnet18")


def protocols(method):
    """The protocols that change something in a method."""
    cls = method_entry(method).load()
    both = "protocol" in cls.Settings.__dataclass_fields__ and method != "modmap"
    return cls.PROTOCOLS if both else ("paper",)  # MODMAP computes the same in both


CASES = [(method, protocol) for method in list_detectors() for protocol in protocols(method)]


@pytest.fixture(autouse=True)
def random_weights(monkeypatch):
    """The papers' encoders with random weights, as `--weights NAME=random` asks for them."""
    monkeypatch.setenv("MVAD_WEIGHTS", "{}")
    give_weights([f"{name}=random" for name in RANDOM])


@pytest.fixture(scope="module", autouse=True)
def networks_drawn_once():
    """A network is drawn once and copied: 86 million random numbers take seconds."""
    patch, draw = pytest.MonkeyPatch(), functools.lru_cache(features._build)
    patch.setattr(features, "_build", lambda *which: copy.deepcopy(draw(*which)))
    yield
    patch.undo()
    draw.cache_clear()


def objects(method, split):
    """Embedded objects as the method's data set has them: with a table, from several sides."""
    views = VIEWS.get(method, 1)
    table = views == 1 and method_entry(method).load().takes_table
    return Synthetic(category="puck", split=split, size="smoke", views=views, background=table)


def fresh(method, protocol, cache=None):
    """A detector with the paper's settings that has learned nothing."""
    entry = method_entry(method)
    cls = entry.load()
    run = dict(scale="paper", protocol=protocol, dataset=entry.home, views=VIEWS.get(method, 1))
    options = {"cache": cache} if "cache" in signature(cls.__init__).parameters else {}
    return cls(cls.settings_for(**run, **SMALL[method]), **options)


def same(one, other):
    """Whether two detectors have learned the same numbers."""
    a, b = one.state(), other.state()
    return a.keys() == b.keys() and all(bool((a[k] == b[k]).all()) for k in a)


def interrupted(detector, samples, file, monkeypatch):
    """A training that ends after its first epoch, as Ctrl-C ends it."""
    save = training.save_training

    def save_once(*arguments):
        save(*arguments)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(training, "save_training", save_once)
        with pytest.raises(KeyboardInterrupt):
            detector.fit(samples, progress=False, checkpoint=file)


@pytest.mark.parametrize(("method", "protocol"), CASES)
def test_a_run_of_the_papers_shape(method, protocol, tmp_path, monkeypatch):
    cache = FeatureCache(tmp_path / "features")
    train, test = objects(method, "train"), objects(method, "test")
    few = [train[i] for i in range(1 if method == "modmap" else 2)]
    defective = test.only("dent")[0]

    whole = fresh(method, protocol, cache)
    assert all("random" in name for name in whole.encoders().values())
    assert not getattr(whole.settings, "standardise", False)
    whole.fit(few, progress=False)

    file = tmp_path / "training.safetensors"
    if method != "memory_bank":  # which has nothing to train
        interrupted(fresh(method, protocol), few, file, monkeypatch)
    resumed = fresh(method, protocol, cache).fit(few, progress=False, checkpoint=file)
    assert same(resumed, whole)

    resumed.save(tmp_path / "saved.safetensors")
    twin = type(whole).load(tmp_path / "saved.safetensors")
    expected, found = whole.predict(defective), twin.predict(defective)
    assert expected.maps.std() > 0 and np.isfinite(expected.score)
    assert np.array_equal(found.maps, expected.maps) and found.score == expected.score

    result = evaluate(twin, [test[0], defective], progress=False, memory=False)
    assert result.scores[1]["id"] == defective.id and np.isfinite(result.value("I-AUROC"))


def test_modmap_holds_one_raw_view_at_a_time(monkeypatch):
    """The raw views of an object of SiM3D take 13 GB; read one by one they give the same."""
    data = SiM3D(embedded_root("sim3d", ["puck"], "smoke", splits=("train",)), "puck", "train")
    raw, counts, read = weakref.WeakSet(), [], sim3d._read_view

    def watched(*arguments):
        raw.add(view := read(*arguments))
        counts.append(len(raw))
        return view

    monkeypatch.setattr(sim3d, "_read_view", watched)
    settings = MODMAP.settings_for("smoke", epochs=1)
    small = MODMAP(settings).fit(data, progress=False)
    assert len(counts) >= 4 and max(counts) <= 2
    held = MODMAP(settings).fit([data[0]], progress=False)
    assert max(counts) >= 4 and same(small, held)


def test_nothing_is_made_in_inference_mode():
    """What is made there cannot be learned from: an encoder's features, a network built."""
    files = Path(features.__file__).parent.parent.rglob("*.py")
    assert not [file for file in files if "inference_mode()" in file.read_text()]
