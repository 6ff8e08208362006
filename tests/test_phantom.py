"""The phantom eye: determinism, exact truth, the optics against published measurements."""

import numpy as np
import pytest

from qmmfl import labels
from qmmfl.phantom import (
    band_rgb_weights,
    decode,
    encode,
    relative_rgb,
    render,
    spectra,
)

# Delori & Pflibsen 1989, Table I: equivalent reflectance of the living fundus [%], mean of ten people.
NM = (445, 455, 480, 505, 522, 540, 548, 560, 565, 569, 575, 586, 595, 610, 640, 675, 705, 728, 750, 805)
# fmt: off
TABLE = {
    "NASAL": (1.01, 1.14, 1.44, 1.82, 1.94, 1.88, 2.04, 2.25, 2.27, 2.24, 2.20, 2.72, 4.17, 6.36, 8.46, 10.21,
              11.28, 11.82, 11.94, 12.52),
    "PERIFOVEA": (.68, .73, .89, 1.20, 1.41, 1.44, 1.53, 1.61, 1.61, 1.61, 1.62, 1.88, 2.62, 3.99, 5.79, 7.70,
                  8.93, 9.71, 10.42, 11.27),
    "FOVEA": (.23, .25, .33, .58, .94, 1.11, 1.18, 1.24, 1.26, 1.28, 1.29, 1.48, 2.11, 3.30, 4.97, 6.68, 7.83,
              8.63, 9.30, 10.37),
}
# fmt: on


@pytest.fixture(scope="module")
def healthy():
    return render(11, 256, grade=0, side="right", haze=0.0, tessellation=0.0)


@pytest.fixture(scope="module")
def severe():
    return render(12, 320, grade=3, side="left", haze=0.0)


@pytest.mark.parametrize("site", TABLE)
def test_model_reproduces_the_measured_fundus(site):
    model = spectra.reflectance(getattr(spectra, site), NM)
    error = np.log(model / (np.array(TABLE[site]) / 100))
    assert np.sqrt((error**2).mean()) < 0.04  # natural logarithm, 4 % rms


def test_more_blood_is_darker_in_green_and_hardly_in_red():
    thin, thick = (spectra.reflectance(spectra.Tissue(retinal_blood=d), [550, 650]) for d in (0, 80))
    assert thick[0] < 0.3 * thin[0]
    assert thick[1] > 0.9 * thin[1]


def test_same_seed_same_bytes_and_another_seed_another_eye():
    first, again, other = render(5, 128), render(5, 128), render(6, 128)
    assert np.array_equal(first.photograph, again.photograph)
    assert all(np.array_equal(first.planes[name], again.planes[name]) for name in labels.PLANES)
    assert not np.array_equal(first.photograph, other.photograph)


def test_every_plane_is_there_in_range_and_empty_outside_the_field(severe):
    assert tuple(severe.planes) == labels.PLANES
    for name, plane in severe.planes.items():
        assert plane.dtype == np.float32, name
        assert plane.shape == (320, 320), name
        assert 0 <= plane.min() <= plane.max() <= 1, name
        assert not plane[~severe.inside].any(), name
        assert plane.any() or name.startswith("lesion"), name
    x, y, radius = severe.field
    ring = np.hypot(*(np.mgrid[0:320, 0:320] - np.array([y, x])[:, None, None])) > radius + 1
    assert not severe.photograph[ring].any()


def test_disc_and_cup_masks_have_the_stated_diameters():
    eye = render(2, 512, grade=0, cup_ratio=0.6)
    for name, diameter in (("disc", eye.disc[2]), ("cup", eye.cup)):
        column = eye.planes[name].sum(0).max()  # the longest vertical chord [px]
        assert column == pytest.approx(diameter, rel=0.02), name
    assert eye.cup / eye.disc[2] == pytest.approx(0.6)
    rows, columns = np.nonzero(eye.planes["disc"] > 0.5)
    assert np.hypot(columns.mean() - eye.disc[0], rows.mean() - eye.disc[1]) < 1
    width = 2 * (np.count_nonzero(eye.planes["disc"] > 0.5) / np.pi) / (eye.disc[2] / 2)
    assert eye.planes["disc"].sum() == pytest.approx(np.pi / 4 * eye.disc[2] * width, rel=0.02)


def test_side_puts_the_disc_on_its_side():
    right, left = render(3, 96, side="right"), render(3, 96, side="left")
    assert right.disc[0] > right.fovea[0]
    assert left.disc[0] < left.fovea[0]
    assert right.disc[0] + left.disc[0] == pytest.approx(95)


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_angiograms_fill_arteries_first_and_veins_later(seed):
    eye = render(seed, 256, grade=0, haze=0.0)
    artery, vein = eye.planes["artery"] > 0.95, (eye.planes["vein"] > 0.95) & (eye.planes["artery"] < 0.05)
    tissue = eye.inside & (eye.planes["artery"] + eye.planes["vein"] == 0) & (eye.planes["disc"] == 0)
    early, late = eye.planes["ffa_arterial"], eye.planes["ffa_arteriovenous"]
    assert early[artery].mean() > 3 * early[tissue].mean()
    assert early[vein].mean() < 0.7 * early[tissue].mean()
    assert late[vein].mean() > 1.5 * late[tissue].mean()
    assert late[artery].mean() > 1.5 * late[tissue].mean()
    assert late[tissue].mean() > early[tissue].mean()


def test_haemorrhages_block_and_microaneurysms_light_up(severe):
    planes = severe.planes
    free = (planes["artery"] + planes["vein"] == 0) & (planes["disc"] == 0)
    bleeding = (planes["lesion_HE"] > 0.95) & (planes["lesion_MA"] == 0) & free
    dots = planes["lesion_MA"] > 0.9
    rest = severe.inside & free & (planes["lesion_HE"] + planes["lesion_MA"] == 0)
    late = planes["ffa_arteriovenous"]
    assert late[bleeding].mean() < 0.7 * late[rest].mean()
    assert late[dots].mean() > 1.5 * late[rest].mean()
    green = decode(severe.photograph[..., 1] / 255)
    assert green[bleeding].mean() < 0.75 * green[rest].mean()


@pytest.mark.parametrize("grade", range(5))
def test_lesions_follow_the_grade(grade):
    eye = render(21, 192, grade=grade, drusen=False)
    has = {code: bool(eye.planes[f"lesion_{code}"].any()) for code in labels.LESIONS}
    assert has["MA"] == (grade >= 1)
    assert has["HE"] == (grade >= 2)
    assert eye.findings["DR"] == (grade >= 1)


def test_size_only_scales_the_geometry():
    small, large = (render(9, size, grade=2, side="right") for size in (160, 320))
    for one, other in ((small.disc, large.disc), (small.fovea, large.fovea)):
        assert (np.array(one[:2]) + 0.5) * 2 - 0.5 == pytest.approx(np.array(other[:2]), abs=0.01)
    assert small.findings == large.findings
    for name in ("disc", "artery", "vein", "lesion_HE", "msi_550"):
        halved = large.planes[name].reshape(160, 2, 160, 2).mean((1, 3))
        assert np.corrcoef(halved[small.inside], small.planes[name][small.inside])[0, 1] > 0.93, name


def test_bands_keep_their_mean_and_their_proportions_whatever_the_exposure():
    radiance = spectra.reflectance(spectra.Tissue(retinal_blood=np.linspace(0, 60, 500)), labels.BANDS)
    bands, level = spectra.normalise_bands(radiance)
    brighter, _ = spectra.normalise_bands(radiance * 7)
    assert bands.mean() == pytest.approx(spectra.MEAN_LEVEL, rel=1e-4)
    assert np.allclose(bands, brighter, atol=1e-6)
    assert np.allclose(bands * spectra.BAND_SCALE * level / spectra.MEAN_LEVEL, radiance, rtol=1e-4)


def test_bands_reproject_to_the_colours_of_the_camera(healthy):
    """At 95 of 100 pixels: red within 2 %, green 5 %, blue (beyond the bands) 35 %."""
    bands = np.stack([healthy.planes[f"msi_{nm}"] for nm in labels.BANDS], -1)[healthy.inside]
    rgb = healthy.relative[healthy.inside]
    found = bands @ band_rgb_weights(healthy.camera)
    found *= rgb[:, :2].mean() / found[:, :2].mean()  # one exposure per eye
    error = np.percentile(np.abs(found / rgb - 1), 95, axis=0)
    assert (error < (0.02, 0.05, 0.35)).all(), error


def test_encoding_and_decoding_are_inverse():
    assert np.allclose(encode(decode(np.linspace(0, 1, 256))), np.linspace(0, 1, 256), atol=1e-5)
    assert relative_rgb(np.full((4, 4, 3), 80, np.uint8)).mean() == pytest.approx(spectra.MEAN_LEVEL)


def test_bad_options_say_what_to_do():
    with pytest.raises(ValueError, match="right"):
        render(0, 64, side="up")
    with pytest.raises(ValueError, match="size"):
        render(0, 4)
