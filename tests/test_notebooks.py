"""Every notebook runs, in this process and against the exported library, in an empty folder."""

from pathlib import Path

import nbrun
import pytest
from papermill.exceptions import PapermillExecutionError

from mvad.runs.run import NOT_RUN

ROOT = Path(__file__).resolve().parent.parent
NOTEBOOKS = [
    p
    for p in sorted((ROOT / "nbs").rglob("[0-9]*.ipynb"))
    if not any(s.startswith(("_", ".")) for s in p.relative_to(ROOT).parts)
]
TABLES = [p for p in NOTEBOOKS if p.parent.name == "papers" and p.name[2] == "_"]  # the lessons
SCALED = [
    p
    for p in NOTEBOOKS
    if p.parent.name in ("papers", "benchmarks") or "scale" in nbrun.parameters_of(p)
]
METHODS = TABLES + [p for p in SCALED if p.parent.name == "baselines"]  # what a run executes
OTHERS = [p for p in NOTEBOOKS if p not in SCALED]


def name(path: Path) -> str:
    return f"{path.parent.name}/{path.stem}"


def smoke(path: Path, out: Path) -> dict:
    "The smallest scale, as parameters that this notebook knows."
    least = {"scale": "smoke", "out": str(out), "categories": ["puck", "tile"], "seeds": [0]}
    least["methods"] = ["cfm", "idif"]
    return {k: v for k, v in least.items() if k in nbrun.parameters_of(path)}


@pytest.mark.parametrize("path", OTHERS, ids=name)
def test_room(path, tmp_path):
    nbrun.run(path, smoke(path, tmp_path / "out"))


@pytest.mark.parametrize("path", SCALED, ids=name)
def test_whole_notebook_at_smoke_scale(path, tmp_path):
    nbrun.run(path, smoke(path, tmp_path / "out"))


@pytest.mark.parametrize("path", METHODS, ids=name)
def test_method_without_its_lessons_and_tests(path, tmp_path):
    "What the runner executes: the method and nothing else."
    nbrun.run(path, smoke(path, tmp_path / "out"), drop=tuple(NOT_RUN))


@pytest.mark.parametrize("path", TABLES, ids=name)
def test_paper_rejects_unknown_scale(path, tmp_path):
    with pytest.raises(PapermillExecutionError, match="scale"):
        nbrun.run(path, {**smoke(path, tmp_path / "out"), "scale": "huge"}, drop=("lesson",))


def test_engine(tmp_path):
    """The engine itself: exported cells come from the library, dropped cells do not run, a failing
    cell fails the run.
    """
    import nbformat

    def notebook(*cells):
        nb = nbformat.v4.new_notebook(
            metadata={
                "kernelspec": {"name": "python3", "language": "python", "display_name": "python3"}
            }
        )
        nb.cells = [nbformat.v4.new_code_cell(s, metadata={"tags": tags}) for s, tags in cells]
        nbformat.write(nb, tmp_path / "n.ipynb")
        return tmp_path / "n.ipynb"

    good = [
        ("#| default_exp core.sample", []),
        ("n = 1", ["parameters"]),
        ("#| export\nclass MvadError(Exception): pass", []),
        ("assert n == 3 and MvadError.__module__ == 'mvad.core.sample'", []),
        ("1/0", ["lesson"]),
        ("#| eval: false\n1/0", []),
    ]
    nbrun.run(notebook(*good), {"n": 3}, drop=("lesson",))
    with pytest.raises(PapermillExecutionError, match="ZeroDivisionError"):
        nbrun.run(notebook(*good), {"n": 3})
    assert nbrun.parameters_of(notebook(*good)) == {"n"}
    assert nbrun.bound_names(
        "import a.b, c as d\nfrom e import f\nif x:\n    g = 1\ndef h(i): j = 1\nk, (l, m) = [n for"
        " n in o]"
    ) == ["a", "d", "f", "g", "h", "k", "l", "m"]
