"""What a user sees, in a real browser:
the explorer in JupyterLab, and the report without a network.

Screenshots lie in $MVAD_SCREENSHOTS, or in pytest's temporary folder.
"""

import base64
import io
import json
import os
from pathlib import Path

import browser
import nbformat
import numpy as np
import pytest

FIGURE = "document.querySelector('.widget-box .js-plotly-plot')"
EYE = f"JSON.stringify({FIGURE}._fullLayout.scene._scene.getCamera().eye)"

EXPLORE = """
import numpy as np
from types import SimpleNamespace as Prediction  # the detectors' own imports torch
from mvad.core.sample import Sample, View
from mvad.core.show import explorer

v, u = np.mgrid[:48, :64].astype(np.float32)
bump = np.exp(-((u - 40) ** 2 + (v - 20) ** 2) / 60)


def seen(height, gt):
    xyz = np.stack([u, v, 60 - height * bump]).astype(np.float32) / 1000
    return View(
        rgb=np.stack([u / 64, v / 48, 0.4 + 0 * u]).astype(np.float32),
        xyz=xyz,
        valid=np.ones((48, 64), bool),
        gt=(bump > 0.5) & gt,
    )


samples = [
    Sample("000", "toy", "test", "good", (seen(4, False),)),
    Sample("001", "toy", "test", "bump", (seen(12, True),)),
]
predictions = [
    Prediction(maps=(h * bump + 0.1 * u / 64)[None].astype(np.float32), score=float(h))
    for h in (0.2, 1.0)
]
"""


@pytest.fixture
def page():
    with browser.chromium() as driver:
        yield driver


@pytest.fixture
def screenshots(tmp_path) -> Path:
    folder = Path(os.environ.get("MVAD_SCREENSHOTS", tmp_path))
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def pixels(element) -> np.ndarray:
    "What an element looks like, (H, W, 3) in 0..255."
    from PIL import Image

    return np.asarray(
        Image.open(io.BytesIO(base64.b64decode(element.screenshot_as_base64))).convert("RGB")
    ).astype(int)


def test_explorer_in_jupyterlab(page, screenshots, tmp_path):
    """Cells run, the threshold's slider is moved with the keyboard and the picture changes.

    The cloud turns with the mouse and stays as it was turned.
    """
    from selenium.webdriver.common.by import By
    from selenium.webdriver.common.keys import Keys

    nb = nbformat.v4.new_notebook(
        metadata={
            "kernelspec": {"name": "python3", "language": "python", "display_name": "python3"}
        }
    )
    nb.cells = [
        nbformat.v4.new_code_cell(EXPLORE.strip()),
        nbformat.v4.new_code_cell("explorer(samples, predictions, sample=1)"),
    ]
    (tmp_path / "lab").mkdir()
    nbformat.write(nb, tmp_path / "lab/explore.ipynb")

    with browser.jupyter_lab(tmp_path / "lab") as address:
        browser.run_all(page, address, "explore.ipynb")
        browser.until(
            page,
            f"(() => {{const g = {FIGURE}; return !!(g && g._fullLayout && g.data &&"
            " g.data[0].source)})()",
            120,
        )
        page.execute_script(f"{FIGURE}.scrollIntoView({{block: 'end'}})")
        browser.until(page, f"{FIGURE}.layout.title.text.includes('toy')")
        figure = page.find_element(By.CSS_SELECTOR, ".widget-box .js-plotly-plot")
        before, text, image = (
            pixels(figure),
            *page.execute_script(
                f"const g = {FIGURE}; return [g.layout.title.text, g.data[0].source]"
            ),
        )
        handle = page.find_element(By.CSS_SELECTOR, ".widget-slider .noUi-handle")
        for _ in range(20):
            handle.send_keys(Keys.ARROW_RIGHT)
        browser.until(
            page,
            f"{FIGURE}.data[0].source !== {image!r} && {FIGURE}.layout.title.text !== {text!r}",
            30,
        )
        browser.settled(page, f"{FIGURE}.layout.title.text")
        after = pixels(figure)
        scene = page.find_element(
            By.CSS_SELECTOR, ".widget-box .js-plotly-plot .gl-container canvas"
        )
        eyes = [browser.settled(page, EYE)]
        browser.drag(page, scene, 90, 40)
        browser.until(page, f"{EYE} !== {eyes[0]!r}", 30)
        eyes, image = (
            [*eyes, browser.settled(page, EYE)],
            page.execute_script(f"return {FIGURE}.data[0].source"),
        )
        handle.send_keys(Keys.ARROW_RIGHT)
        browser.until(page, f"{FIGURE}.data[0].source !== {image!r}", 30)
        first, turned, kept = (
            np.array(list(json.loads(e).values())) for e in [*eyes, browser.settled(page, EYE)]
        )
        page.save_screenshot(str(screenshots / "explorer.png"))
        outside = [
            u
            for u in browser.requests(page)
            if not u.startswith((address, address.replace("http", "ws")))
        ]
    assert before.std() > 5, "the figure is blank"
    changed = (
        np.abs(
            after[: before.shape[0], : before.shape[1]] - before[: after.shape[0], : after.shape[1]]
        ).max(-1)
        > 20
    ).mean()
    assert changed > 0.002, f"the slider moved and {changed:.2%} of the pixels changed"
    assert np.linalg.norm(kept - turned) < 0.2 * np.linalg.norm(turned - first), (
        "moving the slider turned the cloud back"
    )
    assert not outside, f"JupyterLab asked for {outside}"


def report_links(page) -> list[str]:
    "Addresses of a page's links."
    return page.execute_script("return [...document.querySelectorAll('a[href]')].map(a => a.href)")


@pytest.mark.parametrize("width", [1400, 700])
def test_report_opens_without_a_network(page, screenshots, reproduced, width):
    """Index, table, runs: nothing is fetched from outside, the maps are drawn, the cloud stands in
    a scene of its own, and a number of ours leads to its executed notebook.
    """
    from selenium.webdriver.common.by import By

    out, _ = reproduced
    page.execute_cdp_cmd("Network.enable", {})
    page.execute_cdp_cmd(
        "Network.emulateNetworkConditions",
        {"offline": True, "latency": 0, "downloadThroughput": 0, "uploadThroughput": 0},
    )
    page.set_window_size(width, 1000)
    browser.requests(page)  # forget the browser's own start page
    page.get((out / "report.html").as_uri())
    asked = browser.requests(page)
    assert page.execute_script("return document.documentElement.scrollWidth") <= width, (
        "the index is wider than the window"
    )
    page.save_screenshot(str(screenshots / f"report-{width}.png"))
    page.find_element(By.LINK_TEXT, "CFM, Table 6").click()
    browser.until(
        page,
        "document.readyState === 'complete' && !!document.querySelector('.js-plotly-plot"
        " .gl-container canvas, .js-plotly-plot canvas')",
        60,
    )
    broken = page.execute_script(
        "return [...document.images].filter(i => !i.complete || !i.naturalWidth).length"
    )
    assert page.execute_script("return document.images.length") > 0 and broken == 0
    assert page.execute_script("return document.documentElement.scrollWidth") <= width, (
        "the table's page is wider than the window"
    )
    cloud = page.find_element(By.CSS_SELECTOR, ".js-plotly-plot")
    page.execute_script("arguments[0].scrollIntoView({block: 'center'})", cloud)
    browser.until(page, "document.querySelector('.js-plotly-plot')._fullLayout !== undefined")
    assert pixels(cloud).std() > 5, "the cloud's figure is blank"
    assert page.execute_script(
        "return document.querySelector('.js-plotly-plot').data.some(t => t.type === 'scatter3d')"
    )
    page.save_screenshot(str(screenshots / f"table-{width}.png"))
    page.get(
        page.find_element(By.CSS_SELECTOR, "table.paper td.num a.trace").get_attribute("href")
    )  # its runs
    page.get(page.find_element(By.CSS_SELECTOR, "a.trace").get_attribute("href"))  # one run
    assert "The executed notebook" in page.find_element(By.TAG_NAME, "main").text
    notebook = next(link for link in report_links(page) if link.endswith(".ipynb"))
    assert (out / "runs").as_uri() in notebook and Path(notebook.removeprefix("file://")).is_file()
    outside = [u for u in asked + browser.requests(page) if not u.startswith(out.as_uri())]
    assert not outside, f"the report asks for {outside}"
    errors = [e["message"] for e in page.get_log("browser") if e["level"] == "SEVERE"]
    assert not errors, errors


OVERLAPS = """
const boxes = [...document.querySelectorAll('rect.box')].map(b => b.getBBox());
const meets = (a, b) => a.x < b.x + b.width && b.x < a.x + a.width
  && a.y < b.y + b.height && b.y < a.y + a.height;
const within = (a, b) => a.x >= b.x && a.x + a.width <= b.x + b.width
  && a.y >= b.y - 2 && a.y + a.height <= b.y + b.height + 2;
const faults = [];
for (const text of document.querySelectorAll('text[class]')) {
  const place = text.getBBox(), met = boxes.filter(b => meets(place, b));
  const inside = met.length === 1 && within(place, met[0]);
  const beside = text.classList.contains('shape') && met.length === 0 && place.x >= 0
    && place.x + place.width <= 900;
  if (!inside && !beside) faults.push(text.textContent);
}
return faults;
"""


@pytest.mark.parametrize("paper", ["cfm", "mafr", "crd", "idif", "modmap"])
def test_architecture_can_be_read(page, screenshots, paper):
    "Words stay inside their boxes and shapes outside, in a light and in a dark page."
    from mvad.course import architectures

    drawing = getattr(architectures, f"draw_{paper}")()
    file = screenshots / f"{paper}.html"
    file.write_text(f"<body style='margin:0'>{drawing.svg()}", encoding="utf-8")
    paper_of = "getComputedStyle(document.querySelector('.paper')).fill"
    seen = {}
    for scheme in ("light", "dark"):
        feature = {"name": "prefers-color-scheme", "value": scheme}
        page.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [feature]})
        page.set_window_size(900, drawing.height + 160)
        page.get(file.as_uri())
        page.save_screenshot(str(screenshots / f"{paper}_{scheme}.png"))
        assert page.execute_script(OVERLAPS) == []
        seen[scheme] = page.execute_script(f"return {paper_of}")
    assert seen == {"light": "rgb(255, 255, 255)", "dark": "rgb(27, 27, 27)"}
