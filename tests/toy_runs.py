"""A method that takes a second:
a small notebook in the place of CFM's and a tiny folder in the place of its data. What is tested
with it is the runner.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import nbformat

COMMAND = [sys.executable, "-m", "mvad.cli.main"]

PARAMETERS = {
    "dataset": "mvtec3d",
    "root": "",
    "category": "",
    "table": "",
    "variant": "ours",
    "protocol": "paper",
    "scale": "laptop",
    "device": "cpu",
    "seed": 0,
    "out": "",
}
WORK = """
import json, os, random, time
from pathlib import Path
from tqdm.auto import tqdm

if category == "broken":
    raise ValueError("the lamp broke")
if category == "weightless":
    from mvad.core.sample import MvadError

    raise MvadError("needs weights DINO ViT-B/8", fix="put them there")
done = Path(out) / "steps.json"  # a training that can be resumed
steps = json.loads(done.read_text()) if done.exists() else []
resumed = len(steps)


def waits():
    return (
        category == "gated" and len(steps) >= 8 and not Path(root, "../go").exists()
    )  # for the test, not longer than five minutes


for i in tqdm(range(len(steps), 30), desc="training", initial=len(steps), total=30):
    late = time.monotonic() + 300
    while waits() and time.monotonic() < late:
        time.sleep(0.05)
    steps.append(random.Random(f"{category} {seed} {i}").random())
    (Path(out) / "steps.tmp").write_text(json.dumps(steps))
    os.replace(Path(out) / "steps.tmp", done)
    time.sleep(0.2 if category == "slow" else 0.001)
"""
RECORD = """
objects = [
    dict(
        id=f"{category}/{i}",
        defect=("good", "dent")[i % 2],
        **{
            b: steps[i] + (i % 2) * (0.4 + 0.2 * k)
            for k, b in enumerate(("psi_2d", "psi_3d", "sum", "max", "product"))
        },
    )
    for i in range(20)
]
rows = [
    dict(
        branch=b,
        defect=d,
        metric=m,
        estimator=e,
        size=[8, 8],
        value=0.5 + 0.08 * k,
        n_good=10,
        n_defective=10,
    )
    for k, b in enumerate(("psi_2d", "psi_3d", "sum", "max", "product"))
    for d in ("all", "dent")
    for m, e in (
        ("I-AUROC", "exact"),
        ("P-AUROC", "exact"),
        *((f"AUPRO@{l}%", e) for l in (30, 10, 5, 1) for e in ("exact", "sampled")),
    )
]
run = dict(
    method="cfm",
    variant=variant,
    dataset=dataset,
    data="user" if root else "embedded",
    category=category,
    seed=seed,
    protocol=protocol,
    scale=scale,
)
record = dict(
    schema=1,
    run=run,
    hashes=dict(data="d", settings="s", code="c"),
    encoders={"2d": "toy"},
    rows=rows,
    scores=objects,
    measured=dict(seconds=dict(fit=time.time()), resumed=resumed),
    environment={k: os.environ.get(k) for k in ("OMP_NUM_THREADS", "CUDA_VISIBLE_DEVICES")},
)
(Path(out) / "part").write_text(json.dumps(record))
os.replace(Path(out) / "part", Path(out) / "toy.record.json")
"""


def make(folder: Path):
    "A stand-in for CFM's notebook, and a root with categories that hold one file each."

    def cell(text, *tags):
        return nbformat.v4.new_code_cell(text.strip(), metadata={"tags": list(tags)})

    parameters = "\n".join(f"{k} = {v!r}" for k, v in PARAMETERS.items())
    nb = nbformat.v4.new_notebook(
        cells=[
            cell(parameters, "parameters"),
            cell("raise RuntimeError('a lesson ran')", "lesson"),
            cell(WORK),
            cell(RECORD),
        ]
    )
    (folder / "nbs/papers").mkdir(parents=True)
    nbformat.write(nb, folder / "nbs/papers/40_cfm.ipynb")
    for category in ("plate", "ring", "slow", "gated", "broken", "weightless"):
        for role in ("rgb", "xyz"):
            (folder / "data" / category / "train/good" / role).mkdir(parents=True)
        (folder / "data" / category / "train/good/rgb/000.png").write_bytes(b"not looked at")


def mvad(*words, cwd: Path, **env) -> subprocess.CompletedProcess:
    return subprocess.run(
        [*COMMAND, *map(str, words)],
        cwd=cwd,
        capture_output=True,
        text=True,
        env={**os.environ, **env},
    )


def here(*words) -> subprocess.CompletedProcess:
    """The command in this very process, which has imported torch already.

    Runs have kernels of their own as always.
    """
    from mvad.cli.main import main

    with (
        contextlib.redirect_stdout(io.StringIO()) as said,
        contextlib.redirect_stderr(io.StringIO()) as told,
    ):
        status = main([str(w) for w in words])
    return subprocess.CompletedProcess(words, status, said.getvalue(), told.getvalue())


def reproduce(
    folder: Path, *categories: str, out: str = "out", more: tuple = (), tables: tuple = ("cfm/6",)
) -> subprocess.CompletedProcess:
    return here(
        "reproduce",
        *tables,
        "--root",
        folder / "data",
        "--scale",
        "smoke",
        "--out",
        folder / out,
        "--category",
        *categories,
        *more,
    )


def records(out: Path) -> list[dict]:
    "All records below a folder without time, memory and environment."
    from mvad.core.evaluate import same_part

    return [same_part(json.loads(p.read_text())) for p in sorted(out.rglob("*.record.json"))]


def start(toy: Path, out: str, *words, **how) -> subprocess.Popen:
    "The command as a process of its own (`how`: see Popen), with as many words more as wanted."
    command = [
        *COMMAND,
        "reproduce",
        "cfm/6",
        "--root",
        "data",
        "--scale",
        "smoke",
        "--out",
        out,
        *map(str, words),
    ]
    pipes = dict(stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    return subprocess.Popen(command, cwd=toy, **pipes, **how)


def training(out: Path) -> list[Path]:
    """The folders of the runs of category `gated` that are in the middle of their training, where
    they wait until `release`.
    """
    return [
        p.parent
        for p in out.glob("runs/cfm-ours-gated-*.part/steps.json")
        if len(json.loads(p.read_text())) == 8
    ]


def release(toy: Path):
    (toy / "go").touch()


def start_gated(toy: Path, out: str, *words, runs: int = 1, **how) -> subprocess.Popen:
    "A reproduction of which as many runs of category `gated` are in the middle of their training."
    child = start(toy, out, "--category", "gated", *words, **how)
    until(lambda: len(training(toy / out)) == runs or child.poll() is not None, 400)
    assert child.poll() is None, child.communicate()
    return child


def until(true, seconds: float):
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.05)


def kernels_in(folder: Path) -> list[int]:
    "Processes that work in a folder or below it."
    import psutil

    def inside(p):
        try:
            return str(folder) in p.cwd()
        except psutil.Error:
            return False

    return [p.pid for p in psutil.process_iter() if p.pid != os.getpid() and inside(p)]


def worker_of(folder: Path):
    "The process (psutil) that executes the run in a folder: its kernel's parent."
    import psutil

    def kernel(p):
        try:
            return p.cwd() == str(folder) and "ipykernel_launcher" in " ".join(p.cmdline())
        except psutil.Error:
            return False

    return next(p for p in psutil.process_iter() if kernel(p)).parent()


def undisturbed(folder: Path, *categories: str, seeds: tuple = (0,)) -> list[dict]:
    "The records that runs leave when nothing happens to them; executed in this process."
    import nbrun  # noqa: F401  its engine
    from mvad.reproduce.plan import reproduce
    from mvad.reproduce.tables import SPECS

    release(folder)
    reproduce(
        [SPECS["cfm/6"]],
        folder / "undisturbed",
        roots={"": str(folder / "data")},
        scale="smoke",
        categories=categories,
        seeds=seeds,
        engine="inprocess",
        progress=False,
    )
    return records(folder / "undisturbed")
