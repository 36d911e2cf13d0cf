"""What comes from outside of a run is not its own failure, and changes none of its numbers:
kernels that die or do not start, a user's startup files and modules, Ctrl-C in a terminal.
"""

import os
import resource
import signal
import sys
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest
from toy_runs import kernels_in, records, reproduce, start_gated, undisturbed, until

from mvad.runs.execute import execute, failed_before
from mvad.runs.run import Run

RUN = Run("cfm", "ours", "mvtec3d", "plate", scale="smoke")


@pytest.fixture
def run(toy) -> Run:
    return replace(RUN, root=str(toy / "data"))


def test_a_kernel_that_dies_at_once_is_not_the_runs_own_failure(toy, run, monkeypatch):
    monkeypatch.setattr(sys, "executable", "/bin/false")
    died = execute(run, toy / "runs/one")
    assert died.status == "failed" and "Kernel died" in died.error
    assert failed_before(toy / "runs/one", run) is None
    monkeypatch.undo()
    monkeypatch.setenv("MVAD_NOTEBOOKS", str(toy / "nbs"))
    assert execute(run, toy / "runs/one").status == "done"


def test_too_few_file_descriptors_are_not_the_runs_own_failure(toy, run):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = max(map(int, os.listdir("/proc/self/fd"))) + 8
    taken = []
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
        with suppress(OSError):
            while True:
                taken.append(os.open(os.devnull, os.O_RDONLY))
        for _ in range(3):
            os.close(taken.pop())
        starved = execute(run, toy / "runs/one")
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        for opened in taken:
            os.close(opened)
    assert starved.status == "failed" and failed_before(toy / "runs/one", run) is None


def test_what_the_user_has_installed_changes_no_number(toy, monkeypatch):
    """Startup files of IPython and Python, a kernel of the same name, a module in the folder."""
    expected = undisturbed(toy, "plate", "ring")
    spoils = "import random\nrandom.Random = lambda *args: random._inst\n"
    for name in ("profile/profile_default/startup/00.py", "startup.py"):
        (toy / name).parent.mkdir(parents=True, exist_ok=True)
        (toy / name).write_text(spoils)
    kernel = toy / "jupyter/kernels/python3/kernel.json"
    kernel.parent.mkdir(parents=True)
    kernel.write_text('{"argv": ["/bin/false"], "display_name": "mine", "language": "python"}')
    (toy / "json.py").write_text("raise SystemExit('the wrong json')")
    monkeypatch.setenv("IPYTHONDIR", str(toy / "profile"))
    monkeypatch.setenv("PYTHONSTARTUP", str(toy / "startup.py"))
    monkeypatch.setenv("JUPYTER_PATH", str(toy / "jupyter"))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([os.environ["PYTHONPATH"], ""]))
    monkeypatch.chdir(toy)
    done = reproduce(toy, "plate", "ring", more=("--jobs", "2"))
    assert done.returncode == 0, done.stderr
    assert records(toy / "out") == expected


@pytest.mark.parametrize("more", [(), ("--seed", 0, 1, "--jobs", 2)], ids=["one", "two"])
def test_ctrl_c_in_a_terminal_is_one_line(toy, more):
    """A terminal sends it to every process of the command's group."""
    child = start_gated(toy, "out", *more, runs=2 if more else 1, start_new_session=True)
    os.killpg(child.pid, signal.SIGINT)
    _, err = child.communicate(timeout=60)
    told = [line for line in err.splitlines() if " runs" not in line]
    assert child.returncode == 130, err
    assert told == ["mvad: interrupted; the same command goes on where this one stopped"], err
    until(lambda: not kernels_in(toy / "out/runs"), 15)
    assert not list(Path(toy).glob("out/runs/*.part/failed.json"))
