"""`mvad data check --deep` finds what is wrong:
one line a fault, which names the file, what was found and what was expected.

Each `planted_<layout>.py` beside this file holds a layout's faults. A tree is written once, and
damaged in a copy of its own.
"""

import importlib
import os
import shutil
import tempfile
from pathlib import Path

import pytest

from mvad.data.layout import make
from mvad.cli.main import main

PLANTED = {
    p.stem.removeprefix("planted_"): importlib.import_module(p.stem)
    for p in sorted(Path(__file__).parent.glob("planted_*.py"))
}
CASES = [
    pytest.param(layout, *fault, id=f"{layout}: {name}")
    for layout, room in PLANTED.items()
    for name, fault in room.FAULTS.items()
]


@pytest.fixture(scope="session")
def trees(tmp_path_factory):
    "Sound trees, one a layout, each made when first asked for."
    made = {}

    def tree(layout: str) -> Path:
        if layout not in made:
            folder = tmp_path_factory.mktemp(layout) / "tree"
            room = PLANTED.get(layout)
            made[layout] = (
                room.make_tree(folder) or folder
                if hasattr(room, "make_tree")
                else make(layout, folder, progress=False)
            )
        return made[layout]

    return tree


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("MVAD_CACHE", str(tmp_path / "cache"))


def looked_over(layout: str, root: Path, capsys) -> tuple[int, list[str]]:
    "Exit status and fault lines of the deep check."
    status = main(["data", "check", layout, "--root", str(root), "--deep", "--jobs", "1"])
    out, err = capsys.readouterr()
    assert status < 2, err
    return status, [line for line in out.splitlines() if line.startswith("fault: ")]


@pytest.mark.parametrize("layout", sorted(PLANTED))
def test_a_sound_tree_has_no_fault(layout, trees, capsys):
    assert looked_over(layout, trees(layout), capsys) == (0, [])


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    "layout,spoil,fragments",
    [pytest.param(c.values[0], c.values[1], c.values[2:], id=c.id) for c in CASES],
)
def test_planted(layout, spoil, fragments, trees, tmp_path, capsys):
    root = tmp_path / "tree"
    shutil.copytree(trees(layout), root, symlinks=True)
    spoil(root)
    status, lines = looked_over(layout, root, capsys)
    assert status == 1
    assert [line for line in lines if all(f in line for f in fragments)], (fragments, lines)


def test_there_are_enough_of_them():
    assert len(CASES) >= 25


@pytest.mark.skipif(os.name != "posix", reason="permissions as on Unix")
def test_a_file_without_permission(trees, capsys):
    "As root nothing is forbidden, so root becomes nobody for a moment."
    sound = trees("mvtec3d")
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        root = Path(folder) / "tree"
        shutil.copytree(sound, root)
        (root / "tile/train/good/rgb/000.png").chmod(0)
        os.environ["MVAD_CACHE"] = f"{folder}/cache"
        os.makedirs(f"{folder}/cache", mode=0o777)
        os.chmod(f"{folder}/cache", 0o777)
        looked_over("mvtec3d", root, capsys)  # as root: imports all that is needed
        os.chmod(f"{folder}/cache/checks", 0o777)
        if os.geteuid() == 0:
            os.seteuid(65534)
        try:
            status, lines = looked_over("mvtec3d", root, capsys)
        finally:
            if os.getuid() == 0:
                os.seteuid(0)
    assert (
        status == 1
        and len(lines) == 1
        and "tile/train/good/rgb/000.png" in lines[0]
        and "Permission denied" in lines[0]
    )
