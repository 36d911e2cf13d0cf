"""Tables from the command's own path at smoke scale:
every run ends, every computed row has numbers.

CI computes the tables below, which together train every kind of network of a paper once. All
others:

    MVAD_TABLES=all pytest tests/test_tables_smoke.py          or, as a user does it: mvad reproduce
    all --scale smoke
    MVAD_TABLES="cfm/10 mafr/2" pytest tests/test_tables_smoke.py
"""

import os

import nbrun  # noqa: F401  its engine runs a notebook in this process
import pytest

from mvad.data.layout import make
from mvad.reproduce.plan import reproduce
from mvad.reproduce.tables import SPECS, missing, table

SUBSET = "cfm/8 mafr/4 crd/7 idif/2 modmap/6"
asked = os.environ.get("MVAD_TABLES", SUBSET)
NAMES = (
    [n for n, s in SPECS.items() if s.runs() and not missing(s)]
    if asked == "all"
    else asked.split()
)


@pytest.mark.parametrize("name", NAMES)
def test_table(name, tmp_path):
    spec = SPECS[name]
    done = reproduce(
        [spec], tmp_path, scale="smoke", categories=["puck"], engine="inprocess", progress=False
    )
    failed = {o.run.variant: o.error for o in done.outcomes[name] if o.status == "failed"}
    assert not failed
    filled = table(spec, done.records(name), done.failures(name))
    need_weights = {o.run.variant for o in done.outcomes[name] if o.status == "needs"}
    for row in spec.rows:
        if row.variant is None:
            assert set(filled.loc[row.label].ours) == {"quoted"}
        elif row.variant in need_weights:
            assert all(v.startswith("needs weights") for v in filled.loc[row.label].ours)
        else:
            assert all(isinstance(v, float) for v in filled.loc[row.label].ours), filled.loc[
                row.label
            ]


def test_own_root_and_own_textures(tmp_path):
    """A table on a folder in a data set's layout, whose lists lie apart from its images, with
    defects painted from a folder of textures.
    """
    make("realiad", tmp_path / "Real-IAD", categories=["puck"], progress=False)
    make("dtd", tmp_path / "dtd", progress=False)
    done = reproduce(
        [SPECS["idif/1"]],
        tmp_path / "out",
        scale="smoke",
        roots={"realiad": str(tmp_path / "Real-IAD"), "dtd": str(tmp_path / "dtd")},
        engine="inprocess",
        progress=False,
    )
    assert done.ok and {
        (r["run"]["data"], r["encoders"]["textures"].split(",")[0]) for r in done.records("idif/1")
    } == {("user", "DTD")}
