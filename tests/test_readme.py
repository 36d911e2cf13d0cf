"""What the README and the index promise:
the same opening, links that lead somewhere, and library use that runs as it stands.
"""

import json
import re
import sys
from pathlib import Path

import nbrun
import results
from conftest import start

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
INDEX = "\n\n".join(
    "".join(c["source"])
    for c in json.loads((ROOT / "nbs/index.ipynb").read_text(encoding="utf-8"))["cells"]
    if c["cell_type"] == "markdown"
)


def test_same_title_and_summary():
    def opening(text):
        return re.match(r"# (.+)\n\s*> (.+?)\n\s*\n", text + "\n\n", re.S).groups()

    assert opening(README) == opening(INDEX)


def test_links_lead_somewhere():
    for text, base in (
        (README, ROOT),
        (INDEX, ROOT / "nbs"),
        ((ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8"), ROOT),
    ):
        lost = [
            link
            for link in re.findall(r"\]\(([^)#\s]+)\)", text)
            if "://" not in link and not (base / link).exists()
        ]
        assert not lost, f"links to nothing: {lost}"


def test_index_leads_to_every_notebook():
    there = {
        p.relative_to(ROOT / "nbs").as_posix()
        for p in (ROOT / "nbs").rglob("[0-9]*.ipynb")
        if not any(s.startswith(("_", ".")) for s in p.relative_to(ROOT).parts)
    }
    missing = there - set(re.findall(r"\]\(([^)]+\.ipynb)\)", INDEX))
    assert not missing, f"notebooks that the index does not name: {missing}"


def test_results_are_those_of_the_records():
    expected = results.lines()
    lost = [
        line for line in expected if line not in [given.strip() for given in README.splitlines()]
    ]
    assert not lost, (
        "the README's results are not the committed records'; python tests/results.py prints:\n"
        + "\n".join(expected)
    )


def test_index_runs():
    nbrun.run(ROOT / "nbs/index.ipynb")


def small(code):
    "The README's lines at the smallest scale."
    for split in ("train", "test"):
        code = code.replace(f'"{split}")', f'"{split}", size="smoke")')
    return code.replace('"laptop"', '"smoke"')


def test_library_use_runs_as_it_stands(tmp_path):
    (code,) = re.findall(r"```python\n(.*?)```", README, re.S)
    assert len([line for line in code.splitlines() if line.strip()]) <= 10
    done = start([sys.executable, "-c", small(code)], tmp_path)
    assert "psi" in done.stdout and (tmp_path / "cfm.safetensors").exists()


def test_commands_exist():
    "Every `make` target and every `mvad` command that the README names."
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.M))
    assert set(re.findall(r"(?<!data )\bmake ([a-z]+)", README)) <= targets
    known = start([sys.executable, "-m", "mvad.cli.main", "--help"], ROOT).stdout
    for command in set(re.findall(r"^mvad ([a-z]+)", README, re.M)):
        assert command in known, command
