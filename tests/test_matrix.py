"""The cross matrix at smoke scale:
every method runs on every data set where the specification says it can.

CI fills one line. All of them, some ten minutes:

    MVAD_MATRIX=all pytest tests/test_matrix.py                  or, as a user does it: mvad
    reproduce matrix --scale smoke --category puck
    MVAD_MATRIX="realiad mvtec" pytest tests/test_matrix.py
"""

import os
from dataclasses import replace

import nbrun  # noqa: F401  its engine runs a notebook in this process
import pytest

from mvad.reproduce.matrix import (
    cross_matrix,
    kept_matrix,
    matrix_data,
    read_matrix,
)
from mvad.reproduce.plan import reproduce
from mvad.reproduce.site import write_site
from mvad.reproduce.specs import MATRIX_METRICS, matrix_spec

asked = os.environ.get("MVAD_MATRIX", "")
SPECS = [matrix_spec(d) for d in (matrix_spec().datasets if asked == "all" else asked.split())] or [
    replace(s := matrix_spec("mvtec"), rows=s.rows[:1])
]


@pytest.mark.parametrize("spec", SPECS, ids=lambda s: s.name)
def test_matrix(spec, tmp_path):
    done = reproduce(
        [spec], tmp_path, scale="smoke", categories=["puck"], engine="inprocess", progress=False
    )
    assert done.ok, [o.error for o in done.outcomes[spec.name] if o.error]
    data = matrix_data(done, spec)
    for row in data["rows"]:
        assert row["values"].keys() >= set(
            MATRIX_METRICS[: 1 if row["dataset"] == "sim3d" else 2]
        ) and row["costs"].keys() == {"fit_s", "sample_ms", "weights_mb", "peak_mb"}, row
    found = cross_matrix(data, spec.dataset)
    assert (
        len(found) == len(spec.rows)
        and found.notna().all().all()
        and data["command"].startswith(f"mvad reproduce {spec.name} --category puck")
    )
    assert (
        'id="cross"'
        in (write_site(done).parent / "tables" / f"{spec.name.replace('/', '-')}.html").read_text()
    )
    assert read_matrix(tmp_path / "tables" / f"{spec.name.replace('/', '-')}.json") == data


def test_the_kept_matrix_is_whole():
    """What the index shows:
    every line of the specification, with numbers, how they were computed, and no line that failed.
    """
    data = kept_matrix()
    rows = {(r["dataset"], r["method"], r["variant"]): r for r in data["rows"]}
    assert set(rows) == {(r.dataset, r.method, r.variant) for r in matrix_spec().rows}
    assert all(r["values"] and r["costs"] and "says" not in r for r in rows.values())
    assert (
        data["command"].startswith("mvad reproduce matrix ")
        and "--scale laptop" in data["command"]
        and data["device"]
        and data["versions"]
    )
