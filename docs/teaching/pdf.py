"""Print the built slides as slides.pdf, a page each, and with the notes as handout.pdf.

    python docs/teaching/pdf.py build/html

Needs the built site and the extra `browser`, with a Chromium on the path or Playwright's own.
"""

import shutil
import sys
from pathlib import Path

SLIDES = "docs/teaching/slides.html"


def print_slides(site: Path) -> list[Path]:
    """Write slides.pdf and handout.pdf beside the page of the slides, and return their paths."""
    from playwright.sync_api import sync_playwright

    page_file = (site / SLIDES).resolve()
    if not page_file.is_file():
        raise SystemExit(f"{page_file} does not exist: build the site first (see the README)")
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    with sync_playwright() as playwright:
        page = playwright.chromium.launch(executable_path=browser).new_page()
        page.goto(page_file.as_uri())
        page.wait_for_function("window.MathJax?.startup?.promise")
        page.evaluate("MathJax.startup.promise")
        handout = page_file.with_name("handout.pdf")
        page.pdf(path=handout, format="A4", margin=dict.fromkeys(("top", "bottom"), "15mm"))
        page.evaluate("document.body.classList.add('slides')")
        slides = page_file.with_name("slides.pdf")
        page.pdf(path=slides, width="13.33in", height="7.5in")
    return [slides, handout]


if __name__ == "__main__":
    for path in print_slides(Path(sys.argv[1] if len(sys.argv) > 1 else "build/html")):
        print(path)
