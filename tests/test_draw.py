"""Pictures: where things are drawn, that synthesized ones are marked, that the heat map's scale is fixed."""

from dataclasses import replace

import cv2
import numpy as np
import pytest
from fakes import fake_photograph, fake_report

from qmmfl import draw, labels, measures


@pytest.fixture(scope="module")
def report():
    return fake_report()


def decode(data: bytes) -> np.ndarray:
    return cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)


def test_grey_spans_the_range_and_survives_nan():
    assert draw.grey(np.array([[0.0, 0.5, 1.0, 7.0, -1.0, np.nan]]))[0, :, 1].tolist() == [0, 128, 255, 255, 0, 0]


def test_photograph_of_the_square_is_the_window_of_the_grid(report):
    x, y, width, _ = report.grid
    picture = draw.photograph(report, width)
    np.testing.assert_array_equal(picture[20 - y, 30 - x], report.photograph.pixels[20, 30])


@pytest.mark.parametrize("grid", [(-40, -30, 480, 480), (100, 50, 200, 200)])
def test_photograph_is_black_beyond_its_edges(report, grid):
    picture = draw.photograph(replace(report, grid=grid), grid[2])
    assert picture.shape == (grid[2], grid[2], 3)
    assert (picture[0].max() == 0) == (grid[0] < 0)


def test_photograph_without_a_grid_is_shown_whole():
    bare = fake_report(gradable=False, planes=False)
    assert draw.photograph(bare, 240).shape == (200, 240, 3)


@pytest.mark.parametrize("name", labels.PLANES)
@pytest.mark.parametrize("side", [200, None])
def test_every_plane_is_marked_as_synthesized(report, name, side):
    picture = draw.plane(report, name, side)
    assert picture.dtype == np.uint8
    assert picture.shape[:2] == ((side, side) if side else report.photograph.pixels.shape[:2])
    mark = picture[-12:, :90]
    assert mark.max() > 200
    assert (draw.grey(np.ones((200, 200))) != draw.mark_synthesized(draw.grey(np.ones((200, 200))))).any()


def test_mark_leaves_its_argument_alone():
    image = np.full((300, 300, 3), 128, np.uint8)
    marked = draw.mark_synthesized(image)
    assert (image == 128).all()
    assert marked[-3, 2].tolist() == [0, 0, 0]


def test_layer_outlines_the_disc_where_the_plane_has_it(report):
    square = np.zeros((256, 256), np.float32)
    square[100:150, 60:120] = 1
    disc = replace(report.planes["disc"], square=square)
    alpha = draw.layer(replace(report, planes={"disc": disc}), "disc", 256)[..., 3]
    rows, columns = np.nonzero(alpha[:220])
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == pytest.approx((100, 149, 60, 119), abs=1)
    assert alpha[125, 90] == 0, "what lies inside stays visible"


def test_overlay_without_planes_is_the_photograph(report):
    bare = replace(report, planes={})
    np.testing.assert_array_equal(draw.overlay(bare, side=200), draw.photograph(bare, 200))


def test_overlay_draws_lesions_in_their_colour(report):
    square = np.zeros((256, 256), np.float32)
    square[120:140, 120:140] = 1
    lesion = replace(report.planes["lesion_HE"], square=square)
    picture = draw.overlay(replace(report, planes={"lesion_HE": lesion}), side=256)
    assert (picture[:220] == draw.COLOURS["HE"]).all(axis=2).sum() > 40


@pytest.mark.parametrize("side", [None, 128, 256, 700])
def test_the_regions_outlined_are_those_that_are_counted(report, side):
    square = np.zeros((256, 256), np.float32)
    for x, value, width in ((60, 0.9, 2), (120, 0.7, 6), (180, 0.9, 1), (150, 0.6, 6)):
        square[100 : 100 + width, x : x + width] = value
    square[126:130, :3] = 0.9  # at the rim
    planes = {"lesion_MA": replace(report.planes["lesion_MA"], square=square)}
    lesion = replace(measures.count_lesions(square, 0.65, measures.lesion_field(256)), threshold=0.65)
    alpha = draw.layer(replace(report, planes=planes, lesions={"MA": lesion}), "MA", side)[..., 3]
    alpha[round(len(alpha) * 0.9) :] = 0  # the mark
    assert lesion.count == 2
    assert len(cv2.findContours(alpha, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)[0]) == 2


def with_map(report, value: float):
    cells = np.zeros((len(labels.MODALITIES), 8, 8), np.float32)
    cells[0, 2, 5] = value
    return replace(report, maps={"DR": cells})


def test_heat_is_where_the_map_is_and_nowhere_else(report):
    ground = draw.photograph(report, 256).astype(int)
    change = np.abs(draw.heat(with_map(report, draw.HEAT_TOP), "DR", 256) - ground).sum(axis=2)[:220]
    y, x = np.argwhere(change > 60).mean(axis=0)
    assert (x / 32, y / 32) == pytest.approx((5, 2), abs=0.3), "see `grid.align`"
    assert change[:24].max() <= 3


@pytest.mark.parametrize("value", [0.0, -50.0])
def test_heat_hides_what_lowers_the_score(report, value):
    change = np.abs(draw.heat(with_map(report, value), "DR", 256).astype(int) - draw.photograph(report, 256))
    assert change[:220].max() <= 1


def test_heat_scale_is_fixed_not_stretched(report):
    weak, strong, stronger = (
        draw.heat(with_map(report, share * draw.HEAT_TOP), "DR", 256).astype(int) for share in (0.1, 1, 9)
    )
    ground = draw.photograph(report, 256)
    assert np.abs(weak - ground)[:220].max() < np.abs(strong - ground)[:220].max()
    np.testing.assert_array_equal(strong[64, 160], stronger[64, 160])


def test_heat_is_not_drawn_beyond_the_field_of_view(report):
    everywhere = replace(report, maps={"DR": np.full((len(labels.MODALITIES), 8, 8), draw.HEAT_TOP, np.float32)})
    change = np.abs(draw.heat(everywhere, "DR", 256).astype(int) - draw.photograph(report, 256)).sum(axis=2)[:220]
    ys, xs = np.mgrid[:220, :256]
    away = np.hypot(ys - 127.5, xs - 127.5)
    assert change[away > 130].max() == 0
    assert change[away < 126].min() > 30
    full = np.abs(draw.heat(everywhere, "DR").astype(int) - report.photograph.pixels).sum(axis=2)
    gx, gy, side, _ = report.grid
    ys, xs = np.mgrid[: len(full), : full.shape[1]]
    away = np.hypot(ys - gy - side / 2, xs - gx - side / 2)
    assert full[: round(0.8 * len(full))][away[: round(0.8 * len(full))] > 0.51 * side].max() == 0


def test_heat_in_the_photographs_frame_lies_on_the_grid(report):
    full = draw.heat(with_map(report, draw.HEAT_TOP), "DR")
    change = np.abs(full.astype(int) - report.photograph.pixels).sum(axis=2)[:340]
    y, x = np.argwhere(change > 60).mean(axis=0)
    gx, gy, side, _ = report.grid
    assert (x, y) == pytest.approx((gx + 5 * side / 8, gy + 2 * side / 8), abs=side / 25)


def test_heat_of_an_unknown_code_is_refused(report):
    with pytest.raises(ValueError, match="no score map for 'CSR'"):
        draw.heat(report, "CSR", 200)


def test_cell_width_is_in_pixels_of_the_photograph(report):
    assert draw.cell_width(report, "DR") == round(report.grid[2] / 16)
    assert draw.cell_width(report, "CSR") is None


@pytest.mark.parametrize(("kind", "head"), [("jpeg", b"\xff\xd8"), ("png", b"\x89PNG")])
def test_encode_keeps_the_picture(kind, head):
    picture = fake_photograph().pixels
    data = draw.encode(picture, kind)
    assert data.startswith(head)
    assert np.abs(decode(data)[..., ::-1].astype(int) - picture).mean() < (4 if kind == "jpeg" else 1e-9)


def test_encode_keeps_transparency_in_png(report):
    picture = draw.layer(report, "vein", 128)
    np.testing.assert_array_equal(decode(draw.encode(picture, "png"))[..., [2, 1, 0, 3]], picture)
    with pytest.raises(ValueError, match="unknown kind"):
        draw.encode(picture, "gif")


def test_no_picture_covers_the_caption_above_it():
    """Whatever its length: of bands it says in three lines how far they are off."""
    picture = np.full((8, 8, 3), 255, np.uint8)
    caption = "507 nm, ± 0.03 of a reflectance of 0 to 1 (mean absolute error, simulated eyes)"
    (page,) = draw.sheet("A title", "A notice", [(picture, caption)] * 6, [], "A foot.", 5.2)
    above, below = page.axes[0].get_position(), page.axes[5].get_position()
    lowest = min(text.get_position()[1] for text in page.texts if below.y0 < text.get_position()[1] < above.y0)
    assert sum(text.get_position()[1] == lowest for text in page.texts) == 5, "the last line of each in the first row"
    assert lowest > below.y1
