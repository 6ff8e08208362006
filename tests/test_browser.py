"""Reading, looking, keeping: the page in a real browser, on a stand-in for the networks."""

import csv
import io
import json
import re
import time

import numpy as np
import pytest
import visits
from fakes import STAGES, TOO_DARK, FakePipeline, fake_photograph, fake_report
from visits import TABS

from qmmfl import draw, labels, photograph
from qmmfl.ui.border import GONE

pytestmark = pytest.mark.browser
NOISE = re.compile(r"Method not implemented|ERR_ABORTED")
STORED = """async () => JSON.stringify([{...localStorage}, {...sessionStorage},
    (await indexedDB.databases()).map(each => each.name)])"""


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
    for each in shown:
        each.wait_for()  # the pictures come a moment after the words
    assert all(each.bounding_box()["y"] < 720 for each in shown), "on the first view"
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
    page.locator('#review input[name="NORMAL"][value="agree"]').check()
    page.locator('#review input[name="NORMAL"][value=""]').check()  # takes it back
    page.wait_for_timeout(600)
    here.open("Report")
    assert len(re.findall(rb"/Type /Page\b", here.keep("#pdf", tmp_path))) == 3, "findings, planes, review"
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


def test_a_touchpad_zooms_by_how_far_it_is_swiped_and_not_sideways(visit, files):
    here = visit()
    here.read(files["Doe_John"])
    page = here.page
    page.locator('[data-pane="0"] .stage').hover()

    def scale(wanted):
        """What the scale becomes: the browser hands a wheel on when it draws, which a busy machine puts off."""
        for _ in range(50):
            page.wait_for_timeout(100)
            style = page.locator(".world").first.get_attribute("style")
            found = float(re.search(r"scale\(([\d.]+)\)", style)[1])
            if found == pytest.approx(wanted, abs=0.01):
                break
        return found

    for _ in range(10):  # one swipe as far as a notch of a wheel
        page.mouse.wheel(0, -10)
    assert scale(1.25) == pytest.approx(1.25, abs=0.01)
    page.mouse.wheel(60, 0)
    page.mouse.wheel(0, -5000)
    page.wait_for_timeout(500)
    assert scale(1.25**2) == pytest.approx(1.25**2, abs=0.01), "a step at a time, and none sideways"


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
    page.locator('[data-pane="0"] .stage').click()
    page.click("[data-act=panes]")
    assert page.locator(".pane:visible").count() == 1
    page.click('.tile[data-show="ffa_arterial"]')  # opens where it is seen, beside the photograph or not
    assert page.locator('[data-pane="0"] select').input_value() == "ffa_arterial"
    assert page.locator('.tile[aria-pressed="true"]').get_attribute("data-show") == "ffa_arterial"


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


WORDS = {"Right eye": ["agree", "1", "of the right"], "Left eye": ["disagree", "3", "of the left"]}


def review_on(page) -> list[str]:
    """What the form on the page says: the word on diabetic retinopathy, the corrected grade, the note."""
    return page.eval_on_selector(
        "#review form", "form => ['DR', 'grade', 'note'].map(name => form.elements[name].value)"
    )


def heard(page, act) -> None:
    """Do it, and wait until the server has answered: until what it sends in answer ends, or is not awaited any more."""
    seen = []
    page.on("response", lambda response: "/queue/join" in response.url and seen.append("asked"))
    for end in ("requestfinished", "requestfailed"):
        page.on(end, lambda request: "/queue/data" in request.url and seen.append("answered"))
    act()
    limit = time.monotonic() + 90
    while "asked" not in seen or "answered" not in seen[seen.index("asked") :]:
        assert time.monotonic() < limit, seen
        page.wait_for_timeout(50)


def say(page, opinion: str, grade: str, note: str) -> None:
    heard(page, lambda: page.check(f'#review input[name="DR"][value="{opinion}"]'))
    heard(page, lambda: page.select_option("#review [name=grade]", grade))
    heard(page, lambda: page.fill("#review textarea", note))


def turn_to(page, title: str) -> None:
    before = page.get_attribute("#review form", "data-eye")
    heard(page, page.locator("#which label", has_text=title).click)
    page.wait_for_selector(f"#review form[data-filled]:not([data-eye='{before}'])", state="attached")


@pytest.mark.slow
def test_both_eyes(visit, files, tmp_path):
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
    here.open("Review")
    say(page, *WORDS["Left eye"])
    turn_to(page, "Right eye")
    assert review_on(page) == ["", "", ""], "nothing was said of this eye"
    say(page, *WORDS["Right eye"][:2], "first thoughts")
    page.fill("#review textarea", WORDS["Right eye"][2])
    for title in ("Left eye", "Right eye"):  # at once, before the server was told
        turn_to(page, title)
        assert review_on(page) == WORDS[title]
    here.open("Report")
    rows = list(csv.DictReader(io.StringIO(here.keep("#csv", tmp_path).decode())))
    found = {row["eye"]: [row["opinion"], row["corrected_grade"], row["note"]] for row in rows if row["code"] == "DR"}
    assert found == {"right": WORDS["Right eye"], "left": WORDS["Left eye"]}
    assert json.loads(here.keep("#json", tmp_path))["review"]["note"] == WORDS["Right eye"][2]


@pytest.mark.slow
def test_the_files_follow_the_eye_while_their_tab_is_open(visit, files, tmp_path):
    here = visit()
    page = here.page

    def kept(name: str) -> dict:
        page.wait_for_selector(f"#json:not([disabled]):has-text('JSON, {name}')", timeout=120_000)
        return json.loads(here.keep("#json", tmp_path))

    here.open("Report")
    here.choose(files["Doe_John_OD"], files["Roe_Jane"])
    page.wait_for_selector("#viewer img", state="attached")
    page.click("#analyse")
    first = kept("photograph 1")
    page.locator("#side-2 label", has_text="Left").click()
    assert kept("right eye")["input"]["sha256"] == first["input"]["sha256"], "with the side that was corrected"
    page.locator("#which label", has_text="Left eye").click()
    page.wait_for_function("!document.querySelector('#pdf').innerText.includes('right')")
    second = kept("left eye")
    assert second["eye"]["side"] == "left"
    assert second["input"]["sha256"] != first["input"]["sha256"]
    here.open("Reading")
    page.click("#measure")
    here.open("Report")
    page.wait_for_function("document.querySelector('#measure') === null")
    page.wait_for_timeout(1000)
    kept("left eye")
    page.click("#clear")
    page.wait_for_selector("#viewer .empty", state="attached")
    assert page.locator("#tab-report button").all_inner_texts() == ["PDF", "JSON", "CSV"]


def test_what_is_done_in_the_browser_alone_keeps_the_case(visit, files):
    here = visit()
    page = here.page
    page.wait_for_selector("#case-keep", state="attached")  # Gradio puts it there when the rest of the page stands
    page.evaluate("(window.told = 0, document.querySelector('#case-keep').onclick = () => { window.told += 1 }, 0)")
    page.keyboard.press("Tab")
    assert page.evaluate("told") == 0, "there is no case yet"
    here.choose(files["Doe_John"])
    page.wait_for_selector("#viewer img")
    for key in ("Tab", "Tab"):
        page.keyboard.press(key)
    assert page.evaluate("told") == 1, "at once, but not each time"
    page.evaluate("(Date.now = (now => () => now() + 61e3)(Date.now), 0)")
    page.mouse.move(640, 300)
    page.mouse.wheel(0, 10)
    page.wait_for_function("told === 2")


@pytest.mark.slow
def test_a_review_of_a_case_that_was_deleted_comes_back_with_the_photograph(browser, files, tmp_path):
    with visits.opened(FakePipeline()) as (address, demo):
        here = visits.Visit(browser, address)
        page = here.page
        here.read(files["Doe_John"])
        old = page.get_attribute("#viewer .ground", "src")
        for session in list(demo.state_holder.session_data):  # as when their time is up
            demo.state_holder.delete_state(session)
        assert here.context.request.get(address + old).status == 403
        here.open("Review")
        page.check('#review input[name="DR"][value="disagree"]')
        page.locator("[data-testid=toast-body]", has_text=GONE).wait_for()
        assert page.get_attribute("#viewer .ground", "src") == old, "the page stays"
        page.locator("#upload input[type=file]").first.set_input_files(str(files["bad"][0]))  # a slip
        page.wait_for_selector("#viewer .empty", state="attached")
        page.locator("#upload input[type=file]").first.set_input_files(str(files["Doe_John"]))
        page.wait_for_selector("#viewer figure img", state="attached")
        assert page.locator("#upload .file-preview tr").count() == 1
        page.click("#analyse")
        page.wait_for_selector("#summary .glance")
        page.wait_for_selector("#review form[data-filled]", state="attached")
        assert review_on(page) == ["disagree", "", ""]
        here.open("Report")
        assert json.loads(here.keep("#json", tmp_path))["review"]["opinions"] == {"DR": "disagree"}
        here.context.close()


def test_a_review_that_no_file_holds_is_not_closed_without_a_question(visit, files, tmp_path):
    here, asked = visit(), []
    page = here.page

    def stay(question) -> None:
        asked.append(question.type)
        question.dismiss()

    page.on("dialog", stay)
    here.read(files["Doe_John"])
    here.open("Review")
    page.check('#review input[name="DR"][value="disagree"]')
    here.open("Reading")
    with page.expect_download():
        page.click('[data-pane="0"] .keep')
    assert asked == [], "nothing is closed"
    page.wait_for_timeout(2000)  # the word has arrived: Gradio gives up a page whose answer was under way
    page.evaluate("location.reload()")
    page.wait_for_timeout(500)
    assert asked == ["beforeunload"]
    here.open("Report")
    assert json.loads(here.keep("#json", tmp_path))["review"]["opinions"] == {"DR": "disagree"}
    page.reload()
    here.ready()
    assert asked == ["beforeunload"], "what is kept can be closed"


def test_a_review_is_forgotten_where_the_case_is_cleared(visit, files):
    here = visit()
    page = here.page
    for clear in ("#clear", "#upload [aria-label=Clear]"):
        here.read(files["Doe_John"])
        here.open("Review")
        page.check('#review input[name="DR"][value="disagree"]')
        assert "disagree" in page.evaluate("window.qmmfl.review()")
        page.click(clear)
        page.wait_for_selector("#viewer .cleared", state="attached")
        assert page.evaluate("window.qmmfl.review()") == "[]"
        here.open("Reading")


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


def test_an_analysis_whose_tab_is_closed_ends_at_its_next_stage(visit, files, model):
    here = visit()
    here.choose(files["large"])
    here.page.wait_for_selector("#viewer img")
    here.page.click("#analyse")
    here.page.locator("#viewer .progress-level-inner", has_text=STAGES[0]).first.wait_for()
    here.context.close()
    limit = time.monotonic() + 30
    while model.running and time.monotonic() < limit:
        time.sleep(0.05)
    assert not model.running, "whoever waits is next"
    assert model.stages < len(STAGES), "it did not end by itself"


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
