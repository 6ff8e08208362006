"""What a coarse JPEG leaves is smoothed for the networks, and the photograph itself stays as it was acquired."""

import io

import numpy as np
import pytest
from conftest import tiny_card, tiny_network
from PIL import Image

from qmmfl import compression, explain, fundus, photograph, pipeline


def stored(pixels: np.ndarray, kind: str, **options) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, kind, **options)
    return file.getvalue()


@pytest.mark.parametrize(("quality", "most"), [(20, 0.9), (50, 0.97)])
def test_a_healed_photograph_is_nearer_to_the_one_before_it_was_stored(eye, quality, most):
    picture = photograph.read(stored(eye.photograph, "JPEG", quality=quality))
    assert picture.jpeg_quality == quality
    healed = compression.heal(picture, 1024)
    assert healed.dtype == np.uint8
    assert healed.shape == picture.pixels.shape

    def wrong(pixels: np.ndarray) -> float:
        return float(np.square(pixels.astype(float) - eye.photograph).mean())

    assert wrong(healed) < most * wrong(picture.pixels)


def test_blocks_are_gone_and_colours_stay():
    ramp = np.tile(np.linspace(60, 100, 640), (480, 1))
    pixels = np.stack([ramp * 2, ramp, ramp / 2], axis=2).round().astype(np.uint8)
    picture = photograph.read(stored(pixels, "JPEG", quality=20))
    healed = compression.heal(picture, 1024)

    def steps(pixels: np.ndarray) -> float:
        """How much higher the steps between blocks are than those inside of them [grey levels]."""
        jumps = np.abs(np.diff(pixels[..., 1].astype(float), axis=1)).mean(axis=0)
        return jumps[7::8].mean() - np.delete(jumps, np.s_[7::8]).mean()

    assert steps(picture.pixels) > 0.5
    assert steps(healed) < 0.4 * steps(picture.pixels)
    assert np.abs(healed.astype(float).mean((0, 1)) - pixels.mean((0, 1))).max() < 1.5


def test_what_needs_no_healing_is_itself(eye):
    pixels = eye.photograph
    for file in (stored(pixels, "PNG"), stored(pixels, "JPEG", quality=compression.COARSE + 1)):
        picture = photograph.read(file)
        assert compression.heal(picture, 1024) is picture.pixels
    coarse = photograph.read(stored(pixels, "JPEG", quality=30))
    assert compression.heal(coarse, min(pixels.shape[:2]) // 2) is coarse.pixels, "scaled down its blocks vanish"
    plain = photograph.from_pixels(pixels)
    assert compression.heal(plain, 1024) is plain.pixels


def test_networks_and_explanations_see_the_healed_eye_and_the_report_keeps_the_other(eye):
    reader = pipeline.Pipeline(tiny_network(), tiny_card(), "test", "cpu")
    picture = photograph.read(stored(eye.photograph, "JPEG", quality=25))
    size = reader.card.prep.size
    coarse = photograph.Photograph(picture.pixels, picture.name, picture.sha256, jpeg_quality=25)
    healed = photograph.from_pixels(compression.heal(coarse, size))
    report, other = reader(picture, override=True), reader(healed, override=True)
    assert report.contributions == other.contributions
    assert report.photograph.pixels is picture.pixels
    square, _ = fundus.canonical(healed.pixels, reader.card.prep)
    assert np.array_equal(explain.read(reader, report).square, square)
