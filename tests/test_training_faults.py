"""What may happen to a long run:
it is killed, the disk is full, the folder cannot be written, a parameter is misspelled.
"""

from __future__ import annotations
import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import nbformat
import numpy as np
import pytest
import torch
from papermill.exceptions import PapermillExecutionError

import nbrun
from mvad.core.training import load_checkpoint, save_checkpoint
from mvad.core.evaluate import read_records, write_record
from mvad.core.sample import MvadError

TRAINING = """
import sys, time, torch
from mvad.core.training import seeded, train


def training(file, pause=0.0):
    with seeded(0):
        net = torch.nn.Sequential(
            torch.nn.Linear(4, 16), torch.nn.Dropout(0.2), torch.nn.Linear(16, 1)
        )
        data = list(torch.randn(12, 4))
    adam = torch.optim.Adam(net.parameters(), lr=0.02)

    def step(batch):
        time.sleep(pause)
        x = torch.stack(batch)
        return (net(x) - x.sum(1, keepdim=True)).square().mean()

    return net, train(
        step,
        data,
        {"net": net},
        optimiser=adam,
        epochs=40,
        batch_size=5,
        checkpoint=file,
        progress=False,
    )


if __name__ == "__main__":
    training(sys.argv[1], pause=0.02)
"""


def test_a_training_killed_at_any_moment_ends_the_same(tmp_path, monkeypatch):
    (tmp_path / "killed_training.py").write_text(TRAINING)
    monkeypatch.syspath_prepend(str(tmp_path))
    from killed_training import training

    file, begun = tmp_path / "run.safetensors", time.time()
    child = subprocess.Popen(
        [sys.executable, tmp_path / "killed_training.py", file],
        env={**os.environ, "PYTHONPATH": str(nbrun.__file__).rsplit("/", 2)[0]},
    )
    while not file.exists() and child.poll() is None and time.time() - begun < 120:
        time.sleep(0.01)
    time.sleep(0.3)
    child.send_signal(signal.SIGKILL)
    assert child.wait() == -signal.SIGKILL, "it ended before it could be killed"
    done = len(load_checkpoint(file, "training")[0]["losses"])
    assert 0 < done < 120
    (net, losses), (same, undisturbed) = training(file), training(None)
    assert np.array_equal(losses, undisturbed) and all(
        torch.equal(a, b) for a, b in zip(net.parameters(), same.parameters())
    )
    assert [p.name for p in tmp_path.glob("*.safetensors")] == ["run.safetensors"]


@contextmanager
def files_of_at_most(n: int):
    "A full disk, nearly: writing more than n bytes to one file fails."
    resource = pytest.importorskip("resource")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (n, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_full_disk(tmp_path):
    save_checkpoint(tmp_path / "a.safetensors", {"w": torch.ones(3)}, {}, "toy")
    with (
        files_of_at_most(1000),
        pytest.raises(MvadError, match="cannot write the file.*a.safetensors"),
    ):
        save_checkpoint(tmp_path / "a.safetensors", {"w": torch.zeros(5000)}, {}, "toy")
    assert load_checkpoint(tmp_path / "a.safetensors", "toy")[0]["w"].tolist() == [
        1,
        1,
        1,
    ]  # the old file stands
    record = {
        "run": dict.fromkeys(
            ("method", "variant", "dataset", "category", "protocol", "scale", "seed"), "x"
        ),
        "rows": ["a row"] * 1000,
    }
    with (
        files_of_at_most(1000),
        pytest.raises(MvadError, match="cannot write the file.*record.json"),
    ):
        write_record(tmp_path, record)
    assert [p.name for p in tmp_path.iterdir()] == ["a.safetensors"] and read_records(
        tmp_path
    ) == []


@pytest.mark.skipif(
    not Path("/proc/self").exists(), reason="needs /proc, where nobody may create files"
)
def test_folder_that_cannot_be_written():
    with pytest.raises(MvadError, match="cannot write the file.*choose another output folder"):
        save_checkpoint("/proc/mvad/a.safetensors", {}, {}, "toy")


@pytest.fixture
def notebook(tmp_path) -> Path:
    cells = [
        nbformat.v4.new_code_cell(
            "category = ''\nseed = 0\nscale = 'laptop'", metadata={"tags": ["parameters"]}
        ),
        nbformat.v4.new_code_cell(
            "from mvad.core.evaluate import parameters_of\nrun = parameters_of(globals(),"
            " method='cfm')"
        ),
        nbformat.v4.new_code_cell("n = 3; print(run.category, run.seed, run.scale)"),
    ]
    nbformat.write(
        nbformat.v4.new_notebook(
            cells=cells,
            metadata={
                "kernelspec": {"name": "python3", "display_name": "python3", "language": "python"}
            },
        ),
        tmp_path / "method.ipynb",
    )
    return tmp_path / "method.ipynb"


def test_parameters_through_papermill(notebook):
    done = nbrun.run(notebook, {"category": "bagel", "seed": 2})
    assert "".join(done.cells[-1].outputs[0].text).strip() == "bagel 2 laptop"


@pytest.mark.parametrize(
    "wrong, says",
    [
        ({"sed": 2}, "did you mean 'seed'"),
        ({"seed": 1.5}, "expected int"),
        ({"seed": True}, "expected int"),
        ({"scale": "huge"}, "'smoke' or 'laptop' or 'paper'"),
        ({"seed": -1}, "cannot be negative"),
        ({"category": None}, "expected str"),
        ({"method": "crd"}, "decided by the notebook"),
    ],
)
def test_wrong_parameters_stop_the_run(notebook, wrong, says):
    with pytest.raises(PapermillExecutionError) as e:
        nbrun.run(notebook, wrong)
    assert e.value.ename == "MvadError" and says in e.value.evalue
