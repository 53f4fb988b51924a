"""The interactive page: its numbers are the library's, under node and in a browser; it can be used.

Those under node need node; those in a browser the extra `browser` and a Chromium: one on the path,
or Playwright's own.
"""

import json
import re
import runpy
import shutil
import subprocess
from pathlib import Path
from urllib.parse import urlsplit

import pytest

FOLDER = Path(__file__).parents[1] / "docs/interactive"
PAGE = FOLDER / "lazy_or_eager.html"

pytestmark = pytest.mark.skipif(
    not PAGE.exists(), reason="docs/ is part of the repository, not of the package"
)


def script(text, name):
    return re.search(rf'<script id="{name}"[^>]*>(.*?)</script>', text, re.DOTALL)[1]


def numbers(value):
    if isinstance(value, list | dict):
        for part in value.values() if isinstance(value, dict) else value:
            yield from numbers(part)
    else:
        yield value


@pytest.fixture(scope="module")
def text():
    return PAGE.read_text("utf-8")


@pytest.fixture(scope="module")
def present():
    return runpy.run_path(str(FOLDER / "golden.py"))["cases"]()


def test_the_page_holds_the_present_values(text, present):
    committed = json.loads(script(text, "golden"))
    assert [(c["call"], c["args"]) for c in committed] == [(c["call"], c["args"]) for c in present]
    for a, b in zip(committed, present, strict=True):
        assert list(numbers(a["value"])) == pytest.approx(list(numbers(b["value"])), abs=1e-13), a


def test_every_function_of_the_page_is_compared(text, present):
    defined = re.findall(r"^  (\w+)(?:: \(|\()", script(text, "mathematics"), re.MULTILINE)
    within = {"kink", "lazy", "eager"}  # compared by what they are parts of
    assert len(defined) > 9
    assert set(defined) - within <= {case["call"] for case in present}


def test_the_page_is_small_and_asks_no_network(text):
    assert PAGE.stat().st_size < 300_000
    assert not re.search(r"https?:|@import|url\(|fetch\(|<link|\bsrc=", text)


def compared_by_node(cases, mathematics, folder):
    """What the page's `compare` says of these cases."""
    node = shutil.which("node")
    if node is None:
        pytest.skip("node is not installed")
    program = folder / "page.js"
    report = f"console.log(JSON.stringify(compare({json.dumps(cases)})))"
    program.write_text(mathematics + report, "utf-8")
    run = subprocess.run([node, str(program)], capture_output=True, text=True, timeout=60)
    assert run.returncode == 0, run.stderr
    return json.loads(run.stdout)


def test_its_functions_agree_with_the_library(text, present, tmp_path):
    result = compared_by_node(present, script(text, "mathematics"), tmp_path)
    assert result == {"values": sum(1 for c in present for _ in numbers(c["value"])), "wrong": []}


@pytest.mark.parametrize(
    ("right", "wrong", "calls"),
    [
        ("x >= 0 ? 1 : -1", "Math.sign(x)", {"sign_pm", "binary_l1_prox", "binary_l2_prox"}),
        ("x + s * pq", "x + 1.00001 * s * pq", {"binary_l2_prox", "square"}),
        (
            "lr * gradient(weights[t]), lr * lam",
            "lr * gradient(weights[t]), lam",
            {"toys", "square"},
        ),
        ("2 + (2 - lr) / s", "2 + 2 / s", {"lazy_two_cycle"}),
        ("start - total", "start + total", {"toys", "square"}),
    ],
)
def test_a_wrong_function_is_found(right, wrong, calls, text, present, tmp_path):
    mathematics = script(text, "mathematics")
    assert mathematics.count(right) == 1
    result = compared_by_node(present, mathematics.replace(right, wrong), tmp_path)
    assert calls <= {case["call"] for case in result["wrong"]}


@pytest.fixture(scope="module")
def browser():
    playwright = pytest.importorskip(
        "playwright.sync_api", reason="playwright, of the extra browser, is not installed"
    )
    names = ("chromium", "chromium-browser", "google-chrome", "chrome")
    found = next(filter(None, map(shutil.which, names)), None)
    with playwright.sync_playwright() as engine:
        try:
            opened = engine.chromium.launch(executable_path=found, args=["--no-sandbox"])
        except playwright.Error as error:
            pytest.skip(f"no Chromium starts: {str(error).splitlines()[0]}")
        yield opened
        opened.close()


@pytest.fixture
def visit(browser):
    """Opens the page; after the test no script has failed and nothing but the page was loaded."""
    contexts, troubles = [], []

    def visit(width=1280, height=800, **options):
        context = browser.new_context(viewport={"width": width, "height": height}, **options)
        contexts.append(context)
        page = context.new_page()
        page.on("pageerror", lambda error: troubles.append(str(error)))
        page.on("console", lambda message: troubles.append(message.text))
        page.on(
            "request",
            lambda request: (
                urlsplit(request.url).path != PAGE.as_posix() and troubles.append(request.url)
            ),
        )
        page.goto(PAGE.as_uri())
        return page

    yield visit
    for context in contexts:
        context.close()
    assert troubles == []


def test_the_page_says_that_it_was_checked(visit, present):
    count = sum(1 for case in present for _ in numbers(case["value"]))
    said = visit().inner_text("footer")
    assert said.endswith(f"checked against the library: {count} values")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 800, 1280])
def test_it_fits_every_screen_and_no_text_is_small(width, scheme, visit):
    page = visit(width, color_scheme=scheme)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    sizes = page.evaluate(
        """[...document.querySelectorAll("body *")]
        .filter((e) => [...e.childNodes].some((n) => n.nodeType === 3 && n.data.trim()))
        .filter((e) => e.getClientRects().length)
        .map((e) => parseFloat(getComputedStyle(e).fontSize))"""
    )
    assert len(sizes) > 60 and min(sizes) >= 16


def test_sliders_answer_to_the_keyboard(visit):
    page = visit()
    page.focus("#rate")
    assert "solves both" in page.inner_text("#toys-verdict")
    page.keyboard.press("End")
    assert "could cross 0" in page.inner_text("#toys-verdict")
    page.keyboard.press("Home")
    assert "never outgrows" in page.inner_text("#toys-verdict")
    page.keyboard.press("ArrowRight")
    assert page.inner_text("#rate-out") == "0.005"
    page.focus("#strength")
    page.keyboard.press("End")
    assert "prox(0.40, 2.00) = 1.000" in page.inner_text("#prox-verdict")
    page.check("[value=L2]")
    assert "prox(0.40, 2.00) = 0.800" in page.inner_text("#prox-verdict")


def test_a_finger_moves_a_slider(visit):
    page = visit(360, 740, has_touch=True, is_mobile=True)
    box = page.locator("#step").bounding_box()
    assert box["height"] >= 36
    page.locator("#step").scroll_into_view_if_needed()
    box = page.locator("#step").bounding_box()
    page.touchscreen.tap(box["x"] + box["width"] - 9, box["y"] + box["height"] / 2)
    assert page.inner_text("#step-out") == "0.50"
    said = page.inner_text("#cycle-verdict")
    assert "±0.1429;" in said and "says ±0.1429." in said  # s = 1: 1/7


def test_motion_only_where_it_is_wanted(visit):
    film, stills = visit(), visit(reduced_motion="reduce")
    film.click("#play")
    film.wait_for_function("document.querySelector('#toys-verdict').innerText.includes('guess')")
    film.wait_for_function("document.querySelector('#toys-verdict').innerText.includes('solves')")
    stills.click("#play")
    picture = stills.inner_html("#plus-path")
    stills.wait_for_timeout(300)
    assert stills.inner_html("#plus-path") == picture
    for _ in range(9):
        stills.click("#play")
    assert "solves both" in stills.inner_text("#toys-verdict")


def test_the_pictures_are_told_in_words(visit):
    titles = visit().locator("svg[role=img] > title").all_text_contents()
    assert len(titles) == 8 and all(len(title) > 10 for title in titles)
