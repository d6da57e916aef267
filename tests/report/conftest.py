"""Shared by the tests of reports: a comparison and a study of the embedded model, and a headless browser where one is installed."""

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import interp
from interp.interventions.method import build_method
from interp.report.collect import ReplyComparison, Study, collect_study, compare_replies
from interp.report.reply_view import Variant
from interp.world import scenes

QUESTION = "Describe the image in detail."


@pytest.fixture(scope="package")
def scene() -> Any:
    """A scene in which the embedded model invents a chair."""
    return scenes("counter_prior", 1)[0]


@pytest.fixture(scope="package")
def compared(scene) -> ReplyComparison:
    model = interp.load("scenes")
    variants = [
        Variant("spear", (build_method("spear"),)),
        Variant("vaf:enhance=2", (build_method("vaf", enhance=2.0),)),
    ]
    return compare_replies(
        model, model.prepare(scene.image, QUESTION), variants, image="scene:counter_prior/0", scene=scene
    )


@pytest.fixture(scope="package")
def steps() -> list[str]:
    """The names of the units of work that the study reports."""
    return []


@pytest.fixture(scope="package")
def study(steps) -> Study:
    return collect_study(interp.load("scenes"), 3, 0, steps.append)


@pytest.fixture(scope="session")
def data_of() -> Any:
    """Return the function that reads the data of a page."""

    def read(text: str) -> dict:
        return json.loads(
            re.search(r'<script type="application/json" id="data">(.*?)</script>', text, re.DOTALL).group(1)
        )

    return read


class Browser:
    """A headless Chromium that keeps what its pages complain about."""

    def __init__(self, driver: Any) -> None:
        self.driver = driver

    def open(self, page: Path, width: int = 1280) -> None:
        size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        self.driver.get(page.as_uri())
        wait = (
            "const end = arguments[0]; (function look() { document.body.dataset.ready ||"
            " !document.getElementById('failed').hidden ? end() : setTimeout(look, 20) })()"
        )
        self.driver.execute_async_script(wait)

    def run(self, script: str, *given: Any) -> Any:
        return self.driver.execute_script(script, *given)

    def text(self, selector: str) -> str:
        return self.run("return document.querySelector(arguments[0]).textContent", selector)

    def picture(self, selector: str) -> str:
        """Return what is drawn on a canvas, as a URL: equal when every pixel is."""
        return self.run("return document.querySelector(arguments[0]).toDataURL()", selector)

    def complaints(self) -> list[Any]:
        return [entry for entry in self.driver.get_log("browser") if "favicon" not in entry["message"]]


@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    selenium = pytest.importorskip("selenium.webdriver", reason="selenium is not installed: pip install 'interp[test]'")
    from selenium.webdriver.chrome.service import Service

    chromium, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if chromium is None or driver is None:
        pytest.skip("no chromium with chromedriver on this machine: make browser installs them on Debian, as root")
    options = selenium.ChromeOptions()
    options.binary_location = chromium
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    started = selenium.Chrome(options=options, service=Service(driver))
    started.set_script_timeout(30)
    yield Browser(started)
    started.quit()
