"""Every method on a pretended CUDA device: the CPU's numbers, nothing of two devices mixed, and no
more copies and waits than a budget allows.
"""

import json
import os
from dataclasses import dataclass
from pathlib import Path

import nbrun
import numpy as np
import pytest
import test_contract as contract
import test_notebooks as notebooks
import torch
from pretended import Counts, Ledger, StepWatch, pretended

from mvad.baselines import destseg, memory_bank, reverse_distillation
from mvad.core.detector import Detector, Prediction
from mvad.encoders import dino_training, lifted, pyramid
from mvad.runs.run import NOT_RUN

METHODS = contract.METHODS

# What a training step and a prediction may cost: copies to the device, copies to the host, waits of
# the host (a copy that is not asynchronous is a wait, too). A training in two phases has two lines.
# The least possible is no copy, and one wait for the loss. Whoever needs less lowers the number.
STEPS = {  # a step learns from two samples, MODMAP's from one object
    "cfm": [(0, 0, 1)],
    "mafr": [(1, 0, 1)],
    "crd": [(1, 0, 1), (1, 0, 1)],  # a student after the other
    "idif": [(2, 0, 1), (1, 0, 1)],
    "modmap": [(1, 0, 1)],
    "memory_bank": [],
    "reverse_distillation": [(1, 0, 1)],
    "destseg": [(2, 0, 1), (2, 0, 1)],
}
PREDICTIONS = {
    "cfm": (10, 1, 5),
    "mafr": (8, 1, 3),
    "crd": (1, 2, 3),
    "idif": (1, 1, 2),
    "modmap": (10, 1, 3),
    "memory_bank": (6, 1, 8),
    "reverse_distillation": (1, 1, 2),
    "destseg": (1, 2, 3),
}
LONGER = {"idif": {"steps": (3, 3)}, "destseg": {"steps": (3, 3)}, "memory_bank": {}}


@dataclass
class Trial:
    "What a method did on the pretended device."

    maps: np.ndarray
    score: float
    after_load: Prediction
    loaded: Detector
    steps: list[Counts]
    prediction: Counts
    ledger: Ledger


def good_samples(method) -> list:
    train = contract.objects(method, "train")
    return [train[i] for i in range(1 if method == "modmap" else 2)]


def fitted(method, device: str) -> Detector:
    "A detector that made three steps of training."
    detector = contract.fresh(method, device=device, **LONGER.get(method, {"epochs": 3}))
    return detector.fit(good_samples(method), progress=False)


def try_method(method, file: Path) -> Trial:
    "Fit, predict, save and load on the pretended device."
    sample = contract.defective(method)
    with pretended() as gpu, StepWatch(gpu) as watch:
        detector = fitted(method, "cuda")
        before = gpu.ledger.counts()
        told = detector.predict(sample)
        cost = gpu.ledger.counts() - before
        detector.save(file)
        loaded = type(detector).load(file, "cuda")
        after_load = loaded.predict(sample)
    return Trial(told.maps, told.score, after_load, loaded, watch.phases(), cost, gpu.ledger)


def judge_steps(method, tried: Trial):
    "A training step stays within its budget."
    assert len(tried.steps) == len(STEPS[method])
    for step, allowed in zip(tried.steps, STEPS[method]):
        within = all(n <= most for n, most in zip(step, allowed))
        assert within, f"over budget: {step}, allowed {allowed}\n{tried.ledger}"


def judge_numbers(tried: Trial, on_cpu: Prediction):
    "Maps and score are on the host and those of the CPU; those of a loaded detector are the same."
    assert type(tried.maps) is np.ndarray and np.isscalar(tried.score), "not on the host"
    assert np.allclose(tried.maps, on_cpu.maps, rtol=1e-4, atol=1e-6)
    assert np.isclose(tried.score, on_cpu.score, rtol=1e-4)
    assert np.array_equal(tried.after_load.maps, tried.maps)
    assert tried.loaded.device.type == "cuda"


@pytest.fixture(scope="module")
def on_cpu():
    "What each method says about its defective sample on the CPU."
    made = {}

    def get(method) -> Prediction:
        if method not in made:
            made[method] = fitted(method, "cpu").predict(contract.defective(method))
        return made[method]

    return get


@pytest.fixture(scope="module")
def trial(tmp_path_factory):
    "Each method's trial, made once."
    made, folder = {}, tmp_path_factory.mktemp("pretended")

    def get(method) -> Trial:
        if method not in made:
            made[method] = try_method(method, folder / f"{method}.safetensors")
        return made[method]

    return get


@pytest.mark.parametrize("method", METHODS)
def test_the_device_says_what_the_cpu_says(method, trial, on_cpu):
    judge_numbers(trial(method), on_cpu(method))
    assert on_cpu(method).maps.any()


@pytest.mark.parametrize("method", METHODS)
def test_a_training_step_stays_within_its_budget(method, trial):
    judge_steps(method, trial(method))


@pytest.mark.parametrize("method", METHODS)
def test_a_prediction_stays_within_its_budget(method, trial):
    cost, allowed = trial(method).prediction, PREDICTIONS[method]
    within = all(n <= most for n, most in zip(cost, allowed))
    assert within, f"over budget: {cost}, allowed {allowed}\n{trial(method).ledger}"


@pytest.mark.parametrize("method", ("cfm", "mafr"))
def test_views_that_do_not_fit_stay_on_the_host(method, on_cpu, monkeypatch):
    monkeypatch.setattr(lifted, "room_for_views", lambda device: 1.0)
    with pretended() as gpu, StepWatch(gpu) as watch:
        told = fitted(method, "cuda").predict(contract.defective(method))
    assert np.allclose(told.maps, on_cpu(method).maps, rtol=1e-4, atol=1e-6)
    assert all(step.to_device > STEPS[method][0][0] for step in watch.phases())


def test_nothing_of_the_pretended_device_remains():
    real = torch.cuda.is_available, torch.Generator, torch.load
    with pretended():
        there = torch.ones(2, device="cuda")
        assert there.is_cuda and torch.cuda.is_available()
        with pytest.raises(RuntimeError, match="same device"):
            there + torch.ones(2)
    assert real == (torch.cuda.is_available, torch.Generator, torch.load)
    assert there.device.type == "cpu"  # without the mode a mark says nothing


def large() -> torch.Tensor:
    return torch.ones(200, 200)


COSTS = [  # what is done with a tensor of the host and one of the device, and what it costs
    ("a copy", lambda host, there: host.to("cuda"), (1, 0, 1)),
    (
        "from pinned memory",
        lambda host, there: host.pin_memory().to("cuda", non_blocking=True),
        (1, 0, 0),
    ),
    ("of pageable memory", lambda host, there: host.to("cuda", non_blocking=True), (1, 0, 0)),
    ("much of it", lambda host, there: large().to("cuda", non_blocking=True), (1, 0, 1)),
    ("no copy", lambda host, there: there.to("cuda"), (0, 0, 0)),
    ("a copy back", lambda host, there: there.cpu(), (0, 1, 1)),
    ("in place", lambda host, there: host.copy_(there), (0, 1, 1)),
    ("a number", lambda host, there: float(there.sum()), (0, 0, 1)),
    ("a condition", lambda host, there: bool((there > 0).all()), (0, 0, 1)),
    ("a mask", lambda host, there: there[there > 2], (0, 0, 1)),
    ("a value behind a mask", lambda host, there: there.masked_fill_(there > 2, 0.0), (0, 0, 0)),
    ("a list of rows", lambda host, there: there[[0, 1]], (1, 0, 1)),
    ("a slice", lambda host, there: there[1:3], (0, 0, 0)),
    ("new on the device", lambda host, there: torch.zeros(3, device="cuda"), (0, 0, 0)),
    ("numbers", lambda host, there: torch.tensor([1.0], device="cuda"), (1, 0, 1)),
    ("a number of the host", lambda host, there: there * torch.tensor(2.0), (0, 0, 0)),
    ("rows", lambda host, there: [row * there[0] for row in there], (0, 0, 0)),
    ("the device is waited for", lambda host, there: torch.cuda.synchronize(), (0, 0, 1)),
]


@pytest.mark.parametrize("act, cost", [c[1:] for c in COSTS], ids=[c[0] for c in COSTS])
def test_copies_and_waits_are_counted(act, cost):
    with pretended(Path(__file__).parent) as gpu:
        host = torch.arange(6.0)
        there = host.to("cuda")
        before = gpu.ledger.counts()
        act(host, there)
        assert gpu.ledger.counts() - before == (*cost, 0)


REFUSED = [
    ("two devices", lambda host, there: host + there, "same device"),
    ("a number of the device", lambda host, there: host + there[0], "same device"),
    ("a list of both", lambda host, there: torch.stack([host[0], there[0]]), "same device"),
    ("in place", lambda host, there: host.add_(there[0]), "same device"),
    ("NumPy", lambda host, there: there.numpy(), "can't convert cuda:0"),
    ("NumPy's asarray", lambda host, there: np.asarray(there), "can't convert cuda:0"),
    ("an index of the device", lambda host, there: host[there.long()], "indices should be"),
    (
        "a generator of the host",
        lambda host, there: torch.rand(2, device="cuda", generator=torch.Generator()),
        "device type for generator",
    ),
]


@pytest.mark.parametrize("act, told", [r[1:] for r in REFUSED], ids=[r[0] for r in REFUSED])
def test_what_cuda_refuses_is_refused(act, told):
    with pretended(), pytest.raises((RuntimeError, TypeError), match=told):
        host = torch.arange(6.0)
        act(host, host.to("cuda"))


# DINO-Depth -----------------------------------------------------------------------------------

DINO = dino_training.DinoSettings(dim=16, depth=2, heads=2, global_size=42, local_size=28)
DINO_HEADS = dict(prototypes=32, hidden=24, bottleneck=8)
DINO_STEPS = dict(local_crops=2, batch_size=4, accumulate=2, steps=4, epoch=2)
DINO_BUDGET = (12, 0, 14)  # of a step of two batches


def train_dino(**how) -> np.ndarray:
    "The losses of a tiny DINO-Depth."
    maps = list(np.random.default_rng(0).random((24, 56, 56), np.float32))
    how = DINO_HEADS | DINO_STEPS | how
    return dino_training.train_dino(maps, DINO, progress=False, **how)[2]


@pytest.fixture(scope="module")
def dino_losses():
    pytest.importorskip("lightning_fabric", reason="needs the extra 'train'")
    return train_dino()


def test_dino_depth_is_trained_on_the_device(dino_losses):
    with pretended() as gpu, StepWatch(gpu) as watch:
        losses = train_dino(accelerator="cuda")
    assert np.allclose(losses, dino_losses, rtol=1e-4)
    (step,) = watch.phases()
    assert all(n <= most for n, most in zip(step, DINO_BUDGET)), f"{step}\n{gpu.ledger}"


def test_dino_depth_goes_on_on_the_device(dino_losses, tmp_path):
    "The optimiser's state is read to where its parameters are."
    with pretended():
        how = dict(accelerator="cuda", checkpoint=tmp_path / "run.safetensors")
        train_dino(until=2, **how)
        losses = train_dino(**how)
    assert np.allclose(losses, dino_losses, rtol=1e-4)


# Notebooks ------------------------------------------------------------------------------------

SLOW = bool(os.environ.get("MVAD_SLOW"))
ONE_A_KIND = ("41_mafr", "44_modmap", "30_memory_bank")  # two modalities, many views, no training
RUNS = [p for p in notebooks.METHODS if SLOW or p.stem in ONE_A_KIND]


@pytest.mark.parametrize("path", RUNS, ids=notebooks.name)
def test_a_run_of_a_notebook_on_the_device(path, tmp_path):
    "As the runner executes it: exported cells run as they stand, lessons and tests do not."
    parameters = notebooks.smoke(path, tmp_path / "out") | {"device": "cuda"}
    with pretended() as gpu:
        nbrun.run(path, parameters, library=None, drop=tuple(NOT_RUN))
    assert list((tmp_path / "out").glob("*.record.json"))
    assert gpu.ledger.counts().to_device


def test_the_device_script(tmp_path):
    "Of two methods, tiny: everything is measured, nothing fails, and one file says so."
    script = notebooks.ROOT / "nbs" / "benchmarks" / "67_device.ipynb"
    parameters = dict(device="cuda", scale="smoke", methods=["cfm", "modmap"], out=str(tmp_path))
    with pretended() as gpu:
        nbrun.run(script, parameters)
    told = json.loads((tmp_path / "device.json").read_text())
    assert told["about"]["device"].startswith("cuda: pretended") and not told["failed"]
    assert {row["method"] for row in told["rows"]} == {"cfm", "modmap"}
    assert sum(row["what"] == "frames" for row in told["rows"]) == 2 - len(told["skipped"])
    assert gpu.ledger.counts().to_device


# Planted faults -------------------------------------------------------------------------------
# each changes one function of the library, and the harness must find it


def mask_on_the_cpu(monkeypatch):
    whole = destseg.segmentation_loss

    def loss(logits, mask, *rest):
        return whole(logits, mask.cpu(), *rest)

    monkeypatch.setattr(destseg, "segmentation_loss", loss)


def numpy_of_a_device_tensor(monkeypatch):
    whole = reverse_distillation.level_map

    def maps(*args):
        return torch.from_numpy(whole(*args).numpy())

    monkeypatch.setattr(reverse_distillation, "level_map", maps)


def index_on_the_wrong_device(monkeypatch):
    def pick(levels, rows, device="cpu"):
        rows = torch.as_tensor(rows, device="cuda")
        return tuple(level.cpu()[rows].to(device) for level in levels)

    monkeypatch.setattr(pyramid, "pick", pick)


def generator_of_the_cpu(monkeypatch):
    def projection(x, dim, seed=0):
        generator = torch.Generator().manual_seed(seed)
        return x @ torch.randn(x.shape[1], dim, generator=generator, device=x.device)

    monkeypatch.setattr(memory_bank, "random_projection", projection)


def buffer_that_is_not_registered(monkeypatch):
    def register(module, name, value, persistent=True):
        setattr(module, name, value)

    monkeypatch.setattr(destseg.StudentEncoder, "register_buffer", register)


def optimiser_state_on_the_cpu(monkeypatch):
    step = torch.optim.Adam.step

    def step_of_the_host(adam, *args):
        for state in adam.state.values():
            state["exp_avg"] = state["exp_avg"].cpu()
        return step(adam, *args)

    monkeypatch.setattr(torch.optim.Adam, "step", step_of_the_host)


def wait_in_every_step(monkeypatch):
    whole = reverse_distillation.level_distance

    def loss(*args):
        found = whole(*args)
        return found if found.item() >= 0 else -found

    monkeypatch.setattr(reverse_distillation, "level_distance", loss)


def copy_in_every_step(monkeypatch):
    whole = reverse_distillation.level_distance

    def loss(*args):
        found = whole(*args)
        return found * torch.tensor(1.0).to(found.device, non_blocking=True)

    monkeypatch.setattr(reverse_distillation, "level_distance", loss)


def checkpoint_on_the_wrong_device(monkeypatch):
    def restore(bank, tensors):
        bank.bank, bank.scale = tensors["bank"].cpu(), tensors["scale"].cpu()

    monkeypatch.setattr(memory_bank.MemoryBank, "restore", restore)


def result_on_the_device(monkeypatch):
    whole = reverse_distillation.ReverseDistillation.predict_prepared

    def predict(detector, sample):
        told = whole(detector, sample)
        object.__setattr__(told, "maps", torch.as_tensor(told.maps, device=detector.device))
        return told

    monkeypatch.setattr(reverse_distillation.ReverseDistillation, "predict_prepared", predict)


FAULTS = [
    (mask_on_the_cpu, "destseg", "same device"),
    (numpy_of_a_device_tensor, "reverse_distillation", "can't convert cuda:0"),
    (index_on_the_wrong_device, "reverse_distillation", "indices should be"),
    (generator_of_the_cpu, "memory_bank", "device type for generator"),
    (buffer_that_is_not_registered, "destseg", "same device"),
    (optimiser_state_on_the_cpu, "reverse_distillation", "same device"),
    (wait_in_every_step, "reverse_distillation", "over budget"),
    (copy_in_every_step, "reverse_distillation", "over budget"),
    (checkpoint_on_the_wrong_device, "memory_bank", "same device"),
    (result_on_the_device, "reverse_distillation", "not on the host"),
]


@pytest.mark.parametrize("plant, method, told", FAULTS, ids=[f[0].__name__ for f in FAULTS])
def test_a_planted_fault_is_found(plant, method, told, on_cpu, monkeypatch, tmp_path):
    expected = on_cpu(method)
    plant(monkeypatch)
    with pytest.raises((RuntimeError, TypeError, AssertionError), match=told):
        tried = try_method(method, tmp_path / "saved.safetensors")
        judge_steps(method, tried)
        judge_numbers(tried, expected)
