"""Explanations, similar eyes and the whole task by keyboard: the page in a real browser, on real (tiny) networks."""

import re

import pytest
from conftest import tiny_card, tiny_network
from test_atlas import invented
from visits import Visit, served

import qmmfl
from qmmfl import atlas, labels, weights

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def real(tmp_path_factory):
    """The page on a tiny real network, with an atlas of invented references beside its weights."""
    folder = tmp_path_factory.mktemp("real") / "weights"
    weights.save(folder, tiny_network(seed=2), tiny_card())  # random weights whose Grad-CAM is not empty
    pipeline = qmmfl.load(folder, "cpu")
    atlas.save(folder / atlas.FILE, invented(weights=pipeline.card.sha256)[0])
    with served(pipeline) as address:
        yield address


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
    assert "with colour photograph left out" in page.inner_text("#whatif")
    box = page.locator(".boxer").bounding_box()
    page.mouse.move(box["x"] + 0.5 * box["width"], box["y"] + 0.5 * box["height"])
    page.mouse.down()
    page.mouse.move(box["x"] - 0.1 * box["width"], box["y"] + 0.7 * box["height"])  # out of the picture
    page.mouse.up()
    drawn = [float(part) for part in page.get_attribute(".boxer", "data-box").split()]
    assert drawn == pytest.approx([0, 0.5, 0.5, 0.2], abs=0.02), "what was not chosen is not hidden"
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
    reach("#review input[name=DR]", "ArrowRight")  # from "no word", which is chosen, to the first
    page.wait_for_function("JSON.parse(window.qmmfl.review())[0]?.opinions.DR === 'agree'")
    reach("#tab-report-button")  # before the page has told the server
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
