"""Evidence on exact planes, so that the geometry is tested and not the weights."""

import json
import math
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from fakes import FakePipeline, fake_report
from matplotlib.backends.backend_agg import FigureCanvasAgg

from qmmfl import charts, conclusions, evidence, fundus, labels, laterality, leaflet, phantom, prose
from qmmfl.evidence import Disc, centrelines, record, vessels
from qmmfl.measures import BY_DISC
from qmmfl.prose import paper
from qmmfl.records import DiscCup, Eye, Photograph, Report
from qmmfl.ui import answers
from qmmfl.ui.cases import Case, Taken
from qmmfl.ui.exports import as_json
from qmmfl.ui.reader import Reader

ALL = dict.fromkeys(labels.LESIONS, 0.5)
SIZE = 512
DISC = Disc(0.5, 0.5, 0.14)


def exact_report(eye: phantom.Phantom) -> Report:
    """What a faultless pipeline would say of a simulated eye."""
    x, y, radius = eye.field
    corner, side, size = round(x - radius), round(2 * radius), len(eye.photograph)
    frame = fundus.Frame(corner, corner, side, side, side, size, size, fundus.Field(x, y, radius, True))
    report = fake_report(Photograph(eye.photograph, "simulated.png", "a" * 64))
    return replace(
        report,
        planes={name: replace(report.planes[name], square=frame.warp(plane)) for name, plane in eye.planes.items()},
        grid=(corner, corner, side, side),
        eye=Eye(eye.side, "truth"),
        disc_cup=DiscCup(eye.cup / eye.disc[2], 0.05, eye.disc[2], eye.cup),
    )


@pytest.fixture(scope="module")
def exact():
    return exact_report(phantom.render(1, 400, grade=3))


def bar(points, width: float, size: int = SIZE) -> np.ndarray:
    """Exact coverage of a chain of points (n, 2) [px] drawn `width` wide."""
    ys, xs = np.mgrid[:size, :size].astype(np.float64)
    away = np.full((size, size), np.inf)
    for (ax, ay), (bx, by) in zip(points[:-1], points[1:], strict=True):
        along = np.clip(((xs - ax) * (bx - ax) + (ys - ay) * (by - ay)) / ((bx - ax) ** 2 + (by - ay) ** 2), 0, 1)
        away = np.minimum(away, np.hypot(xs - ax - along * (bx - ax), ys - ay - along * (by - ay)))
    return np.clip(width / 2 - away + 0.5, 0, 1).astype(np.float32)


def star(widths, start: float) -> np.ndarray:
    """Vessels of these widths [px], straight out of the disc."""
    centre = SIZE * 0.5 - 0.5
    turns = start + np.arange(len(widths)) * 2 * np.pi / len(widths)
    ends = [(centre + 180 * math.cos(t), centre + 180 * math.sin(t)) for t in turns]
    return np.max([bar([(centre, centre), end], w) for end, w in zip(ends, widths, strict=True)], axis=0)


def test_calibres_of_known_vessels():
    arteries, veins = [3.0, 3.5, 4.0, 4.5, 5.0, 5.5, 2.0], [5.0, 5.5, 6.0, 6.5, 7.0, 7.5]
    artery, vein = star(arteries, 0.13), star(veins, 0.4)
    unit = DISC.diameter * SIZE
    for widths in vessels.zone_widths(artery, DISC):
        np.testing.assert_allclose(widths * unit, sorted(arteries)[::-1], atol=0.25)
    crae, crve, number = vessels.central_equivalents(artery, vein, DISC)
    assert number == 6
    assert crae * unit == pytest.approx(knudtson(sorted(arteries)[1:], 0.88), rel=0.02)
    assert crve * unit == pytest.approx(knudtson(veins, 0.95), rel=0.02)


def knudtson(widths, factor):
    """The six as the paper pairs them, written out."""
    a, b, c, d, e, f = sorted(widths)
    x, y, z = sorted(factor * math.hypot(*pair) for pair in ((a, f), (b, e), (c, d)))
    return factor * math.hypot(y, factor * math.hypot(x, z))


def test_equivalent_of_one_and_two():
    assert vessels.equivalent(np.array([0.1]), 0.88) == pytest.approx(0.1)
    assert vessels.equivalent(np.array([3.0, 4.0]), 0.88) == pytest.approx(4.4)


def test_fewer_than_four_vessels_have_no_equivalent():
    assert vessels.central_equivalents(star([4, 4, 4], 0.1), star([6] * 6, 0.4), DISC) is None
    assert vessels.central_equivalents(star([4] * 5, 0.1), star([6] * 6, 0.4), DISC)[2] == 5
    assert vessels.zone_widths(np.ones((64, 64), np.float32), DISC)[0].size == 0


@pytest.mark.parametrize("height", [0.0, 6.0, 14.0])
def test_tortuosity_of_waves(height):
    length, x = 110.0, np.arange(20.0, 491.0)
    ys = np.arange(SIZE)[:, None]
    steep = np.hypot(1, 2 * np.pi * height / length * np.cos(2 * np.pi * x / length))
    plane = np.zeros((SIZE, SIZE), np.float32)
    for y in (60, 130, 400, 460):
        away = np.abs(ys - y - height * np.sin(2 * np.pi * x / length)) / steep
        plane[:, 20:491] = np.maximum(plane[:, 20:491], np.clip(2.5 - away, 0, 1))
    fine = np.linspace(x[0], x[-1], 20001)
    arc = np.hypot(1, 2 * np.pi * height / length * np.cos(2 * np.pi * fine / length)).mean() * (x[-1] - x[0])
    rise = height * (math.sin(2 * np.pi * x[-1] / length) - math.sin(2 * np.pi * x[0] / length))
    truth = arc / math.hypot(x[-1] - x[0], rise)
    assert vessels.tortuosity(plane, DISC) == pytest.approx(truth, abs=0.006)


def test_tortuosity_needs_vessels_and_a_slanted_line_is_straight():
    assert vessels.tortuosity(bar([(10, 10), (40, 10)], 4.0), DISC) is None
    assert vessels.tortuosity(bar([(10, 60), (490, 197)], 4.0), DISC) == pytest.approx(1, abs=0.003)


def test_fractal_dimension_of_known_sets():
    y, x = np.mgrid[:512, :512]
    assert vessels.fractal_dimension((x & y) == 0) == pytest.approx(math.log2(3), abs=0.01)  # Sierpinski's triangle
    assert vessels.fractal_dimension(np.ones((512, 512), bool)) == pytest.approx(2, abs=1e-9)
    assert vessels.fractal_dimension(y == 200) == pytest.approx(1, abs=1e-9)
    assert vessels.fractal_dimension(np.zeros((512, 512), bool)) is None


def test_thinning_keeps_one_line_and_its_topology():
    cross = np.maximum(bar([(60, 256), (450, 256)], 9.0), bar([(256, 60), (256, 450)], 9.0)) >= 0.5
    line = centrelines.thinned(cross)
    assert 740 <= line.sum() <= 800
    assert not (line & ~cross).any()
    arms = centrelines.segments(cross, 20)
    assert len(arms) == 4
    assert all(185 < len(arm) < 200 for arm in arms)


def dotted(*places, size=400):
    """3 x 3 px dots at positions that are shares of the square."""
    plane = np.zeros((size, size), np.float32)
    for x, y in places:
        column, row = int(x * size), int(y * size)
        plane[row - 1 : row + 2, column - 1 : column + 2] = 1
    return plane


@pytest.mark.parametrize("side", ["right", "left"])
def test_lesions_by_quadrant_and_near_the_fovea(side):
    def seen(x):
        return x if side == "right" else 1 - x

    disc = Disc(seen(0.75), 0.5, 0.1)
    fovea = evidence.Fovea(seen(0.5), 0.52, 0.25, True)
    temporal_above = [(0.5, 0.2), (0.6, 0.3), (0.52, 0.46)]  # the third lies 0.63 disc diameters from the fovea
    temporal_below, nasal_above = [(0.5, 0.61), (0.3, 0.7)], [(0.85, 0.4)]  # the first 0.9 from it
    places = [(seen(x), y) for x, y in (*temporal_above, *temporal_below, *nasal_above)]
    found = evidence.lesions.find_places(dotted(*places), 0.5, disc, side, fovea, {})
    assert found.total.count == 6
    unit = math.pi / 4 * 40**2
    assert found.total.area == pytest.approx(6 * 9 / unit)
    assert {name: each.count for name, each in found.quadrants.items()} == {
        "superotemporal": 3,
        "inferotemporal": 2,
        "superonasal": 1,
        "inferonasal": 0,
    }
    assert found.quadrants["inferonasal"].area == 0
    assert found.near_fovea.count == 2
    assert found.near_fovea_range == (1, 2)
    areas = evidence.lesions.quadrant_areas(fundus.square_mask(fundus.Prep(400)), disc, side)
    assert sum(areas.values()) == pytest.approx(math.pi / 4 / (math.pi / 4 * 0.01), rel=0.01)
    assert areas["superotemporal"] > 4 * areas["superonasal"]


@pytest.mark.parametrize("seed", range(1, 5))
def test_landmarks_of_simulated_eyes(seed):
    eye = phantom.render(seed, 300)
    report = exact_report(eye)
    found = evidence.measure(report, {})
    x, y, side, _ = report.grid
    assert found.side == eye.side
    assert found.disc.diameter * side == pytest.approx(eye.disc[2], rel=0.02)
    assert found.disc.x * side + x - 0.5 == pytest.approx(eye.disc[0], abs=1)
    away = np.hypot(found.fovea.x * side + x - 0.5 - eye.fovea[0], found.fovea.y * side + y - 0.5 - eye.fovea[1])
    assert away / eye.disc[2] < found.fovea.error
    assert found.cup_to_disc.value == pytest.approx(eye.cup / eye.disc[2])


def test_the_paper_around_a_scanned_print_is_no_part_of_the_fundus(exact):
    cut = exact.photograph.pixels.copy()
    cut[:90] = cut[-90:] = 0  # as cameras cut the field above and below
    printed = np.where(cut.max(axis=2, keepdims=True) == 0, np.uint8(255), cut)
    dark, white = (
        evidence.measure(replace(exact, photograph=replace(exact.photograph, pixels=each)), {})
        for each in (cut, printed)
    )
    assert white.quadrant_areas == pytest.approx(dark.quadrant_areas, rel=0.05)
    assert (white.side, white.fovea.seen) == (dark.side, dark.fovea.seen)
    whole = evidence.measure(exact, {}).quadrant_areas
    assert sum(dark.quadrant_areas.values()) < 0.8 * sum(whole.values()), "or nothing was cut"


def test_counts_agree_with_the_report_of_the_pipeline(exact):
    found = evidence.measure(exact, {"MA": 0.5, "EX": 0.5})
    from qmmfl import measures

    for code in ("MA", "EX"):
        plane = exact.planes[f"lesion_{code}"].square
        whole = measures.count_lesions(plane, 0.5, measures.lesion_field(len(plane)))
        assert found.lesions[code].total.count == whole.count
        assert sum(each.count for each in found.lesions[code].quadrants.values()) == whole.count
    assert found.lesions["HE"].total.count is None
    assert found.lesions["HE"].total.reason == record.NOT_RELIABLE


@pytest.mark.slow
def test_vessel_numbers_only_where_they_repeat(exact):
    alone = evidence.measure(exact, ALL)
    assert all(number.value is None for number in alone.vessels.values())
    assert alone.vessels["artery_vein_ratio"].reason == record.NOT_REPEATED
    same = evidence.measure(exact, ALL, exact)
    assert same.vessels["artery_vein_ratio"].value == pytest.approx(
        same.vessels["artery_calibre"].value / same.vessels["vein_calibre"].value
    )
    assert 0.5 < same.vessels["artery_vein_ratio"].value < 0.8  # arteries are drawn thinner than veins
    assert 1 <= same.vessels["artery_tortuosity"].value < 1.1
    wide = replace(
        exact.planes["artery"], square=np.maximum(exact.planes["artery"].square, 0.6 * exact.planes["vein"].square)
    )
    other = evidence.measure(exact, ALL, replace(exact, planes={**exact.planes, "artery": wide}))
    assert other.vessels["artery_calibre"].value is None
    assert "did not repeat" in other.vessels["artery_calibre"].reason
    assert other.vessels["vein_calibre"].value == same.vessels["vein_calibre"].value
    assert evidence.measure(exact, ALL, exact) == same


def test_a_second_reading_that_failed_says_what_failed(exact):
    failed = replace(exact, failures={labels.MSI.title: "memory ran out", labels.VESSELS.title: "memory ran out"})
    reason = evidence.measure(exact, {}, failed).vessels["fractal_dimension"].reason
    assert reason.endswith("second copy of the photograph failed (Multispectral bands; Arteries and veins)")
    dark = evidence.measure(exact, {}, fake_report(gradable=False))
    assert dark.vessels["fractal_dimension"].reason == record.NOT_GRADED_AGAIN


def test_second_copy_is_shifted_and_the_same_every_time(eye):
    original = Photograph(eye.photograph, "eye.png", "a" * 64)
    copy = evidence.second_copy(original)
    assert copy.pixels.shape == original.pixels.shape
    assert copy.sha256 == evidence.second_copy(original).sha256 != original.sha256
    assert 0.5 < np.abs(copy.pixels.astype(int) - original.pixels).mean() < 12


def test_a_real_second_reading_runs_through_the_pipeline(tiny_pipeline, eye):
    report = tiny_pipeline(eye.photograph)
    again = tiny_pipeline(evidence.second_copy(report.photograph))
    found = evidence.measure(report, tiny_pipeline.card.lesion_thresholds, again)
    # An untrained network: numbers may be withheld, but each says why, and none is NaN.
    kept = json.loads(json.dumps(found.to_dict(), allow_nan=False))["vessels"]
    assert kept
    assert all((each["value"] is None) == bool(each["reason"]) for each in kept.values())


@pytest.mark.parametrize(
    ("report", "reason"),
    [
        (fake_report(gradable=False), conclusions.UNGRADABLE),
        (fake_report(planes=False), record.NO_PLANES),
    ],
    ids=["ungradable", "no planes"],
)
def test_what_is_withheld_says_why(report, reason):
    found = evidence.measure(report, ALL, report)
    assert found.side is found.disc is found.fovea is None
    assert {found.side_reason, found.disc_reason, found.fovea_reason, found.cup_to_disc.reason} == {reason}
    assert all(each.total.reason == reason and each.near_fovea.reason == reason for each in found.lesions.values())
    assert all(number.value is None and number.reason == reason for number in found.vessels.values())
    assert "withheld" in prose.evidence_text(found).lower()


def test_no_disc_no_places(exact):
    blank = replace(exact.planes["disc"], square=np.zeros_like(exact.planes["disc"].square))
    found = evidence.measure(replace(exact, planes={**exact.planes, "disc": blank}), ALL, exact)
    assert found.lesions["MA"].total.count > 0
    assert found.lesions["MA"].near_fovea.reason == record.NO_DISC
    assert found.vessels["artery_calibre"].reason == record.NO_DISC
    assert "no optic disc was found" in prose.evidence_text(found)


def test_a_side_that_contradicts_the_report_is_withheld(exact):
    other = {"right": "left", "left": "right"}[exact.eye.side]
    reason = record.SIDES_DIFFER.format(exact.eye.side, other, "file name")
    found = evidence.measure(replace(exact, eye=Eye(other, "file name")), ALL)
    assert found.side is None
    assert found.contradicts
    assert found.lesions["MA"].near_fovea.reason == found.side_reason == reason
    assert not evidence.measure(exact, ALL).contradicts


def test_the_clinicians_word_on_the_side_sets_the_quadrants(exact):
    other = {"right": "left", "left": "right"}[exact.eye.side]
    as_seen = evidence.measure(exact, ALL).lesions["MA"].quadrants
    found = evidence.measure(replace(exact, eye=Eye(other, laterality.CHOSEN)), ALL)
    assert (found.side, found.fovea) == (other, None)
    assert "chosen by the clinician" in str(found.fovea_reason)
    assert {name: each.count for name, each in found.lesions["MA"].quadrants.items()} == {
        name.replace("temporal", "*").replace("nasal", "temporal").replace("*", "nasal"): each.count
        for name, each in as_seen.items()
    }


@pytest.mark.parametrize("origin", [laterality.OPEN, laterality.CHOSEN, laterality.CONTRARY])
def test_a_side_that_is_open_in_the_report_is_open_in_the_evidence(exact, origin):
    found = evidence.measure(replace(exact, eye=Eye(None, origin)), ALL)
    assert found.side is None
    assert not found.quadrant_areas
    assert found.side_reason == record.NOT_SETTLED.format(origin)
    assert found.contradicts == (origin == laterality.CONTRARY)
    assert (found.fovea is None) == found.contradicts
    assert "which eye this is, is open" in prose.evidence_text(found)
    assert evidence.measure(replace(exact, eye=Eye(None, None)), ALL).side == exact.eye.side, "nobody was asked"


def centred(exact: Report, eye: Eye) -> Report:
    """A field around the disc, in which the fovea is no dark spot: it could lie on either side."""
    ys, xs = np.mgrid[:SIZE, :SIZE]
    disc = (np.hypot(xs - SIZE / 2, ys - SIZE / 2) < 0.06 * SIZE).astype(np.float32)
    none = np.zeros_like(disc)
    squares = {"disc": disc, "cup": none, "artery": none, "vein": none}
    planes = {name: replace(exact.planes[name], square=square) for name, square in squares.items()}
    flat = np.where(exact.photograph.pixels.max(axis=2, keepdims=True) > 8, np.uint8((180, 90, 40)), np.uint8(0))
    return replace(exact, photograph=replace(exact.photograph, pixels=flat), planes={**exact.planes, **planes}, eye=eye)


@pytest.mark.parametrize("origin", ["DICOM tag", "file name", laterality.CHOSEN, laterality.AGAINST_TAG])
def test_quadrants_need_the_disc_and_the_side_alone(exact, origin):
    found = {side: evidence.measure(centred(exact, Eye(side, origin)), ALL) for side in laterality.SIDES}
    for side, each in found.items():
        assert (each.side, each.side_reason) == (side, None)
        assert (each.fovea, each.fovea_reason) == (None, record.NO_FOVEA)
        assert dict(prose.evidence_facts(each))["Eye"] == f"{side.capitalize()} eye, as the report says."
        assert sum(spots.count for spots in each.lesions["MA"].quadrants.values()) == each.lesions["MA"].total.count > 0
        assert each.lesions["MA"].near_fovea.reason == record.NO_FOVEA
    right, left = (found[side].quadrant_areas for side in ("right", "left"))
    assert right["superotemporal"] == left["superonasal"] > 0


@pytest.mark.parametrize("origin", [None, laterality.OPEN, f"{laterality.CHOSEN}: {laterality.UNKNOWN}"])
def test_a_side_that_nobody_knows_or_that_is_in_doubt_gives_no_quadrants(exact, origin):
    found = evidence.measure(centred(exact, Eye(None, origin)), ALL)
    assert found.side_reason == (record.NOT_SETTLED.format(origin) if origin else record.NO_SIDE)
    assert (found.disc is None, found.side, found.fovea, dict(found.quadrant_areas)) == (False, None, None, {})
    assert all(each.count is None for each in found.lesions["MA"].quadrants.values())


@pytest.mark.parametrize(
    ("radius", "crossed", "told"), [(0.06, False, "right"), (0.06, True, None), (0.13, False, None)]
)
def test_a_disc_tells_the_side_only_where_there_is_room_for_a_macula(exact, radius, crossed, told):
    """Photographs of the nasal retina have the disc on the other side, with vessels where the macula would be, or the
    place of that beyond the field. A name of the file is believed all the same.
    """
    report = centred(exact, Eye("right", BY_DISC))
    ys, xs = np.mgrid[:SIZE, :SIZE] / SIZE
    pixels = report.photograph.pixels.copy()
    high, wide = pixels.shape[:2]
    cv2.circle(pixels, (wide // 2, round(0.15 * high)), high // 12, (60, 30, 10), -1)  # else all is equally dark
    report = replace(report, photograph=replace(report.photograph, pixels=pixels))
    squares = {"disc": (np.hypot(xs - 0.62, ys - 0.5) < radius), "vein": (np.abs(ys - 0.52) < 0.01) & crossed}
    planes = {name: replace(report.planes[name], square=each.astype(np.float32)) for name, each in squares.items()}
    report = replace(report, planes={**report.planes, **planes})
    seen = evidence.sided(report).eye
    assert seen == Eye(told, BY_DISC if told else laterality.NO_MACULA)
    found = evidence.measure(replace(report, eye=seen), ALL)
    assert (found.side, found.fovea) == (told, None)
    assert laterality.settle("left", seen)[0] == (
        Eye("left", "file name") if told is None else Eye(None, "not settled")
    )


@pytest.mark.parametrize("beside", [0.09, 0.12, -0.12])
def test_a_fovea_that_is_not_seen_neither_names_a_side_nor_contradicts_one(exact, beside):
    """A narrow field: the disc is a fifth of it, and there is room for the fovea on one side only."""

    def narrow(eye: Eye) -> Report:
        report = centred(exact, eye)
        ys, xs = (np.mgrid[:SIZE, :SIZE] + 0.5) / SIZE
        disc = (np.hypot(xs - 0.5 - beside, ys - 0.5) < 0.1).astype(np.float32)
        return replace(report, planes={**report.planes, "disc": replace(report.planes["disc"], square=disc)})

    unknown = narrow(Eye(None, None))
    found, told = evidence.measure(unknown, ALL), evidence.sided(unknown).eye
    assert (told, found.side, found.fovea, dict(found.quadrant_areas)) == (Eye(None, None), None, None, {})
    assert found.side_reason == record.NO_SIDE
    for side in laterality.SIDES:
        known = narrow(Eye(side, "file name"))
        found = evidence.measure(known, ALL)
        assert (found.side, found.contradicts) == (side, False)
        assert found.quadrant_areas
        assert dict(prose.evidence_facts(found))["Eye"] == f"{side.capitalize()} eye, as the report says."
        assert evidence.sided(known).eye == known.eye


def test_lesions_by_place_are_held_against_false_alarms(exact):
    shown = {
        code: replace(each, healthy_most=most)
        for (code, each), most in zip(exact.lesions.items(), (0, 999, 0, 0), strict=True)
    }
    found = evidence.measure(replace(exact, lesions=shown), {"MA": 0.5, "HE": 0.5})
    facts = dict(prose.evidence_facts(found))
    assert (
        "; more than these weights falsely mark in most eyes without a finding (up to 0)." in (facts["Microaneurysms"])
    )
    assert "; no more than these" in facts["Haemorrhages"]


def test_the_zone_around_the_fovea_must_be_seen_to_be_counted():
    field = fundus.square_mask(fundus.Prep(256))
    disc, fovea = Disc(0.7, 0.5, 0.16), evidence.Fovea(0.5, 0.52, 0.25, True)
    assert evidence.lesions.seen_near(field, disc, fovea) == 1
    ys = np.mgrid[:256, :256][0]
    half = evidence.lesions.seen_near(field & (ys < 0.52 * 256), disc, fovea)
    assert half == pytest.approx(0.5, abs=0.02)
    outside = evidence.Fovea(0.02, 0.5, 0.25, True)
    assert evidence.lesions.seen_near(np.ones_like(field), disc, outside) == pytest.approx(0.58, abs=0.02)


def test_lesions_of_a_zone_that_is_cut_are_not_counted(exact):
    found = evidence.measure(exact, ALL)
    assert found.lesions["MA"].near_fovea.count is not None
    _, top, _, high = exact.grid
    row = top + round((found.fovea.y - 0.5 * found.disc.diameter) * high)
    pixels = exact.photograph.pixels.copy()
    pixels[:row] = 0
    cut = evidence.measure(replace(exact, photograph=replace(exact.photograph, pixels=pixels)), ALL)
    assert cut.fovea, "its place is known"
    near = cut.lesions["MA"].near_fovea
    assert (near.count, near.reason[:17]) == (None, "not counted: only")
    assert "of that zone is in the photograph." in dict(prose.evidence_facts(cut))["Microaneurysms"]


def test_exudates_near_the_fovea_and_the_risk_of_oedema_are_held_against_each_other(exact, tmp_path):
    def told(suspected: bool, fewest: int, most: int) -> str | None:
        places = replace(seen.lesions["EX"], near_fovea=evidence.Spots(most, 0.1), near_fovea_range=(fewest, most))
        found = replace(seen, lesions={**seen.lesions, "EX": places})
        report = replace(exact, dme=replace(exact.dme, suspected=suspected, probability=0.27, assessed=True))
        leaflet.write_evidence(tmp_path, report, found)
        said = prose.macula_doubt(report, found)
        assert (said or "The count is of the lesion maps") in (tmp_path / "evidence.txt").read_text() or said is None
        return said

    seen = evidence.measure(exact, {"EX": 0.5})
    assert "(3 or more), yet the risk of macular oedema is not suspected (27.0 %)" in told(False, 3, 5)
    assert "yet no hard exudate is marked within one disc diameter" in told(True, 0, 0)
    assert [told(True, 3, 5), told(False, 0, 4), told(True, 0, 2), told(False, 0, 0)] == [None] * 4


def test_the_error_of_vessel_numbers_stands_beside_them(exact):
    found = evidence.measure(exact, {}, exact, {"artery_calibre": 0.1, "artery_vein_ratio": 0.06})
    calibre, ratio = found.vessels["artery_calibre"], found.vessels["artery_vein_ratio"]
    assert calibre.error == pytest.approx(0.1 * calibre.value)
    assert ratio.error == 0.06
    assert "± 0.060 (mean absolute error on labelled eyes)" in dict(prose.evidence_facts(found))["Artery-vein ratio"]
    assert found.vessels["vein_calibre"].error is None


def test_the_picture_outlines_what_is_counted(exact):
    """A single bright pixel, and a region at the rim, are no lesions in the text: nor in the picture."""
    plane = np.zeros_like(exact.planes["lesion_HE"].square)
    plane[200:206, 200:206] = 0.9
    alone = replace(exact, planes={**exact.planes, "lesion_HE": replace(exact.planes["lesion_HE"], square=plane)})
    more = plane.copy()
    more[100, 300] = more[250:256, :6] = 0.9
    other = replace(alone, planes={**alone.planes, "lesion_HE": replace(alone.planes["lesion_HE"], square=more)})
    pictures = []
    for report in (alone, other):
        figure = charts.evidence_figure(report, evidence.measure(report, {"HE": 0.5}))
        canvas = FigureCanvasAgg(figure)
        canvas.draw()
        pictures.append(np.asarray(canvas.buffer_rgba()))
    assert (pictures[0] == pictures[1]).all()


def test_sentences_have_units_and_never_exclude(exact):
    found = evidence.measure(exact, {"MA": 0.5, "SE": 2.0}, exact)
    text = prose.evidence_text(found)
    facts = dict(prose.evidence_facts(found))
    assert "disc areas" in facts["Microaneurysms"]
    assert facts["Soft exudates"].startswith("None found")
    assert "does not exclude" in facts["Soft exudates"]
    assert "disc diameters" in facts["Artery calibre (CRAE)"]
    assert labels.NOTICE in text
    assert not {"normal", "healthy", "diagnosed"} & set(text.lower().replace(".", " ").split())
    assert text == prose.evidence_text(found)


def test_places_are_told_for_the_side_that_the_clinician_names(exact):
    found = evidence.measure(exact, {})
    assert found.side == exact.eye.side
    other = "left" if found.side == "right" else "right"
    taken = Taken(Path("eye.png"), report=exact, evidence=found, seen=exact.eye, chosen=other)
    settled = Reader(FakePipeline()).settle(Case(Path("."), (taken,))).eyes[0]
    assert settled.report.eye.side == other
    assert (settled.evidence.side, settled.evidence.fovea) == (other, None)
    assert settled.evidence.quadrant_areas["superotemporal"] == found.quadrant_areas["superonasal"]
    assert settled.evidence.vessels == found.vessels


def test_a_side_in_doubt_has_no_quadrants_on_the_page_until_the_clinician_decides(exact, tmp_path):
    other = {"right": "left", "left": "right"}[exact.eye.side]

    class Centred(FakePipeline):  # the disc is in the middle: only the fovea tells the side
        def __call__(self, *_, **__):
            return replace(exact, eye=Eye(None, None))

    def told(case) -> tuple[dict, str, str]:
        """What the JSON, the page and the paper say of it."""
        written = " ".join(each.get_text() for sheet in paper._reading(case.noted(case.shown)) for each in sheet.texts)
        return json.loads(as_json(case, case.shown)), answers.reading(case.eye), " ".join(written.split())

    cv2.imwrite(str(tmp_path / "eye.png"), exact.photograph.pixels)
    reader = Reader(Centred())
    taken = Taken(tmp_path / "eye.png", named=other)
    open_ = reader.settle(reader.read(Case(tmp_path, (taken,)), lambda *_: None))
    unknown = reader.settle(open_.changed(0, chosen=laterality.UNKNOWN))
    for case, origin, asked in (
        (open_, laterality.OPEN, True),
        (unknown, "chosen by the clinician: not known", False),
        (reader.settle(unknown.changed(0, chosen=None)), laterality.OPEN, True),
    ):
        data, page, written = told(case)
        assert data["eye"] == {"side": None, "from": origin}
        assert data["evidence"]["side"] is None
        assert not data["evidence"]["quadrant_areas"]
        assert f"Side not measured: which eye this is, is open ({origin})." in page
        assert "temporal" not in page
        notes = [each for each in data["input"]["notes"] if "Which eye is it?" in each]
        assert len(notes) == asked
        assert ("Which eye is it?" in written) == asked
    decided = reader.settle(open_.changed(0, chosen=exact.eye.side))
    data, page, written = told(decided)
    assert data["evidence"]["side"] == exact.eye.side
    assert "temporal" in page
    assert "Which eye is it?" not in written


def test_a_reading_is_measured_once_by_place(exact, tmp_path, monkeypatch):
    class Named(FakePipeline):
        def __call__(self, *_, **__):
            return replace(exact, eye=Eye(None, None))

    seen, measure = [], evidence.measure
    monkeypatch.setattr(evidence, "measure", lambda *given: seen.append(given) or measure(*given))
    cv2.imwrite(str(tmp_path / "eye.png"), exact.photograph.pixels)
    reader = Reader(Named())
    case = reader.settle(
        reader.read(Case(tmp_path, (Taken(tmp_path / "eye.png", named=exact.eye.side),)), lambda *_: None)
    )
    assert case.eye.evidence.side == exact.eye.side
    assert len(seen) == 1, "it takes a second or more"


@pytest.mark.parametrize("seed", [1, 2])
def test_where_the_disc_tells_no_side_the_fovea_does(seed, tmp_path):
    eye = phantom.render(seed, 400)

    class Doubtful(FakePipeline):
        def __call__(self, *_, **__):
            return replace(exact_report(eye), eye=Eye(None, None))

    cv2.imwrite(str(tmp_path / "eye.png"), eye.photograph)
    reader = Reader(Doubtful())
    case = reader.read(Case(tmp_path, (Taken(tmp_path / "eye.png"),)), lambda *_: None)
    assert case.eye.evidence.fovea.seen
    assert case.eye.seen == Eye(eye.side, "places of disc and fovea") == evidence.sided(exact_report(eye)).eye
    assert reader.settle(case).eye.report.eye.side == eye.side
    other = {"right": "left", "left": "right"}[eye.side]
    assert "Which eye is it?" in case.changed(0, named=other).questions()[0], "it speaks against a file name"


def test_a_contradiction_about_the_side_stays_until_the_clinician_decides(exact, tmp_path):
    other = {"right": "left", "left": "right"}[exact.eye.side]

    class Mistaken(FakePipeline):
        def __call__(self, *_, **__):
            return replace(exact, eye=Eye(other, "position of the optic disc"))

    cv2.imwrite(str(tmp_path / "eye.png"), exact.photograph.pixels)
    reader = Reader(Mistaken())
    case = reader.settle(reader.read(Case(tmp_path, (Taken(tmp_path / "eye.png"),)), lambda *_: None))
    assert case.eye.report.eye == Eye(None, laterality.CONTRARY)
    alone = laterality.settled(evidence.sided(replace(exact, eye=Eye(other, "position of the optic disc"))))
    assert alone.eye == Eye(None, laterality.CONTRARY), "also where nobody can be asked"
    assert case.eye.evidence.side is None
    assert case.eye.evidence.contradicts
    decided = reader.settle(case.changed(0, chosen=exact.eye.side))
    assert decided.eye.evidence.side == exact.eye.side
    assert reader.settle(decided.changed(0, chosen=None)).eye.evidence.contradicts
