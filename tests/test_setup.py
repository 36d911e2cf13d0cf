"""Set-up on machines that lack something:
one command is named, or it is installed; nothing happens where all is there.
"""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
needs_bash = pytest.mark.skipif(
    os.name != "posix" or os.uname().sysname != "Linux" or not shutil.which("bash"),
    reason="needs bash on Linux",
)


def fake(folder: Path, name: str, body: str) -> Path:
    path = folder / name
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)
    return path


def system(
    folder: Path, *lists: str, user: str, missing: str = "libusb-1.0-0", sudo: str = "exit 1"
):
    """Run .ci/system with a Python that reports a missing library, and with apt-get, id and sudo
    that only write down what they were asked.
    """
    fake(folder, "apt-get", f'echo "apt-get $*" >> {folder}/asked')
    fake(folder, "id", f"echo {user}")
    fake(folder, "sudo", sudo)
    python = fake(folder, "python", f'cat >/dev/null; [ -z "{missing}" ] || echo {missing}')
    done = subprocess.run(
        [str(ROOT / ".ci/system"), str(python), *lists],
        capture_output=True,
        text=True,
        env={**os.environ, "PATH": f"{folder}:{os.environ['PATH']}"},
    )
    return done, (folder / "asked").read_text() if (folder / "asked").exists() else ""


@needs_bash
def test_user_is_told_the_one_command(tmp_path):
    done, asked = system(tmp_path, "open3d", user="1000")
    assert done.returncode == 1 and not asked
    assert (
        "sudo apt-get update && sudo apt-get install -y --no-install-recommends libusb-1.0-0"
        in done.stderr
    )


@needs_bash
@pytest.mark.parametrize(
    "user, sudo",
    [("0", "exit 1"), ("1000", '[ "$1" = -n ] && shift; exec "$@"')],
    ids=["root", "passwordless sudo"],
)
def test_missing_library_is_installed(tmp_path, user, sudo):
    done, asked = system(tmp_path, "open3d", user=user, sudo=sudo)
    assert done.returncode == 0, done.stderr
    assert "apt-get install -y --no-install-recommends libusb-1.0-0" in asked


@needs_bash
def test_nothing_missing_nothing_done(tmp_path):
    done, asked = system(tmp_path, "open3d", user="0", missing="")
    assert done.returncode == 0 and not asked and not done.stdout + done.stderr


@needs_bash
def test_make_without_a_suitable_python(tmp_path):
    if not shutil.which("make"):
        pytest.skip("make is not installed")
    done = subprocess.run(
        ["make", "setup", f"VENV={tmp_path}/venv", "PYTHON="],
        cwd=ROOT,
        capture_output=True,
        text=True,
        env={k: v for k, v in os.environ.items() if not k.startswith("MAKE")},
    )
    assert (
        done.returncode != 0 and "Python 3.10" in done.stderr and not (tmp_path / "venv").exists()
    )


@needs_bash
def test_make_on_a_disk_that_is_too_full(tmp_path):
    if not shutil.which("make"):
        pytest.skip("make is not installed")
    fake(
        tmp_path,
        "df",
        "echo 'Filesystem 1M-blocks Used Available Capacity Mounted'; echo '/dev/vda 250000 249700"
        " 300 100% /'",
    )
    done = subprocess.run(
        ["make", "setup", f"VENV={tmp_path}/venv"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        env={
            **{k: v for k, v in os.environ.items() if not k.startswith("MAKE")},
            "PATH": f"{tmp_path}:{os.environ['PATH']}",
        },
    )
    assert (
        done.returncode != 0
        and "300 MB are free" in done.stderr
        and not (tmp_path / "venv").exists()
    )
