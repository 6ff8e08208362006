"""The page in a real browser. Skipped where Chromium or Playwright is missing."""

import csv
import io
import json
import re
import shutil
import socket
from pathlib import Path

import numpy as np
import pytest
from fakes import STAGES, TOO_DARK, FakePipeline, fake_photograph, fake_report
from test_atlas import invented

import qmmfl
from qmmfl import atlas, draw, labels, photograph, ui

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine"),
]
QUIET = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"]
QUIET += ["--disable-component-update", "--disable-sync"]
NOISE = re.compile(r"Method not implemented|ERR_ABORTED")
TABS = ("All pictures", "Explanations", "Similar eyes", "Both eyes", "Review", "Report", "About", "Reading")
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
    if (!own || !e.checkVisibility({checkOpacity: true, checkVisibilityCSS: true}) || e.closest('[disabled], .full, .badge')) continue;
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
    for name, seed in (("Doe_John", 1), ("Roe_Jane", 2), ("Doe_John_OD", 1)):
        paths[name] = folder / f"{name}.png"
        paths[name].write_bytes(draw.encode(fake_photograph(seed, 640, 560).pixels, "png"))
    paths["large"] = folder / "large.png"
    paths["large"].write_bytes(draw.encode(fake_photograph(4, 1100, 560).pixels, "png"))
    paths["dark"] = folder / "dark.png"
    paths["dark"].write_bytes(draw.encode(fake_photograph(3).pixels // 60, "png"))
    for name in ("letter.jpg", "letter.pdf", "letter"):
        (folder / name).write_text("Dear colleague")
    paths["bad"] = [folder / name for name in ("letter.jpg", "letter.pdf", "letter")]
    return paths


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
    page = here.page
    assert labels.NOTICE in page.inner_text("#notice")
    page.evaluate("localStorage.setItem(`gradio:run-history:v2:${window.gradio_config.app_id}`, '[{}]')")
    page.reload()  # a run that an older page kept is deleted with the rest of the history
    here.ready()
    here.read(files["Doe_John"])
    assert page.locator("#reading th[scope=row]").count() > 15
    assert "Suspicion of" in page.inner_text("#summary")
    shown = [page.locator(f'.tile[data-show="{each}"] img') for each in ("ffa_arteriovenous", "msi_550", "score")]
    assert all(each.is_visible() and each.bounding_box()["y"] < 720 for each in shown), "on the first view"
    for tab in TABS:
        here.open(tab)
        page.wait_for_timeout(100)
        assert min(here.pictures(), default=1) > 0
    here.open("Review")
    page.locator('#review input[name="DR"][value="disagree"]').check()
    page.select_option("#review [name=grade]", "3")
    page.fill("#review textarea", "seen twice")
    page.wait_for_timeout(600)  # the page tells the server a moment after the last key
    page.wait_for_selector("#pdf[disabled]", state="attached")
    here.open("Report")
    assert here.keep("#pdf", tmp_path).count(b"/Type /Page\n") in (0, 3)
    data = json.loads(here.keep("#json", tmp_path))
    assert data["review"] == {"opinions": {"DR": "disagree"}, "grade": 3, "note": "seen twice"}
    assert data["input"]["name"] is None
    rows = list(csv.DictReader(io.StringIO(here.keep("#csv", tmp_path).decode())))
    assert [row["opinion"] for row in rows if row["code"] == "DR"] == ["disagree"]
    assert {row["weights_sha256"] for row in rows} == {"f" * 64}
    assert all(b"Doe" not in path.read_bytes() for path in tmp_path.iterdir())
    assert "Doe" not in page.content(), "the file is renamed"
    assert page.evaluate(STORED) == "[{},{},[]]", "nothing in the browser's storage"
    assert here.context.cookies() == []
    assert all(url.startswith((address_of(page), "data:", "blob:")) for url in here.asked)
    assert [said for said in here.complaints if not NOISE.search(said)] == []


def test_viewer_layers_zoom_blink_and_opacity(visit, files):
    here = visit()
    here.read(files["Doe_John"])
    page = here.page
    over, badge = page.locator('[data-pane="1"] .over'), page.locator('[data-pane="1"] .badge')
    assert badge.inner_text() == labels.SYNTHESIZED
    page.locator('[data-pane="1"] select').select_option("photograph")
    assert not over.is_visible()
    assert not badge.is_visible()
    page.click('.tile[data-show="msi_550"]')
    assert over.get_attribute("src").endswith("msi_550.jpg")
    assert page.locator('[data-pane="1"] .keep').get_attribute("href").endswith("msi_550.jpg")
    page.locator('[data-pane="0"] .stage').hover()
    page.mouse.wheel(0, -100)
    styles = page.eval_on_selector_all(".world", "all => all.map(world => world.style.transform)")
    assert styles[0] == styles[1], "the panes are linked"
    assert "scale(1.25)" in styles[0]
    layer = page.locator('[data-pane="0"] .layer-MA')
    assert layer.is_visible()
    page.locator('.viewer input[value="MA"]').uncheck()
    assert not layer.is_visible()
    assert not page.locator('[data-pane="0"] .layer-vein').is_visible()
    page.locator('[data-pane="1"] [name=opacity]').fill("40")
    assert over.evaluate("image => getComputedStyle(image).opacity") == "0.4"
    page.click("[data-act=blink]")
    page.wait_for_function(
        "getComputedStyle(document.querySelector('[data-pane=\"1\"] .over')).visibility === 'hidden'"
    )
    page.click("[data-act=blink]")
    for pressed, key, filtered in (("g", "brightness", 1.1), ("G", "brightness", 1), ("c", "contrast", 1.1)):
        page.keyboard.press(pressed)
        shown = over.evaluate("image => getComputedStyle(image).filter")
        assert float(re.search(rf"{key}\(([\d.]+)\)", shown)[1]) == filtered, pressed
    page.keyboard.press("0")
    page.keyboard.press("+")
    before = page.get_attribute('[data-pane="0"] .world', "style")
    box = page.locator('[data-pane="0"] .stage').bounding_box()
    page.mouse.move(box["x"] + 90, box["y"] + 90)
    page.mouse.down()
    page.mouse.move(box["x"] + 70, box["y"] + 60)
    page.mouse.up()
    moved = page.eval_on_selector_all(".world", "all => all.map(world => world.getAttribute('style'))")
    assert moved[0] != before
    assert moved[0] == moved[1], "dragging moves both panes"
    page.keyboard.press("f")
    page.wait_for_function("document.fullscreenElement?.matches('.viewer')")
    page.keyboard.press("f")
    page.wait_for_function("!document.fullscreenElement")
    page.click("[data-act=panes]")
    assert page.locator(".pane:visible").count() == 1


def test_a_saved_picture_carries_its_mark_in_its_pixels(visit, files, tmp_path):
    here = visit()
    here.read(files["Doe_John"])
    for kept, save in (("ffa_arteriovenous", '[data-pane="1"] .keep'), ("msi_550", '[data-pane="1"] .keep')):
        here.page.select_option('[data-pane="1"] select', kept)
        with here.page.expect_download() as download:
            here.page.click(save)
        assert download.value.suggested_filename == f"{kept}.jpg"
        download.value.save_as(tmp_path / "kept.jpg")
        pixels = photograph.read(tmp_path / "kept.jpg").pixels
        marked = draw.mark_synthesized(np.zeros_like(pixels)).astype(int)
        assert np.abs(pixels.astype(int) - marked)[-10:, :60].mean() < 12, "the words, as drawn on black"


@pytest.mark.slow
def test_both_eyes(visit, files):
    here = visit()
    here.read(files["Doe_John_OD"], files["Roe_Jane"])
    page = here.page
    assert page.locator("#which label").all_inner_texts() == ["Photograph 1", "Photograph 2"]
    assert "Both photographs are said to be of the right eye" in page.inner_text("#question")
    page.locator("#side-2 label", has_text="Left").click()
    page.wait_for_function("document.querySelector('#question').innerText.trim() === ''")
    assert page.locator("#which label").all_inner_texts() == ["Right eye", "Left eye"]
    first = page.inner_text("#reading")
    page.locator("#which label", has_text="Left eye").click()
    page.wait_for_function("said => document.querySelector('#reading').innerText !== said", arg=first)
    page.wait_for_selector("#reading td:has-text('Left (chosen by the clinician)')")
    assert page.locator("#summary dd", has_text="Left").count() == 1
    here.open("Both eyes")
    assert page.locator("#both figure img").count() == 2
    assert page.locator("#both thead th", has_text="Left eye").count() == 2


def test_two_people_never_see_each_others_eye(visit, files):
    one, two = visit(), visit()
    for here, name in ((one, "Doe_John"), (two, "Roe_Jane")):
        here.choose(files[name])
        here.page.wait_for_selector("#viewer img")
    for here in (one, two):
        here.page.click("#analyse")
    said = []
    for here, name in ((one, "Doe_John"), (two, "Roe_Jane")):
        here.page.wait_for_selector("#summary .glance")
        expected = fake_report(photograph.read(files[name], None))
        here.open("Report")
        here.page.wait_for_function("document.querySelector('#provenance').innerText.includes('SHA-256')")
        said.append(here.page.inner_text("#provenance"))
        assert expected.photograph.sha256 in said[-1]
    assert said[0] != said[1]


@pytest.mark.slow
def test_two_people_with_the_same_file_do_not_share_it(visit, files):
    one, two = visit(), visit()
    for here in (one, two):
        here.choose(files["Doe_John"])
        here.page.wait_for_selector("#viewer img")
    one.page.click("#clear")
    one.page.wait_for_selector("#viewer .empty")
    two.page.click("#analyse")
    two.page.wait_for_selector("#summary .glance")
    assert min(two.pictures()) > 0


@pytest.mark.slow
def test_a_dicom_case_keeps_its_report_as_dicom(visit, files, tmp_path):
    pydicom = pytest.importorskip("pydicom")
    from test_dicom import NAME, dataset, written

    path = tmp_path / "IMG_0001"  # cameras write DICOM without a suffix: the content says what it is
    path.write_bytes(written(dataset(fake_photograph(5).pixels)))
    here = visit()
    here.read(path)
    assert not set(NAME.split("^")) & set(re.findall(r"\w+", here.page.content()))
    here.open("Report")
    made = pydicom.dcmread(io.BytesIO(here.keep("#dicom", tmp_path)))
    assert str(made.PatientName) == NAME
    assert made.EncapsulatedDocument.startswith(b"%PDF")
    here.page.click("#clear")
    here.page.wait_for_selector("#viewer .empty", state="attached")
    here.open("Reading")
    here.read(files["Doe_John"])
    here.open("Report")
    here.page.wait_for_selector("#pdf:not([disabled])", timeout=120_000)
    assert not here.page.locator("#dicom").is_visible()


def address_of(page) -> str:
    return re.match(r"http://127\.0\.0\.1:\d+/", page.url)[0]


@pytest.mark.slow
def test_bad_files_get_a_sentence_each_and_the_next_good_one_works(visit, files):
    here = visit()
    here.read(files["Doe_John"])
    page = here.page
    page.locator("#upload input[type=file]").first.set_input_files([str(path) for path in files["bad"]])
    page.wait_for_selector("[data-testid=toast-body]")  # Gradio gathers equal sentences into one
    for said in page.locator("[data-testid=toast-body]").all_inner_texts():
        assert re.search(r"Cannot read the photograph: [^.]+; export it as JPEG or PNG and upload it again\.", said)
        assert "/tmp" not in said
    page.wait_for_function("document.querySelectorAll('#upload .file-preview tr').length === 1")  # none of them stays
    assert page.locator("#summary .glance").count() == 1, "nothing is lost"
    page.click("#clear")
    page.wait_for_selector("#viewer .empty")
    here.read(files["Roe_Jane"])
    assert page.locator("#reading th[scope=row]").count() > 15


def test_stop_keeps_the_photograph_and_clear_forgets_everything(visit, files):
    here = visit()
    here.choose(files["large"])
    page = here.page
    page.wait_for_selector("#viewer img")
    page.click("#analyse")
    stage = re.compile("|".join(map(re.escape, STAGES)))
    page.locator("#viewer .progress-level-inner", has_text=stage).first.wait_for()
    page.click("#stop:not([disabled])")
    page.wait_for_selector("[data-testid=toast-body]")
    assert "stopped" in page.inner_text("[data-testid=toast-body]")
    assert page.locator("#viewer img").count() > 0
    page.click("#analyse")
    page.wait_for_selector("#summary .glance")
    old = page.get_attribute("#viewer .ground", "src")
    assert here.context.request.get(address_of(page) + old).status == 200
    page.click("#clear")
    page.wait_for_selector("#viewer .empty")
    assert page.locator("#reading table, #summary .glance, #review form").count() == 0
    assert here.context.request.get(address_of(page) + old).status == 403, "its pictures are deleted"


def test_ungradable_photograph_withholds_until_it_is_asked_for(visit, files):
    here = visit()
    here.read(files["dark"])
    page = here.page
    said = page.inner_text("#summary")
    assert TOO_DARK in said
    assert "not negative" in said
    assert "withheld" in page.inner_text("#reading")
    assert page.locator("#reading td.figure", has_text=re.compile(r"\d")).count() > 0, "thresholds stay"
    assert page.locator(".tile").count() == 0
    page.click("#override")
    page.wait_for_selector(".tile")
    assert "Shown on request" in page.inner_text("#summary")
    assert not page.locator("#override").is_visible()


@pytest.mark.slow
def test_example_can_be_analysed(visit):
    here = visit()
    here.page.locator("#examples button").first.click()
    here.page.wait_for_selector("#viewer figure img")
    here.page.click("#analyse")
    here.page.wait_for_selector("#reading table")


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_is_legible(visit, files, scheme):
    here = visit(scheme)
    here.read(files["Doe_John"])
    for tab in TABS:
        here.page.get_by_role("tab", name=tab).click()
        here.page.wait_for_timeout(250)
        assert here.page.evaluate(CONTRAST) == []


# Gradio's own button that adds a file holds an input (nested-interactive), which is beyond us: it alone is left out.
AXE = """async within => (await axe.run({include: [[within]], exclude: [['#upload button:has(input[type=file])']]},
  {resultTypes: ['violations']})).violations.filter(each => ['serious', 'critical'].includes(each.impact)
  || each.id === 'heading-order')"""


@pytest.mark.slow
def test_axe_finds_no_serious_fault(visit, files):
    package = pytest.importorskip("axe_playwright_python", reason="axe-playwright-python is not installed")
    here = visit()
    here.read(files["Doe_John"])
    here.page.evaluate((Path(package.__file__).parent / "axe.min.js").read_text())
    faults = {}
    for tab in TABS:  # the last one with everything around it
        here.open(tab)
        here.page.wait_for_timeout(250)
        for each in here.page.evaluate(AXE, "html" if tab == TABS[-1] else f"#{tab_of(here.page)}"):
            faults |= {f"{tab}, {each['id']}: {node['html'][:160]}": each["help"] for node in each["nodes"]}
    assert faults == {}


def tab_of(page) -> str:
    return page.get_attribute("#tabs [role=tab][aria-selected=true]", "aria-controls")


NAMELESS = """() => [...document.querySelectorAll('button, a, input:not([type=file]), select, textarea, [tabindex="0"], [role=dialog]')]
  .filter(e => e.checkVisibility() && !(e.innerText?.trim() || e.ariaLabel || e.title || e.labels?.length || e.getAttribute('aria-labelledby')))
  .map(e => e.outerHTML.slice(0, 120))"""  # noqa: E501


@pytest.mark.slow
def test_names_roles_and_order(visit, files):
    here = visit()
    here.read(files["Doe_John"])
    page = here.page
    for tab in TABS:
        here.open(tab)
        page.wait_for_timeout(100)
        assert (
            page.eval_on_selector_all(
                "#main img:not(.layer)", "all => all.filter(i => i.checkVisibility() && !i.alt).length"
            )
            == 0
        )
        assert page.evaluate(NAMELESS) == [], tab
        assert (
            page.eval_on_selector_all(
                "#main table", "all => all.filter(t => !t.caption || !t.querySelector('th[scope]')).length"
            )
            == 0
        )
    twice = "all => all.map(e => e.id).filter((id, n, ids) => id && ids.indexOf(id) !== n)"
    assert page.eval_on_selector_all("#main [id]", twice) == []
    assert page.eval_on_selector_all("[tabindex]", "all => all.filter(e => e.tabIndex > 0).length") == 0
    places = ["#upload", "#analyse", "#clear", "#tabs", ".viewer", "#reading"]
    follows = "all[n - 1].compareDocumentPosition(e) & Node.DOCUMENT_POSITION_FOLLOWING"
    order = page.evaluate(
        f"all => all.map(q => document.querySelector(q)).every((e, n, all) => !n || {follows})", places
    )
    assert order


CUT_OFF = """() => [...document.querySelectorAll('.gradio-container *')]
  .filter(e => e.checkVisibility({checkVisibilityCSS: true}) && !e.closest('.stage, .visually-hidden, svg'))
  .filter(e => { const box = e.getBoundingClientRect(); return box.width && (box.right > innerWidth + 1 || box.left < -1) })
  .map(e => e.outerHTML.slice(0, 80))"""  # noqa: E501
OVERLAP = """() => { const [a, b] = ['.viewer', '#reading'].map(q => document.querySelector(q).getBoundingClientRect());
  const parts = [...document.querySelectorAll('.viewer .stage, .viewer .head, .viewer .tile')].map(e => e.getBoundingClientRect());
  return parts.some(part => part.right > a.right + 3) || (a.right > b.left && a.bottom > b.top && b.bottom > a.top) }"""  # noqa: E501


@pytest.mark.slow
def test_nothing_is_cut_off_on_a_small_screen_or_a_tablet(visit, files):
    here = visit()
    here.read(files["Doe_John"])
    page = here.page
    for size in ({"width": 1280, "height": 720}, {"width": 820, "height": 1180}):
        page.set_viewport_size(size)
        page.wait_for_timeout(1000)  # tabs without room fold away, some time after
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth + 1")
        assert not page.evaluate(OVERLAP)
        names = page.locator("#tabs [role=tab]:visible").all_inner_texts()
        assert len(names) > 4
        for tab in names:
            here.open(tab)
            assert page.evaluate(CUT_OFF) == [], (size, tab)
        here.open("Reading")


@pytest.fixture(scope="module")
def real(tiny_folder, tmp_path_factory):
    """The page on a tiny real network, with an atlas of invented references beside its weights."""
    folder = shutil.copytree(tiny_folder, tmp_path_factory.mktemp("real") / "weights")
    pipeline = qmmfl.load(folder, "cpu")
    atlas.save(folder / atlas.FILE, invented(weights=pipeline.card.sha256)[0])
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    demo = ui.serve(pipeline, port=port, wait=False)
    yield f"http://127.0.0.1:{port}/"
    demo.close()


@pytest.fixture
def here(browser, real):
    here = Visit(browser, real)
    yield here
    here.context.close()


@pytest.mark.slow
def test_why_and_what_if(here, eye_file):
    page = here.page
    here.read(eye_file)
    here.open("Explanations")
    page.click("#explain")
    page.wait_for_selector("#explanation img")
    assert "Can it be trusted?" in page.inner_text("#explanation")
    page.click("#drop")
    page.wait_for_selector("#whatif table")
    assert "without colour photograph" in page.inner_text("#whatif")
    box = page.locator(".boxer").bounding_box()
    page.mouse.move(box["x"] + 0.3 * box["width"], box["y"] + 0.3 * box["height"])
    page.mouse.down()
    page.mouse.move(box["x"] + 0.6 * box["width"], box["y"] + 0.6 * box["height"])
    page.mouse.up()
    page.focus(".boxer")
    page.keyboard.press("ArrowRight")
    assert page.get_attribute(".boxer", "data-box").startswith("0.32")
    page.click("#hide")
    page.wait_for_selector("#whatif caption:has-text('of the field hidden')")


@pytest.mark.slow
def test_the_whole_task_by_keyboard_only(here, eye_file, tmp_path):
    page = here.page

    def reach(query: str, key: str = "Enter") -> None:
        """Tab until the focus is there; a trap or an unreachable control fails."""
        for _ in range(150):
            if page.evaluate("query => Boolean(document.activeElement?.closest(query))", query):
                return page.keyboard.press(key)
            page.keyboard.press("Tab")
        raise AssertionError(f"{query} is not reached by Tab")

    with page.expect_file_chooser() as dialog:
        reach("#upload button")
    dialog.value.set_files(str(eye_file))  # the system's own dialog
    page.wait_for_selector("#viewer img")
    reach("#analyse")
    page.wait_for_selector("#summary .glance")
    page.wait_for_selector('.tile[data-show="ffa_arteriovenous"] img')
    reach(".viewer", "n")
    assert page.locator('[data-pane="1"] select').input_value() == "msi_507"
    for key in ("+", "+", "ArrowRight", "]", "g", "v", "u", "b", "b", "w", "r"):
        page.keyboard.press(key)
    assert "scale(1.5625)" in page.get_attribute('[data-pane="1"] .world', "style")
    assert page.locator('[data-pane="0"] select').input_value() == "redfree"
    page.keyboard.press("?")
    assert page.locator(".keys").is_visible()
    page.keyboard.press("Escape")
    assert not page.locator(".keys").is_visible()
    reach("#reading [data-finding=DME]")
    page.wait_for_selector('#score [data-code="DME"]')
    page.wait_for_function("document.querySelector('[data-pane=\"1\"] select').value === 'score'")
    reach("#tab-why-button")
    reach("#method input", "ArrowDown")
    page.wait_for_selector("[role=option].active[aria-selected=false]")
    page.keyboard.press("Enter")
    name = labels.METHODS["gradcam"]
    page.wait_for_function("name => document.querySelector('#method input').value === name", arg=name)
    reach("#explain")
    page.wait_for_selector("#explanation img")
    assert name in page.inner_text("#explanation")
    assert "Can it be trusted?" in page.inner_text("#explanation")
    reach("#tab-similar-button")
    page.wait_for_selector(".atlas [data-row]")
    reach(".atlas", "ArrowRight")
    assert "odir5k/" in page.inner_text("#atlas-said")
    reach("#tab-review-button")
    reach("#review input[name=DR]", "Space")
    page.wait_for_function("Boolean(JSON.parse(window.qmmfl.review()).opinions.DR)")
    page.wait_for_timeout(600)  # the page tells the server a moment after the last key
    reach("#tab-report-button")
    page.wait_for_selector("#pdf:not([disabled])", timeout=120_000)  # a PDF on a busy machine
    with page.expect_download() as download:
        reach("#pdf")
    assert re.fullmatch(r"retinal_report\w*\.pdf", download.value.suggested_filename)
    download.value.save_as(tmp_path / "report.pdf")
    assert (tmp_path / "report.pdf").read_bytes().startswith(b"%PDF-")
    reach("#clear")
    page.wait_for_selector("#viewer .empty", state="attached")
    reach("#tab-reading-button")
    reach("#examples button")
    page.wait_for_selector("#viewer figure img")


@pytest.mark.slow
def test_grade_and_macular_oedema_open_their_maps_and_vessels_are_measured(here, eye_file):
    page = here.page
    here.read(eye_file)
    for code, name in (("GRADE", "Diabetic retinopathy grade"), ("DME", "Macular oedema risk")):
        page.locator(f"#reading [data-finding={code}]").first.click()
        page.wait_for_selector(f'#score [data-code="{code}"]')
        assert name in page.inner_text("#score-caption")
        assert page.locator("#score .shares tbody tr").count() == len(labels.MODALITIES) + 1
        page.wait_for_function(
            "code => document.querySelector('[data-pane=\"1\"] .over').src.includes(`score_${code}`)", arg=code
        )
        assert page.locator(f"#reading [data-finding={code}][aria-pressed=true]").count() > 0
    assert page.locator("#reading caption", has_text="Vessels").count() == 0
    page.click("#measure")
    page.wait_for_selector("#reading caption:has-text('Vessels')", timeout=60_000)
    assert page.locator("#reading table", has_text="Artery-vein ratio").is_visible()
    assert not page.locator("#measure").is_visible()


@pytest.mark.slow
def test_similar_eyes_by_mouse_and_by_keyboard(here, eye_file):
    page = here.page
    here.read(eye_file)
    here.open("Similar eyes")
    page.wait_for_selector(".atlas [data-row]")
    assert page.locator(".atlas [data-row]").count() == 400
    assert page.locator(".atlas .here").count() == 1
    nearest = page.locator("#similar tbody tr").all_inner_texts()
    assert len(nearest) == page.locator(".atlas .ring").count() > 3
    assert all(re.search(r"odir5k/\d+_left\s+distance [\d.]+; grade", row) for row in nearest)
    point = page.locator('.atlas [data-row="7"]')
    point.click(force=True)
    said = page.inner_text("#atlas-said")
    assert said == page.locator(".atlas .chosen").get_attribute("data-label")
    assert "odir5k/" in said
    page.focus(".atlas")
    seen = {said}
    for key in ("ArrowRight", "ArrowUp", "ArrowLeft", "ArrowLeft", "ArrowDown"):
        page.keyboard.press(key)
        seen.add(page.inner_text("#atlas-said"))
    assert len(seen) > 3, "arrow keys go from eye to eye"
    assert page.locator(".atlas .chosen").count() == 1
    page.locator("#marks input").click()
    page.get_by_role("option", name="Diabetic retinopathy", exact=True).click()
    page.wait_for_selector("#similar .legend:has-text('labelled with it')")
    assert "odir5k/" in page.locator(".atlas [data-row]").first.get_attribute("data-label")
