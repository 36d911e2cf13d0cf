"""Headless Chromium and JupyterLab for tests, both from what is installed.

Nothing is downloaded.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--hide-scrollbars",
    "--window-size=1400,1000",
]
# dash's old extension would ask for a rebuild, and a toast would offer news: both cover the page
PAGE = {
    "buildCheck": False,
    "buildAvailable": False,
    "disabledExtensions": {"@jupyterlab/apputils-extension:announcements": True},
}


def programs() -> tuple[str, str]:
    "Paths of the browser and of its driver; without them the test skips, in CI it fails."
    browser = next(
        filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
    )
    driver = shutil.which("chromedriver")
    if browser and driver:
        return browser, driver
    reason = "no Chromium with chromedriver here: apt-get install chromium chromium-driver"
    pytest.fail(reason) if os.environ.get("CI") == "true" else pytest.skip(reason)


@contextlib.contextmanager
def chromium() -> Iterator:
    "A selenium driver that logs every request of the page."
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    binary, driver = programs()
    with tempfile.TemporaryDirectory(
        prefix="mvad-chromium-", ignore_cleanup_errors=True
    ) as profile:
        options = webdriver.ChromeOptions()
        options.binary_location = binary
        for flag in [*FLAGS, f"--user-data-dir={profile}"]:
            options.add_argument(flag)
        options.set_capability("goog:loggingPrefs", {"performance": "ALL", "browser": "ALL"})
        page = webdriver.Chrome(options=options, service=Service(driver))
        try:
            yield page
        finally:
            page.quit()


def until(page, script: str, seconds: float = 60):
    "Wait until a JavaScript expression is true, and return its value."
    from selenium.common.exceptions import TimeoutException
    from selenium.webdriver.support.ui import WebDriverWait

    try:
        return WebDriverWait(page, seconds, 0.1).until(
            lambda p: p.execute_script(f"return {script}")
        )
    except TimeoutException:
        raise AssertionError(f"not true after {seconds} s: {script}") from None


def settled(page, script: str, quiet: float = 1.5, seconds: float = 60):
    "Wait until a JavaScript expression keeps its value for a while, and return it."
    end, since, last = time.monotonic() + seconds, time.monotonic(), None
    while time.monotonic() < end:
        now = page.execute_script(f"return {script}")
        if now != last:
            since, last = time.monotonic(), now
        elif time.monotonic() - since > quiet:
            return now
        time.sleep(0.1)
    raise AssertionError(f"still changing after {seconds} s: {script}")


def requests(page) -> list[str]:
    "Addresses that the page asked for since the last call, those inside the page itself left out."
    events = (json.loads(e["message"])["message"] for e in page.get_log("performance"))
    urls = (
        e["params"]["request"]["url"] for e in events if e["method"] == "Network.requestWillBeSent"
    )
    return [u for u in urls if not u.startswith(("data:", "blob:", "chrome:", "about:"))]


@contextlib.contextmanager
def jupyter_lab(folder: Path) -> Iterator[str]:
    """A JupyterLab of its own over a folder, with no user's settings:
    gives an address to which /lab/tree/NAME?token can be added.
    """
    with tempfile.TemporaryDirectory(prefix="mvad-lab-", ignore_cleanup_errors=True) as private:
        config = Path(private) / "config"
        (config / "labconfig").mkdir(parents=True)
        (config / "labconfig/page_config.json").write_text(json.dumps(PAGE))
        env = {
            **os.environ,
            "JUPYTER_CONFIG_DIR": str(config),
            "PYTHONPATH": str(ROOT),
            **{
                f"JUPYTER{n}_DIR": f"{private}/{n}"
                for n in ("LAB_SETTINGS", "LAB_WORKSPACES", "_RUNTIME")
            },
        }
        env.pop("IN_TEST", None)
        with socket.socket() as s:
            s.bind(("127.0.0.1", 0))
            port = s.getsockname()[1]
        address = f"http://127.0.0.1:{port}"
        with open(Path(private) / "log", "w") as log:
            server = subprocess.Popen(
                [
                    sys.executable,
                    "-m",
                    "jupyterlab",
                    "--no-browser",
                    "--allow-root",
                    "--ip=127.0.0.1",
                    f"--port={port}",
                    "--ServerApp.port_retries=0",
                    "--IdentityProvider.token=mvad",
                    f"--ServerApp.root_dir={folder}",
                    "--LabApp.expose_app_in_browser=True",
                ],
                stdout=log,
                stderr=log,
                env=env,
            )
        try:
            wait_for(f"{address}/api?token=mvad", server, Path(private) / "log")
            yield address
        finally:
            server.terminate()
            try:
                server.wait(20)
            except subprocess.TimeoutExpired:
                server.kill()


def wait_for(address: str, server: subprocess.Popen, log: Path, seconds: float = 60):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        assert server.poll() is None, f"JupyterLab did not start:\n{log.read_text()[-2000:]}"
        with contextlib.suppress(OSError):
            urllib.request.urlopen(address, timeout=2).read()
            return
        time.sleep(0.2)
    raise AssertionError(f"JupyterLab did not answer in {seconds} s:\n{log.read_text()[-2000:]}")


def run_all(page, address: str, notebook: str):
    """Open a notebook in the running lab, wait for its kernel and run all cells.

    Returns before they are done.
    """
    page.get(f"{address}/lab/tree/{notebook}?token=mvad&reset")
    until(page, "!!(window.jupyterapp && document.querySelector('.jp-Notebook .jp-CodeCell'))", 90)
    until(
        page,
        r"/\| Idle/.test((document.querySelector('#jp-main-statusbar') || {}).innerText || '')",
        90,
    )
    page.execute_script("window.jupyterapp.commands.execute('notebook:run-all-cells'); return 1")


def drag(page, element, dx: int, dy: int, steps: int = 8):
    "Press the mouse in the middle of an element, move it by (dx, dy) pixels and release it."
    from selenium.webdriver.common.action_chains import ActionChains

    mouse = ActionChains(page, duration=50).move_to_element(element).click_and_hold()
    for _ in range(steps):
        mouse = mouse.move_by_offset(dx // steps, dy // steps)
    mouse.release().perform()
