"""The bad inputs and faults that this app must survive, each with what happens and the tests that show it.

Rows 1 to 62 are files and requests, F1 to F15 faults around them. A name without a module is a test in this file.
"""

import ast
import contextlib
import csv
import errno
import functools
import hashlib
import io
import itertools
import json
import locale
import os
import pickle
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from datetime import datetime, timedelta, timezone
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from fakes import FakePipeline
from PIL import Image

from qmmfl import cli, draw, fundus, guard, labels, phantom, photograph, pipeline, quality, results, runs, weights
from qmmfl.guard import private_folder
from qmmfl.records import PhotographError
from qmmfl.ui import border, cases, exports, uploads

ROOT = Path(__file__).parent.parent

TESTS = Path(__file__).parent
BAD_FILE = "test_server::test_every_bad_file_gets_one_sentence_and_the_next_photograph_its_report"
FILE = "test_photograph::test_what_is_no_photograph_is_refused"
DAMAGED = "test_photograph::test_damaged_files_are_refused"
SIZE = "test_photograph::test_rows_10_to_13_and_60_sizes_below_the_limits_are_refused"
BOMB = "test_photograph::test_too_many_pixels_are_refused_before_decoding"
PAGES = "test_photograph::test_several_pages_are_refused"
PIXELS = "test_photograph::test_pixels_no_photograph_has_are_refused"
DEEP = "test_photograph::test_sixteen_bits_equal_the_eight_bit_twin"
METADATA = "test_photograph::test_rows_37_38_and_45_nothing_but_pixels_is_left"
QUIET = "test_server::test_names_and_metadata_stay_out_of_the_answer_and_the_log"
NAMES = "test_photograph::test_rows_49_and_51_any_name_is_read"
UPLOAD = "test_server::test_an_upload_stays_in_its_folder"
RENAMED = "test_ui::test_an_upload_is_renamed_and_the_original_is_gone"
PROBES = "test_server::test_files_of_the_server_are_not_read_for_others"
STAGE = "test_stages::test_a_stage_that_fails_gives_a_partial_report_and_the_next_is_whole"
DICOM = "test_dicom_is_refused_with_the_cure"

ROWS: dict[int | str, tuple[str, str, tuple[str, ...]]] = {
    1: ("0-byte .jpg", "refused: empty", ("test_photograph::test_row_1_an_empty_file_is_refused", BAD_FILE)),
    2: ("1 byte", "refused: not readable", (FILE, BAD_FILE)),
    3: ("text named .jpg", "refused: not readable", (FILE, BAD_FILE)),
    4: (
        "HTML named .jpg",
        "refused; as an upload never shown as a page",
        (FILE, BAD_FILE, "test_server::test_an_uploaded_page_is_never_shown"),
    ),
    5: ("JPEG cut at 50 %", "refused: damaged", (DAMAGED, BAD_FILE)),
    6: ("JPEG header only", "refused: not readable", (FILE, BAD_FILE)),
    7: ("PNG cut at 50 %", "refused: damaged", (DAMAGED, BAD_FILE)),
    8: (
        "JPEG with random bytes inside",
        "refused where the decoder notices (most); else read as what can be seen, the gates after it judge",
        (
            "test_random_bytes_inside_a_jpeg_are_mostly_noticed",
            "test_fuzz::test_a_damaged_file_is_a_photograph_or_a_sentence",
        ),
    ),
    9: ("PNG with a wrong checksum", "refused: damaged", (DAMAGED, BAD_FILE)),
    10: ("1x1", "refused: too small", (SIZE, BAD_FILE)),
    11: ("1x5000", "refused: too small", (SIZE, BAD_FILE)),
    12: ("64x64", "refused: too small", (SIZE, BAD_FILE)),
    13: (
        "223x223 and 224x224",
        "refused; read with a note",
        (SIZE, BAD_FILE, "test_photograph::test_row_13_the_smallest_and_the_longest_are_read"),
    ),
    14: ("20000x20000 1-bit PNG", "refused before decoding", (BOMB, BAD_FILE)),
    15: ("7000x7000 RGB PNG of 144 KB", "refused before decoding", (BOMB, BAD_FILE)),
    16: ("header lies: 60000x60000", "refused before decoding", (BOMB, BAD_FILE)),
    17: (
        "30 megapixels and a row more",
        "read; refused",
        ("test_photograph::test_row_17_exactly_the_most_pixels_are_read", BOMB),
    ),
    18: ("16-bit grey", "scaled, not cut off; noted as not colour", (DEEP,)),
    19: ("16-bit RGB", "equals the 8-bit twin within one level", (DEEP,)),
    20: (
        "CMYK JPEG",
        "converted with a note, whether Adobe inverted it or not",
        (
            "test_photograph::test_row_20_cmyk_equals_its_rgb_twin",
            "test_photograph::test_row_20_cmyk_that_adobe_did_not_invert_equals_its_rgb_twin",
        ),
    ),
    21: ("palette PNG", "converted", ("test_photograph::test_row_21_palette_is_converted",)),
    22: (
        "grey JPEG",
        "read with a note; every prediction withheld",
        (
            "test_photograph::test_row_22_grey_is_read_as_not_a_colour_photograph",
            "test_what_is_not_in_colour_is_ungradable",
        ),
    ),
    23: (
        "grey with alpha",
        "filled with black, noted",
        ("test_photograph::test_rows_23_and_24_alpha_is_filled_with_black",),
    ),
    24: ("transparent everywhere", "refused", ("test_photograph::test_row_24_fully_transparent_is_refused", BAD_FILE)),
    25: ("1-bit PNG", "refused", (PIXELS, BAD_FILE)),
    26: ("int32 TIFF", "refused", (PIXELS, BAD_FILE)),
    27: ("float32 TIFF of NaN", "refused", (PIXELS, BAD_FILE)),
    28: ("TIFF of several pages", "refused with their number", (PAGES, BAD_FILE)),
    29: (
        "TIFF tiled, LZW, deflate, JPEG",
        "read, every pixel kept",
        (
            "test_photograph::test_lossless_files_keep_every_pixel",
            "test_photograph::test_lossy_files_keep_the_picture",
        ),
    ),
    30: (
        "BigTIFF that claims 5 GB",
        "refused at once",
        ("test_photograph::test_row_30_a_bigtiff_that_claims_five_gigabytes_is_refused", BAD_FILE),
    ),
    31: ("animated GIF", "refused: not readable", (FILE, BAD_FILE)),
    32: ("animated WebP", "refused with the number of pages", (PAGES, BAD_FILE)),
    33: ("APNG", "refused with the number of pages", (PAGES, BAD_FILE)),
    34: (
        "EXIF orientation",
        "upright, and the report of the upright twin",
        (
            "test_photograph::test_row_34_the_orientation_is_applied",
            "test_a_turned_photograph_has_the_report_of_its_twin",
        ),
    ),
    35: ("EXIF orientation 99", "ignored", ("test_photograph::test_rows_35_and_36_a_broken_orientation_is_ignored",)),
    36: ("60 KB of random EXIF", "ignored", ("test_photograph::test_rows_35_and_36_a_broken_orientation_is_ignored",)),
    37: ("name and record number in EXIF, text, XMP, IPTC", "no byte of it anywhere", (METADATA, QUIET, RENAMED)),
    38: (
        "place in EXIF",
        "no byte of it anywhere",
        (METADATA, QUIET, "test_photograph::test_row_38_a_place_in_the_file_changes_no_word"),
    ),
    39: (
        "broken ICC profile",
        "ignored with a note",
        ("test_photograph::test_row_39_a_broken_profile_is_ignored_with_a_note",),
    ),
    40: ("Display P3", "converted to sRGB", ("test_photograph::test_row_40_a_wide_gamut_is_converted_to_srgb",)),
    41: (
        "SVG with a script",
        "refused; as an upload never shown",
        (FILE, BAD_FILE, "test_server::test_an_uploaded_page_is_never_shown"),
    ),
    42: ("SVG named .png", "refused", (FILE, BAD_FILE)),
    43: ("EPS named .jpg", "refused", (FILE, BAD_FILE)),
    44: ("PDF named .jpg", "refused", (FILE, BAD_FILE)),
    45: ("ZIP; JPEG with a ZIP and a script behind it", "refused; only its pixels survive", (FILE, METADATA, QUIET)),
    46: ("HEIC, AVIF", "refused: export as JPEG", (FILE, BAD_FILE)),
    47: ("JPEG 2000, ICO, FITS, GD, PSD", "refused", (FILE, BAD_FILE)),
    48: ("PNG with 80 MB of compressed text", "refused without expanding it", (DAMAGED, BAD_FILE)),
    49: (
        "odd characters in the name",
        "read; never shown on the page",
        (NAMES, UPLOAD, RENAMED, "test_fuzz::test_any_name_gives_one_line_without_a_folder"),
    ),
    50: (
        "name of 300 characters, NUL, ../../x.jpg, CON.jpg",
        "read or refused, never outside the folder",
        (
            "test_photograph::test_row_50_names_lose_folders_and_control_characters",
            "test_photograph::test_row_50_a_long_name_is_shortened_in_messages",
            UPLOAD,
        ),
    ),
    51: ("no or a wrong ending", "decided by the content", (NAMES, UPLOAD)),
    52: (
        "31 MB file",
        "413 on the page, refused in a folder",
        ("test_photograph::test_row_52_too_many_bytes_are_refused", "test_server::test_large_files_are_refused"),
    ),
    53: ("60 MB data: URL in JSON", "413", ("test_server::test_large_bodies_are_refused",)),
    54: (
        "1000 files in one upload",
        "refused; a case takes two eyes",
        (
            "test_server::test_a_thousand_files_are_refused",
            "test_ui::test_a_case_holds_two_photographs_and_loses_none_to_a_bad_third",
        ),
    ),
    55: ("FileData path=/etc/passwd", "refused, nothing echoed", (PROBES,)),
    56: (
        "FileData url=http://169.254.169.254/",
        "refused, nothing fetched",
        ("test_server::test_the_server_fetches_nothing_for_others",),
    ),
    57: (
        "wrong JSON types",
        "an error without a trace",
        (
            "test_server::test_wrong_types_are_an_error_without_a_trace",
            "test_server::test_a_wrong_count_of_arguments_is_an_error",
            "test_server::test_any_json_is_answered",
        ),
    ),
    58: (
        "black, white, one colour",
        "ungradable, every prediction withheld",
        ("test_a_picture_of_one_colour_is_ungradable", "test_pipeline::test_black_is_ungradable_not_refused"),
    ),
    59: (
        "noise, animal, document, OCT, angiogram, screenshot",
        "ungradable, every prediction withheld",
        ("test_what_is_no_fundus_is_ungradable", "test_what_is_not_in_colour_is_ungradable"),
    ),
    60: (
        "4000x300 strip; crop without a rim, half a field, upside down, mirrored",
        "refused for its shape; the others read, a crop and half a field with a note",
        (
            SIZE,
            BAD_FILE,
            "test_unusual_framings_are_read",
            "test_fundus::test_crop_without_rim_keeps_what_is_lit",
            "test_ui::test_a_conflict_of_sides_is_asked_about_and_the_clinician_decides",
        ),
    ),
    61: (
        "DICOM in colour, palette or grey, with a patient's name and burnt-in text",
        "colour is read where pydicom is installed, nothing but the side is kept, text is told and no network sees "
        "what lies outside the field; palette and grey are refused as not in colour",
        (
            "test_dicom::test_the_picture_and_the_side_are_read_and_nothing_else",
            "test_dicom::test_text_in_the_pixels_is_told",
            "test_dicom::test_what_holds_no_single_colour_picture_is_refused_in_one_sentence",
            "test_fundus::test_field_ignores_shift_and_text",
            DICOM,
        ),
    ),
    62: (
        "DICOM without pixels, cut, of several frames, 12 bits, compressed in another way; side in doubt",
        "refused in one sentence; a conflict of sides is asked about",
        (
            "test_dicom::test_what_holds_no_single_colour_picture_is_refused_in_one_sentence",
            "test_dicom::test_the_tag_settles_the_side_and_a_conflict_is_asked_about",
            DICOM,
        ),
    ),
    "F1": (
        "the Hub cannot be reached",
        "embedded weights at once, under a banner",
        ("test_hub::test_no_network_fails_at_once", "test_hub::test_offline_is_said"),
    ),
    "F2": (
        "the Hub answers 500 or 429, or hangs",
        "embedded weights within the deadline, under a banner",
        ("test_hub::test_a_hub_that_fails_gives_the_embedded_weights_and_says_so",),
    ),
    "F3": (
        "weights cut or one bit flipped",
        "refused with the cure, never used",
        (
            "test_weights::test_one_flipped_bit_is_refused",
            "test_weights::test_truncated_tensors_with_a_matching_hash_are_refused",
            "test_hub::test_a_changed_file_is_an_error_and_fetching_again_repairs_it",
        ),
    ),
    "F4": ("weights of another version", "refused", ("test_weights::test_another_vocabulary_is_refused",)),
    "F5": (
        "disk full, or the Hub's cache cannot be written",
        "said in one line, no half file, the run goes on later; the page takes no more files",
        (
            "test_screening::test_a_full_disk_is_said_and_the_run_goes_on_later",
            "test_hub::test_a_cache_that_cannot_be_written_is_said_with_its_cure",
            "test_screening::test_a_full_disk_leaves_no_half_file",
            "test_server::test_a_full_store_or_disk_takes_no_more_files",
            "test_a_disk_that_fills_while_a_photograph_is_taken_leaves_no_half_file",
            "test_a_disk_that_fills_while_a_picture_or_a_report_is_written_leaves_no_half_file",
            "test_a_disk_that_fills_while_an_answer_is_stored_is_told_with_the_cure",
            "test_ui::test_a_fault_of_ours_is_told_by_reference_only",
        ),
    ),
    "F6": (
        "a network gives NaN or infinity",
        "partial report: no number, the reason said",
        (STAGE, "test_explain::test_no_number_comes_from_a_network_that_gives_none"),
    ),
    "F7": (
        "one stage fails",
        "partial report: the other planes are shown",
        (
            STAGE,
            "test_stages::test_paper_carries_the_reason",
            "test_stages::test_a_folder_is_read_on_and_the_eye_has_its_row",
            "test_stages::test_the_command_fails_where_a_network_failed_and_tries_the_eye_again",
        ),
    ),
    "F8": (
        "out of memory",
        "partial report; the next photograph reads normally",
        (STAGE, "test_memory_that_runs_out_while_a_photograph_is_decoded_is_told_with_the_cure"),
    ),
    "F9": (
        "the client closes the tab",
        "what is read for it ends at its next stage, an explanation at its next pass, and its place is free again",
        (
            "test_ui::test_an_explanation_ends_at_its_next_pass_when_stopped",
            "test_explain::test_what_takes_many_passes_ends_before_the_next_when_told",
            "test_browser::test_an_analysis_whose_tab_is_closed_ends_at_its_next_stage",
            "test_server::test_an_answer_nobody_waits_for_holds_up_nobody",
            "test_ui::test_an_analysis_ends_at_its_next_stage_when_stopped_or_cleared",
        ),
    ),
    "F10": (
        "20 users at once",
        "everyone's own answer or busy",
        ("test_server::test_twenty_users_get_their_own_answer_or_busy",),
    ),
    "F11": (
        "two threads ask for maps of two eyes",
        "each gets its own, as if alone",
        (
            "test_explain::test_two_users_at_once_get_their_own_maps",
            "test_explain::test_explanations_and_what_ifs_at_once_stay_each_their_own",
        ),
    ),
    "F12": (
        "2,000 requests",
        "memory, descriptors, threads and files bounded",
        (
            "test_server::test_two_thousand_requests_leave_nothing_behind",
            "test_server::test_a_load_leaves_nothing_behind",
        ),
    ),
    "F13": (
        "SIGTERM or SIGHUP while a photograph is read",
        "ends within seconds, nothing is left",
        ("test_server::test_a_signal_in_the_middle_leaves_nothing_behind",),
    ),
    "F14": (
        "port in use; host, password file, certificate or key wrong",
        "one line, status 2",
        (
            "test_what_cannot_be_served_is_said",
            "test_the_program_of_a_space_says_in_one_line_what_it_cannot_serve",
            "test_server::test_the_page_can_be_served_encrypted",
        ),
    ),
    "F15": (
        "other time zone, language, a clock that jumps, no home, folder that must stay clean",
        "the same report, nothing written",
        ("test_a_hostile_environment_changes_nothing",),
    ),
}


def test_the_table_is_complete():
    assert set(ROWS) == set(range(1, 63)) | {f"F{number}" for number in range(1, 16)}


@functools.cache
def named_tests(module: str) -> set[str]:
    """The tests of a file as "module::name", and "module", which stands for all of them."""
    tree = ast.parse((TESTS / f"{module}.py").read_text())
    return {module} | {f"{module}::{node.name}" for node in tree.body if isinstance(node, ast.FunctionDef)}


def unknown(names: Iterable[str]) -> set[str]:
    """Those that are no test."""
    return {name for name in names if name not in named_tests(name.partition("::")[0])}


def test_every_test_named_in_the_table_exists():
    for row, (_, _, names) in ROWS.items():
        assert names, row
        assert not unknown(name if "::" in name else f"test_abuse::{name}" for name in names), row


def test_every_promise_names_tests_that_exist():
    promises = re.findall(r"^\| \*\*.*", (TESTS.parent / "SECURITY.md").read_text(), re.MULTILINE)
    assert len(promises) >= 15
    for promise in promises:
        names = re.findall(r"`(test_\w+(?:::test_\w+)?)`", promise)
        assert names, promise
        assert not unknown(names), promise


def withheld(report) -> bool:
    values = json.loads(json.dumps(report.to_dict(), allow_nan=False))
    return (
        not report.quality.gradable
        and bool(report.quality.reasons)
        and all(each["probability"] is None and each["suspected"] is None for each in values["findings"])
        and values["dr"]["grade"] is values["dme"]["probability"] is values["disc_cup"]["vcdr"] is None
    )


def test_random_bytes_inside_a_jpeg_are_mostly_noticed(eye):
    file = io.BytesIO()
    Image.fromarray(eye.photograph).save(file, "JPEG", quality=90)
    good, said = file.getvalue(), []
    numbers = np.random.default_rng(8)
    for _ in range(40):
        at = int(numbers.integers(700, len(good) - 500))
        try:
            read = photograph.read(good[:at] + numbers.bytes(400) + good[at + 400 :], "eye.jpg")
        except PhotographError as error:
            said.append(str(error))
        else:
            assert read.pixels.shape == eye.photograph.shape
    assert all("damaged or incomplete" in each for each in said)
    assert len(said) >= 20


COLOURS = {"black": (0, 0, 0), "white": (255, 255, 255), "grey": (128,) * 3, "orange": (200, 100, 40)}


@pytest.mark.parametrize("colour", COLOURS.values(), ids=COLOURS)
def test_a_picture_of_one_colour_is_ungradable(tiny_pipeline, colour):
    report = tiny_pipeline(np.full((300, 400, 3), colour, np.uint8))
    assert withheld(report)
    assert not report.planes, "no network was asked"


def draw_document() -> np.ndarray:
    page = np.full((800, 600, 3), 250, np.uint8)
    for line in range(20):
        cv2.putText(
            page, "Dear colleague, thank you", (40, 60 + 35 * line), cv2.FONT_HERSHEY_SIMPLEX, 0.9, (20,) * 3, 2
        )
    return page


def draw_oct() -> np.ndarray:
    numbers = np.random.default_rng(1)
    rows = np.arange(400)[:, None] - 150 - 20 * np.cos(np.arange(700) / 110)[None]
    layers = sum(90 * np.exp(-((rows - at) ** 2) / 40) for at in (0, 40, 55, 90))
    return np.repeat(np.clip(layers + numbers.rayleigh(14, rows.shape), 0, 255).astype(np.uint8)[..., None], 3, 2)


def draw_noise() -> np.ndarray:
    return np.random.default_rng(2).integers(0, 256, (500, 600, 3), np.uint8)


def draw_animal() -> np.ndarray:
    numbers = np.random.default_rng(3)
    scene = np.full((600, 800, 3), (120, 170, 210), np.uint8)
    cv2.rectangle(scene, (0, 400), (800, 600), (70, 120, 50), -1)
    cv2.ellipse(scene, (400, 420), (230, 140), 0, 0, 360, (150, 110, 70), -1)
    cv2.circle(scene, (400, 240), 110, (170, 125, 80), -1)
    for x in (330, 470):
        cv2.fillPoly(scene, [np.array([(x - 40, 170), (x + 40, 170), (x, 70)])], (160, 115, 75))
        cv2.circle(scene, (400 + (x - 400) // 2, 225), 18, (60, 160, 70), -1)
        cv2.circle(scene, (400 + (x - 400) // 2, 225), 7, (0, 0, 0), -1)
    return np.clip(scene + numbers.normal(0, 8, scene.shape), 0, 255).astype(np.uint8)


def draw_screenshot() -> np.ndarray:
    screen = np.full((700, 1100, 3), (236, 238, 242), np.uint8)
    screen[:60], screen[60:, :220] = (40, 90, 160), (250, 250, 250)
    screen[120:440, 300:620] = cv2.resize(phantom.render(3, 448).photograph, (320, 320))
    for line in range(12):
        cv2.putText(screen, "Patient list  2026", (20, 110 + 40 * line), cv2.FONT_HERSHEY_SIMPLEX, 0.6, (60, 60, 60), 1)
    return screen


@pytest.mark.parametrize("draw", [draw_document, draw_oct], ids=["document", "oct"])
def test_what_is_not_in_colour_is_ungradable(tiny_pipeline, eye, draw):
    for pixels in (draw(), np.repeat(eye.photograph[..., 1:2], 3, 2)):  # the second looks like an angiogram
        report = tiny_pipeline(pixels)
        assert withheld(report)
        assert quality.GREY in report.quality.reasons


@pytest.fixture(scope="module")
def trained():
    return pipeline.load(device="cpu")


@pytest.mark.parametrize(
    "draw",
    [draw_screenshot, *(pytest.param(each, marks=pytest.mark.slow) for each in (draw_noise, draw_animal))],
    ids=["screenshot", "noise", "animal"],
)
def test_what_is_no_fundus_is_ungradable(trained, draw):
    """Which of the two gates says so is the weights' business."""
    assert withheld(trained(draw()))


def test_unusual_framings_are_read(tiny_pipeline, eye):
    pixels = eye.photograph
    height, width = pixels.shape[:2]
    framings = {
        "crop": pixels[height // 4 : -height // 4, width // 4 : -width // 4],
        "half": pixels[:, : width * 6 // 10],
        "half dark": pixels * (np.arange(width) < width * 6 // 10)[None, :, None].astype(np.uint8),
        "upside down": pixels[::-1, ::-1],
        "mirrored": pixels[:, ::-1],
    }
    for name, framed in framings.items():
        report = tiny_pipeline(np.ascontiguousarray(framed))
        assert set(report.planes) == set(labels.PLANES), name
        assert report.planes["vein"].pixels.shape == framed.shape[:2]
        assert (fundus.NOTE_CROP in report.photograph.notes) == (name == "crop"), name
        told = any("of the round field of view is seen" in note for note in report.photograph.notes)
        assert told == name.startswith("half"), name


@pytest.mark.parametrize("orientation", [3, 6, 8])
def test_a_turned_photograph_has_the_report_of_its_twin(tiny_pipeline, eye, orientation):
    stored = np.rot90(eye.photograph, {3: 2, 6: 1, 8: -1}[orientation])
    tags = Image.Exif()
    tags[274] = orientation
    file = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(stored)).save(file, "PNG", exif=tags)
    assert tiny_pipeline(photograph.read(file.getvalue())).findings == tiny_pipeline(eye.photograph).findings


def dicom(*elements: tuple[int, int, bytes, bytes]) -> bytes:
    """A DICOM file, explicit little endian: (group, element, type, value)."""
    body = b""
    for group, element, kind, value in elements:
        value += b" " * (len(value) % 2)
        long = kind in (b"OB", b"OW", b"UN")
        size = bytes(2) + len(value).to_bytes(4, "little") if long else len(value).to_bytes(2, "little")
        body += group.to_bytes(2, "little") + element.to_bytes(2, "little") + kind + size + value
    return bytes(128) + b"DICM" + body


NAME = (0x10, 0x10, b"PN", b"DOE^JOHN")
JPEG = cv2.imencode(".jpg", np.full((300, 300, 3), (40, 90, 200), np.uint8))[1].tobytes()
DICOMS = {
    "61 rgb": dicom(NAME, (0x28, 4, b"CS", b"RGB"), (0x7FE0, 0x10, b"OW", bytes(300 * 300 * 3))),
    "61 ybr": dicom(NAME, (0x28, 4, b"CS", b"YBR_FULL_422"), (0x7FE0, 0x10, b"OW", bytes(300 * 300 * 2))),
    "61 palette": dicom(NAME, (0x28, 4, b"CS", b"PALETTE COLOR"), (0x7FE0, 0x10, b"OW", bytes(300 * 300))),
    "61 grey": dicom(NAME, (0x28, 4, b"CS", b"MONOCHROME2"), (0x7FE0, 0x10, b"OW", bytes(300 * 300))),
    "62 no pixels": dicom(NAME),
    "62 jpeg inside": dicom(NAME, (0x7FE0, 0x10, b"OB", JPEG)),
    "62 frames": dicom(NAME, (0x28, 8, b"IS", b"40"), (0x7FE0, 0x10, b"OW", bytes(40 * 300 * 300))),
    "62 twelve bits": dicom(NAME, (0x28, 0x101, b"US", b"\x0c\0"), (0x7FE0, 0x10, b"OW", bytes(300 * 300 * 2))),
    "62 without a preamble": dicom(NAME)[132:],
}


@pytest.mark.parametrize("data", DICOMS.values(), ids=DICOMS)
def test_dicom_is_refused_with_the_cure(data):  # none of them says how its pixels are written
    with pytest.raises(PhotographError) as caught:
        photograph.read(data, "eye.dcm")
    fault = r"(the DICOM file is damaged or incomplete|it is a DICOM file and pydicom is not installed|it is not a .*)"
    assert re.fullmatch(rf"Cannot read eye\.dcm: {fault}; [^;]*export it as JPEG or PNG [^;]*\.", str(caught.value))
    assert "DOE" not in str(caught.value)


def torch_file(value: object) -> bytes:
    file = io.BytesIO()
    torch.save(value, file)
    return file.getvalue()


class Trap:
    """Unpickled, it makes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


@pytest.mark.parametrize("save", [pickle.dumps, torch_file], ids=["pickle", "torch.save"])
def test_weights_that_are_a_pickle_are_refused_and_run_nothing(tiny_folder, tmp_path, save):
    mark, folder = tmp_path / "ran", shutil.copytree(tiny_folder, tmp_path / "weights")
    data = save(Trap(mark))
    (folder / weights.MODEL).write_bytes(data)
    card = json.loads((folder / weights.CARD).read_text()) | {"sha256": hashlib.sha256(data).hexdigest()}
    (folder / weights.CARD).write_text(json.dumps(card))
    with pytest.raises(weights.WeightsError, match="damaged"):
        pipeline.load(folder, "cpu")
    assert not mark.exists()


def test_what_cannot_be_served_is_said(monkeypatch, tmp_path, capsys):
    import socket

    monkeypatch.delenv("SPACE_ID", raising=False)
    monkeypatch.setattr(pipeline, "load", lambda *_: FakePipeline())
    words = tmp_path / "users"
    words.write_text("nobody")
    staff, blank, nameless, wide = (tmp_path / name for name in ("staff", "blank", "nameless", "wide"))
    staff.write_text("nurse:secret")
    blank.write_text("nurse:secret\nguest: \t\n")
    nameless.write_text("  :secret")
    wide.write_text("nurse:secret", "utf-16")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        for arguments, said in (
            (["--port", port], f"port {port} is taken"),
            (["--port", "70000"], "choose one from 1 to 65535"),
            (["--port", "0"], "choose one from 1 to 65535"),
            (["--host", "::1"], "stay on 127.0.0.1"),
            (["--host", "no.such.host.invalid", "--auth-file", str(staff)], "no address of this machine"),
            (["--host", "192.0.2.1", "--auth-file", str(staff)], "no address of this machine"),
            (["--host", "0.0.0.0"], "--auth-file"),
            (["--host", "no.such.host.invalid"], "--auth-file"),
            (["--auth-file", str(words)], "user:password"),
            (["--auth-file", str(blank)], "neither of them empty"),
            (["--auth-file", str(nameless)], "neither of them empty"),
            (["--auth-file", str(wide)], "text in UTF-8"),
            (["--auth-file", str(tmp_path / "missing")], "missing"),
            (["--tls", str(words), str(words)], "no certificate in PEM"),
            (["--tls", str(words), str(tmp_path / "key.pem")], "there is no"),
        ):
            assert cli.main(["serve", *arguments]) == cli.USAGE
            told = capsys.readouterr().err
            assert said in told
            assert told.startswith("qmmfl: ")
            assert "Traceback" not in told


def test_a_disk_that_fills_while_a_photograph_is_taken_leaves_no_half_file(eye, monkeypatch):
    def upload() -> str:
        path = Path(tempfile.mkdtemp(dir=private_folder())) / "eye.png"
        Image.fromarray(eye.photograph).save(path)
        return str(path)

    def fill(source, target):
        Path(target).write_bytes(Path(source).read_bytes()[:1000])
        raise OSError(errno.ENOSPC, "No space left on device", str(target))

    case = cases.open_case()
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "copyfile", fill)
        _, said = uploads.take(case, [upload()])
        assert "make room" in said[0]
    assert list(case.folder.iterdir()) == []
    again, said = uploads.take(case, [upload()])
    assert (len(again.eyes), said) == (1, [])
    cases.forget(again)


def test_a_disk_that_fills_while_a_picture_or_a_report_is_written_leaves_no_half_file(eye, monkeypatch):
    def fill(path, data):
        with open(path, "wb") as file:
            file.write(data[: len(data) // 2])
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    case = cases.open_case()
    taken = cases.Taken(case.folder / "photograph.png")
    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", fill)
        with pytest.raises(OSError, match="No space left"):
            taken.save("score_DR", eye.photograph, "png")
        with pytest.raises(OSError, match="No space left"):
            exports.export(case, None, "retinal_report.pdf", b"%PDF-1.4 and so on")
    assert not [path for path in case.folder.rglob("*") if path.is_file()]
    address = taken.save("score_DR", eye.photograph, "png")
    assert Path(address.partition("=")[2]).read_bytes() == draw.encode(eye.photograph, "png")
    kept = exports.export(case, None, "retinal_report.pdf", b"%PDF-1.4 and so on")
    assert Path(kept).read_bytes() == b"%PDF-1.4 and so on"
    cases.forget(case)


def test_memory_that_runs_out_while_a_photograph_is_decoded_is_told_with_the_cure(eye, monkeypatch):
    case, path = cases.open_case(), Path(tempfile.mkdtemp(dir=private_folder())) / "eye.png"
    Image.fromarray(eye.photograph).save(path)

    def run_out(*_):
        raise MemoryError

    with monkeypatch.context() as patch:
        patch.setattr(Image.Image, "convert", run_out)
        patch.setattr(Image.Image, "load", run_out)
        _, said = uploads.take(case, [str(path)])
    assert "memory ran out while it was decoded; close other programs and choose it again" in said[0]
    assert list(case.folder.iterdir()) == []
    cases.forget(case)


def test_a_disk_that_fills_while_an_answer_is_stored_is_told_with_the_cure():
    @border.told
    def answer():
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(guard.gradio().Error) as refused:
        answer()
    assert refused.value.message == border.NO_ROOM


@pytest.mark.parametrize(("port", "told"), [("abc", "invalid int value"), ("0", "there is no port 0")])
def test_the_program_of_a_space_says_in_one_line_what_it_cannot_serve(port, told):
    settings = {**os.environ, "GRADIO_SERVER_PORT": port}
    done = subprocess.run([sys.executable, "app.py"], cwd=ROOT, env=settings, capture_output=True, text=True)
    assert done.returncode == cli.USAGE
    assert told in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr


def test_cases_that_nobody_cleared_are_deleted_and_no_others():
    old, kept = cases.open_case(), cases.open_case()
    long_ago = time.time() - 2 * cases.KEEP - 60
    os.utime(old.folder, (long_ago, long_ago))
    cases.open_case()
    assert not old.folder.exists()
    assert kept.folder.exists()


@pytest.fixture
def at_home(tiny_pipeline, eye_file):
    """What report.json and summary.csv tell of an eye while the environment is still as it was."""
    report = tiny_pipeline(eye_file)
    cells = {name: str(cell) for name, cell in results.summarise(report).items()}
    return json.loads(json.dumps(results.to_json(report))), cells


@pytest.fixture
def elsewhere(at_home, monkeypatch):
    """Another time zone and language, a clock that is set back a day at every look, and no home."""
    before, clock, looks = locale.setlocale(locale.LC_ALL), time.time, itertools.count(1)
    with monkeypatch.context() as patch:
        patch.setenv("TZ", "Pacific/Kiritimati")
        patch.setenv("LC_ALL", "de_DE.UTF-8")
        patch.delenv("HOME", raising=False)
        patch.setattr(time, "time", lambda: clock() - 86400 * next(looks))
        time.tzset()
        with contextlib.suppress(locale.Error):  # not every machine has it
            locale.setlocale(locale.LC_ALL, "de_DE.UTF-8")
        yield
    locale.setlocale(locale.LC_ALL, before)
    time.tzset()


@pytest.mark.skipif(not hasattr(time, "tzset"), reason="the time zone cannot be changed here")
@pytest.mark.usefixtures("elsewhere")
def test_a_hostile_environment_changes_nothing(at_home, tiny_folder, eye_file, tmp_path, monkeypatch):
    bare, out = tmp_path / "bare", tmp_path / "out"
    bare.mkdir(mode=0o500)
    monkeypatch.chdir(bare)
    arguments = ["read", str(eye_file), "--out", str(out), "--weights", str(tiny_folder), "--device", "cpu"]
    assert cli.main([*arguments, "--no-planes", "--no-pdf", "--runtime", "torch"]) == cli.OK
    assert list(bare.iterdir()) == []
    told = json.loads(next(out.glob("*/report.json")).read_text())
    with (out / "summary.csv").open(newline="") as file:
        (row,) = csv.DictReader(file)
    there, cells = at_home
    assert told["provenance"]["created"].endswith("+00:00")
    began = datetime.fromisoformat(told["provenance"]["created"])
    assert abs(datetime.now(timezone.utc) - began) < timedelta(hours=1), "the clock is not shifted"
    assert 0 <= told["provenance"]["seconds"] < 600, "durations are not read off the clock"
    for each in (told, there):
        for volatile in ("created", "seconds"):
            each["provenance"].pop(volatile)
    assert told == there
    run = {"input": str(eye_file), "status": "ok", "folder": eye_file.stem, "stamp": runs.stamp(eye_file)}
    assert row == {**run, **cells}
