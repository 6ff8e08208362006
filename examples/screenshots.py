"""Takes examples/page.png and examples/why.png, the README's pictures of the page: simulated eyes only.

python examples/screenshots.py (needs Playwright and Chromium; a minute)
"""

import shutil
import socket
from pathlib import Path

import cv2
from playwright.sync_api import sync_playwright

import qmmfl
from qmmfl import ui

HERE = Path(__file__).parent
EYES = [HERE / "eyes" / f"simulated_{name}.jpg" for name in ("right_severe_dr", "left_moderate_dr")]
SIZE = {"width": 1280, "height": 900}
LEVELS = 24  # of each channel that a picture keeps: fewer bytes, nearly the same to the eye; a palette loses outlines
PATIENCE = 300_000  # [ms]


def main() -> None:
    """Serve the page with the embedded weights, read two simulated eyes, keep two pictures."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    demo = ui.serve(qmmfl.load(), port=port, wait=False)
    with sync_playwright() as running:
        chromium = shutil.which("chromium") or shutil.which("google-chrome")  # None: Playwright's own
        browser = running.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = browser.new_page(viewport=SIZE)
        page.set_default_timeout(PATIENCE)
        page.goto(f"http://127.0.0.1:{port}/")
        page.set_input_files("#upload input[type=file]", [str(path) for path in EYES])
        page.wait_for_selector("#viewer figure img")
        page.click("#analyse")
        page.wait_for_selector("#summary .glance")
        keep(page, "page.png")
        page.get_by_role("tab", name="Explanations", exact=True).click()
        page.click("#explain")
        page.wait_for_selector("#explanation img")
        keep(page, "why.png")
        browser.close()
    demo.close()


def keep(page, name: str) -> None:
    """Write what the page shows, small enough for a README."""
    page.mouse.move(0, 0)
    page.wait_for_timeout(2000)  # pictures are fetched, bars have grown
    path = HERE / name
    page.screenshot(path=str(path))
    pixels, step = cv2.imread(str(path)), 255 / (LEVELS - 1)
    cv2.imwrite(str(path), ((pixels / step).round() * step).astype("uint8"), [cv2.IMWRITE_PNG_COMPRESSION, 9])
    path.chmod(0o644)  # the server makes what it writes private
    print(f"{name} {path.stat().st_size // 1000} kB")


if __name__ == "__main__":
    main()
