"""`mvad data make` writes every layout, `mvad data check` finds nothing wrong with it, and a kill
in the middle leaves no trace in the end.
"""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from mvad.data.base import dataset_class, load_dataset
from mvad.core.registry import layout_names
from mvad.data.layout import SUMS, layout_class
from mvad.cli.main import main

ROOT = Path(__file__).resolve().parent.parent


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("layout", layout_names())
def test_make_then_check(layout, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("MVAD_CACHE", str(tmp_path / "cache"))
    category = layout_class(layout)("small").known[0]
    root = tmp_path / "tree"
    assert (
        main(
            ["data", "make", layout, "--out", str(root), "--size", "small", "--category", category]
        )
        == 0
    )
    assert (
        main(["data", "check", layout, "--root", str(root)]) == 0
        and main(["data", "check", layout, "--root", str(root), "--deep"]) == 0
    )
    assert "no fault" in capsys.readouterr().out
    home = dataset_class(layout).find_root(root)
    for split in dataset_class(layout).splits(home, category):
        sample = load_dataset(layout, home, category, split)[-1]
        views = [sample.views[i] for i in sample.present]
        assert len(views) == len(sample.views) and all(np.ptp(v.rgb) > 0.1 for v in views)
    assert (
        main(["data", "list", layout, "--root", str(root)]) == 0
        and category in capsys.readouterr().out
    )


@pytest.mark.skipif(not os.environ.get("MVAD_SLOW"), reason="a minute: MVAD_SLOW=1")
def test_killed_and_made_again(tmp_path):
    """Two workers, killed after some objects.

    The second run ends with the bytes of an undisturbed one.
    """

    def command(out):
        return [
            sys.executable,
            "-m",
            "mvad.cli.main",
            "data",
            "make",
            "mvtec",
            "--out",
            str(out),
            "--category",
            "puck",
            "--jobs",
            "2",
        ]

    journal = tmp_path / "cut" / ".make.jsonl"
    program = subprocess.Popen(command(tmp_path / "cut"), cwd=ROOT, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while not journal.exists() or len(journal.read_text().splitlines()) < 5:
        assert time.monotonic() < deadline and program.poll() is None, (
            "it ended before it could be killed"
        )
        time.sleep(0.005)
    program.send_signal(signal.SIGKILL)
    program.wait()
    assert not (tmp_path / "cut" / SUMS).exists()
    for out in ("cut", "whole"):
        subprocess.run(command(tmp_path / out), cwd=ROOT, check=True, capture_output=True)
    assert (tmp_path / "cut" / SUMS).read_text() == (tmp_path / "whole" / SUMS).read_text()
    subprocess.run(["sha256sum", "--check", "--quiet", SUMS], cwd=tmp_path / "cut", check=True)
    assert not list((tmp_path / "cut").rglob("*.part"))
