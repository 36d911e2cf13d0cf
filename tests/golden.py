"""The numbers of every method on a few small embedded samples, frozen in files beside this one.

python tests/golden.py            computes and writes all of them anew
python tests/golden.py CASE ...   some of them
"""

import dataclasses
import importlib
import json
import os
import platform
import random
import sys
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from importlib import metadata
from pathlib import Path

import numpy as np
import torch
from torch.optim.optimizer import register_optimizer_step_post_hook

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "tests" / "golden"

# As a script this file must compute with its own checkout, whatever else is installed.
sys.path.insert(0, str(ROOT))

# Where each method lives, and the name of its class.
METHODS = {
    "cfm": ("mvad.papers.cfm", "CFM"),
    "mafr": ("mvad.papers.mafr", "MAFR"),
    "crd": ("mvad.papers.crd", "CRD"),
    "idif": ("mvad.papers.idif", "IDIF"),
    "modmap": ("mvad.papers.modmap", "MODMAP"),
    "memory_bank": ("mvad.baselines.memory_bank", "MemoryBank"),
    "reverse_distillation": ("mvad.baselines.reverse_distillation", "ReverseDistillation"),
    "destseg": ("mvad.baselines.destseg", "DeSTSeg"),
}

# What is read from an evaluation, in this order.
LIMITS = (0.3, 0.1, 0.05, 0.01)
METRICS = (
    ("I-AUROC", "exact"),
    ("S-AUROC", "exact"),
    ("P-AUROC", "exact"),
    ("P-AP", "exact"),
    *((f"AUPRO@{100 * limit:g}%", kind) for kind in ("exact", "sampled") for limit in LIMITS),
)


@dataclass(frozen=True)
class Data:
    """Embedded samples: a category, its number of views, and whether the table is seen."""

    category: str = "puck"
    views: int = 1
    background: bool = False
    learn_from: int = 4


@dataclass(frozen=True)
class Case:
    """A method as it is set up for one file: variant, protocol, changed settings and data."""

    method: str
    variant: str
    protocol: str = "paper"
    changes: dict = field(default_factory=dict)
    data: Data = Data()


# Adapters: the only places that name the library's interface.


@lru_cache(maxsize=None)
def samples(data: Data, split: str) -> list:
    """The samples of one split that the cases use: in "test" two good ones and two defects."""
    from mvad.data.base import load_dataset

    options = dict(size="smoke", views=data.views, background=data.background, version=1)
    dataset = load_dataset("synthetic", None, data.category, split, **options)
    wanted = {"train": range(data.learn_from), "validation": range(2), "test": (0, 1, 3, 6)}
    return [dataset[i] for i in wanted[split]]


def settings_of(case: Case):
    """The settings at smoke scale, made smaller still."""
    module, name = METHODS[case.method]
    module = importlib.import_module(module)
    given = dict(scale="smoke", variant=case.variant, protocol=case.protocol, seed=0)
    return dataclasses.replace(getattr(module, name).settings_for(**given), **case.changes)


def new_detector(case: Case):
    """An untrained detector, without a cache: every number is computed."""
    module, name = METHODS[case.method]
    cls = getattr(importlib.import_module(module), name)
    return cls.class_for(case.variant)(settings_of(case))


def fit(detector, case: Case) -> None:
    """Train on the case's good samples; CRD also wants some to calibrate with."""
    train = samples(case.data, "train")
    if case.method == "crd":
        detector.fit(train, samples(case.data, "validation"), progress=False)
    else:
        detector.fit(train, progress=False)


def prepared_of(detector, sample):
    """The sample as the detector looks at it."""
    return detector.prepare(sample)


def predicted(detector, prepared):
    """The prediction of a prepared sample."""
    return getattr(detector, "predict_prepared", detector.predict)(prepared)


def without_first_view(sample):
    """The sample with its first view missing."""
    return dataclasses.replace(sample, views=(None, *sample.views[1:]))


def losses_of(detector) -> dict[str, np.ndarray]:
    """The loss of every step by phase; of an ensemble, of each of its models."""
    models = getattr(detector, "models", {"": detector})
    out = {}
    for key, model in models.items():
        losses = getattr(model, "losses", ())
        phases = losses if isinstance(losses, tuple) else (losses,)
        for number, phase in enumerate(phases):
            out[f"losses{f' of view {key}' if key != '' else ''}, phase {number}"] = phase
    return out


def features_of(detector, prepared) -> dict[str, np.ndarray]:
    """What each frozen encoder says about the first view of a prepared sample, as matrices."""
    view = prepared.views[0]
    if isinstance(getattr(detector, "parts", None), dict):
        return {k: encoder.encode([view])[0].data for k, encoder in detector.parts.items()}
    if hasattr(detector, "encoder"):
        both = {"e_i": detector.encoder.image, "e_d": detector.encoder.depth}
        return {k: encoder.encode([view])[0].data for k, encoder in both.items()}
    if hasattr(detector, "f2"):
        return {k: getattr(detector, k).encode([view])[0].data for k in ("f2", "f3")}
    images = seen_by_teacher(detector, view)
    teacher = getattr(detector, "first", detector).teacher
    levels = teacher.levels(torch.from_numpy(np.stack(images)))
    return {f"level {k}": level.flatten(2).flatten(0, 1) for k, level in enumerate(levels)}


def seen_by_teacher(detector, view) -> list[np.ndarray]:
    """The images of a view that a teacher is asked about."""
    if hasattr(detector, "images"):
        return detector.images(view)
    if hasattr(detector, "image"):
        return [detector.image(view)]
    return [view.rgb]


def evaluated(detector, case: Case) -> dict[str, np.ndarray]:
    """Every metric of `METRICS` by branch, over all defects."""
    from mvad.core.evaluate import evaluate

    estimators = ("exact", "sampled")
    test = samples(case.data, "test")
    result = evaluate(
        detector, test, estimators=estimators, limits=LIMITS, progress=False, memory=False
    )
    branches = sorted({row["branch"] for row in result.rows})
    return {
        branch: np.array([result.value(m, branch, "all", kind) for m, kind in METRICS])
        for branch in branches
    }


# What is done with them.


@contextmanager
def steady():
    """One thread and fixed generators inside the `with`; everything as before afterwards."""
    threads = torch.get_num_threads()
    generators = random.getstate(), np.random.get_state(), torch.get_rng_state()
    torch.set_num_threads(1)
    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
        random.setstate(generators[0])
        np.random.set_state(generators[1])
        torch.set_rng_state(generators[2])


@contextmanager
def first_steps():
    """Inside the `with`, each optimiser's first step is noted in the list that is yielded.

    A note holds the norm of each parameter's gradient, as the step used it (-1 for none), and
    the norm of each parameter after the step, in the order of the optimiser's groups.
    """
    notes = []
    seen = []

    def note(optimiser, *_):
        if any(optimiser is other for other in seen):
            return
        # kept, so that no later optimiser can be taken for this one
        seen.append(optimiser)
        parameters = [p for group in optimiser.param_groups for p in group["params"]]
        gradients = [-1.0 if p.grad is None else norm(p.grad) for p in parameters]
        notes.append((np.array(gradients), np.array([norm(p) for p in parameters])))

    handle = register_optimizer_step_post_hook(note)
    try:
        yield notes
    finally:
        handle.remove()


def norm(tensor: torch.Tensor) -> float:
    """The Euclidean norm, added up in double precision."""
    return float(tensor.detach().double().norm())


def thinned(array: np.ndarray, side: int) -> np.ndarray:
    """Every so many-th row and column of the last two axes: at most `side` of each."""
    rows, columns = (slice(None, None, -(-n // side)) for n in array.shape[-2:])
    return array[..., rows, columns]


def summary(name: str, array, side: int) -> dict[str, np.ndarray]:
    """Mean, deviation and maximum over the last two axes in float64, and a part of the array."""
    array = np.asarray(array)
    exact = array.astype(np.float64)
    axes = (-2, -1)
    moments = np.stack([exact.mean(axes), exact.std(axes), exact.max(axes)], -1)
    return {
        f"{name}: mean, deviation, maximum": moments,
        f"{name}: every so many-th": thinned(array, side).astype(np.float32),
    }


def of_sample(name: str, prepared) -> dict[str, np.ndarray]:
    """The arrays of a prepared sample's views, as their moments."""
    out = {}
    for kind in ("rgb", "xyz", "valid", "gt"):
        arrays = [getattr(view, kind) for view in prepared.views if view is not None]
        arrays = [np.asarray(a, np.float64) for a in arrays if a is not None]
        moments = [(a.mean(), a.std(), np.abs(a).max()) for a in arrays]
        out[f"{kind} of {name}"] = np.array(moments)
    return out


def of_prediction(name: str, prediction) -> dict[str, np.ndarray]:
    """Maps, branches, scores and volume of a prediction."""
    side = 16 if len(prediction.maps) == 1 else 8
    out = summary(f"map of {name}", prediction.maps, side)
    for branch, maps in sorted(prediction.branches.items()):
        out |= summary(f"{branch} of {name}", maps, 8)
    out[f"score of {name}"] = np.array([prediction.score])
    branch_scores = [score for _, score in sorted(prediction.branch_scores.items())]
    out[f"branch scores of {name}"] = np.array(branch_scores)
    if prediction.view_scores is not None:
        out[f"view scores of {name}"] = np.array(prediction.view_scores)
    if prediction.volume is not None:
        values = np.asarray(prediction.volume.values, np.float64)
        moments = (len(values), values.mean(), values.std(), values.max())
        out[f"volume of {name}"] = np.array(moments)
    return out


def of_training(notes) -> dict[str, np.ndarray]:
    """The notes of `first_steps` by name."""
    out = {}
    for number, (gradients, parameters) in enumerate(notes):
        out[f"gradient norms of optimiser {number}, first step"] = gradients
        out[f"parameter norms of optimiser {number}, after one step"] = parameters
    return out


def compute(case: Case) -> dict[str, np.ndarray]:
    """Every quantity of a case by name."""
    with steady():
        detector = new_detector(case)
        with first_steps() as notes:
            fit(detector, case)
        out = of_training(notes) | losses_of(detector)
        state = detector.state()
        out["norms of the state"] = np.array([norm(state[k]) for k in sorted(state)])
        test = samples(case.data, "test")
        for name, sample in (("the good sample", test[0]), ("the defective sample", test[-1])):
            prepared = prepared_of(detector, sample)
            out |= of_sample(name, prepared)
            out |= of_prediction(name, predicted(detector, prepared))
        for name, matrix in features_of(detector, prepared).items():
            out |= summary(f"features {name}", matrix, 8)
        if case.data.views > 1:
            out |= of_gap(detector, prepared)
        for branch, values in evaluated(detector, case).items():
            out[f"metrics of {branch}"] = values
    return {name: stored(array) for name, array in out.items() if np.size(array)}


def of_gap(detector, prepared) -> dict[str, np.ndarray]:
    """What a detector of several views says when one is missing."""
    prediction = predicted(detector, without_first_view(prepared))
    moments = summary("", prediction.maps, 1)[": mean, deviation, maximum"]
    return {
        "score without the first view": np.array([prediction.score]),
        "map without the first view: mean, deviation, maximum": moments,
    }


def stored(array) -> np.ndarray:
    """A map's part stays in float32; all else is kept in float64."""
    array = np.asarray(array)
    return array if array.dtype == np.float32 else array.astype(np.float64)


# Files and their comparison.


def machine() -> dict[str, str]:
    """What the last digits depend on: processor and libraries."""
    packages = ("torch", "numpy", "scipy", "open3d", "timm", "pillow")
    versions = {name: metadata.version(name) for name in packages}
    capability = torch.backends.cpu.get_cpu_capability()
    return {"processor": processor(), "capability": capability, **versions}


def processor() -> str:
    """The processor's model, as the system names it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def path_of(name: str) -> Path:
    """The file of a case."""
    return FOLDER / f"{name}.npz"


def write(name: str, arrays: dict[str, np.ndarray]) -> None:
    """Write a case's file: all numbers in one array a type, an index, and the machine."""
    index = [[key, str(array.dtype), list(array.shape)] for key, array in arrays.items()]
    numbers = {}
    for kind in ("float32", "float64"):
        flat = [array.ravel() for array in arrays.values() if array.dtype == kind]
        numbers[kind] = np.concatenate([np.empty(0, kind), *flat])
    text = json.dumps({"index": index, "machine": machine()})
    FOLDER.mkdir(exist_ok=True)
    np.savez_compressed(path_of(name), text=np.frombuffer(text.encode(), np.uint8), **numbers)


def read(name: str) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """The arrays of a case's file, and the machine that they were computed on."""
    with np.load(path_of(name), allow_pickle=False) as file:
        about = json.loads(file["text"].tobytes())
        numbers = {kind: file[kind] for kind in ("float32", "float64")}
    arrays = {}
    done = dict.fromkeys(numbers, 0)
    for key, kind, shape in about["index"]:
        size = int(np.prod(shape))
        arrays[key] = numbers[kind][done[kind] : done[kind] + size].reshape(shape)
        done[kind] += size
    return arrays, about["machine"]


def movement(found: np.ndarray, kept: np.ndarray) -> float:
    """The largest difference, as a share of the largest absolute value that was kept."""
    found, kept = np.asarray(found, np.float64), np.asarray(kept, np.float64)
    if found.shape != kept.shape or not np.array_equal(np.isnan(found), np.isnan(kept)):
        return float("inf")
    difference = np.abs(np.nan_to_num(found) - np.nan_to_num(kept)).max(initial=0)
    scale = np.abs(np.nan_to_num(kept)).max(initial=0)
    if difference == 0:
        return 0.0
    return float(difference / scale) if scale else float("inf")


def on_the_same_machine(name: str) -> float:
    """How far a quantity may move where processor and libraries are the same."""
    return 1e-6


def elsewhere(name: str) -> float:
    """How far a quantity may move where instructions round in other ways.

    A rounding may carry a ReLU over its kink, which a gradient feels more than a map. And it may
    swap two scores that are nearly equal, which is why metrics are not compared: the maps and
    scores that they are computed from are.
    """
    if name.startswith("metrics of "):
        return float("inf")
    return 1e-2 if name.startswith("gradient norms of ") else 1e-3


def differences(found: dict, kept: dict, tolerance) -> list[str]:
    """A line for each quantity that moved by more than `tolerance(name)`, appeared or vanished."""
    lines = [f"{key}: is new" for key in found if key not in kept]
    for key, before in kept.items():
        if key not in found:
            lines.append(f"{key}: is gone")
            continue
        if np.shape(found[key]) != np.shape(before):
            lines.append(f"{key}: shape {np.shape(before)} became {np.shape(found[key])}")
            continue
        moved = movement(found[key], before)
        if moved <= tolerance(key) and np.isfinite(moved):
            continue
        gap = np.nan_to_num(np.abs(found[key] - before), nan=np.inf)
        at = np.unravel_index(gap.argmax(), gap.shape)
        place = [int(i) for i in at]
        was, became = f"{before[at]:.9g}", f"{found[key][at]:.9g}"
        lines.append(f"{key}: moved by {moved:.2g}; at {place} from {was} to {became}")
    return lines


WITH_TABLE = Data(background=True, learn_from=6)
AROUND = Data("pebble", views=3, background=True)
CALIBRATED = Data("puck", views=4, learn_from=1)

# Batch norm over so few samples enlarges the rounding of every step, and Adam's first steps make
# even a gradient of rounding errors count: where that happens, images are larger than at smoke
# scale and learning rates smaller, so that other processors find the same numbers.
SHORT_CFM = dict(epochs=2, batch_size=2, centres=128)
SHORT_MAFR = dict(epochs=1, centres=128)
SMALL_POINTS = dict(encoder_3d="point_mae_small", centres=32)
SHORT_CRD = dict(size=96, batch_size=3, lr=1e-5)
SHORT_REVERSE = dict(image_size=96, batch_size=6, epochs=3, lr=1e-5)
SHORT_IDIF = dict(views=3, crop=0.7, steps=(3, 3))
SHORT_ENSEMBLE = dict(crop=0.7, steps=(2, 2), lr=0.005, lr_head=(0.01, 0.001))
SHORT_MODMAP = dict(epochs=6, centres=64)
SHORT_DESTSEG = dict(steps=(4, 4), lr=0.005, lr_head=(0.01, 0.001))
SHORT_BANK = dict(n_centres=128)

WHOLE_MAFR = SHORT_MAFR | SMALL_POINTS | dict(window=None, stride=8, fused=8)
THREE_CRD = SHORT_CRD | dict(modalities=("rgb", "depth", "normals"), depth_fallback=True)
DECAYING = dict(head_optim="adamw", head_decay=True, lr_head=(1e-4, 2e-4))
PATTERNS = dict(p_drop=0.4, drop_per="sample", modalities=("rgb", "normals"))
DROPPING_IDIF = (
    SHORT_IDIF | DECAYING | PATTERNS | dict(near=0.35, paintings=0, kl_weight=0.1, lr=2e-4)
)
DISTANCES = SHORT_DESTSEG | DECAYING
FEW_SOURCES = SHORT_MODMAP | dict(source_share=0.5, tokens=16, ensemble="mean", fusion="product")


def cases() -> dict[str, Case]:
    """All cases by name."""
    out = {}

    def add(name, *arguments):
        out[name] = Case(*arguments)

    for protocol in ("paper", "released"):
        add(f"cfm-{protocol}", "cfm", "ours", protocol, SHORT_CFM)
        add(f"cfm-point-mae-{protocol}", "cfm", "ours", protocol, SHORT_CFM | SMALL_POINTS)
        add(f"mafr-{protocol}", "mafr", "ours", protocol, SHORT_MAFR)
        for variant in ("ours", "none"):
            add(f"crd-{variant}-{protocol}", "crd", variant, protocol, SHORT_CRD, WITH_TABLE)
        add(
            f"reverse-distillation-{protocol}",
            "reverse_distillation",
            "rgb",
            protocol,
            SHORT_REVERSE,
            WITH_TABLE,
        )
    for variant in ("convolutional", "encoder-decoder", "intra"):
        add(f"cfm-{variant}", "cfm", variant, "paper", SHORT_CFM)
    for variant in ("ours", "3dconv"):
        add(f"idif-{variant}", "idif", variant, "paper", SHORT_IDIF, AROUND)
    add("idif-dkd", "idif", "dkd", "paper", SHORT_ENSEMBLE, AROUND)
    # MODMAP and the memory bank compute the same under both protocols: one case each says so.
    for variant in ("ours", "cfm", "view"):
        add(f"modmap-{variant}", "modmap", variant, "paper", SHORT_MODMAP, CALIBRATED)
    add("modmap-ours-released", "modmap", "ours", "released", SHORT_MODMAP, CALIBRATED)
    for variant in ("rgb", "fpfh", "btf"):
        add(f"memory-bank-{variant}", "memory_bank", variant, "paper", SHORT_BANK)
    add("memory-bank-btf-released", "memory_bank", "btf", "released", SHORT_BANK)
    add("destseg", "destseg", "ours", "paper", SHORT_DESTSEG)
    # Switches that smoke scale leaves alone, several at a time.
    # Objects of 100 pixels at 64: how colours, points and masks are resized.
    add("cfm-resized-released", "cfm", "ours", "released", SHORT_CFM | dict(size=64))
    add("mafr-whole-map-released", "mafr", "ours", "released", WHOLE_MAFR)
    add("crd-normals-pixel", "crd", "pixel", "paper", THREE_CRD, WITH_TABLE)
    add("crd-detached-released", "crd", "detached", "released", SHORT_CRD, WITH_TABLE)
    add(
        "reverse-distillation-depth",
        "reverse_distillation",
        "depth",
        "paper",
        SHORT_REVERSE,
        WITH_TABLE,
    )
    add("idif-dropout", "idif", "dropout", "paper", DROPPING_IDIF, AROUND)
    add("idif-3dconv-score", "idif", "3dconv-score", "paper", SHORT_IDIF, AROUND)
    add("destseg-distances", "destseg", "distances", "paper", DISTANCES)
    add("modmap-few-sources", "modmap", "ours", "paper", FEW_SOURCES, CALIBRATED)
    return out


CASES = cases()


def main(names: list[str]) -> None:
    """Compute and write the cases of these names, or all of them."""
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    for name in names or CASES:
        arrays = compute(CASES[name])
        write(name, arrays)
        print(f"{name}: {len(arrays)} quantities, {path_of(name).stat().st_size} bytes")


if __name__ == "__main__":
    main(sys.argv[1:])
