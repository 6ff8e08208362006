"""The page in a real browser. Skipped where Chromium or Playwright is missing."""

import re
import shutil
import socket

import pytest
from fakes import TOO_DARK, FakePipeline, fake_photograph

from qmmfl import draw, labels, ui

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine"),
]
QUIET = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"]
QUIET += ["--disable-component-update", "--disable-sync"]
NOISE = re.compile(r"Method not implemented|ERR_ABORTED")
TABS = ("Score maps", "Spectral bands", "Lesion, disc and vessel maps", "Report", "About", "Findings")
STORED = """async () => JSON.stringify([{...localStorage}, {...sessionStorage},
    (await indexedDB.databases()).map(each => each.name)])"""
CONTRAST = r"""() => {
  const rgb = text => (text.match(/[\d.]+/g) || [0, 0, 0, 0]).map(Number);
  const light = c => { const [r, g, b] = c.map(v => { v /= 255; return v <= .04045 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4 });
                       return .2126 * r + .7152 * g + .0722 * b };
  const behind = e => { for (; e; e = e.parentElement) { const c = rgb(getComputedStyle(e).backgroundColor);
                        if (c.length < 4 || c[3] > .99) return c } return [255, 255, 255] };
  const faults = [];
  for (const e of document.querySelectorAll('.gradio-container *')) {
    const own = [...e.childNodes].some(n => n.nodeType === 3 && n.textContent.trim());
    if (!own || !e.checkVisibility({checkOpacity: true, checkVisibilityCSS: true}) || e.closest('[disabled], .full')) continue;
    const [a, b] = [light(rgb(getComputedStyle(e).color)), light(behind(e))].sort((x, y) => y - x);
    if ((a + .05) / (b + .05) < 4.5) faults.push(`${e.tagName} ${e.textContent.trim().slice(0, 40)} ${((a + .05) / (b + .05)).toFixed(2)}`);
  }
  return faults }"""  # noqa: E501


@pytest.fixture(scope="module")
def address():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    demo = ui.serve(FakePipeline(delay=0.05), port=port, wait=False)
    yield f"http://127.0.0.1:{port}/"
    demo.close()


@pytest.fixture(scope="module")
def browser():
    with playwright.sync_playwright() as running:
        browser = running.chromium.launch(executable_path=CHROMIUM, headless=True, args=QUIET)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("eyes")
    paths = {}
    for name, seed in (("Doe_John", 1), ("Roe_Jane", 2)):
        paths[name] = folder / f"{name}.png"
        paths[name].write_bytes(draw.encode(fake_photograph(seed, 640, 560).pixels, "png"))
    paths["dark"] = folder / "dark.png"
    paths["dark"].write_bytes(draw.encode(fake_photograph(3).pixels // 60, "png"))
    paths["text"] = folder / "letter.jpg"
    paths["text"].write_text("Dear colleague")
    return paths


class Visit:
    """One person's visit, with everything the browser asked for and complained about."""

    def __init__(self, browser, address: str, scheme: str = "light"):
        self.context = browser.new_context(viewport={"width": 1280, "height": 720}, color_scheme=scheme)
        self.page = self.context.new_page()
        self.page.set_default_timeout(12_000)
        self.asked, self.complaints = [], []
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("console", lambda said: said.type in ("error", "warning") and self.complaints.append(said.text))
        self.page.goto(address)
        self.page.wait_for_selector("#upload input[type=file]", state="attached")

    def choose(self, path) -> None:
        if not self.page.locator("#upload input[type=file]").count():
            self.page.locator("#clear").click()
            self.page.wait_for_selector("#upload input[type=file]", state="attached")
        self.page.set_input_files("#upload input[type=file]", str(path))

    def read(self, path) -> None:
        self.choose(path)
        self.page.wait_for_selector("#pictures img")
        self.page.click("#analyse")
        self.page.wait_for_selector("#summary .glance")

    def pictures(self) -> list[int]:
        ready = "await Promise.all(all.map(i => i.decode().catch(() => 0)))"
        script = f"async all => {{ {ready}; return all.map(i => i.naturalWidth) }}"
        return self.page.eval_on_selector_all("#main figure img:not([loading=lazy])", script)


@pytest.fixture
def visit(browser, address):
    visits = []

    def start(scheme: str = "light") -> Visit:
        visits.append(Visit(browser, address, scheme))
        return visits[-1]

    yield start
    for each in visits:
        each.context.close()


def test_one_photograph_from_upload_to_report(visit, files, tmp_path):
    here = visit()
    assert labels.NOTICE in here.page.inner_text("#notice")
    here.read(files["Doe_John"])
    page = here.page
    assert page.locator("#findings th[scope=row]").count() > 15
    assert "Suspicion of" in page.inner_text("#summary")
    assert page.locator("#pictures figure").count() == 4
    for tab in TABS:
        page.get_by_role("tab", name=tab).click()
        page.wait_for_timeout(150)
        widths = here.pictures()
        assert widths
        assert min(widths) > 0
    page.get_by_role("tab", name="Report").click()
    for button, start in (("#pdf", b"%PDF"), ("#json", b"{")):
        page.wait_for_selector(f"{button}:not([disabled])")
        with page.expect_download() as download:
            page.click(button)
        kept = tmp_path / download.value.suggested_filename
        download.value.save_as(kept)
        assert kept.name.startswith("retinal_report")
        assert kept.read_bytes().startswith(start)
        assert b"Doe" not in kept.read_bytes()
    stored = page.evaluate(STORED)
    assert not re.search(r"Doe|gradio_api|retin|findings", stored)
    assert all(url.startswith((address_of(page), "data:", "blob:")) for url in here.asked)
    assert [said for said in here.complaints if not NOISE.search(said)] == []


def address_of(page) -> str:
    return re.match(r"http://127\.0\.0\.1:\d+/", page.url)[0]


def test_layers_and_full_size_work_without_the_server(visit, files):
    here = visit()
    here.read(files["Doe_John"])
    page, before = here.page, len(here.asked)
    layer = page.locator(".layer-disc")
    assert layer.evaluate("e => getComputedStyle(e).visibility") == "visible"
    page.uncheck(".viewer [value=disc]")
    assert layer.evaluate("e => getComputedStyle(e).visibility") == "hidden"
    page.check(".viewer [value=redfree]")
    assert "redfree" in page.locator(".ground").evaluate("e => getComputedStyle(e).filter")
    page.locator("#pictures figure button").first.press("Enter")
    assert page.locator("#full-ffa_arterial").is_visible()
    page.keyboard.press("Escape")
    assert not page.locator("#full-ffa_arterial").is_visible()
    assert [url for url in here.asked[before:] if "/queue/" in url] == []


def test_score_map_of_another_finding(visit, files):
    here = visit()
    here.read(files["Doe_John"])
    page = here.page
    page.get_by_role("tab", name="Score maps").click()
    first = page.inner_text("#score-caption")
    assert "not where disease is" in first
    page.locator("#finding input").click()
    page.get_by_role("option", name="Myopia").click()
    page.wait_for_function("said => document.querySelector('#score-caption')?.innerText !== said", arg=first)
    assert "not suspected" in page.inner_text("#score-caption")
    assert min(here.pictures()) > 0


def test_bad_file_gets_a_sentence_and_the_next_good_one_works(visit, files):
    here = visit()
    here.read(files["Doe_John"])
    here.choose(files["text"])
    page = here.page
    page.wait_for_selector("[data-testid=toast-body]")
    said = page.inner_text("[data-testid=toast-body]")
    assert "Traceback" not in said
    assert "/tmp" not in said
    assert page.locator("#findings table, #pictures img, #summary .glance").count() == 0, "the last case is gone"
    here.read(files["Roe_Jane"])
    assert page.locator("#findings th[scope=row]").count() > 15


def test_another_photograph_clears_the_last_result(visit, files):
    here = visit()
    here.read(files["Doe_John"])
    old = here.page.get_attribute("#pictures .ground", "src")
    here.choose(files["Roe_Jane"])
    here.page.wait_for_selector("#full-preview", state="attached")
    assert here.page.locator("#findings table, #summary .glance").count() == 0
    assert here.context.request.get(address_of(here.page) + old).status == 403, "its pictures are deleted"


def test_ungradable_photograph_withholds_and_says_what_to_do(visit, files):
    here = visit()
    here.read(files["dark"])
    said = here.page.inner_text("#summary")
    assert TOO_DARK in said
    assert "not negative" in said
    assert "withheld" in here.page.inner_text("#findings")
    assert here.page.locator("#findings td.figure", has_text=re.compile(r"\d")).count() > 0, "thresholds stay"


def test_example_can_be_analysed(visit):
    here = visit()
    here.page.locator("#examples button").first.click()
    here.page.wait_for_selector("#full-preview", state="attached")
    here.page.click("#analyse")
    here.page.wait_for_selector("#findings table")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_is_legible(visit, files, scheme):
    here = visit(scheme)
    here.read(files["Doe_John"])
    for tab in TABS:
        here.page.get_by_role("tab", name=tab).click()
        here.page.wait_for_timeout(250)
        assert here.page.evaluate(CONTRAST) == []


def test_every_picture_and_control_has_a_name(visit, files):
    here = visit()
    here.read(files["Doe_John"])
    assert here.page.eval_on_selector_all("#main img:not(.layer)", "all => all.filter(i => !i.alt).length") == 0
    nameless = (
        "all => all.filter(b => !(b.innerText.trim() || b.ariaLabel || b.title)).map(b => b.outerHTML.slice(0, 80))"
    )
    assert here.page.eval_on_selector_all("#main button", nameless) == []
