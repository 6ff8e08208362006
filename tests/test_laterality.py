"""Which eye: by words of the file name, by the photograph, and by the clinician where they disagree."""

import pytest
from fakes import fake_photograph, fake_report

from qmmfl.laterality import OPEN, UNKNOWN, find_in_name, settle, settled
from qmmfl.measures import BY_DISC
from qmmfl.records import Eye

NOTHING, RIGHT = Eye(None, None), Eye("right", BY_DISC)


@pytest.mark.parametrize(
    ("name", "side"),
    [
        ("Doe_OD.jpg", "right"),
        ("doe os.png", "left"),
        ("12-R-2024.tif", "right"),
        ("eye_left.webp", "left"),
        ("imageRight1.png", "right"),
        ("LE.png", "left"),
        ("12_RE_2024.png", "right"),
        ("LE_GOFF_Marie.jpg", None),
        ("Re-take 12.jpg", None),
        ("photo_le_12.jpg", None),
        ("PT12_R0M0.png", None),  # grades of the English screening
        ("0012_R1M0.jpg", None),
        ("IMG_iOS_0001.jpg", None),
        ("macOS_123.jpg", None),
        ("iOS_photo_OD.jpg", "right"),
        ("patientOS.jpg", "left"),
        ("Maculopathy_R3", None),
        ("left_R2M1.jpg", "left"),
        ("12R.jpg", "right"),
        ("Doe_L_01.jpg", "left"),
        ("OD1.png", "right"),
        ("John_R_Smith_01.jpg", None),
        ("John_R_Smith_OS.jpg", "left"),
        ("Model.jpg", None),  # od inside a word
        ("left_right.jpg", None),
        ("photograph.jpg", None),
        ("os", "left"),
        (None, None),
    ],
)
def test_words_of_the_name(name, side):
    assert find_in_name(name) == side


def test_agreement_and_single_sources():
    assert settle("right", RIGHT) == (Eye("right", "file name and " + BY_DISC), None)
    assert settle("left", NOTHING) == (Eye("left", "file name"), None)
    assert settle(None, RIGHT) == (RIGHT, None)
    assert settle(None, NOTHING) == (NOTHING, None)


def test_where_nobody_can_be_asked_the_file_name_counts_as_on_the_page():
    report = fake_report(fake_photograph(name="scan_OD_1.jpg"))
    assert settled(report).eye == Eye("right", "file name and " + BY_DISC)
    report = fake_report(fake_photograph(name="scan_OS_1.jpg"))
    assert settled(report).eye == Eye(None, OPEN)
    assert settled(report).photograph.notes[-1].endswith("Which eye is it?")


def test_conflict_is_asked_about_until_the_clinician_decides():
    eye, question = settle("left", RIGHT)
    assert eye == Eye(None, OPEN)
    assert question
    assert question.endswith("Which eye is it?")
    assert settle("left", RIGHT, "left") == (Eye("left", "chosen by the clinician"), None)
    assert settle("left", RIGHT, UNKNOWN)[0].side is None
