"""What a learner is promised of a lesson: its size, results that are seen, questions before their
answers, exercises that check themselves.

`python tests/test_lessons.py` prints how each lesson stands.
"""

import ast
import contextlib
import importlib
import io
import json
import re
import statistics
import sys
import warnings
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
LESSONS = sorted((ROOT / "nbs/papers").glob("[0-9][0-9]_*.ipynb"))
NOTEBOOKS = [
    p
    for p in sorted((ROOT / "nbs").rglob("[0-9]*.ipynb"))
    if not any(s.startswith(("_", ".")) for s in p.relative_to(ROOT).parts)
]

MOST = {"words": 3000, "cells": 90, "code lines": 900, "median": 12, "longest": 70}
LEAST = {"shown": 0.7, "predictions": 4, "exercises": 3}
# what each lesson keeps by now: it may not be lost again
KEPT = {
    "40_cfm": (*MOST, *LEAST),
    "41_mafr": (*MOST, *LEAST),
    "42_crd": (*MOST, *LEAST),
    "43_idif": ("longest", "predictions"),
    "44_modmap": ("code lines", "median", "longest", "predictions"),
}

ASIDE = {"tests", "checker", "exercise", "solution"}  # they do not count as the lesson's text


@dataclass
class Cell:
    kind: str
    source: str
    tags: set[str]
    outputs: list[dict]

    @property
    def printed(self) -> str:
        return "".join(
            "".join(o.get("text", "")) for o in self.outputs if o["output_type"] == "stream"
        )


def cells_of(path: Path) -> list[Cell]:
    found = json.loads(path.read_text(encoding="utf-8"))["cells"]
    return [
        Cell(
            c["cell_type"],
            "".join(c["source"]),
            set(c["metadata"].get("tags", [])),
            c.get("outputs", []),
        )
        for c in found
    ]


def words_in(markdown: str) -> int:
    "Words that are read: no formulas, no code blocks, no addresses."
    text = re.sub(r"```.*?```|\$\$.*?\$\$", " ", markdown, flags=re.S)
    text = re.sub(r"\$[^$]*\$", " x ", text)
    text = re.sub(r"\]\([^)]*\)", "] ", text)
    return len([w for w in text.split() if re.search(r"[A-Za-z0-9]", w)])


def code_lines(source: str) -> int:
    "Lines with code: no blanks, comments, docstrings."
    plain = "\n".join("" if x.startswith(("%", "!")) else x for x in source.splitlines())
    left_out = set()
    for node in ast.walk(ast.parse(plain)):
        body = getattr(node, "body", None)
        documented = isinstance(node, (ast.FunctionDef, ast.ClassDef, ast.AsyncFunctionDef))
        if documented and ast.get_docstring(node, clean=False) is not None:
            left_out |= set(range(body[0].lineno, body[0].end_lineno + 1))
    lines = enumerate(source.splitlines(), 1)
    return sum(
        bool(x.strip()) and not x.lstrip().startswith("#") and i not in left_out for i, x in lines
    )


def section(cells: list[Cell], number: int) -> list[Cell]:
    "The cells from one `## N.` heading to the next."
    found, inside = [], False
    for cell in cells:
        if cell.kind == "markdown":
            for heading in re.findall(r"^## (\d+)\.", cell.source, re.M):
                inside = int(heading) == number
        if inside:
            found.append(cell)
    return found


PREDICT = re.compile(r"\*\*?Predict\b")


def unanswered(cells: list[Cell]) -> list[str]:
    "Questions that ask for a prediction without a result below them, or with one above."
    faults = []
    for i, cell in enumerate(cells):
        if cell.kind != "markdown" or not PREDICT.search(cell.source):
            continue
        question = cell.source[PREDICT.search(cell.source).start() :]
        below = []
        for later in cells[i + 1 :]:
            if later.kind == "markdown" and below and any(c.outputs for c in below):
                break
            if later.kind == "markdown" and re.search(r"^##+ ", later.source, re.M):
                break
            if later.kind == "code" and "tests" not in later.tags:
                below.append(later)
        if not any(c.outputs for c in below):
            faults.append(f"nothing is shown below: {question[:80]}")
        if re.search(r"\b(table|figure|picture|plot)s? above\b", question[:300]):
            faults.append(f"the answer stands above: {question[:80]}")
    return faults


def measured(path: Path) -> dict:
    "How a lesson stands: its sizes, and what is shown, asked and set as an exercise."
    cells = cells_of(path)
    counted = [c for c in cells if not c.tags & ASIDE]
    code = [code_lines(c.source) for c in counted if c.kind == "code"]
    theory = [c for c in section(cells, 3) if c.kind == "code" and not c.tags & ASIDE]
    asked = [c for c in cells if c.kind == "markdown" for _ in PREDICT.findall(c.source)]
    return {
        "words": sum(words_in(c.source) for c in cells if c.kind == "markdown"),
        "cells": len(counted),
        "code lines": sum(code),
        "median": statistics.median(code),
        "longest": max(code),
        "shown": sum(bool(c.outputs) for c in theory) / max(len(theory), 1),
        "predictions": len(asked) - len(unanswered(cells)),
        "exercises": sum("exercise" in c.tags for c in cells),
    }


def broken(found: dict) -> list[str]:
    "Which limits a lesson does not keep."
    return [k for k in MOST if found[k] > MOST[k]] + [k for k in LEAST if found[k] < LEAST[k]]


def name(path: Path) -> str:
    return f"{path.parent.name}/{path.stem}"


@pytest.mark.parametrize("path", LESSONS, ids=name)
def test_lesson_keeps_what_it_kept(path):
    found = measured(path)
    print(path.stem, {k: round(v, 2) for k, v in found.items()}, "over:", broken(found))
    lost = set(broken(found)) & set(KEPT.get(path.stem, ()))
    assert not lost, {k: (found[k], MOST.get(k, LEAST.get(k))) for k in lost}


WITH_EXERCISES = [p for p in NOTEBOOKS if any("exercise" in c.tags for c in cells_of(p))]


@pytest.mark.parametrize("path", WITH_EXERCISES, ids=name)
def test_exercises_are_whole(path):
    "A stub that says 'not yet', and below it a solution that verifies itself."
    cells = cells_of(path)
    stubs = [c for c in cells if "exercise" in c.tags]
    solutions = [c for c in cells if "solution" in c.tags]
    assert len(stubs) == len(solutions), f"{len(stubs)} stubs, {len(solutions)} solutions"
    for stub in stubs:
        assert ".check(" in stub.source and "not yet" in stub.printed, stub.source
    for solution in solutions:
        verified = re.search(r"the solution is right, (\d+) others are not", solution.printed)
        assert verified and int(verified.group(1)) >= 3, (
            f"a solution is verified with three wrong answers: {solution.source}"
        )


def names_of(path: Path) -> dict:
    "What a lesson's cells may use: its module, and what its cells import."
    cells = [c for c in cells_of(path) if c.kind == "code"]
    names = {}
    for cell in cells:
        if exported := re.search(r"^#\| default_exp (\S+)", cell.source, re.M):
            names |= vars(importlib.import_module(f"mvad.{exported.group(1)}"))
        plain = "\n".join("" if x.startswith(("%", "!")) else x for x in cell.source.splitlines())
        for node in ast.parse(plain).body:
            if isinstance(node, (ast.Import, ast.ImportFrom)):
                exec(ast.unparse(node), names)  # noqa: S102
    return names


SLOW = re.compile(r"\.fit\(|evaluate\(|toy_train\(")  # these run with their notebook only


@pytest.mark.parametrize("path", WITH_EXERCISES, ids=name)
def test_small_exercises_check_themselves(path):
    """Checker, stub and solution run here where they need nothing from the lesson above them.

    The others run with their notebook, in test_notebooks.
    """
    warnings.simplefilter("ignore")
    names = names_of(path)
    tagged = [c for c in cells_of(path) if c.tags & {"checker", "exercise", "solution"}]
    for cell in tagged:
        if SLOW.search(cell.source):
            continue
        with contextlib.redirect_stdout(io.StringIO()) as printed, contextlib.suppress(NameError):
            exec(cell.source, names)  # noqa: S102
            if "exercise" in cell.tags:
                assert "not yet" in printed.getvalue()
            if "solution" in cell.tags:
                assert "the solution is right" in printed.getvalue()


def test_a_poor_lesson_would_be_seen():
    def text(source):
        return Cell("markdown", source, set(), [])

    def shown(source, text="1"):
        return Cell("code", source, set(), [{"output_type": "stream", "text": [text]}])

    silent = Cell("code", "x = 1", set(), [])
    ask = text("*Predict:* what comes?")
    assert not unanswered([ask, silent, shown("x"), text("Why?")])
    assert unanswered([ask, silent, text("## 4. Next"), shown("x")])
    assert unanswered([text("*Predict*, before you look at the table above"), shown("x")])
    assert words_in("Two $x + y$ [words](a.md)\n$$ z = 1 $$\n```\ncode\n```") == 3
    assert code_lines('def f():\n    """One.\n\n    Two."""\n\n    # why\n    return 1\n') == 2
    assert len(section([text("## 3. A"), silent, text("## 4. B"), silent], 3)) == 2


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    for lesson in LESSONS:
        found = measured(lesson)
        print(lesson.stem, {k: round(v, 2) for k, v in found.items()}, "over:", broken(found))
        print(*(f"   {fault}" for fault in unanswered(cells_of(lesson))), sep="\n")
