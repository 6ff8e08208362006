import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from qmmfl import fundus, phantom, photograph

HERE = Path(__file__).parent
GOLDEN = HERE / "golden" / "frames.json"


def ramp(width, height):
    """float32 (height, width, 2): every pixel holds its own x and y, so that a resampling shows where it looked."""
    xs, ys = np.meshgrid(np.arange(width), np.arange(height))
    return np.stack([xs, ys], axis=-1).astype(np.float32)


@pytest.mark.parametrize("size", [64, 100, 128, 640])
@pytest.mark.parametrize(
    ("x", "y", "wide", "high"), [(10, 20, 256, 256), (-30, 5, 333, 333), (3, -60, 401, 401), (-9, 12, 190, 260)]
)
def test_pixels_and_points_agree(x, y, wide, high, size):
    frame = fundus.Frame(x, y, wide, high, size, 300, 280, fundus.Field(150, 140, 120, True))
    square = frame.warp(ramp(300, 280))
    grid = ramp(size, size).astype(float)
    looked = frame.to_photograph(grid)
    low, high = np.maximum([2, 2], [x + 2, y + 2]), np.minimum([297, 277], [x + wide - 3, y + high - 3])
    inside = ((looked > low) & (looked < high)).all(axis=-1)
    assert inside.mean() > 0.3
    assert np.abs(square - looked)[inside].max() < 0.1  # [px]


def test_points_round_trip(numbers):
    frame = fundus.Frame(-17, 40, 777, 555, 1024, 900, 800, fundus.Field(371.5, 428.5, 388.4, True))
    points = numbers.uniform(-100, 1000, (50, 2))
    np.testing.assert_allclose(frame.to_photograph(frame.to_square(points)), points, atol=1e-9)
    corners = frame.to_square(np.array([[-17.5, 39.5], [-17 + 776.5, 40 + 554.5]]))
    np.testing.assert_allclose(corners, [[-0.5, -0.5], [1023.5, 1023.5]])


@pytest.mark.parametrize("wide", [400, 290])
@pytest.mark.parametrize("size", [256, 340, 500, 1024])
def test_unwarp_brings_a_plane_back_to_its_place(size, wide):
    frame = fundus.Frame(35 - wide // 8, 10, wide, 400, size, 380, 420, fundus.Field(179.5, 209.5, 200, True))
    blob = np.zeros((420, 380), np.float32)
    cv2.circle(blob, (200, 250), 30, 1.0, -1)
    back = frame.unwarp(frame.warp(blob))
    assert back.shape == blob.shape
    ys, xs = np.nonzero(back > 0.5)
    assert abs(xs.mean() - 200) < 0.1
    assert abs(ys.mean() - 250) < 0.1
    assert abs((back > 0.5).sum() / (blob > 0.5).sum() - 1) < 0.02


def test_a_frame_refuses_what_is_not_its_own_size():
    frame = fundus.Frame(0, 0, 100, 100, 50, 100, 100, fundus.Field(50, 50, 50, True))
    with pytest.raises(ValueError, match="square"):
        frame.unwarp(np.zeros((4, 5)))
    with pytest.raises(ValueError, match="frame wants 100x100"):
        frame.warp(np.zeros((50, 60)))


@pytest.fixture(scope="module")
def large():
    return phantom.render(11, 480)


@pytest.mark.parametrize(("cut", "shift"), [(0, 0), (60, 0), (90, 25)])
@pytest.mark.parametrize("scale", [1, 3])
def test_field_is_found_where_it_was_drawn(large, cut, shift, scale):
    """A field cut off above and below, as many cameras do, keeps its true circle."""
    eye = large
    picture = eye.photograph[cut : 480 - cut + shift]
    picture = cv2.resize(picture, None, fx=scale, fy=scale, interpolation=cv2.INTER_NEAREST)
    x, y, radius = eye.field
    found = fundus.find_field(picture)
    assert found.circular
    assert abs((found.x + 0.5) / scale - 0.5 - x) < 2.5
    assert abs((found.y + 0.5) / scale - 0.5 - (y - cut)) < 2.5
    assert abs(found.radius / scale - radius) < 3.5


@pytest.mark.parametrize("aspect", [1.4, 1.15, 0.8])
@pytest.mark.parametrize("cut", [0, 50])
@pytest.mark.parametrize("stored", [None, 60])
def test_a_photograph_pulled_out_of_shape_is_read_as_if_its_field_were_round(large, aspect, cut, stored):
    """Sets that store every photograph as a square hold eyes shaped like an egg."""
    round_ = large.photograph[cut : len(large.photograph) - cut]
    squeezed = cv2.resize(round_, None, fx=1 / aspect, fy=1, interpolation=cv2.INTER_AREA)
    if stored:
        squeezed = cv2.imdecode(cv2.imencode(".jpg", squeezed, [cv2.IMWRITE_JPEG_QUALITY, stored])[1], 1)
    expected, known = fundus.canonical(round_, fundus.Prep(256))
    square, frame = fundus.canonical(squeezed, fundus.Prep(256))
    assert known.field.aspect == 1
    assert abs(frame.field.aspect / aspect - 1) < 0.02
    assert np.abs(np.array(frame.grid) * (aspect, 1, aspect, 1) - known.grid).max() < 6
    assert np.abs(square.astype(float) - expected).mean() < 4
    inside = frame.field_mask()
    truly = cv2.resize(known.field_mask().astype(np.float32), inside.shape[::-1]) > 0.5
    assert (inside != truly).mean() < 0.02


@pytest.mark.parametrize("surround", [0, 255])
def test_black_around_a_field_that_the_camera_cut_does_not_shrink_it(large, surround):
    cut = large.photograph[70:410, 40:430]
    around = cv2.copyMakeBorder(cut, 60, 60, 60, 60, cv2.BORDER_CONSTANT, value=(0, 0, 0))
    if surround:
        around = np.where(around.max(axis=2, keepdims=True) < 12, surround, around).astype(np.uint8)
    known, found = fundus.find_field(cut), fundus.find_field(around)
    assert known.circular
    assert found.circular
    assert abs(found.radius / known.radius - 1) < 0.02
    assert np.hypot(found.x - 60 - known.x, found.y - 60 - known.y) < 4


COLOURS = {
    "cream": (250, 243, 222),
    "blue": (30, 60, 120),
    "slate": (30, 41, 59),
    "navy": (10, 20, 60),
    "green": (20, 80, 40),
}


@pytest.mark.parametrize("colour", COLOURS.values(), ids=list(COLOURS))
@pytest.mark.parametrize("cut", [0, 50])
@pytest.mark.parametrize("quality", [None, 90])
def test_a_coloured_surround_is_black_to_the_networks(large, colour, cut, quality):
    """As of a slide or a program: around the whole field, and where the camera cut it above and below."""
    part = large.photograph[cut : len(large.photograph) - cut] if cut else large.photograph
    black = cv2.copyMakeBorder(part, 40, 40, 60, 60, cv2.BORDER_CONSTANT, value=(0, 0, 0))
    known = fundus.find_frame(black, fundus.Prep(128))
    outside = black.max(axis=2, keepdims=True) < 12
    toned = np.where(outside, np.array(colour, np.uint8), black)
    if quality:
        toned = cv2.imdecode(cv2.imencode(".jpg", toned, [cv2.IMWRITE_JPEG_QUALITY, quality])[1], cv2.IMREAD_COLOR)
    found = fundus.find_frame(toned, fundus.Prep(128))
    assert abs(found.wide / known.wide - 1) < 0.03
    assert np.hypot(found.x + found.wide / 2 - known.x - known.wide / 2, found.y - known.y) < 12
    seen, square = fundus.canonical(toned, fundus.Prep(128))[0], fundus.canonical(black, fundus.Prep(128))[0]
    assert np.abs(seen.astype(int) - square).mean() < 6


@pytest.mark.parametrize("colour", [(150, 150, 150), (30, 41, 59)])
def test_coloured_corners_of_a_field_that_is_cut_on_every_side_are_black(large, colour):
    known = fundus.find_field(large.photograph)
    x, y = (round(middle - 175) for middle in (known.x, known.y))
    cut = large.photograph[y : y + 350, x : x + 350]
    toned = np.where(cut.max(axis=2, keepdims=True) < 12, np.array(colour, np.uint8), cut)
    assert (toned != cut).any()
    black, found = fundus.find_field(cut), fundus.find_field(toned)
    assert (found.circular, black.circular) == (True, True)
    assert abs(found.radius / black.radius - 1) < 0.02
    assert np.hypot(found.x - black.x, found.y - black.y) < 3


@pytest.mark.parametrize("around", [0, 40])
@pytest.mark.parametrize("side", [350, 380])
def test_a_field_that_the_camera_cut_on_every_side_is_found_by_its_corners(large, side, around):
    known = fundus.find_field(large.photograph)
    x, y = (round(middle - side / 2) for middle in (known.x, known.y))
    cut = large.photograph[y : y + side, x : x + side]
    found = fundus.find_field(cv2.copyMakeBorder(cut, *[around] * 4, cv2.BORDER_CONSTANT, value=(0, 0, 0)))
    assert found.circular
    assert abs(found.radius / known.radius - 1) < 0.02
    assert np.hypot(found.x - around + x - known.x, found.y - around + y - known.y) < 4


@pytest.mark.parametrize(("wide", "high"), [(400, 300), (420, 300), (420, 280)])
def test_a_square_made_of_a_wide_picture_with_round_corners_is_read_as_if_its_field_were_round(large, wide, high):
    known = fundus.find_field(large.photograph)
    x, y = round(known.x - wide / 2), round(known.y - high / 2)
    wide_one = large.photograph[y : y + high, x : x + wide]
    found = fundus.find_field(cv2.resize(wide_one, (wide, wide), interpolation=cv2.INTER_AREA))
    aspect = wide / high
    assert found.circular
    assert abs(found.aspect / aspect - 1) < 0.05
    assert abs(found.radius / aspect / known.radius - 1) < 0.05
    assert np.hypot(found.x + x - known.x, found.y / aspect + y - known.y) < 8


@pytest.mark.parametrize("aspect", [1.0, 1.5])
def test_a_mark_beside_a_field_that_was_cut_does_not_move_it(large, aspect):
    known = fundus.find_field(large.photograph)
    marked = large.photograph.copy()
    x, y = (int(middle + 0.76 * known.radius) for middle in (known.x, known.y))
    marked[y - 9 : y + 9, x - 9 : x + 9] = large.photograph[round(known.y), round(known.x)]
    cut = cv2.resize(marked[70:430], None, fx=1 / aspect, fy=1, interpolation=cv2.INTER_AREA)
    found = fundus.find_field(cv2.copyMakeBorder(cut, 20, 20, 20, 20, cv2.BORDER_CONSTANT, value=(0, 0, 0)))
    assert abs(found.aspect / aspect - 1) < 0.02
    assert abs(found.radius / known.radius - 1) < 0.02
    assert np.hypot((found.x - 20) * aspect - known.x, found.y + 50 - known.y) < 5


def test_the_corners_of_a_crop_are_no_rim(large):
    known = fundus.find_field(large.photograph)
    x, y = (round(middle - 120) for middle in (known.x, known.y))
    for wide, high in ((240, 240), (240, 180)):
        assert not fundus.find_field(large.photograph[y : y + high, x : x + wide]).circular


def test_what_a_map_holds_beyond_the_field_is_a_share_of_what_raises():
    cells = np.zeros((16, 16), np.float32)
    cells[0, 0], cells[8, 8], cells[15, 15], cells[4, 4] = 1, 2, 1, -5
    assert fundus.share_beyond(cells) == pytest.approx(0.5)
    cells[[0, 15], [0, 15]] = 0
    assert fundus.share_beyond(cells) == 0
    assert fundus.share_beyond(-np.ones((16, 16))) == 0


def test_field_ignores_shift_and_text(eye):
    wide = np.zeros((540, 700, 3), np.uint8)
    wide[60:508, 210:658] = eye.photograph
    cv2.putText(wide, "OD 12:30", (10, 40), cv2.FONT_HERSHEY_SIMPLEX, 1.0, (255, 255, 255), 2)
    a, b = fundus.find_field(eye.photograph), fundus.find_field(wide)
    assert abs(b.x - a.x - 210) < 1.5
    assert abs(b.y - a.y - 60) < 1.5
    square, frame = fundus.canonical(wide, fundus.Prep(256))
    assert not square[:20, :20].any()
    assert not square[~fundus.square_mask(fundus.Prep(256))].any()
    assert frame.field_mask()[30, 60] == False  # noqa: E712 - the text lies outside the field


@pytest.mark.parametrize("level", [255, 200, 60])
@pytest.mark.parametrize("stored", [None, 60])
def test_a_plain_border_is_no_part_of_the_eye(large, stored, level):
    outside = large.photograph.max(axis=2) == 0
    print_ = np.where(outside[..., None], level, large.photograph).astype(np.uint8)
    if stored:  # a lossy file smears the border into the eye
        print_ = cv2.imdecode(cv2.imencode(".jpg", print_, [cv2.IMWRITE_JPEG_QUALITY, stored])[1], cv2.IMREAD_COLOR)
    square, frame = fundus.canonical(print_, fundus.Prep(256))
    expected, known = fundus.canonical(large.photograph, fundus.Prep(256))
    assert (abs(frame.x - known.x), abs(frame.y - known.y), abs(frame.wide - known.wide)) <= (3, 3, 6)
    assert frame.wide == frame.high
    assert (square.min(axis=2) > 150).sum() < (expected.min(axis=2) > 150).sum() + 60, "nothing white is left"
    assert np.abs(square.astype(float) - expected).mean() < 8


@pytest.mark.parametrize("level", [45, 128, 240])
@pytest.mark.parametrize("around", [(0, 60, 0, 0), (40, 0, 90, 0), (50, 50, 50, 50)])
def test_a_caption_a_toolbar_or_a_page_is_no_part_of_the_eye(large, around, level):
    cut = large.photograph[70:410]
    shown = cv2.copyMakeBorder(cut, *around, cv2.BORDER_CONSTANT, value=(level, level, level))
    cv2.putText(shown, "OD 2020-01-01 12:30", (10, len(shown) - 20), cv2.FONT_HERSHEY_SIMPLEX, 0.8, (0, 0, 0), 2)
    dark = cv2.copyMakeBorder(cut, *around, cv2.BORDER_CONSTANT, value=(0, 0, 0))
    known, found = fundus.find_field(dark), fundus.find_field(shown)
    assert found.circular
    assert abs(found.radius / known.radius - 1) < 0.01
    assert np.hypot(found.x - known.x, found.y - known.y) < 2


def test_what_lies_along_one_edge_of_an_eye_is_no_border(large):
    """Of a retina that the camera cut and overexposed: its ends are black."""
    cut = large.photograph[70:].copy()
    cut[:12, 150:300] = 200
    assert fundus.on_black(cut) is cut


@pytest.mark.parametrize("level", [0, 128, 255])
def test_nothing_visible(level):
    with pytest.raises(fundus.FieldError):
        fundus.find_field(np.full((300, 400, 3), level, np.uint8))


def test_crop_without_rim_keeps_what_is_lit(large):
    crop = large.photograph[144:344, 136:344]
    found = fundus.find_field(crop)
    assert 80 < found.radius < 160


@pytest.mark.parametrize("surround", [0, 255])
@pytest.mark.parametrize("across", [True, False])
def test_a_second_eye_beside_the_first_is_seen(large, surround, across):
    eye = large.photograph
    pair = np.concatenate([eye, eye[:, ::-1]], axis=int(across))
    pair = np.where(pair.max(axis=2, keepdims=True) < 12, surround, pair).astype(np.uint8)
    assert not fundus.find_field(pair).alone
    assert fundus.find_field(eye).alone


@pytest.mark.parametrize("surround", [0, 255])
@pytest.mark.parametrize("across", [True, False])
@pytest.mark.parametrize("cut", [0.0, 0.12])
def test_two_eyes_that_touch_are_seen(large, surround, across, cut):
    """As a reading centre prints them: side by side with no gap, the circles whole or cut where they meet."""
    found, eye = fundus.find_field(large.photograph), large.photograph
    x0, x1 = (round(found.x + each * found.radius * (1 - cut)) for each in (-1, 1))
    tile = np.ascontiguousarray(eye[:, max(x0, 0) : x1])
    pair = np.concatenate([tile, tile[:, ::-1]], axis=1)
    pair = pair if across else np.ascontiguousarray(np.rot90(pair))
    pair = np.where(pair.max(axis=2, keepdims=True) < 12, surround, pair).astype(np.uint8)
    assert not fundus.find_field(pair).alone
    assert fundus.find_field(np.ascontiguousarray(tile)).alone


def test_an_eye_with_notches_or_pulled_out_of_shape_is_one(large):
    eye, (height, width) = large.photograph, large.photograph.shape[:2]
    stretched = cv2.resize(eye, None, fx=1.6, fy=1)
    notched = eye.copy()
    cv2.circle(notched, (width // 2, 0), height // 4, (0, 0, 0), -1)
    for picture in (stretched, notched, eye[height // 5 : -height // 5], eye[:, : round(0.7 * width)]):
        assert fundus.find_field(np.ascontiguousarray(picture)).alone


def test_what_stands_beside_an_eye_and_is_none_is_no_second_eye(large):
    eye = large.photograph
    caption = np.zeros_like(eye)
    cv2.putText(caption, "OD 45", (20, 200), cv2.FONT_HERSHEY_SIMPLEX, 3, (255, 255, 255), 12)
    small = np.zeros_like(eye)
    small[:150, :150] = cv2.resize(eye, (150, 150), interpolation=cv2.INTER_AREA)
    torn = eye.copy()
    torn[len(eye) // 2 - 20 : len(eye) // 2 + 20] = 0  # a dark band across it
    for picture in (np.hstack([eye, caption]), np.hstack([eye, small]), torn):
        assert fundus.find_field(picture).alone


def test_frames_of_the_examples_are_golden():
    """The crop of every example to half a pixel, so that another OpenCV cannot move it unnoticed."""
    expected = json.loads(GOLDEN.read_text())
    eyes = sorted((HERE.parent / "examples" / "eyes").glob("*.jpg"))
    assert {path.name for path in eyes} == set(expected)
    for path in eyes:
        frame = fundus.find_frame(photograph.read(path).pixels, fundus.Prep())
        x, y, side = expected[path.name]
        assert np.abs(np.array(frame.grid) - (x, y, side, side)).max() <= 1, path.name


def test_prep_digest_names_the_preparation():
    assert fundus.Prep().digest == fundus.Prep(1024, 0.0).digest
    assert fundus.Prep(512).digest != fundus.Prep().digest
