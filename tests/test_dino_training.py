"""DINO-Depth's training:
two processes follow one, a killed run ends as if nothing had happened, one that goes wrong says so.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("lightning_fabric", reason="needs the extra 'train'")
ROOT = Path(__file__).resolve().parent.parent

PROGRAM = """
import json, os, signal, sys, time
import numpy as np, torch

torch.set_num_threads(1)
from mvad.core.training import load_checkpoint
from mvad.core.sample import MvadError
from mvad.encoders import dino_training as d

SETTINGS = d.DinoSettings(
    dim=16,
    depth=2,
    heads=2,
    global_size=42,
    local_size=28,
    local_crops=2,
    prototypes=32,
    hidden=24,
    bottleneck=8,
    batch_size=4,
    accumulate=2,
    steps=20,
    epoch=2,
)
MAPS = list(np.random.default_rng(0).random((24, 56, 56), np.float32))


def run(file, **how):
    return d.train_dino(MAPS, SETTINGS, checkpoint=file + ".safetensors", progress=False, **how)


def apart(a, b):
    "The largest difference between two checkpoints: of losses, of weights."
    a, b = (load_checkpoint(f + ".safetensors", "training")[0] for f in (a, b))
    weights = [k for k in a if k.startswith(("parts.student", "parts.teacher"))]
    return float((a["losses"] - b["losses"]).abs().max()), max(
        float((a[k] - b[k]).abs().max()) for k in weights
    )


def killed(file):
    "A run that is killed after its first checkpoint; how many steps it had made."
    child = os.fork()
    if not child:
        keep = d.save_training

        def slow(*a):
            keep(*a)
            time.sleep(0.1)

        d.save_training = slow
        run(file, every=3)
        os._exit(0)
    while not os.path.exists(file + ".safetensors"):
        time.sleep(0.005)
    os.kill(child, signal.SIGKILL)
    assert os.WIFSIGNALED(os.waitpid(child, 0)[1])
    return len(load_checkpoint(file + ".safetensors", "training")[0]["losses"])


def broken():
    "What a map with an infinite depth leads to."
    try:
        d.train_dino([np.full((56, 56), np.inf, np.float32)] * 8, SETTINGS, progress=False)
    except MvadError as e:
        return str(e)


os.chdir(sys.argv[1])
_, history, losses = run("one")
before = killed("killed")
run("killed")
run("two", devices=2, strategy="ddp_fork")
run("mixed", devices=2, strategy="ddp_fork", until=9)
run("mixed")
print(
    "RESULT"
    + json.dumps(
        dict(
            losses=losses.tolist(),
            rows=len(history.rows),
            before=before,
            killed=apart("one", "killed"),
            two=apart("one", "two"),
            mixed=apart("one", "mixed"),
            broken=broken(),
            files=sorted(os.listdir()),
        )
    )
)
"""


@pytest.fixture(scope="module")
def told(tmp_path_factory) -> dict:
    folder = tmp_path_factory.mktemp("dino")
    (folder / "program.py").write_text(PROGRAM)
    (folder / "runs").mkdir()
    env = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, folder / "program.py", folder / "runs"],
        capture_output=True,
        text=True,
        env=env,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout.rpartition("RESULT")[2])


def test_loss_falls(told):
    assert len(told["losses"]) == told["rows"] == 20 and sum(told["losses"][-5:]) < sum(
        told["losses"][:5]
    )


def test_two_processes_follow_one(told):
    losses, weights = told["two"]
    assert losses < 1e-3 and weights < 1e-3, told["two"]


def test_a_killed_run_ends_the_same(told):
    assert 0 < told["before"] < 20 and told["killed"] == [0, 0], (told["before"], told["killed"])
    assert told["files"] == [
        "killed.safetensors",
        "mixed.safetensors",
        "one.safetensors",
        "two.safetensors",
    ]  # nothing half written is left


def test_two_processes_hand_over_to_one(told):
    assert max(told["mixed"]) < 1e-3, told["mixed"]


def test_a_loss_that_is_no_number_stops_the_run(told):
    assert "the loss is not finite" in told["broken"] and "step 0" in told["broken"]
