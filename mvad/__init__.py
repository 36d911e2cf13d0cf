"""Understand, run and reproduce multi-view and multimodal industrial anomaly detection.

>>> import mvad
>>> train = mvad.load_data("synthetic", "puck", "train")
>>> detector = mvad.create_detector("cfm", scale="laptop", seed=0).fit(train)

What stands here is imported when it is first used: `import mvad` takes neither torch nor NumPy.
"""

__version__ = "0.1.0"

from typing import TYPE_CHECKING

if TYPE_CHECKING:  # what is imported lazily below, for editors and type checkers
    from .core.detector import Detector, Prediction
    from .core.evaluate import Result, evaluate
    from .core.registry import list_datasets, list_detectors
    from .core.sample import Camera, MvadError, Sample, View
    from .data.base import Dataset
    from .encoders.features import Encoder
    from .runs.verbs import create_detector, load_data, load_detector

_PLACES = {
    "list_detectors": "core.registry",
    "list_datasets": "core.registry",
    "create_detector": "runs.verbs",
    "load_detector": "runs.verbs",
    "load_data": "runs.verbs",
    "evaluate": "core.evaluate",
    "Result": "core.evaluate",
    "MvadError": "core.sample",
    "View": "core.sample",
    "Sample": "core.sample",
    "Camera": "core.sample",
    "Detector": "core.detector",
    "Prediction": "core.detector",
    "Dataset": "data.base",
    "Encoder": "encoders.features",
}
__all__ = [
    "Camera",
    "Dataset",
    "Detector",
    "Encoder",
    "MvadError",
    "Prediction",
    "Result",
    "Sample",
    "View",
    "create_detector",
    "evaluate",
    "list_datasets",
    "list_detectors",
    "load_data",
    "load_detector",
]


def __getattr__(name):
    if name not in _PLACES:
        raise AttributeError(f"module 'mvad' has no attribute '{name}'")
    from importlib import import_module

    value = getattr(import_module(f"mvad.{_PLACES[name]}"), name)
    globals()[name] = value
    return value


def __dir__():
    return [*globals(), *_PLACES]
