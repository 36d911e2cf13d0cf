"""Every write and every rename of a run fails once, and a run is killed at random moments:
the same call again gives the record of an undisturbed run, and leaves nothing behind.

The run is small but real: it trains with the library's loop, keeps checkpoints, writes a record.
MVAD_LONG=1 tries many more moments.
"""

import errno
import json
import os
import random
import signal
import threading
import time
import warnings
from dataclasses import replace
from pathlib import Path

import nbformat
import nbrun  # noqa: F401  its engine
import pytest

from mvad.core import files, training
from mvad.core.evaluate import same_part
from mvad.reproduce.plan import Reproduction, read_reproduction, with_earlier
from mvad.reproduce.site import write_site
from mvad.reproduce.specs import SPECS
from mvad.runs.execute import execute, failed_before
from mvad.runs.executors import run_all
from mvad.runs.run import Run, valid_record

MOMENTS = 60 if os.environ.get("MVAD_LONG") else 4
RUN = Run("cfm", "ours", "mvtec3d", "plate", scale="smoke")
PARAMETERS = """
dataset, root, category, table, variant = "mvtec3d", "", "plate", "", "ours"
protocol, scale, device, seed, out = "paper", "smoke", "cpu", 0, "out"
"""
WORK = """
from pathlib import Path

import torch

from mvad.core.evaluate import write_record
from mvad.core.files import write_json
from mvad.core.training import save_checkpoint, seeded, train

with seeded(seed):
    net = torch.nn.Linear(4, 1)
    data = list(torch.randn(6, 4))
adam = torch.optim.Adam(net.parameters(), lr=0.02)
how = dict(optimiser=adam, epochs=2, batch_size=3, seed=seed, progress=False)


def step(batch):
    x = torch.stack(batch)
    return (net(x) - x.sum(1, keepdim=True)).square().mean()


losses = train(step, data, {"net": net}, checkpoint=Path(out) / "training.safetensors", **how)
save_checkpoint(Path(out) / "net.safetensors", net.state_dict(), {}, "toy")
write_json(Path(out) / "examples.json", losses.tolist())
scores = [dict(id=f"{i}", defect="good", product=float(x)) for i, x in enumerate(losses)]
run = dict(method="cfm", variant=variant, dataset=dataset, category=category, seed=seed)
run |= dict(data="user" if root else "embedded", protocol=protocol, scale=scale)
record = dict(schema=1, run=run, hashes={}, encoders={}, rows=[], scores=scores)
write_record(out, record | dict(measured={}, environment={}))
"""


@pytest.fixture(scope="module", autouse=True)
def notebooks(tmp_path_factory):
    folder = tmp_path_factory.mktemp("notebooks")
    cells = [nbformat.v4.new_code_cell(text) for text in (PARAMETERS, WORK)]
    cells[0].metadata.tags = ["parameters"]
    (folder / "papers").mkdir()
    nbformat.write(nbformat.v4.new_notebook(cells=cells), folder / "papers/40_cfm.ipynb")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MVAD_NOTEBOOKS", str(folder))
        yield


def attempt(folder: Path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return execute(RUN, folder, engine="inprocess")


class Injected:
    """Calls `strike` at the n-th moment: after a content is written, before or after a rename."""

    def __init__(self, monkeypatch, n: int, strike):
        self.n, self.strike, self.seen = n, strike, []
        sync, rename = files._sync, os.replace

        def watched_sync(part):
            sync(part)
            self.moment(f"content of {Path(part).name}")

        def watched_rename(part, path):
            ours = str(part).endswith(".part")
            if ours:
                self.moment(f"before the rename to {Path(path).name}")
            rename(part, path)
            if ours:
                self.moment(f"after the rename to {Path(path).name}")

        monkeypatch.setattr(files, "_sync", watched_sync)
        monkeypatch.setattr(os, "replace", watched_rename)

    def moment(self, name: str):
        self.seen.append(name)
        if len(self.seen) - 1 == self.n:
            self.strike()


def disk_is_full():
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def kill():
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.fixture(scope="module")
def undisturbed(notebooks, tmp_path_factory) -> tuple[dict, list[str]]:
    """The record of an undisturbed run, and the moments of its writes and renames."""
    folder = tmp_path_factory.mktemp("undisturbed") / "run"
    with pytest.MonkeyPatch.context() as patch:
        seen = Injected(patch, -1, None).seen
        assert attempt(folder).status == "done"
    return same_part(valid_record(folder, RUN)), seen


def completes(folder: Path, record: dict, told: str):
    """One more call completes."""
    assert failed_before(folder, RUN) is None, f"{told}: counts as the run's own failure"
    again = attempt(folder) if valid_record(folder, RUN) is None else None
    assert again is None or again.status == "done", f"{told}: {again.error}"
    assert same_part(valid_record(folder, RUN)) == record, told
    kept = {"examples.json", "net.safetensors", "notebook.ipynb", "run.log"}
    left = {p.name for p in folder.iterdir()} - kept
    assert len(left) == 1 and left.pop().endswith(".record.json"), f"{told}: {left} left behind"
    assert not folder.with_name(f"{folder.name}.part").exists(), told


def test_each_write_and_each_rename_fails_once(undisturbed, tmp_path, monkeypatch):
    record, moments = undisturbed
    assert len(moments) >= 12 and any("run" in m for m in moments)
    for n, name in enumerate(moments):
        if name.startswith("after"):
            continue  # what has happened cannot fail
        folder = tmp_path / f"{n}/run"
        with monkeypatch.context() as patch:
            injected = Injected(patch, n, disk_is_full)
            struck = attempt(folder)
        assert injected.seen[n] == name
        if struck.status == "failed":
            assert "No space left" in struck.error, struck.error
            saved = "after the rename to training.safetensors" in injected.seen
            assert not saved or (struck.folder / "training.safetensors").exists()
        completes(folder, record, f"a full disk at moment {n}, {name}")


def in_a_child(work, *args) -> int:
    """The signal that ended a copy of this process which does `work`; 0 if none did."""
    child = os.fork()
    if not child:
        try:
            work(*args)
        finally:
            os._exit(0)
    return os.WTERMSIG(os.waitpid(child, 0)[1])


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_killed_at_random_moments(undisturbed, tmp_path, monkeypatch):
    record, moments = undisturbed
    random.seed(18)
    for n in sorted(random.sample(range(len(moments)), min(MOMENTS, len(moments)))):
        folder = tmp_path / f"{n}/run"
        with monkeypatch.context() as patch:
            Injected(patch, n, kill)
            assert in_a_child(attempt, folder) == signal.SIGKILL
        completes(folder, record, f"killed at moment {n}, {moments[n]}")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_killed_after_random_times(undisturbed, tmp_path):
    record, _ = undisturbed
    random.seed(18)

    def work(folder, seconds):
        def later():
            time.sleep(seconds)
            kill()

        threading.Thread(target=later, daemon=True).start()
        attempt(folder)

    for n in range(MOMENTS):
        seconds, folder = random.uniform(0.05, 1.0), tmp_path / f"{n}/run"
        in_a_child(work, folder, seconds)
        completes(folder, record, f"killed after {seconds:.2f} s")


def test_states_that_a_power_cut_left(undisturbed, tmp_path, monkeypatch):
    """Empty or cut: put aside, said so, begun again, also where the failure was remembered."""
    record, _ = undisturbed
    for n, content in enumerate((b"", b"\x10\0\0\0", None)):
        folder = tmp_path / f"{n}/run"
        part = folder.with_name("run.part")
        with monkeypatch.context() as patch:
            patch.setattr(training, "remove_training", lambda path: None)
            assert attempt(folder).status == "done"
        os.replace(folder, part)
        (next(part.glob("*.record.json"))).unlink()
        state = part / "training.safetensors"
        state.write_bytes(state.read_bytes()[:-40] if content is None else content)
        told = dict(run=RUN.settings(), says="failed", error="the checkpoint is damaged")
        (part / "failed.json").write_text(json.dumps(told | {"again": False}))
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            how = dict(progress=False, retry_failed=True, engine="inprocess")
            (outcome,) = run_all([(RUN, folder)], **how)
        assert outcome.status == "done" and same_part(valid_record(folder, RUN)) == record
        assert not list(folder.glob("training*"))  # what was put aside is gone with the rest
        assert any("training.safetensors is damaged" in str(w.message) for w in said)


def test_each_write_of_a_report_fails_once(undisturbed, tmp_path, monkeypatch):
    assert attempt(tmp_path / "runs/run").status == "done"
    outcome = replace(attempt(tmp_path / "runs/run"), seconds=0.0)
    done = Reproduction(tmp_path, (SPECS["cfm/6"],), {"cfm/6": [outcome]})

    def pages() -> dict[str, str]:
        write_site(with_earlier(done))
        return {p.name: p.read_text() for p in tmp_path.rglob("*.html")}

    whole = pages()
    with monkeypatch.context() as patch:
        seen = Injected(patch, -1, None).seen
        pages()
    moments = [n for n, name in enumerate(seen) if not name.startswith("after")]
    random.seed(18)
    for n in sorted(random.sample(moments, min(MOMENTS, len(moments)))):
        with monkeypatch.context() as patch:
            Injected(patch, n, disk_is_full)
            with pytest.raises(files.WriteError, match="No space left"):
                pages()
        assert pages() == whole, f"moment {n}"
    assert read_reproduction(tmp_path).outcomes["cfm/6"][0].run == RUN
