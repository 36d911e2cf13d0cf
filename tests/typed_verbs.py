"""What a type checker knows of the verbs at the top:
`make check` reads this file, nothing runs it.
"""

from typing_extensions import assert_type

import mvad

assert_type(mvad.list_detectors(needs="xyz"), list[str])
assert_type(mvad.list_datasets(), list[str])
train = mvad.load_data("synthetic", "puck", "train")
assert_type(train, mvad.Dataset)
detector = mvad.create_detector("cfm", scale="laptop", seed=0)
assert_type(detector, mvad.Detector)
assert_type(mvad.load_detector("cfm.safetensors"), mvad.Detector)
assert_type(detector.predict(train[0]), mvad.Prediction)
assert_type(mvad.evaluate(detector, train), mvad.Result)
