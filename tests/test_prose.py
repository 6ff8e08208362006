"""Words: what is withheld stays withheld, what is shown is shown with its threshold, and nothing promises too much."""

import csv
import io
import re
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest
from fakes import TOO_DARK, UNKNOWN, FakeCard, fake_photograph, fake_report
from matplotlib.backends.backend_agg import FigureCanvasAgg

from qmmfl import draw, fundus, grid, labels, prose, review
from qmmfl.prose import about, comparison, doubts, markup, paper, sentences, viewer, wording
from qmmfl.prose import review as form
from qmmfl.records import DiscCup, Finding, Lesion
from qmmfl.review import Review


@pytest.fixture(scope="module")
def report():
    return fake_report(suspected=("DR", "DN"))


@pytest.fixture(scope="module")
def dark():
    return fake_report(gradable=False, planes=False)


def save(name: str, picture, kind: str) -> str:
    assert picture.dtype == "uint8"
    return f"address/{name}.{kind}"


def pages(report) -> list[str]:
    """All text of the page for one report."""
    return [
        markup.summary_html(report),
        markup.reading_html(report),
        viewer.viewer_html(report, save, 128),
        form.review_html(report, Review()),
        comparison.comparison_html([("Right eye", report, save, 64), ("Left eye", report, save, 64)]),
        markup.planes_html(report, labels.MSI, save, 64),
        markup.planes_html(report, labels.LESION_MAPS, save, 64),
        markup.score_html(report, "DR", save, 128),
        markup.provenance_html(report),
        about.about_html(FakeCard(), "here"),
    ]


def spoken(html: str) -> str:
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", html))


@pytest.mark.parametrize("which", ["report", "dark"])
def test_no_word_promises_too_much(which, request):
    text = spoken(" ".join(pages(request.getfixturevalue(which)))).lower()
    assert not re.search(r"\b(diagnos\w+|normal|healthy|positive for)\b", text.replace(labels.NOTICE.lower(), ""))


def test_order_puts_suspicion_first_and_unassessed_last(report):
    codes = [f.code for f in prose.ranked(report)]
    assert set(codes[:2]) == {"DR", "DN"}
    assert set(codes[-3:]) == set(UNKNOWN)
    assert codes[-4] == "NORMAL"
    assert sorted(codes) == sorted(labels.FINDINGS)


def test_table_has_a_row_with_threshold_for_every_assessed_finding(report):
    html = prose.findings_html(report)
    assert html.count('scope="row"') == len(labels.FINDINGS) - len(UNKNOWN)
    assert "<caption>Suspicion of" in html
    assert html.count('scope="col"') == 4
    dr = report.finding("DR")
    row = re.search(r"<tr[^>]*><th[^>]*><button[^>]*>Diabetic retinopathy</button></th>.*?</tr>", html)[0]
    assert f"{100 * dr.probability:.1f} %" in row
    assert f"{100 * dr.threshold:.1f} %" in row
    assert "suspected" in row
    for code in UNKNOWN:
        assert labels.FINDINGS[code] in html.split("Not assessed")[1]


def test_ungradable_says_what_to_retake_and_withholds_every_number(dark):
    assert TOO_DARK in markup.summary_html(dark)
    assert wording.UNGRADABLE in markup.summary_html(dark)
    assert "Suspicion" not in markup.summary_html(dark)
    probabilities = re.findall(r'</th><td class="figure">(.*?)</td>', prose.findings_html(dark))
    assert set(probabilities) == {""}
    values = dict(sentences.facts(dark))
    assert all(values[name].startswith("withheld") for name in ("Vertical cup-to-disc ratio", "Macular oedema risk"))
    assert {values[name] for name in labels.LESION_NAMES.values()} == {"withheld"}
    assert "withheld: withheld" not in " ".join(pages(dark))


def test_nothing_flagged_does_not_exclude_disease():
    report = fake_report(suspected=("NORMAL",))
    said = prose.headline(report)
    assert said.startswith("No listed abnormality flagged")
    assert "does not exclude disease" in said
    assert sentences.suspected(report) == []


def test_a_suspected_oedema_is_in_the_headline():
    many = tuple(code for code in labels.FINDINGS if code not in UNKNOWN)
    for codes in (("NORMAL",), ("DR",), many):
        report = fake_report(suspected=codes)
        report = replace(report, dme=replace(report.dme, probability=0.8, suspected=True))
        said = prose.headline(report)
        assert said.startswith("Suspicion of")
        assert said.endswith("Macular oedema by its risk signs (80.0 %; OCT decides).")
        report = replace(report, maps={"DR": np.zeros((9, 4, 4)), "DME": np.zeros((9, 4, 4))})
        assert prose.first_map(report) == ("DR" if "DR" in codes else "DME")


def graded(report, grade: int, probabilities: tuple[float, ...]):
    return replace(report, dr=replace(report.dr, grade=grade, probabilities=probabilities, threshold=0.3))


def test_the_headline_says_what_the_grade_threatens_or_leaves_open():
    moderate = graded(fake_report(suspected=("DR",)), 2, (0.1, 0.1, 0.5, 0.2, 0.1))

    def said(report, **dr):
        return prose.headline(replace(report, dr=replace(report.dr, **dr))).partition("%). ")[2]

    assert said(moderate) == ""
    assert said(moderate, vision_threatening_undecided=True) == "Whether the grade threatens vision is undecided."
    assert said(moderate, more_than_mild_undecided=True) == "Whether retinopathy is more than mild is undecided."
    both = {"more_than_mild_undecided": True, "vision_threatening_undecided": True}
    assert (
        said(moderate, **both)
        == "Whether retinopathy is more than mild, and whether it threatens vision, is undecided."
    )
    severe = {"grade": 4, "vision_threatening": True, "probabilities": (0, 0, 0, 0.1, 0.9)}
    assert said(moderate, **severe) == "By its grade (4, proliferative retinopathy) it threatens vision."
    assert said(moderate, **severe, vision_threatening_undecided=True).endswith("it threatens vision, undecided.")


def test_where_nothing_is_suspected_the_headline_names_what_is_undecided():
    report = graded(fake_report(suspected=()), 0, (0.8, 0.05, 0.05, 0.05, 0.05))
    unsure = [replace(each, undecided=each.code in ("DR", "ODC", "NORMAL")) for each in report.findings]
    said = prose.headline(replace(report, findings=tuple(unsure), dme=replace(report.dme, undecided=True)))
    named = said.partition(" Undecided: ")[2]
    assert all(name in named for name in ("Diabetic retinopathy (", "Optic disc cupping (", "Macular oedema risk ("))
    assert labels.FINDINGS["NORMAL"] not in named
    assert "Undecided" not in prose.headline(report)


def test_a_grade_that_no_finding_tells_is_in_the_headline():
    report = graded(fake_report(suspected=("NORMAL",)), 1, (0.5, 0.3, 0.1, 0.05, 0.05))
    said = prose.headline(report)
    assert said.startswith("Suspicion of Diabetic retinopathy by its grade alone (1, mild")
    assert said.endswith("; most probable 0).")
    assert "alone" not in prose.headline(graded(fake_report(suspected=("DR",)), 1, (0, 1, 0, 0, 0)))
    shown = replace(report, quality=replace(report.quality, gradable=False))
    assert prose.headline(shown).startswith("Not gradable, shown on request"), "on paper too"


def test_what_is_called_by_grade_has_its_probability_and_oedema_beside_it():
    report = graded(fake_report(suspected=("DR",)), 3, (0.1, 0.2, 0.4, 0.2, 0.1))
    facts = dict(sentences.facts(report))
    assert facts["Vision-threatening retinopathy"] == "yes, 30.0 % (called from 30.0 %)"
    assert facts["More than mild, by grade"] == "yes, 70.0 % (called from 30.0 %)"
    report = graded(report, 2, (0.1, 0.2, 0.6, 0.1, 0.0))
    swollen = replace(report, dme=replace(report.dme, probability=0.9, suspected=True))
    for each, also in ((replace(report, dme=replace(report.dme, suspected=False)), False), (swollen, True)):
        said = dict(sentences.facts(each))["Vision-threatening retinopathy"]
        assert said.startswith("not reached, 10.0 %")
        assert ("macular oedema is suspected" in said) == also


def test_lesions_beyond_healthy_eyes_contradict_a_reading_without_retinopathy():
    report = graded(fake_report(suspected=("NORMAL",)), 0, (1, 0, 0, 0, 0))
    report = replace(report, lesions={"MA": Lesion(9, 0.01, 3), "HE": Lesion(1, 0.01, 3)})
    assert doubts.conflicts(report)["DR"].startswith("More microaneurysms are marked than, falsely, in most")
    assert "DR" not in doubts.conflicts(replace(report, lesions={"MA": Lesion(3, 0.01, 3)}))


@pytest.mark.parametrize(("area", "said"), [(0.029, True), (0.01, True), (0.009, False), (None, False)])
def test_much_that_is_marked_as_soft_exudates_may_be_something_else(area, said):
    report = replace(fake_report(), lesions={"SE": Lesion(None if area is None else 40, area, 12)})
    found = [each for each in doubts.reservations(report) if "Laser scars" in each]
    assert bool(found) == said
    if said:
        assert found[0].startswith(f"Soft exudates are marked on {100 * area:.1f} % of the field. ")


def test_a_risk_of_oedema_without_retinopathy_is_questioned():
    report = graded(fake_report(suspected=("NORMAL",)), 0, (1, 0, 0, 0, 0))
    assert doubts.conflicts(report) == {}
    swollen = replace(report, dme=replace(report.dme, probability=0.8, suspected=True))
    assert "OCT" not in doubts.conflicts(swollen)["DME"]
    assert "look for exudates near the fovea" in doubts.conflicts(swollen)["DME"]
    assert "DME" not in doubts.conflicts(graded(swollen, 2, (0, 0, 1, 0, 0)))


def test_where_nothing_reaches_its_threshold_the_headline_reassures_nobody():
    said = prose.headline(graded(fake_report(suspected=()), 0, (1, 0, 0, 0, 0)))
    assert said.startswith("No finding reaches its threshold, nor does the score for no listed abnormality")


def test_what_is_computed_of_an_ungradable_photograph_is_not_drawn_over_it_unasked(report):
    poor = replace(report, quality=replace(report.quality, gradable=False))
    good, bad = (viewer.viewer_html(each, save, 64) for each in (report, poor))
    assert good.count(" checked>") == len(viewer.SHOWN_AT_FIRST)
    assert " checked>" not in bad
    assert wording.UNRELIABLE in bad
    assert wording.UNRELIABLE not in good
    both = [("Right eye", report, save, 64), ("Left eye", poor, save, 64)]
    assert comparison.comparison_html(both).count("with computed outlines") == 2  # caption and alternative of one
    assert wording.UNRELIABLE in " ".join(each.get_text() for page in paper._reading(poor) for each in page.texts)


def test_every_printed_page_says_of_which_eye_it_is(report):
    asked = Review({"DR": "agree"}, None, "")
    titles = []
    for each in (report, replace(report, eye=replace(report.eye, side=None))):
        pages = paper._reading(each) + paper._appendix(each)
        titles.append([page.texts[0].get_text() for page in pages])
        assert paper.report_pdf(each, asked).startswith(b"%PDF")
    digits = report.photograph.sha256[:8]
    assert all(f"right eye, photograph {digits}" in title for title in titles[0])
    assert all(f"side not known, photograph {digits}" in title for title in titles[1])


def test_the_first_page_says_that_a_clinician_corrected_it(report):
    def first(review):
        return " ".join(text.get_text() for text in paper._reading(report, review)[0].texts)

    assert "The clinician corrected the grade to 0." in first(Review({}, 0, ""))
    assert "stands on the last page" in first(Review({"DR": "disagree"}))
    assert "clinician says" not in first(Review()) + first(None)


def test_pictures_are_kept_under_the_name_of_their_eye(report):
    assert 'download="right_photograph.jpg"' in viewer.viewer_html(report, save, 64)
    assert 'download="right_msi_550.address' not in markup.planes_html(report, labels.MSI, save, 64)
    assert 'download="right_msi_550.' in markup.planes_html(report, labels.MSI, save, 64)


def test_undecided_is_explained_where_it_stands(report):
    asked = replace(report, findings=tuple(replace(f, undecided=f.code == "DN") for f in report.findings))
    assert wording.UNDECIDED in markup.findings_html(asked)
    assert wording.UNDECIDED not in markup.findings_html(report)


def test_the_quality_score_stands_only_where_it_decided(report):
    read = replace(report.quality, score=0.97, threshold=0.4)
    assert sentences.quality(replace(report, quality=read)) == (
        "Gradable (probability of being gradable 97.0 %, threshold 40.0 %)"
    )
    clouded = replace(read, gradable=False, reasons=("No retinal vessels are seen.",))
    assert sentences.quality(replace(report, quality=clouded)) == "Not gradable"


@pytest.mark.parametrize(
    ("finding", "said"),
    [
        (Finding("DR", "x", True, 0.7, 0.5, True), "suspected"),
        (Finding("DR", "x", True, 0.2, 0.5, False), "below threshold"),
        (Finding("DR", "x", True, 0.2, 0.5, False, "the grade disagrees"), "below threshold (the grade disagrees)"),
        (Finding("NORMAL", "x", True, 0.7, 0.5, True), "no listed abnormality flagged"),
        (Finding("NORMAL", "x", True, 0.7, 0.5, False, "a finding is flagged"), "not called (a finding is flagged)"),
        (Finding("RS", "x", False, None, None, None, labels.NOT_ASSESSED), labels.NOT_ASSESSED),
        (Finding("RS", "x", False, None, None, None), labels.NOT_ASSESSED),
        (Finding("DR", "x", True, None, 0.5, None, "blurred"), "withheld: blurred"),
        (Finding("DR", "x", True, None, None, None), "withheld"),
    ],
)
def test_calls(finding, said):
    assert prose.call(finding) == said


@pytest.mark.parametrize(("p", "said"), [(0.0, "0.0 %"), (0.8649, "86.5 %"), (1.0, "100.0 %"), (None, "")])
def test_percent(p, said):
    assert prose.percent(p) == said


def test_heat_caption_says_what_the_map_is_not(report):
    said = sentences.heat_caption(report, "DR")
    assert wording.EVIDENCE in said
    assert f"Cells are {draw.cell_width(report, 'DR')} px wide." in said
    assert "not suspected" not in said
    assert "This finding is not suspected" in sentences.heat_caption(report, "MYA")
    above = tuple(replace(f, probability=0.9) if f.code == "NORMAL" else f for f in report.findings)
    assert "what little raised" not in sentences.heat_caption(replace(report, findings=above), "NORMAL")
    assert "no score map" in sentences.heat_caption(report, "RS")
    outside = np.zeros_like(report.maps["DR"])
    outside[0, 0, 0], outside[0, len(outside[0]) // 2, len(outside[0]) // 2] = 1, 3
    said = sentences.heat_caption(replace(report, maps={**report.maps, "DR": outside}), "DR")
    share = fundus.share_beyond(grid.align(outside.sum(axis=0), len(outside[0])))
    assert 0.05 < share < 0.25
    assert said.endswith(f"{share:.0%} of what raises it lies beyond the field of view and is not drawn.")
    lowered = replace(report, maps={**report.maps, "MYA": -np.ones_like(outside)})
    assert "not suspected: nothing in the map raises its score." in sentences.heat_caption(lowered, "MYA")


def test_score_map_is_not_shown_unasked(report, dark):
    assert "No finding in the table is suspected" in markup.score_html(report, None, save, 64)
    assert "withheld" in markup.score_html(dark, None, save, 64)


def test_shares_come_in_the_order_of_the_modalities(report):
    titles = [title for title, _ in sentences.shares(report, "DR")]
    assert titles == [*(m.title for m in labels.MODALITIES), "Constant (all eyes)"]
    assert sentences.shares(report, "RS") == []


def test_every_picture_has_words_and_every_synthesized_one_says_so(report):
    html = viewer.viewer_html(report, save, 128) + markup.planes_html(report, labels.MSI, save, 64)
    assert all(alt or "layer" in tag for tag, alt in re.findall(r'(<img[^>]*?alt="([^"]*)"[^>]*>)', html))
    captions = re.findall(r"<figcaption>(.*?)</figcaption>", html)
    assert len(captions) == len(labels.BANDS)
    assert all("synthesized" in caption for caption in captions)
    options = dict(re.findall(r'<option value="(\w+)"[^>]*data-synthesized="(\d)"', html))
    assert {key for key, made in options.items() if made == "0"} == {"photograph", "redfree"}
    assert {"ffa_arterial", "ffa_arteriovenous", "score", *labels.MSI.planes} < set(options)
    assert all(key in html for key in ("FFA, arterial", "Band 550 nm", "Heat map"))


def test_an_address_of_any_characters_stays_one(report):
    def odd(name: str, picture, kind: str) -> str:
        return f'a b" onerror="x&amp;/{name}.{kind}'

    sources = []
    parser = HTMLParser()
    parser.handle_starttag = lambda tag, given: sources.append(dict(given).get("src") if tag == "img" else None)
    parser.feed(viewer.viewer_html(report, odd, 64))
    found = [each for each in sources if each]
    assert all(re.fullmatch(r'a b" onerror="x&amp;/\w+\.\w+', each) for each in found)
    assert len([each for each in found if "msi_550" in each or "ffa" in each]) >= 4, "in a pane and on the tiles"


def test_an_eye_without_planes_has_the_photograph_alone(dark):
    html = viewer.viewer_html(dark, save, 128)
    assert 'data-panes="1"' in html
    assert 'class="tile"' not in html
    assert "blink" not in html.split("Keys of the viewer")[0]


def test_review_asks_about_findings_grade_and_pictures_and_goes_on_paper(report):
    html = form.review_html(report, Review({"DR": "disagree"}, 4, "<i>"))
    assert html.count('type="radio"') == 4 * (len(labels.FINDINGS) - len(UNKNOWN) + 3 + len(labels.SYNTHESES))
    assert re.search(r'name="DR" value="disagree"[^>]* checked', html)
    assert "<i>" not in html
    assert dict(form.review_rows(Review({"DR": "disagree"}, 4, "a\nb"))) == {
        "Diabetic retinopathy": "disagree",
        "Corrected grade": "4, proliferative retinopathy",
        "Note": "a b",
    }


def test_the_table_for_a_study_keeps_eyes_machine_and_clinician_apart():
    eyes = []
    for seed, side, grade in ((0, "right", 2), (1, "left", 0)):
        report = fake_report(fake_photograph(seed), planes=False)
        dr = replace(report.finding("DR"), probability=0.71 - 0.4 * seed, threshold=0.42, suspected=not seed)
        dr = replace(dr, undecided=bool(seed))
        eyes.append(
            replace(
                report,
                eye=replace(report.eye, side=side),
                quality=replace(report.quality, gradable=not seed),
                dr=replace(report.dr, grade=grade),
                findings=tuple(dr if each.code == "DR" else each for each in report.findings),
            )
        )
    said = Review({"DR": "disagree", "GRADE": "unsure"}, 3, "seen, twice"), Review({"DR": "agree"}, None, "")
    table = csv.DictReader(io.StringIO(review.to_csv(zip(eyes, said, strict=True))))
    rows = {(row["eye"], row["code"]): row for row in table}
    assert len(rows) == 2 * (len(review.SUBJECTS) + len(labels.CALLS))
    assert rows["right", "MTMDR"]["finding"] == "More than mild, by grade"
    assert (rows["right", "MTMDR"]["suspected"], rows["left", "MTMDR"]["suspected"]) == ("True", "False")
    assert rows["right", "VTDR"]["suspected"] == "False"
    assert rows["right", "VTDR"]["opinion"] == ""
    about = {"weights_sha256": "f" * 64, "package_version": "0.0", "created": "2026-01-02T03:04:05+00:00"}
    right = {
        **{"eye": "right", "machine_grade": "2", "corrected_grade": "3", "note": "seen, twice", "gradable": "True"},
        **{"photograph_sha256": fake_photograph(0).sha256, **about, "notes": "", "reason": "", "few_eyes": ""},
    }
    left = {
        **{"eye": "left", "machine_grade": "0", "corrected_grade": "", "note": "", "gradable": "False"},
        **{"photograph_sha256": fake_photograph(1).sha256, **about, "notes": "", "reason": "", "few_eyes": ""},
    }
    dr = {"code": "DR", "finding": "Diabetic retinopathy", "assessed": "True", "threshold": "0.42", "measured": ""}
    called = {**dr, "probability": "0.71", "suspected": "True", "undecided": "False", "opinion": "disagree"}
    assert rows["right", "DR"] == {**right, **called, "few_eyes": "False"}
    called = {**dr, "probability": str(0.71 - 0.4), "suspected": "False", "undecided": "True", "opinion": "agree"}
    assert rows["left", "DR"] == {**left, **called, "few_eyes": "False"}
    unscored = ("assessed", "probability", "threshold", "suspected", "undecided", "measured")
    graded = {"code": "GRADE", "finding": "Diabetic retinopathy grade", **dict.fromkeys(unscored, "")}
    assert rows["right", "GRADE"] == {**right, **graded, "opinion": "unsure"}
    assert rows["left", "GRADE"] == {**left, **graded, "opinion": ""}


def test_both_eyes_stand_side_by_side(report, dark):
    html = comparison.comparison_html([("Right eye", report, save, 64), ("Left eye", dark, save, 64)])
    assert html.count("<figure>") == 2
    assert "withheld" in html
    assert comparison.comparison_html([("Right eye", report, save, 64)]) == comparison.ALONE
    assert html.count('class="raised"') == 4, "the two suspected findings, the grade, and that it is more than mild"
    assert re.search(r'Vision-threatening retinopathy</th><td class="">', html)
    oedema = replace(report, dme=replace(report.dme, probability=0.8, suspected=True))
    html = comparison.comparison_html([("Right eye", oedema, save, 64), ("Left eye", dark, save, 64)])
    assert re.search(r'oedema risk</th><td class="raised">suspected, 80.0 %[^<]*</td><td class="">', html)


def test_beside_the_other_eye_an_ungradable_one_says_that_it_is_not_to_be_relied_on(report):
    poor = replace(report, quality=replace(report.quality, gradable=False, reasons=(TOO_DARK,)))
    odd = replace(report, dr=replace(report.dr, grade=0))  # though retinopathy is suspected
    odd = replace(odd, findings=tuple(replace(each, undecided=True, few_eyes=True) for each in report.findings))
    html = comparison.comparison_html([("Right eye", poor, save, 64), ("Left eye", odd, save, 64)])
    first, weighed = re.findall(r'<tr><th scope="row">.*?</tr>', html)[:2]
    assert spoken(first).strip() == f"Reading {prose.headline(poor)} {prose.headline(odd)}"
    assert "Not gradable, shown on request, not to be relied on" in first
    for said in (TOO_DARK, wording.UNGRADABLE, doubts.conflicts(odd)["DR"]):
        assert said in spoken(weighed)
    for said in (wording.UNDECIDED, wording.FEW_EYES, wording.NOT_EXCLUDED):
        assert spoken(html).count(said) == 1
    plain = comparison.comparison_html([("Right eye", report, save, 64), ("Left eye", report, save, 64)])
    assert "Weigh first" not in plain, "where there is nothing to weigh"
    assert wording.UNDECIDED not in plain


def test_what_comes_from_outside_is_escaped(report):
    nasty = "<script>alert(1)</script>"
    photograph = replace(fake_photograph(), notes=(nasty,))
    changed = replace(report, photograph=photograph, disc_cup=DiscCup(None, None, None, None, nasty), lesions={})
    changed = replace(changed, provenance=replace(report.provenance, weights_source=nasty))
    assert nasty not in " ".join([*pages(changed), markup.preview_html([(photograph, "a.jpg")])])


def test_missing_parts_leave_no_hole(report):
    bare = replace(report, lesions={"MA": Lesion(1, None)}, contributions={}, maps={}, planes={}, grid=None)
    text = spoken(" ".join(pages(bare)))
    assert "1 region" in text
    assert "None was computed for this photograph." in text
    assert "nan" not in text.lower().split()


def test_dr_grade_is_an_ordinal_list(report):
    html = markup.grade_html(report)
    assert html.count("<li") == 5
    assert html.count("aria-current=true") == 1
    assert re.search(r"chosen.*?<b>2</b>", html)
    why = replace(report, dr=replace(report.dr, reason="grade 1 is more probable"))
    assert "Called 2: grade 1 is more probable." in markup.grade_html(why)
    assert "grade 1" not in markup.summary_html(why), "at a glance the grade alone"


def test_pdf_is_the_same_every_time(dark):
    made = prose.report_pdf(dark)
    assert made.startswith(b"%PDF")
    assert len(re.findall(rb"/Type /Page\b", made)) == 1
    assert made == prose.report_pdf(dark)


def test_pdf_has_a_page_for_the_planes_and_one_for_the_review(report):
    made = prose.report_pdf(report, Review({"DR": "agree"}))
    assert len(re.findall(rb"/Type /Page\b", made)) == 3


def sheet_of(monkeypatch, page, report):
    seen = {}
    monkeypatch.setattr(draw, "sheet", lambda title, notice, pictures, tables, foot, per_row: seen.update(locals()))
    page(report)
    return seen


def test_first_page_holds_notice_hash_and_no_angiogram(report, monkeypatch):
    seen = sheet_of(monkeypatch, paper._reading, report)
    text = str((seen["tables"], seen["foot"], [caption for _, caption in seen["pictures"]]))
    assert seen["notice"] == labels.NOTICE
    assert report.provenance.weights_sha256 in text
    assert report.provenance.package_version in text
    assert "FFA" not in text
    assert "ngiogram" not in text
    assert len(seen["pictures"]) == 2


def test_appendix_shows_every_plane_and_the_suspected_shares(report, monkeypatch):
    seen = sheet_of(monkeypatch, paper._appendix, report)
    assert len(seen["pictures"]) == len(labels.PLANES)
    ((_, rows, _),) = seen["tables"]
    assert set(rows[0]) == {"Modality", "DR", "DN"}
    assert len(rows) == 1 + len(labels.MODALITIES) + 1
    assert "Do not use in place of angiography" in seen["foot"]


def test_appendix_shows_the_shares_of_a_grade_and_a_risk_that_are_raised(report, monkeypatch):
    shares = {"GRADE": report.contributions["DR"], "DME": report.contributions["DN"]}
    raised = replace(
        report,
        contributions={**report.contributions, **shares},
        dr=replace(report.dr, grade=2),
        dme=replace(report.dme, suspected=True),
    )
    ((title, rows, _),) = sheet_of(monkeypatch, paper._appendix, raised)["tables"]
    assert rows[0][:3] == ("Modality", "GRADE", "DME")
    assert set(rows[0][3:]) == {"DR", "DN"}
    assert "DME: Macular oedema risk" in title


def letters(*texts: str) -> str:
    """Without the spaces, wherever lines are broken."""
    return "".join("".join(texts).split())


def test_every_text_lies_on_the_paper_and_none_is_lost(report):
    crowded = fake_report(suspected=tuple(code for code in labels.FINDINGS if code not in (*UNKNOWN, "DR", "ODC")))
    crowded = replace(
        crowded,
        photograph=replace(crowded.photograph, notes=("It goes on at length. " * 15,) * 2),
        quality=replace(crowded.quality, gradable=False, reasons=(TOO_DARK,)),
        dr=replace(crowded.dr, grade=3),
        disc_cup=replace(crowded.disc_cup, vcdr=0.9),
        findings=tuple(replace(f, undecided=f.assessed) for f in crowded.findings),
    )
    assert len(doubts.conflicts(crowded)) == 2
    assert len(paper._reading(report)) == 1, "the usual report is one page"
    pages = paper._reading(crowded)
    assert len(pages) == 2
    for page in [*pages, *paper._reading(report), *paper._appendix(crowded)]:
        renderer = FigureCanvasAgg(page).get_renderer()
        for text in page.texts:
            corners = text.get_window_extent(renderer).corners()
            assert all(page.bbox.contains(x, y) for x, y in corners), text.get_text()
    said = letters(*(text.get_text() for page in pages for text in page.texts))
    remarks = (wording.UNGRADABLE, wording.UNDECIDED, *doubts.conflicts(crowded).values())
    wanted = (labels.NOTICE, prose.headline(crowded), *remarks, *crowded.photograph.notes, *crowded.quality.reasons)
    wanted += (wording.SCOPE, sentences.legend_text(), *(value for _, value in sentences.provenance(crowded)))
    assert not [each for each in wanted if letters(each) not in said]
    assert letters(wording.SCOPE) in letters(*(text.get_text() for text in pages[0].texts)), "below the findings"


def printed(page) -> list[list[str]]:
    """The lines of a page from top to bottom, each with its texts from left to right."""
    lines = {}
    for text in page.texts:
        x, y = text.get_position()
        lines.setdefault(round(y, 6), []).append((x, text.get_text()))
    return [[said for _, said in sorted(lines[y])] for y in sorted(lines, reverse=True)]


def test_the_first_page_holds_every_finding_and_every_measurement(report):
    unsure = tuple(replace(f, undecided=f.code == "DN") for f in report.findings)
    page = paper._reading(replace(report, findings=unsure))[0]
    lines = printed(page)
    where = lines.index(["Finding", "Probability", "Threshold", "Call"])
    assessed = [f for f in prose.ranked(report) if f.assessed]
    calls = {**dict.fromkeys(labels.FINDINGS, "below threshold"), "DR": "suspected", "DN": "suspected, undecided"}
    for line, each in zip(lines[where + 1 :], assessed, strict=False):
        figures = [f"{100 * value:.1f} %" for value in (each.probability, each.threshold)]
        assert line == [each.name, *figures, calls[each.code]]
    said = letters(*(text.get_text() for text in page.texts))
    for name, value in sentences.facts(report):
        assert letters(name, value) in said


@pytest.mark.parametrize("note", ["cup $0.6 to $0.7", "see $\\foo$ and 5 % of ^ or _"])
def test_a_note_is_printed_as_it_was_written(report, monkeypatch, note):
    review = Review({"DR": "agree"}, None, note)
    assert paper.report_pdf(report, review).startswith(b"%PDF")
    monkeypatch.setattr(paper, "bind", lambda title, created, pages: pages)
    said = [text for text in paper.report_pdf(report, review)[-1].texts if text.get_text() == note]
    assert [text.get_parse_math() for text in said] == [False]


def test_what_cannot_be_printed_of_a_note_is_said(report, monkeypatch):
    monkeypatch.setattr(paper, "bind", lambda title, created, pages: pages)
    for note, lost in (("µ-aneurysm, naïve, β", 0), ("右眼", 1), ("seen 🙂", 1)):
        page = paper.report_pdf(report, Review({"DR": "agree"}, None, note))[-1]
        assert letters(*(text.get_text() for text in page.texts)).count(letters("stands as boxes")) == lost, note


def test_the_page_of_the_review_holds_what_the_clinician_said(report, monkeypatch):
    monkeypatch.setattr(paper, "bind", lambda title, created, pages: pages)
    note = "Two bleedings above the arcade, of which one was not there in March; " * 3
    page = paper.report_pdf(report, Review({"DR": "disagree", "DME": "unsure"}, 4, note))[-1]
    lines = printed(page)
    for line in (
        ["Subject", "Word"],
        ["Diabetic retinopathy", "disagree"],
        ["Macular oedema risk", "unsure"],
        ["Corrected grade", "4, proliferative retinopathy"],
    ):
        assert line in lines
    assert letters("Note", note) in letters(*(text.get_text() for text in page.texts))
    assert "The clinician's review: right eye" in lines[0][0]


def test_nobody_agrees_with_a_number_that_is_withheld(dark, report):
    """It would stand beside the number once that is shown, as if it had been seen."""
    offered = {code for code, _ in form.subjects(dark)}
    assert not offered
    assert {"DR", labels.GRADE, labels.OEDEMA, review.CUP} <= {code for code, _ in form.subjects(report)}
    made = form.review_html(dark, review.Review())
    assert "withheld" not in made
    assert 'name="note"' in made


def test_a_table_for_a_study_says_why_a_score_is_not_called(report):
    first = replace(report.findings[0], reason="another finding is flagged", few_eyes=True)
    odd = replace(report, findings=(first, *report.findings[1:]), dr=replace(report.dr, reason="so rarely"))
    rows = {row["code"]: row for row in csv.DictReader(io.StringIO(review.to_csv([(odd, review.Review())])))}
    assert (rows[first.code]["reason"], rows[first.code]["few_eyes"]) == ("another finding is flagged", "True")
    assert rows[labels.GRADE]["reason"] == "so rarely"
    assert rows[labels.OEDEMA]["few_eyes"] == "False"
