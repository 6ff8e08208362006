"""Visits to the page in a real browser."""

import shutil
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
QUIET = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"]
QUIET += ["--disable-component-update", "--disable-sync"]
TABS = ("All pictures", "Explanations", "Similar eyes", "Both eyes", "Review", "Report", "About", "Reading")


@contextmanager
def served(pipeline, tls=None) -> Iterator[str]:
    """Address of the page on a port of its own."""
    with opened(pipeline, tls) as (address, _):
        yield address


@contextmanager
def opened(pipeline, tls=None) -> Iterator[tuple[str, Any]]:
    """Likewise, and its gr.Blocks."""
    from qmmfl import ui  # gradio takes seconds, and every test imports this file

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    demo = ui.serve(pipeline, port=port, tls=tls, wait=False)
    yield f"{'https' if tls else 'http'}://127.0.0.1:{port}/", demo
    demo.close()


class Visit:
    """One person's visit, with everything the browser asked for and complained about."""

    def __init__(self, browser, address: str, scheme: str = "light"):
        self.context = browser.new_context(viewport={"width": 1280, "height": 720}, color_scheme=scheme)
        self.page = self.context.new_page()
        self.page.set_default_timeout(90_000)  # of a busy machine
        self.asked, self.complaints = [], []
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("console", lambda said: said.type in ("error", "warning") and self.complaints.append(said.text))
        self.page.goto(address)
        self.ready()

    def ready(self) -> None:
        """Wait until a photograph can be given."""
        self.page.wait_for_selector("#upload input[type=file]", state="attached")

    def choose(self, *paths) -> None:
        if not self.page.locator("#upload input[type=file]").count():
            self.page.locator("#clear").click()
            self.ready()
        self.page.set_input_files("#upload input[type=file]", [str(path) for path in paths])

    def read(self, *paths) -> None:
        self.choose(*paths)
        self.page.wait_for_selector("#viewer img")
        self.page.click("#analyse")
        self.page.wait_for_selector("#summary .glance")

    def open(self, tab: str) -> None:
        self.page.get_by_role("tab", name=tab, exact=True).click()

    def keep(self, button: str, folder) -> bytes:
        self.page.wait_for_selector(f"{button}:not([disabled])", timeout=120_000)  # a PDF on a busy machine
        with self.page.expect_download() as download:
            self.page.click(button)
        kept = folder / download.value.suggested_filename
        download.value.save_as(kept)
        assert kept.name.startswith("retinal_re")
        return kept.read_bytes()

    def pictures(self) -> list[int]:
        ready = "await Promise.all(all.map(i => i.decode().catch(() => 0)))"
        script = f"async all => {{ {ready}; return all.map(i => i.naturalWidth) }}"
        return self.page.eval_on_selector_all("#main img[src]:not([loading=lazy])", script)
