"""One setting for all tests:
the checkout's own library, no user's cache, no window, no network by accident.
"""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
from filelock import FileLock

ROOT = Path(__file__).resolve().parent.parent
WORKER = "PYTEST_XDIST_WORKER" in os.environ  # tests run in several processes, with one cache
CACHE = os.environ["MVAD_CACHE"] if WORKER else tempfile.mkdtemp(prefix="mvad-test-cache-")

sys.path.insert(0, str(ROOT))
os.environ["PYTHONPATH"] = os.pathsep.join(
    [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
)  # for processes and kernels
os.environ["MVAD_CACHE"] = CACHE
os.environ.setdefault("MVAD_WORKERS", "0")  # nobody reads ahead unless a test wants it
os.environ["IN_TEST"] = "1"  # nbdev_export() inside a notebook does nothing
os.environ.setdefault("MPLBACKEND", "agg")
os.environ.setdefault(
    "PLOTLY_RENDERER", "plotly_mimetype"
)  # outside a kernel plotly would also emit HTML
os.environ.setdefault("HF_HUB_OFFLINE", "1")  # a test never downloads weights
os.environ.setdefault("JUPYTER_PLATFORM_DIRS", "1")
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(
        signal.SIGINT, signal.default_int_handler
    )  # a shell's background job ignores Ctrl-C, and so would the commands that tests interrupt


def pytest_configure(config):
    import mvad

    found = Path(mvad.__file__).resolve().parent
    assert found == ROOT / "mvad", (
        f"the tests would run a stale copy of the library: found {found}, expected {ROOT / 'mvad'}"
    )


def pytest_unconfigure(config):
    if not WORKER:
        shutil.rmtree(CACHE, ignore_errors=True)


def start(command: list, cwd: Path, **env) -> subprocess.CompletedProcess:
    "Run a program that must succeed."
    done = subprocess.run(
        [str(c) for c in command],
        cwd=cwd,
        capture_output=True,
        text=True,
        env={**os.environ, **env},
    )
    assert done.returncode == 0, f"{command}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    return done


def made_once(tmp_path_factory, name: str, make: Callable[[Path], None]) -> Path:
    """A folder that the first process of a test run makes, while the others wait for it.

    What costs a minute is not made once a process.
    """
    above = tmp_path_factory.getbasetemp()
    folder = (above.parent if WORKER else above) / name
    with FileLock(f"{folder}.lock"):
        done = folder / "done"
        if not done.exists():
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            make(folder)
            done.touch()
    return folder


def _build_wheel(folder: Path):
    never = shutil.ignore_patterns(
        ".git",
        ".venv",
        "venv",
        "out*",
        "build",
        "dist",
        "*.egg-info",
        "__pycache__",
        ".pytest_cache",
        ".ruff_cache",
    )

    def left_out(where, names):
        at_root = {"runs"} if Path(where) == ROOT else set()  # nbs/runs and mvad/runs are rooms
        return never(where, names) | at_root

    shutil.copytree(ROOT, folder / "checkout", ignore=left_out)
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation"]
    start([*build, "--outdir", folder / "dist", folder / "checkout"], folder)


@pytest.fixture(scope="session")
def wheel(tmp_path_factory) -> Path:
    "The wheel of this checkout, built from a copy of it."
    return next((made_once(tmp_path_factory, "build", _build_wheel) / "dist").glob("mvad-*.whl"))


@pytest.fixture(scope="session")
def installed(wheel, tmp_path_factory) -> Path:
    "A folder into which the wheel is installed; as PYTHONPATH it comes before the checkout."

    def install(folder: Path):
        pip = [sys.executable, "-m", "pip", "install", "--no-deps", "--quiet"]
        start([*pip, "--target", folder / "here", wheel], folder)

    return made_once(tmp_path_factory, "installed", install) / "here"


@pytest.fixture(scope="session")
def reproduced(installed, tmp_path_factory) -> tuple[Path, str]:
    """The installed command reproduced CFM's Table 6 at smoke scale:
    the folder with its report, and what it printed.
    """

    def reproduce(folder: Path):
        command = [sys.executable, "-m", "mvad.cli.main", "reproduce", "cfm/6", "--scale", "smoke"]
        done = start([*command, "--out", folder / "out"], folder, PYTHONPATH=str(installed))
        (folder / "printed.txt").write_text(done.stdout)

    folder = made_once(tmp_path_factory, "reproduced", reproduce)
    return folder / "out", (folder / "printed.txt").read_text()


@pytest.fixture
def toy(tmp_path, monkeypatch) -> Path:
    "A folder to work in, with a method that takes a second, and its data."
    import toy_runs

    toy_runs.make(tmp_path)
    monkeypatch.setenv("MVAD_NOTEBOOKS", str(tmp_path / "nbs"))
    return tmp_path
