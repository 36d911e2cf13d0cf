"""Set-up where nothing is:
a minimal Debian without a compiler, and wheels for every Python that is named.
"""

import os
import shutil
import subprocess
import sys
from configparser import ConfigParser
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


@pytest.mark.skipif(not os.environ.get("MVAD_BARE"), reason="ten minutes, root: MVAD_BARE=1")
def test_demo_runs_on_a_machine_that_has_nothing(tmp_path):
    assert shutil.which("debootstrap"), "apt-get install debootstrap"
    subprocess.run([str(ROOT / "tests/bare.sh"), str(tmp_path / "debian")], check=True)


def requirements(*keys: str) -> list[str]:
    ini = ConfigParser(delimiters=["="])
    ini.read(ROOT / "settings.ini", encoding="utf-8")
    return [word for key in keys for word in ini["DEFAULT"][key].split()]


@pytest.mark.skipif(not os.environ.get("MVAD_NETWORK"), reason="asks PyPI: MVAD_NETWORK=1")
@pytest.mark.parametrize("version", ["3.10", "3.11", "3.12", "3.13"])
def test_every_dependency_has_a_wheel(version, tmp_path):
    "The library and its notebooks, resolved for a Python without installing anything."
    asked = requirements("requirements", "notebooks_requirements")
    how = ["--dry-run", "--ignore-installed", "--only-binary=:all:", "--no-build-isolation"]
    where = ["--python-version", version, "--target", str(tmp_path)]
    command = [sys.executable, "-m", "pip", "install", "--quiet", *how, *where, *asked]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]


def test_no_dependency_needs_a_compiler():
    "Farthest point sampling was the one that did."
    asked = requirements("requirements", "notebooks_requirements", "dev_requirements")
    assert not [word for word in asked if word.startswith("fpsample")]
