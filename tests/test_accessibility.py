"""Legible, named, in order, within the screen: the page in a real browser."""

from pathlib import Path

import pytest
from visits import TABS

pytestmark = pytest.mark.browser
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


STILL = """() => document.getAnimations().every(
  e => e.playState !== 'running' || e.effect.getComputedTiming().iterations === Infinity)"""


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
        if tab == "Report":  # its buttons are closed until the files are made
            here.page.wait_for_selector("#json:not([disabled])", timeout=60_000)
        here.page.wait_for_function(STILL)  # what is half faded in has too little contrast
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
def test_nothing_is_cut_off_on_a_small_screen_a_tablet_or_a_telephone(visit, files):
    here = visit()
    here.read(files["Doe_John"])
    page = here.page
    for size in [{"width": width, "height": 1000} for width in (1280, 1100, 820, 640, 390)]:
        page.set_viewport_size(size)
        page.wait_for_timeout(1000)  # tabs without room fold away, some time after
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth + 1")
        assert not page.evaluate(OVERLAP)
        names = page.locator("#tabs [role=tab]:visible").all_inner_texts()
        assert len(names) > (4 if size["width"] > 400 else 2)
        for tab in names:
            here.open(tab)
            assert page.evaluate(CUT_OFF) == [], (size, tab)
        here.open("Reading")
