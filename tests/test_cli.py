"""The command line as a person meets it: clear errors, runs that are skipped, cut, resumed and never half-written.

Most tests put a small notebook in the place of CFM's, through MVAD_NOTEBOOKS, and a tiny folder in the place of its data: what is tested is the runner."""
import contextlib
import io
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import nbformat
import numpy as np
import pytest

ROOT = Path(__file__).resolve().parent.parent
COMMAND = [sys.executable, "-m", "mvad.reproduce.cli"]

PARAMETERS = {"dataset": "mvtec3d", "root": "", "category": "", "table": "", "variant": "ours", "protocol": "paper", "scale": "laptop", "device": "cpu", "seed": 0, "out": ""}
WORK = '''
import json, os, random, time
from pathlib import Path
from tqdm.auto import tqdm
if category == "broken": raise ValueError("the lamp broke")
if category == "weightless":
    from mvad.core.sample import MvadError
    raise MvadError("needs weights DINO ViT-B/8", fix="put them there")
done = Path(out) / "steps.json"                              # a training that can be resumed
steps = json.loads(done.read_text()) if done.exists() else []
resumed = len(steps)
for i in tqdm(range(len(steps), 30), desc="training", initial=len(steps), total=30):
    steps.append(random.Random(f"{category} {seed} {i}").random())
    (Path(out) / "steps.tmp").write_text(json.dumps(steps)); os.replace(Path(out) / "steps.tmp", done)
    time.sleep(.2 if category == "slow" else .001)
'''
RECORD = '''
objects = [dict(id=f"{category}/{i}", defect=("good", "dent")[i % 2], **{b: steps[i] + (i % 2) * (.4 + .2 * k) for k, b in enumerate(("psi_2d", "psi_3d", "sum", "max", "product"))}) for i in range(20)]
rows = [dict(branch=b, defect=d, metric=m, estimator=e, size=[8, 8], value=.5 + .08 * k, n_good=10, n_defective=10) for k, b in enumerate(("psi_2d", "psi_3d", "sum", "max", "product"))
        for d in ("all", "dent") for m, e in (("I-AUROC", "exact"), ("P-AUROC", "exact"), *((f"AUPRO@{l}%", e) for l in (30, 10, 5, 1) for e in ("exact", "sampled")))]
run = dict(method="cfm", variant=variant, dataset=dataset, data="user" if root else "embedded", category=category, seed=seed, protocol=protocol, scale=scale)
record = dict(schema=1, run=run, hashes=dict(data="d", settings="s", code="c"), encoders={"2d": "toy"}, rows=rows, scores=objects, measured=dict(seconds=dict(fit=time.time()), resumed=resumed), environment={})
(Path(out) / "part").write_text(json.dumps(record)); os.replace(Path(out) / "part", Path(out) / "toy.record.json")
'''


@pytest.fixture
def toy(tmp_path, monkeypatch) -> Path:
    "A folder to work in; beside it a stand-in for CFM's notebook and a root with categories that hold one file each."
    def cell(text, *tags): return nbformat.v4.new_code_cell(text.strip(), metadata={"tags": list(tags)})
    parameters = "\n".join(f"{k} = {v!r}" for k, v in PARAMETERS.items())
    nb = nbformat.v4.new_notebook(cells=[cell(parameters, "parameters"), cell("raise RuntimeError('a lesson ran')", "lesson"), cell(WORK), cell(RECORD)])
    (tmp_path/"nbs/papers").mkdir(parents=True); nbformat.write(nb, tmp_path/"nbs/papers/40_cfm.ipynb")
    for category in ("plate", "ring", "slow", "broken", "weightless"):
        for role in ("rgb", "xyz"): (tmp_path/"data"/category/"train/good"/role).mkdir(parents=True)
        (tmp_path/"data"/category/"train/good/rgb/000.png").write_bytes(b"not looked at")
    monkeypatch.setenv("MVAD_NOTEBOOKS", str(tmp_path/"nbs"))
    return tmp_path


def mvad(*words, cwd: Path, **env) -> subprocess.CompletedProcess:
    return subprocess.run([*COMMAND, *map(str, words)], cwd=cwd, capture_output=True, text=True, env={**os.environ, **env})


def here(*words) -> subprocess.CompletedProcess:
    "The command in this very process, which has imported torch already; runs have kernels of their own as always."
    from mvad.reproduce.cli import main
    with contextlib.redirect_stdout(io.StringIO()) as said, contextlib.redirect_stderr(io.StringIO()) as told: status = main([str(w) for w in words])
    return subprocess.CompletedProcess(words, status, said.getvalue(), told.getvalue())


def reproduce(folder: Path, *categories: str, out: str = "out", more: tuple = (), tables: tuple = ("cfm/6",)) -> subprocess.CompletedProcess:
    return here("reproduce", *tables, "--root", folder/"data", "--scale", "smoke", "--out", folder/out, "--category", *categories, *more)


def records(out: Path) -> list[dict]:
    "All records below a folder without time, memory and environment."
    from mvad.core.evaluate import same_part
    return [same_part(json.loads(p.read_text())) for p in sorted(out.rglob("*.record.json"))]


def refusal(done: subprocess.CompletedProcess) -> str:
    "The one line with which a command refused."
    lines = done.stderr.strip().splitlines()
    assert done.returncode == 2 and len(lines) == 1 and lines[0].startswith("mvad: "), (done.returncode, done.stderr)
    return lines[0]


@pytest.mark.parametrize("words, says", [
    ("reproduce cfm/66", "unknown table; found cfm/66; expected for example cfm/6"),
    ("reproduce cfm6", "cfm/6"),
    ("reproduce cfm/6 --categories puck", "did you mean --category?"),
    ("reproduce cfm/6 --seed one", "invalid int value: 'one'"),
    ("reproduce cfm/6 --protocol strict", "choose from"),
    ("reproduce cfm/6 --device gpu", "unknown device"),
    ("reproduce cfm/6 --executor ray", "comes with a later version"),
    ("reproduce cfm/6 --jobs 0", "jobs must be at least 1"),
    ("reproduce cfm/6 --dataset candies", "invalid choice: 'candies'"),
    ("reproduce cfm/6 --scale paper", "needs the real data"),
    ("reproduce cfm/6 --category puk --scale smoke", "expected puck"),
    ("reproduce cfm/6 --root nowhere", "--root is not a folder; found nowhere"),
    ("reproduce cfm/6 --root data --category plat", "did you mean plate?"),
    ("reproduce cfm/6 --root nbs", "no category folder under the root"),
    ("reproduce cfm/6 --root realiad=data --root mvtec3d=data", "no table here uses"),
    ("reproduce cfm/6 --root data --out nbs/papers/40_cfm.ipynb/out", "cannot write into the output folder"),
    ("reproduce cfm/6 --root data --out /proc/mvad", "cannot write into the output folder"),
    ("data list mvtec3d --root nowhere", "no category folder"),
    ("data convert mvtec3d --root nowhere --out out", "no category folder"),
    ("train cfm --out model.pth", ".safetensors"),
    ("train cfn", "invalid choice"),
    ("predict model.safetensors --rgb a.png --xyz a.tiff", "cannot read the checkpoint"),
])
def test_bad_input_is_one_line(toy, words, says, monkeypatch):
    monkeypatch.chdir(toy)
    before = {p for p in toy.rglob("*") if p.name != ".lock"}
    assert says in refusal(here(*words.split()))
    left = {p for p in toy.rglob("*") if p.name != ".lock"} - before
    assert not [p for p in left if p.is_file()], f"left behind: {left}"


def test_a_foreign_checkpoint_is_refused(toy):
    import torch
    from safetensors.torch import save_file
    from mvad.core.detector import save_checkpoint
    save_file({"w": torch.ones(3)}, toy/"foreign.safetensors")
    save_checkpoint(toy/"other.safetensors", {"w": torch.ones(300)}, {}, "somebody_elses")
    (toy/"cut.safetensors").write_bytes((toy/"other.safetensors").read_bytes()[:-100])
    torch.save({"w": torch.ones(3)}, toy/"pickle.safetensors")
    for name, says in {"foreign": "no checkpoint of this library", "other": "somebody_elses", "cut": "truncated", "pickle": "pickle"}.items():
        line = refusal(here("predict", toy/f"{name}.safetensors", "--rgb", "a.png", "--xyz", "a.tiff"))
        assert says in line and f"{name}.safetensors" in line


def test_a_missing_extra_is_named(toy):
    program = "import sys; sys.modules['papermill'] = None; from mvad.reproduce.cli import main; sys.exit(main(sys.argv[1:]))"
    done = subprocess.run([sys.executable, "-c", program, "reproduce", "cfm/6", "--root", "data"], cwd=toy, capture_output=True, text=True)
    assert "pip install 'mvad[notebooks]'" in refusal(done)


def test_table_report_and_what_is_done_is_skipped(toy):
    done = reproduce(toy, "plate", more=("--seed", "0", "1"))
    assert done.returncode == 0, done.stderr
    assert "product" in done.stdout and "0.954" in done.stdout and "Which map sees which defect" in done.stdout and str(toy/"out/report.html") in done.stdout
    assert "runs" in done.stderr, "there is no progress bar"
    files = {p: p.stat().st_mtime_ns for p in (toy/"out/runs").rglob("*") if p.is_file()}
    assert sum(p.name == "notebook.ipynb" for p in files) == sum(p.name.endswith(".record.json") for p in files) == 2
    again = reproduce(toy, "plate", more=("--seed", "0", "1"), tables=("cfm/6", "cfm/9"))
    assert again.returncode == 0, again.stderr
    assert {p: p.stat().st_mtime_ns for p in (toy/"out/runs").rglob("*") if p.is_file()} == files, "something ran twice; table 9 uses the runs of table 6"
    executed = nbformat.read(next(p for p in files if p.name == "notebook.ipynb"), 4)
    assert "a lesson ran" not in json.dumps(executed) and "injected-parameters" in json.dumps(executed)


def test_a_failed_run_stops_nothing_and_shows(toy):
    done = reproduce(toy, "broken", "plate", "weightless")
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert "mvad: failed: cfm ours, broken, seed 0: ValueError: the lamp broke" in done.stderr
    line = next(x for x in done.stdout.splitlines() if x.startswith("product") and "I-AUROC" in x)
    assert re.search(r"failed .*failed +0\.\d+ +needs weights DINO ViT-B/8", line), line
    assert len(records(toy/"out")) == 1 and "the lamp broke" in (toy/"out/report.html").read_text()
    assert reproduce(toy, "plate", "weightless").returncode == 0, "absent weights are no failure"


def test_two_runs_with_one_seed_are_equal(toy):
    for out in ("one", "two"): assert reproduce(toy, "plate", out=out).returncode == 0
    assert records(toy/"one") == records(toy/"two") and len(records(toy/"one")) == 1


def test_several_at_a_time(toy):
    done = reproduce(toy, "plate", "broken", out="many", more=("--jobs", "2"))
    assert done.returncode == 1 and "ValueError: the lamp broke" in done.stderr, done.stderr
    assert reproduce(toy, "plate", out="single").returncode == 0 and records(toy/"many") == records(toy/"single")


def start_slow(toy: Path, out: str) -> subprocess.Popen:
    "A run of the slow category that is in the middle of its training."
    command = [*COMMAND, "reproduce", "cfm/6", "--root", "data", "--scale", "smoke", "--category", "slow", "--out", out]
    child = subprocess.Popen(command, cwd=toy, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    until(lambda: any(len(json.loads(p.read_text())) > 5 for p in (toy/out).rglob("cfm-ours-slow-*/steps.json")), 120)
    return child


def until(true, seconds: float):
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(.05)


def kernels_in(folder: Path) -> list[int]:
    "Processes that work in a folder or below it."
    import psutil
    def inside(p):
        try: return str(folder) in p.cwd()
        except psutil.Error: return False
    return [p.pid for p in psutil.process_iter() if p.pid != os.getpid() and inside(p)]


def test_killed_in_the_middle_it_resumes_to_the_same_result(toy):
    child = start_slow(toy, "cut")
    child.kill(); child.communicate()
    assert not list((toy/"cut/runs").glob("cfm-ours-slow-*[!t]/*.record.json")), "a killed run looks finished"
    until(lambda: not kernels_in(toy/"cut/runs"), 15)                        # its kernel ends by itself
    assert reproduce(toy, "slow", out="cut").returncode == 0
    assert reproduce(toy, "slow", out="whole").returncode == 0
    assert records(toy/"cut") == records(toy/"whole")
    resumed = [json.loads(p.read_text())["measured"]["resumed"] for p in (toy/"cut").rglob("*.record.json") if "slow" in p.parent.name]
    assert resumed[0] > 5 and not list((toy/"cut/runs").glob("*.part")), "it began anew instead of going on"


def test_cfm_killed_in_the_middle_gives_the_record_of_an_uninterrupted_run(reproduced, tmp_path):
    "The real notebook at smoke scale: two runs with one seed are equal, one of them killed during training and from a wheel the other."
    command = [*COMMAND, "reproduce", "cfm/6", "--scale", "smoke", "--category", "puck", "--out", "cut"]
    child = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    until(lambda: child.poll() is not None or list(tmp_path.glob("cut/runs/*.part/training.safetensors")), 300)
    assert child.poll() is None, "it ended before it could be killed"
    child.kill(); child.wait()
    assert not records(tmp_path/"cut") or list(tmp_path.glob("cut/runs/*.part")), "a killed run looks finished"
    until(lambda: not kernels_in(tmp_path/"cut/runs"), 15)
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    uninterrupted = [r for r in records(reproduced[0]) if r["run"]["category"] == "puck"]
    assert records(tmp_path/"cut") == uninterrupted and len(uninterrupted) == 1


def test_interrupted_it_says_so_and_leaves_no_kernel(toy):
    child = start_slow(toy, "stopped")
    child.send_signal(signal.SIGINT)
    _, err = child.communicate(timeout=60)
    assert child.returncode == 130 and "Traceback" not in err and "interrupted" in err.splitlines()[-1], err
    until(lambda: not kernels_in(toy/"stopped/runs"), 15)


def test_one_runner_a_folder(toy):
    from mvad.reproduce.runner import only_runner
    with only_runner(toy/"shared"): assert "another runner works in this folder" in refusal(reproduce(toy, "plate", out="shared"))


def test_a_full_disk_fails_the_run_and_leaves_nothing_half(toy):
    program = "import resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (3000, 3000)); from mvad.reproduce.cli import main; sys.exit(main(sys.argv[1:]))"
    done = subprocess.run([sys.executable, "-c", program, "reproduce", "cfm/6", "--root", "data", "--scale", "smoke", "--category", "plate"], cwd=toy, capture_output=True, text=True)
    assert done.returncode in (1, 2) and "Traceback" not in done.stderr and "File too large" in done.stderr, done.stderr
    assert not [p for p in (toy/"out/runs").iterdir() if p.suffix != ".part"] and not (toy/"out/report.html").exists()
    assert reproduce(toy, "plate").returncode == 0


def test_tables_and_data_are_listed(toy):
    done = mvad("tables", cwd=toy)
    assert done.returncode == 0 and re.search(r"cfm/6 +ready +Analysis of aggregation", done.stdout) and re.search(r"modmap/10 +(ready|later) +Fusing", done.stdout)
    assert len([x for x in done.stdout.splitlines() if re.match(r"\w+/\w+ ", x)]) == 46
    assert "mvtec3d" in here("data", "list").stdout


def test_own_scan_through_train_and_predict(toy):
    "A checkpoint is trained on the embedded data, and a scan of one's own, a pair of files, is scored with it."
    from mvad.data.base import write_png, write_xyz_tiff
    from mvad.data.synthetic import Synthetic
    done = mvad("train", "memory_bank", "--category", "puck", "--scale", "smoke", "--out", "bank.safetensors", cwd=toy)
    assert done.returncode == 0 and [p.name for p in toy.glob("*.safetensors")] == ["bank.safetensors"], done.stderr
    view = Synthetic(None, "puck", "test", size="smoke", background=True).only("colour")[0].view
    write_png(toy/"scan.png", view.rgb); write_xyz_tiff(toy/"scan.tiff", np.where(view.valid, view.xyz, np.nan))
    done = mvad("predict", "bank.safetensors", "--rgb", "scan.png", "--xyz", "scan.tiff", "--remove-plane", "--out", "found", cwd=toy)
    assert done.returncode == 0 and re.match(r"score \d", done.stdout), done.stderr
    found = np.load(toy/"found/map.npy")
    assert found.ndim == 2 and np.isfinite(found).all() and found.std() > 0 and {p.name for p in (toy/"found").iterdir()} == {"map.npy", "map.png", "picture.png"}
    write_xyz_tiff(toy/"small.tiff", view.xyz[:, :50, :50])
    assert "differ in size" in refusal(here("predict", toy/"bank.safetensors", "--rgb", toy/"scan.png", "--xyz", toy/"small.tiff"))
