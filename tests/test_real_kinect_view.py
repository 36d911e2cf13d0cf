"""A real Kinect scan in JupyterLab:
its cloud is drawn, starts as the sensor saw it, and turns with the mouse.

Skips where the scans or the browser are absent; screenshots lie in $MVAD_SCREENSHOTS, or in
pytest's temporary folder.
"""

import base64
import io
import os
from pathlib import Path

import browser
import nbformat
import numpy as np
from test_real_kinect import scan  # skips this module, too, where there are no scans

from mvad.core.show import show_cloud

FIGURE = "document.querySelector('.jp-OutputArea .js-plotly-plot')"
CAMERA = f"JSON.stringify({FIGURE}._fullLayout.scene._scene.getCamera().eye)"
CELL = """
import numpy as np
from mvad.core.sample import View
from mvad.core.show import show_cloud
show_cloud(View(**np.load("scan.npz")), max_points=20_000, title="a Kinect scan")
"""


def pixels(element) -> np.ndarray:
    from PIL import Image

    return np.asarray(
        Image.open(io.BytesIO(base64.b64decode(element.screenshot_as_base64))).convert("RGB")
    ).astype(int)


def test_a_scan_fits_into_a_notebook():
    """Two hundred thousand measured points, 6000 of them shown:
    a fifth of what a notebook may weigh.
    """
    view, *_ = scan("000")
    fig = show_cloud(view)
    assert (
        view.valid.sum() > 100_000 and len(fig.data[0].x) == 6000 and len(fig.to_json()) < 120_000
    )
    assert (
        np.isfinite([fig.data[0].x, fig.data[0].y, fig.data[0].z]).all()
        and min(fig.data[0].y) > 300
    )  # no NaN, nothing nearer than 30 cm


def test_a_scan_turns_in_the_browser(tmp_path):
    from selenium.webdriver.common.by import By

    screenshots = Path(os.environ.get("MVAD_SCREENSHOTS", tmp_path))
    screenshots.mkdir(parents=True, exist_ok=True)
    (tmp_path / "lab").mkdir()
    view, *_ = scan("000")
    np.savez(tmp_path / "lab/scan.npz", rgb=view.rgb, xyz=view.xyz, valid=view.valid)
    nb = nbformat.v4.new_notebook(
        cells=[nbformat.v4.new_code_cell(CELL.strip())],
        metadata={
            "kernelspec": {"name": "python3", "language": "python", "display_name": "python3"}
        },
    )
    nbformat.write(nb, tmp_path / "lab/scan.ipynb")
    with browser.chromium() as page, browser.jupyter_lab(tmp_path / "lab") as address:
        browser.run_all(page, address, "scan.ipynb")
        browser.until(
            page, f"!!({FIGURE} && {FIGURE}._fullLayout && {FIGURE}._fullLayout.scene._scene)", 120
        )
        page.execute_script(f"{FIGURE}.scrollIntoView({{block: 'center'}})")
        figure = page.find_element(By.CSS_SELECTOR, ".jp-OutputArea .js-plotly-plot")
        eye = browser.settled(page, CAMERA)
        before = pixels(figure)
        page.save_screenshot(str(screenshots / "kinect_as_the_sensor.png"))
        browser.drag(page, figure, 120, 64)
        browser.until(page, f"{CAMERA} !== {eye!r}", 20)
        browser.settled(page, CAMERA)
        after = pixels(figure)
        page.save_screenshot(str(screenshots / "kinect_turned.png"))
    assert before.std() > 10, "the cloud's figure is blank"
    changed = (np.abs(after - before).max(-1) > 20).mean()
    assert changed > 0.05, f"the mouse was dragged and {changed:.1%} of the pixels changed"
