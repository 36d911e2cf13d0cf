"""The clouds and volumes that notebooks store turn with the mouse, without asking the network for
anything.
"""

import json
from pathlib import Path

import browser
import pytest

ROOT = Path(__file__).resolve().parent.parent
FIGURE = "application/vnd.plotly.v1+json"
PLOT = "document.querySelector('.js-plotly-plot')._fullLayout"
CAMERA = f"JSON.stringify({PLOT}.scene._scene.getCamera().eye)"


def clouds() -> dict[str, dict]:
    "The first stored 3D figure of each data notebook, and of those that show volumes."
    found = {}
    for path in [
        *sorted((ROOT / "nbs/data").glob("2*.ipynb")),
        ROOT / "nbs/core/04a_volume.ipynb",
        ROOT / "nbs/papers/44_modmap.ipynb",
    ]:
        outputs = (
            o
            for c in json.loads(path.read_text(encoding="utf-8"))["cells"]
            for o in c.get("outputs", [])
        )
        figures = (f for o in outputs if (f := o.get("data", {}).get(FIGURE)))
        first = next((f for f in figures if any(t["type"] == "scatter3d" for t in f["data"])), None)
        if first:
            found[path.stem] = first
    return found


def test_data_sets_with_points_show_a_cloud():
    assert {name.partition("_")[2] for name in clouds()} >= {
        "mvtec3d",
        "eyecandies",
        "realiad_d3",
        "sim3d",
        "multiview",
        "volume",
        "modmap",
    }


@pytest.fixture(scope="module")
def page():
    with browser.chromium() as p:
        yield p


@pytest.mark.parametrize("name", clouds())
def test_cloud_turns(name, page, tmp_path):
    import plotly.graph_objects as go
    from selenium.webdriver.common.by import By

    stored = clouds()[name]
    go.Figure({k: stored[k] for k in ("data", "layout")}).write_html(
        tmp_path / "cloud.html", include_plotlyjs=True
    )
    browser.requests(page)
    page.get((tmp_path / "cloud.html").as_uri())
    browser.until(
        page,
        "!!(document.querySelector('.js-plotly-plot') &&"
        " document.querySelector('.js-plotly-plot')._fullLayout?.scene?._scene)",
        60,
    )
    eye = browser.settled(page, CAMERA, quiet=0.5)
    browser.drag(page, page.find_element(By.CSS_SELECTOR, ".js-plotly-plot"), 96, 48)
    browser.until(page, f"{CAMERA} !== {eye!r}", 20)
    assert not [r for r in browser.requests(page) if not r.startswith("file:")]
