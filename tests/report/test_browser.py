"""A report in a browser: charts are drawn, tables sort and filter, the slider moves, on a phone and in the dark."""

from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from q2.report.page import write_report
from tests.report.runs import search_folder, transform_folder
from tools.install_chromium import find_chromium

PHONE, DESK = (390, 844), (1280, 900)
DRAWN = ".chart svg.marks"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    path = find_chromium()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("report")
    runs = [search_folder(folder / "search", copies=300), transform_folder(folder / "transform")]
    write_report(runs, folder / "report.html")
    return folder / "report.html"


def opened(
    browser: Browser, report: Path, size: tuple[int, int] = DESK, scheme: Literal["light", "dark"] = "light"
) -> tuple[Page, list[str]]:
    """Open a report, and collect what the console and the network say."""
    page = browser.new_page(viewport={"width": size[0], "height": size[1]}, color_scheme=scheme)
    said: list[str] = []
    page.on("console", lambda message: said.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("request", lambda request: said.append(request.url) if request.url.startswith("http") else None)
    page.goto(report.as_uri())
    expect(page.locator(DRAWN)).to_have_count(page.locator(".chart").count())
    return page, said


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [PHONE, DESK])
def test_a_page_opens_without_errors_and_without_scrolling_sideways(
    browser: Browser, report: Path, size: tuple[int, int], scheme: Literal["light", "dark"]
) -> None:
    page, said = opened(browser, report, size, scheme)
    assert said == []
    assert page.locator(DRAWN).count() >= 4
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    background = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert background == ("rgb(255, 255, 255)" if scheme == "light" else "rgb(13, 17, 23)")
    page.close()


def test_bits_quality_baselines_and_the_most_sensitive_layers_are_seen_without_scrolling(
    browser: Browser, report: Path
) -> None:
    page, _ = opened(browser, report)
    for text in (
        "bits a weight, chosen",
        "latent-SQNR dB, chosen",
        "most sensitive layers, by measurement",
        "uaq-4 everywhere",
    ):
        box = page.get_by_text(text, exact=True).first.bounding_box()
        assert box is not None
        assert box["y"] + box["height"] <= DESK[1]
    page.close()


def test_trials_sort_by_number_and_filter_by_text(browser: Browser, report: Path) -> None:
    page, _ = opened(browser, report)
    table = page.locator("section", has=page.get_by_role("heading", name="Trials")).first
    head = table.get_by_role("button", name="latent-SQNR")
    seen = []
    for _ in range(2):
        head.click()
        cells = table.locator("tbody tr").evaluate_all("rows => rows.map(row => row.cells[6].dataset.value)")
        seen.append([float(value) for value in cells if value is not None])
    assert seen[0] == sorted(seen[0])
    assert seen[1] == sorted(seen[0], reverse=True)
    table.get_by_role("searchbox").fill("out of <memory>")
    assert table.locator("tbody tr:visible").count() == 1
    page.close()


def test_the_slider_uncovers_the_quantized_images(browser: Browser, report: Path) -> None:
    page, _ = opened(browser, report)
    slider = page.get_by_role("slider")
    slider.fill("20")
    assert page.locator(".frame").evaluate("frame => frame.style.getPropertyValue('--at')") == "20%"
    page.close()


def test_a_search_of_hundreds_of_trials_opens_in_two_seconds_of_the_processor(browser: Browser, report: Path) -> None:
    page = browser.new_page()
    session = page.context.new_cdp_session(page)
    session.send("Performance.enable")
    page.goto(report.as_uri())
    expect(page.locator(DRAWN)).to_have_count(page.locator(".chart").count())
    metrics = {each["name"]: each["value"] for each in session.send("Performance.getMetrics")["metrics"]}
    page.close()
    assert 0 < metrics["ThreadTime"] < 2
