"""The page in a browser: Debian's Chromium, driven by Playwright."""

from __future__ import annotations

import os
import shutil
from array import array
from collections.abc import Iterator
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from bncheck.model import NormLayer
from bncheck.reports.verdict import Style
from bncheck.running.outcome import Outcome
from bncheck.tensor import Tensor

REQUIRED = os.environ.get("BNCHECK_BROWSER") == "required"  # then nothing here is skipped


def needed(name: str) -> Any:
    """A module, without which the tests are skipped unless they are required."""
    return import_module(name) if REQUIRED else pytest.importorskip(name)


render = needed("bncheck.reports.html").render
sync_playwright = needed("playwright.sync_api").sync_playwright
Axe = needed("axe_playwright_python.sync_playwright").Axe
NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
CHROMIUM = next(filter(None, map(shutil.which, NAMES)), None)
pytestmark = pytest.mark.skipif(not (CHROMIUM or REQUIRED), reason="no Chromium on this machine")
NARROW, WIDE = {"width": 360, "height": 700}, {"width": 1200, "height": 900}


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with sync_playwright() as driver:
        chromium = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield chromium
        chromium.close()


class Opened:
    """A page in a browser, and whatever went wrong or left the machine while it was open."""

    def __init__(self, browser: Any, path: Path, text: str, **context: Any) -> None:
        path.write_text(text, "utf-8", newline="\n")
        self.path, self.trouble = path, list[str]()
        self.page = browser.new_context(viewport=WIDE, **context).new_page()
        self.page.on("console", lambda message: self.trouble.append(message.text))
        self.page.on("pageerror", lambda error: self.trouble.append(str(error)))
        self.page.on("dialog", self._asked)
        self.page.on("request", self._requested)
        self.go("")

    def go(self, fragment: str) -> None:
        self.page.goto(f"{self.path.as_uri()}{fragment}")

    def is_shown(self, selector: str) -> bool:
        """Whether an element can be seen now."""
        return bool(self.page.locator(selector).first.is_visible())

    def comes(self, selector: str) -> bool:
        """Whether an element can soon be seen; it is an error where it cannot."""
        self.page.locator(selector).first.wait_for(state="visible", timeout=5000)
        return True

    def _asked(self, dialog: Any) -> None:
        self.trouble.append(f"dialog: {dialog.message}")
        dialog.dismiss()

    def _requested(self, request: Any) -> None:
        if not request.url.startswith((self.path.as_uri(), "data:")):
            self.trouble.append(request.url)


def norm(name: str, *var: float) -> NormLayer:
    def tensor(*values: float) -> Tensor:
        return Tensor((len(values),), "float32", lambda: array("d", values))

    known = {"running_var": tensor(*var), "running_mean": tensor(*var), "weight": None, "eps": 1e-5}
    return NormLayer(name, "batch", "torch.nn.BatchNorm2d", known)


@pytest.fixture
def report(make: Any) -> str:
    """Everything that a page can hold."""
    layers = [norm(f"layer{i}.0.bn1", 0.1, 0.2, 1e-12, 3.0, -1.0, float("nan")) for i in range(12)]
    found = [
        *make.findings("BN101", [layer.name for layer in layers], "Saved in training mode."),
        *make.findings("BN202", ["layer3.0.bn1"], "running_var is -0.2"),
        *make.findings("BN301", ["layer5.0.bn1"], "batches of {}"),
        *make.findings("BN207", ["layer7.0.bn1"], "dead"),
    ]
    found[-1] = replace(found[-1], evidence={"channels": [1, 2], "min": 1e-12})
    kept = replace(found[-2], suppressed=True, suppression="known")
    missing = make.missing(["BN103", "BN501"], "order", "a module holds none", "check the .onnx")
    model = replace(make.model(()), layers=tuple(layers))
    entries = (
        make.checked(model, [*found, kept], missing, path="models/resnet.pt"),
        make.checked(model, [], missing, path="models/fine.pt"),
    )
    return render(Outcome(entries), Style())


def test_it_loads_without_a_complaint_or_a_request(
    browser: Any, report: str, tmp_path: Path
) -> None:
    opened = Opened(browser, tmp_path / "report.html", report)
    said = "2 errors, 1 warning in 12 layers · bncheck"
    assert opened.page.title() == said
    assert opened.page.locator("svg.chart").count() == 2 * 12 * 3
    assert opened.trouble == []


def test_a_link_to_a_layer_opens_it(browser: Any, report: str, tmp_path: Path) -> None:
    opened = Opened(browser, tmp_path / "report.html", report)
    closed = "[id='m1/layer9.0.bn1']"
    assert not opened.is_shown(closed)
    opened.page.locator("a[href='#m1/layer9.0.bn1']").first.click()
    assert opened.comes(closed)
    opened.go("#m2/layer2.0.bn1")
    opened.page.reload()
    assert opened.comes("[id='m2/layer2.0.bn1'] svg.chart") and opened.trouble == []


def test_a_rule_is_explained_on_the_page(browser: Any, report: str, tmp_path: Path) -> None:
    opened = Opened(browser, tmp_path / "report.html", report)
    assert not opened.is_shown("[id=BN202]")
    opened.page.locator("article a[href='#BN202']").first.click()
    assert opened.comes("[id=BN202]:has-text('Something wrong')")


def test_layers_without_findings_can_be_hidden(browser: Any, report: str, tmp_path: Path) -> None:
    opened = Opened(browser, tmp_path / "report.html", report)
    shown = opened.page.locator("[id=m2] .layer:visible")
    assert shown.count() == 12
    opened.page.locator("[id=m2] input").check()
    assert shown.count() == 0


def test_the_strip_is_read_and_reached_by_keyboard(
    browser: Any, report: str, tmp_path: Path
) -> None:
    opened = Opened(browser, tmp_path / "report.html", report)
    opened.page.keyboard.press("Tab")
    focused = "document.activeElement.textContent"
    assert opened.page.evaluate(focused) == "Skip to the content"
    stops = opened.page.locator("[id=m1] .strip a:not([tabindex])")
    assert [stop.inner_text() for stop in stops.all()] == [
        "layer3.0.bn1: error, of its own",
        "layer5.0.bn1: error, of its own",
    ]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_is_accessible(browser: Any, report: str, tmp_path: Path, scheme: str) -> None:
    opened = Opened(browser, tmp_path / "report.html", report, color_scheme=scheme, bypass_csp=True)
    opened.page.evaluate("document.querySelectorAll('details').forEach(each => each.open = true)")
    found = Axe().run(opened.page).response["violations"]
    assert [(each["id"], each["nodes"][0]["html"]) for each in found] == []


def test_dark_is_dark_and_paper_is_white(browser: Any, report: str, tmp_path: Path) -> None:
    opened = Opened(browser, tmp_path / "report.html", report, color_scheme="dark")
    background = "getComputedStyle(document.body).backgroundColor"
    assert opened.page.evaluate(background) == "rgb(15, 18, 21)"
    opened.page.emulate_media(media="print")
    assert opened.page.evaluate(background) == "rgb(255, 255, 255)"
    assert opened.page.locator("[id='m1/layer9.0.bn1'] svg.chart").first.is_visible()


@pytest.mark.parametrize("which", ["report", "hostile"])
def test_nothing_is_wider_than_a_phone(
    browser: Any, request: pytest.FixtureRequest, tmp_path: Path, which: str
) -> None:
    given = request.getfixturevalue(which)
    text = given if isinstance(given, str) else render(given, Style())
    opened = Opened(browser, tmp_path / "report.html", text)
    opened.page.set_viewport_size(NARROW)
    opened.page.evaluate("document.querySelectorAll('details').forEach(each => each.open = true)")
    assert opened.page.evaluate("document.documentElement.scrollWidth") <= NARROW["width"]


def test_names_by_an_attacker_do_nothing(browser: Any, hostile: Outcome, tmp_path: Path) -> None:
    opened = Opened(browser, tmp_path / "report.html", render(hostile, Style()), bypass_csp=True)
    assert opened.page.locator("script, img, body > b").count() == 0
    for link in opened.page.locator("[id=m1] .strip a").all():
        opened.go(link.get_attribute("href") or "")
    assert opened.trouble == []
