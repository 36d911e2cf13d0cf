"""A colleague's folder of results is shown as text, whatever stands in its fields."""

import json
import re
import warnings
from copy import deepcopy
from dataclasses import asdict
from pathlib import Path

import pytest

from mvad.core.evaluate import read_record
from mvad.core.sample import MvadError
from mvad.reproduce.plan import Reproduction, read_reproduction, write_note
from mvad.reproduce.site import write_site
from mvad.reproduce.specs import SPECS
from mvad.runs.run import LOG, NOTEBOOK, Outcome, Run

HTML = "<img src=x onerror=alert(1)><script>alert(2)</script>\"'>{{ 7*7 }}"


def a_record(run: Run) -> dict:
    rows, scores = [], []
    for metric in ("I-AUROC", "P-AUROC", "AUPRO@30%"):
        for defect in ("all", HTML):
            for branch in ("product", HTML):
                row = dict(branch=branch, defect=defect, metric=metric, estimator="sampled")
                rows.append(row | dict(size=[8, 8], value=0.5, n_good=1, n_defective=1))
    for defect in ("good", HTML):
        scores.append({"id": HTML, "defect": defect, "product": 0.5, HTML: 0.5})
    told = {HTML: HTML}
    record = dict(schema=1, run=run.settings(), hashes=told, encoders=told, rows=rows)
    seconds = dict(seconds={"fit": 1.0, HTML: 1.0}, memory_bytes={HTML: 1.0})
    record |= dict(scores=scores, measured=seconds)
    return record | dict(environment=dict(device=HTML, versions=told))


@pytest.fixture
def results(tmp_path) -> Path:
    """A folder with two runs, HTML in every field of their records, notes, notebooks and logs."""
    usual = Run("cfm", "ours", "mvtec3d", HTML, protocol=HTML, scale=HTML, root=HTML)
    strange = Run(HTML, HTML, "mvtec3d", HTML, protocol=HTML, scale=HTML, root=HTML)
    outcomes = []
    for run, name in ((usual, "usual"), (strange, HTML.replace("/", "_"))):
        folder = tmp_path / "runs" / name
        folder.mkdir(parents=True)
        outcomes.append(Outcome(run, folder, "done", says=HTML, error=HTML))
        (folder / "a.record.json").write_text(json.dumps(a_record(run)))
        (folder / LOG).write_text(HTML)
        output = dict(output_type="error", ename=HTML, evalue=HTML)
        cell = dict(cell_type="code", source=HTML, outputs=[output, {"text": HTML}])
        (folder / NOTEBOOK).write_text(json.dumps(dict(cells=[cell])))
    lost = Outcome(usual, tmp_path / "runs/lost", "failed", says=HTML, error=HTML)
    write_note(Reproduction(tmp_path, (SPECS["cfm/6"],), {"cfm/6": [*outcomes, lost]}))
    return tmp_path


def test_no_field_of_a_record_becomes_part_of_a_page(results):
    write_site(read_reproduction(results))
    pages = list(results.rglob("*.html"))
    assert len(pages) >= 4
    for page in pages:
        text = page.read_text()
        assert "<img src=x" not in text and "alert(2)</script>" not in text, page
        assert not re.search(r"=\"[^\"]*\"'>\{\{ 7", text) and ">49<" not in text, page
    assert "&lt;img src=x onerror=alert(1)&gt;" in (results / "report.html").read_text()


def leaves(value, path=()):
    """The paths of all numbers in a record."""
    if isinstance(value, dict):
        for key, part in value.items():
            yield from leaves(part, (*path, key))
    elif isinstance(value, list):
        for i, part in enumerate(value):
            yield from leaves(part, (*path, i))
    elif isinstance(value, (int, float)):
        yield path


def test_a_number_that_is_none_is_named_and_left_out(results):
    file = results / "runs/usual/a.record.json"
    record = json.loads(file.read_text())
    shown_as_text = {"size", "n_good", "n_defective"}  # nothing reads them as numbers
    for path in leaves(record):
        if path[-1 if isinstance(path[-1], str) else -2] in shown_as_text:
            continue
        spoiled = deepcopy(record)
        place = spoiled
        for key in path[:-1]:
            place = place[key]
        place[path[-1]] = HTML
        file.write_text(json.dumps(spoiled))
        with pytest.raises(MvadError, match="unreadable record"):
            read_record(file)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        write_site(read_reproduction(results))
    assert any(str(file) in str(w.message) for w in told)


def test_a_note_with_other_kinds_of_values_is_left_out(results):
    """The records say then what there is."""
    note = results / "reproduction.json"
    whole = json.loads(note.read_text())
    outcome = whole["tables"]["cfm/6"][0]
    for changed in ({"seconds": HTML}, {"status": HTML}, {"run": {**outcome["run"], "seed": HTML}}):
        note.write_text(json.dumps({"tables": {"cfm/6": [outcome | changed]}}))
        with pytest.warns(UserWarning, match="left out, damaged"):
            found = read_reproduction(results)
        assert [o.folder.name for o in found.outcomes["cfm/6"]] == ["usual"]
    assert asdict(found.every[0].run)["category"] == HTML
