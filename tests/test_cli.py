"""The command line as a person meets it:
clear errors, runs that are skipped, cut, resumed and never half-written.

Most tests put a small notebook in the place of CFM's, through MVAD_NOTEBOOKS, and a tiny folder in
the place of its data: what is tested is the runner.
"""

import json
import os
import re
import signal
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import nbformat
import numpy as np
import pytest
import tifffile
from toy_runs import COMMAND, here, kernels_in, mvad, records, reproduce, start_gated, until

ROOT = Path(__file__).resolve().parent.parent


def refusal(done: subprocess.CompletedProcess) -> str:
    "The one line with which a command refused."
    lines = done.stderr.strip().splitlines()
    assert done.returncode == 2 and len(lines) == 1 and lines[0].startswith("mvad: "), (
        done.returncode,
        done.stderr,
    )
    return lines[0]


@pytest.mark.parametrize(
    "words, says",
    [
        ("reproduce cfm/66", "unknown table; found cfm/66; expected for example cfm/6"),
        ("reproduce cfm6", "cfm/6"),
        ("reproduce cfm/6 --categories puck", "Did you mean --category?"),
        ("reproduce cfm/6 --seed one", 'unable to convert "one" into int'),
        ("reproduce cfm/6 --protocol strict", "Choose from"),
        ("reproduce cfm/6 --device gpu", "no such device"),
        ("reproduce cfm/6 --precision fp8", "Choose from"),
        ("reproduce cfm/6 --precision tf32", "TF32 is a precision of NVIDIA GPUs"),
        ("reproduce cfm/6 --cudnn-benchmark --plan", "cuDNN computes on NVIDIA GPUs only"),
        ("reproduce cfm/6 --epochs 0", "Must be >= 1"),
        ("reproduce cfm/6 --scale smoke --variant our", "did you mean 'ours'"),
        ("train memory_bank --scale smoke --epochs 3", "MemoryBank has no epochs"),
        ("train cfm --scale smoke --precision tf32", "TF32 is a precision of NVIDIA GPUs"),
        ("reproduce cfm/6 --executor grid", 'Invalid value "grid"'),
        ("reproduce cfm/6 --address auto", "address belong to a cluster"),
        pytest.param(
            "reproduce cfm/6 --executor slurm --address auto",
            "no address, or local",
            marks=pytest.mark.skipif(not find_spec("submitit"), reason="needs submitit"),
        ),
        ("reproduce cfm/6 --executor ray --cores-per-run 0", "a run needs a core"),
        ("reproduce cfm/6 --limit -1", "not a time limit"),
        ("reproduce cfm/6 --limit nan", "not a time limit"),
        ("reproduce cfm/6 --limit inf", "not a time limit"),
        ("reproduce cfm/6 --limit 1e300", "not a time limit"),
        ("reproduce cfm/6 --scale smoke --seed -1", "not a seed"),
        ("reproduce cfm/6 --scale smoke --threads 0", "not a number of threads"),
        ("reproduce cmf", "unknown table; found cmf"),
        ("reproduce cfm/6 --jobs 0", "jobs must be at least 1"),
        ("reproduce cfm/6 --dataset candies", "unknown data set; found candies"),
        ("reproduce cfm/6 --scale paper", "needs the real data"),
        ("reproduce cfm/6 --category puk --scale smoke", "expected puck"),
        ("reproduce cfm/6 --root nowhere", "--root is not a folder; found nowhere"),
        ("reproduce cfm/6 --root data --category plat", "did you mean 'plate'?"),
        ("reproduce cfm/6 --root nbs", "no category folder under the root"),
        ("reproduce cfm/6 --root realiad=data --root mvtec3d=data", "no table here uses"),
        (
            "reproduce cfm/6 --root data --out nbs/papers/40_cfm.ipynb/out",
            "cannot write into the output folder",
        ),
        ("reproduce cfm/6 --root data --out /proc/mvad", "cannot write into the output folder"),
        ("data list mvtec3d --root nowhere", "no category folder"),
        ("data convert mvtec3d --root nowhere --out out", "no category folder"),
        ("train cfm --out model.pth", ".safetensors"),
        ("train cfn", "unknown method; found cfn"),
        ("predict model.safetensors --rgb a.png --xyz a.tiff", "cannot read the checkpoint"),
    ],
)
def test_bad_input_is_one_line(toy, words, says, monkeypatch):
    monkeypatch.chdir(toy)
    before = {p for p in toy.rglob("*") if p.name != ".lock"}
    assert says in refusal(here(*words.split()))
    left = {p for p in toy.rglob("*") if p.name != ".lock"} - before
    assert not [p for p in left if p.is_file()], f"left behind: {left}"


def test_a_login_node_needs_no_gpu(toy, monkeypatch):
    """The device of a cluster's workers is looked at there; that of this machine at once."""
    import torch

    monkeypatch.chdir(toy)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    words = ("reproduce", "cfm/6", "--scale", "smoke", "--root", "data", "--device", "cuda")
    for executor in ("ray", "slurm"):
        assert here(*words, "--executor", executor, "--plan").returncode == 0
        with_tf32 = here(*words, "--executor", executor, "--plan", "--precision", "tf32")
        assert with_tf32.returncode == 0
    for where in ((), ("--jobs", "2")):
        assert "there is no GPU that torch can use" in refusal(here(*words, *where))
    assert "missing: there is no GPU that torch can use" in here(*words, "--plan").stdout
    assert not (toy / "out").exists()


def test_a_foreign_checkpoint_is_refused(toy):
    import torch
    from safetensors.torch import save_file
    from mvad.core.training import save_checkpoint

    save_file({"w": torch.ones(3)}, toy / "foreign.safetensors")
    save_checkpoint(toy / "other.safetensors", {"w": torch.ones(300)}, {}, "somebody_elses")
    (toy / "cut.safetensors").write_bytes((toy / "other.safetensors").read_bytes()[:-100])
    torch.save({"w": torch.ones(3)}, toy / "pickle.safetensors")
    for name, says in {
        "foreign": "no checkpoint of this library",
        "other": "somebody_elses",
        "cut": "truncated",
        "pickle": "pickle",
    }.items():
        line = refusal(
            here("predict", toy / f"{name}.safetensors", "--rgb", "a.png", "--xyz", "a.tiff")
        )
        assert says in line and f"{name}.safetensors" in line


def test_a_missing_extra_is_named(toy):
    program = (
        "import sys; sys.modules['papermill'] = None; from mvad.cli.main import main;"
        " sys.exit(main(sys.argv[1:]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, "reproduce", "cfm/6", "--root", "data"],
        cwd=toy,
        capture_output=True,
        text=True,
    )
    assert "pip install 'mvad[notebooks]'" in refusal(done)


def test_table_report_and_what_is_done_is_skipped(toy):
    done = reproduce(toy, "plate", more=("--seed", "0", "1"))
    assert done.returncode == 0, done.stderr
    assert (
        "product" in done.stdout
        and "0.954" in done.stdout
        and "Which map sees which defect" in done.stdout
        and str(toy / "out/report.html") in done.stdout
    )
    assert "runs" in done.stderr, "there is no progress bar"
    files = {p: p.stat().st_mtime_ns for p in (toy / "out/runs").rglob("*") if p.is_file()}
    assert (
        sum(p.name == "notebook.ipynb" for p in files)
        == sum(p.name.endswith(".record.json") for p in files)
        == 2
    )
    again = reproduce(toy, "plate", more=("--seed", "0", "1"), tables=("cfm/6", "cfm/9"))
    assert again.returncode == 0, again.stderr
    assert {
        p: p.stat().st_mtime_ns for p in (toy / "out/runs").rglob("*") if p.is_file()
    } == files, "something ran twice; table 9 uses the runs of table 6"
    executed = nbformat.read(next(p for p in files if p.name == "notebook.ipynb"), 4)
    assert "a lesson ran" not in json.dumps(executed) and "injected-parameters" in json.dumps(
        executed
    )


def test_a_failed_run_stops_nothing_and_shows(toy):
    done = reproduce(toy, "broken", "plate", "weightless")
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert "mvad: failed: cfm ours, broken, seed 0: ValueError: the lamp broke" in done.stderr
    line = next(x for x in done.stdout.splitlines() if x.startswith("product") and "I-AUROC" in x)
    assert re.search(r"failed .*failed +0\.\d+ +needs weights DINO ViT-B/8", line), line
    assert (
        len(records(toy / "out")) == 1 and "the lamp broke" in (toy / "out/report.html").read_text()
    )
    assert reproduce(toy, "plate", "weightless").returncode == 0, "absent weights are no failure"


def test_two_runs_with_one_seed_are_equal(toy):
    for out in ("one", "t{w}o {0}"):  # papermill would format the braces
        assert reproduce(toy, "plate", out=out).returncode == 0
    assert records(toy / "one") == records(toy / "t{w}o {0}") and len(records(toy / "one")) == 1


def test_several_at_a_time_share_the_machine(toy, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "2")  # a run's threads are its own
    done = reproduce(toy, "plate", "broken", out="many", more=("--jobs", "2"))
    assert done.returncode == 1 and "ValueError: the lamp broke" in done.stderr, done.stderr
    (record,) = (json.loads(p.read_text()) for p in (toy / "many").rglob("*.record.json"))
    assert record["environment"]["OMP_NUM_THREADS"] == "1"
    assert reproduce(toy, "plate", out="single").returncode == 0 and records(
        toy / "many"
    ) == records(toy / "single")


@pytest.mark.skipif(
    not os.environ.get("MVAD_SLOW"),
    reason="two minutes: MVAD_SLOW=1; test_injected has a quick form",
)
def test_cfm_killed_in_the_middle_gives_the_record_of_an_uninterrupted_run(reproduced, tmp_path):
    """The real notebook at smoke scale:
    two runs with one seed are equal, one of them killed during training and from a wheel the other.
    """
    command = [
        *COMMAND,
        "reproduce",
        "cfm/6",
        "--scale",
        "smoke",
        "--category",
        "puck",
        "--out",
        "cut",
    ]
    child = subprocess.Popen(
        command, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    until(
        lambda: (
            child.poll() is not None or list(tmp_path.glob("cut/runs/*.part/training.safetensors"))
        ),
        300,
    )
    assert child.poll() is None, "it ended before it could be killed"
    child.kill()
    child.wait()
    assert not records(tmp_path / "cut") or list(tmp_path.glob("cut/runs/*.part")), (
        "a killed run looks finished"
    )
    until(lambda: not kernels_in(tmp_path / "cut/runs"), 15)
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    uninterrupted = [r for r in records(reproduced[0]) if r["run"]["category"] == "puck"]
    assert records(tmp_path / "cut") == uninterrupted and len(uninterrupted) == 1


def test_interrupted_it_says_so_and_leaves_no_kernel(toy):
    child = start_gated(toy, "stopped")
    child.send_signal(signal.SIGINT)
    _, err = child.communicate(timeout=60)
    assert (
        child.returncode == 130 and "Traceback" not in err and "interrupted" in err.splitlines()[-1]
    ), err
    until(lambda: not kernels_in(toy / "stopped/runs"), 15)


def test_one_runner_a_folder(toy):
    from mvad.reproduce.plan import only_runner

    with only_runner(toy / "shared"):
        assert "another runner works in this folder" in refusal(
            reproduce(toy, "plate", out="shared")
        )


def test_a_full_disk_fails_the_run_and_leaves_nothing_half(toy):
    program = (
        "import resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (3000, 3000)); from"
        " mvad.cli.main import main; sys.exit(main(sys.argv[1:]))"
    )
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            program,
            "reproduce",
            "cfm/6",
            "--root",
            "data",
            "--scale",
            "smoke",
            "--category",
            "plate",
        ],
        cwd=toy,
        capture_output=True,
        text=True,
    )
    assert (
        done.returncode in (1, 2)
        and "Traceback" not in done.stderr
        and "File too large" in done.stderr
    ), done.stderr
    assert (
        not [p for p in (toy / "out/runs").iterdir() if p.suffix != ".part"]
        and not (toy / "out/report.html").exists()
    )
    assert reproduce(toy, "plate").returncode == 0


def test_tables_and_data_are_listed(toy):
    done = here("tables")
    assert (
        done.returncode == 0
        and max(map(len, done.stdout.splitlines())) <= 120
        and re.search(r"cfm/6 +ready +Analysis of aggregation", done.stdout)
        and re.search(r"modmap/10 +(ready|later) +Fusing", done.stdout)
    )
    assert len([x for x in done.stdout.splitlines() if re.match(r"\w+/\w+ ", x)]) == 46
    assert re.search(
        r"^cfm/1 .*\n +here: smoke, laptop; 20 runs; MVTec 3D-AD; dino_vitb8\*, point_mae\*; ",
        done.stdout,
        re.M,
    ), "data, weights, measured minutes, and what can run here"
    assert "mvtec3d" in here("data", "list").stdout


def test_own_scan_through_train_and_predict(toy):
    """A checkpoint is trained on the embedded data, and a scan of one's own, a pair of files, is
    scored with it.
    """
    from mvad.data.base import write_png, write_xyz_tiff
    from mvad.data.synthetic import Synthetic

    bank = toy / "bank.safetensors"
    smoke = ("--category", "puck", "--variant", "btf", "--scale", "smoke")
    done = here("train", "memory_bank", *smoke, "--out", bank)
    assert done.returncode == 0, done.stderr
    assert list(toy.glob("*.safetensors")) == [bank]
    view = Synthetic(None, "puck", "test", size="smoke", background=True).only("colour")[0].view
    write_png(toy / "scan.png", view.rgb)
    write_xyz_tiff(toy / "scan.tiff", np.where(view.valid, view.xyz, np.nan))
    done = mvad(
        "predict",
        "bank.safetensors",
        "--rgb",
        "scan.png",
        "--xyz",
        "scan.tiff",
        "--remove-plane",
        "--out",
        "found",
        cwd=toy,
    )
    assert done.returncode == 0 and re.match(r"score \d", done.stdout), done.stderr
    found = tifffile.imread(toy / "found/map.tiff")
    assert (
        found.ndim == 2
        and np.isfinite(found).all()
        and found.std() > 0
        and {p.name for p in (toy / "found").iterdir()}
        == {"map.tiff", "map.png", "overlay.png", "picture.png", "scores.csv"}
    )
    write_xyz_tiff(toy / "small.tiff", view.xyz[:, :50, :50])
    assert "differ in size" in refusal(
        here(
            "predict",
            toy / "bank.safetensors",
            "--rgb",
            toy / "scan.png",
            "--xyz",
            toy / "small.tiff",
            "--out",
            toy / "small",
        )
    )
