"""One setting for all tests: the checkout's own library, no user's cache, no window, no network by accident."""
import os
import shutil
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CACHE = tempfile.mkdtemp(prefix="mvad-test-cache-")

sys.path.insert(0, str(ROOT))
os.environ["PYTHONPATH"] = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])    # for processes and kernels
os.environ["MVAD_CACHE"] = CACHE
os.environ["IN_TEST"] = "1"                                       # nbdev_export() inside a notebook does nothing
os.environ.setdefault("MPLBACKEND", "agg")
os.environ.setdefault("PLOTLY_RENDERER", "plotly_mimetype")       # outside a kernel plotly would also emit HTML
os.environ.setdefault("HF_HUB_OFFLINE", "1")                      # a test never downloads weights
os.environ.setdefault("JUPYTER_PLATFORM_DIRS", "1")


def pytest_configure(config):
    import mvad
    found = Path(mvad.__file__).resolve().parent
    assert found == ROOT/"mvad", f"the tests would run a stale copy of the library: found {found}, expected {ROOT/'mvad'}"


def pytest_unconfigure(config):
    shutil.rmtree(CACHE, ignore_errors=True)
