"""Files that nobody wrote: damaged encodings of a simulated eye give a photograph or one sentence, within bounds."""

import io
import resource
import time

import numpy as np
import pytest
from PIL import Image

from qmmfl import phantom, photograph
from qmmfl.records import Photograph, PhotographError

hypothesis = pytest.importorskip("hypothesis", reason="hypothesis is not installed")
from hypothesis import strategies as st  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore")
CALM = hypothesis.settings(
    derandomize=True,
    database=None,
    deadline=None,
    suppress_health_check=list(hypothesis.HealthCheck),
)
SLOWEST = 2.0  # [s] of processor time for one file
MOST = 400 * 2**20  # bytes of memory for all of them
KINDS = {
    "jpeg": ("JPEG", {}),
    "jpeg, progressive, restarts": ("JPEG", {"progressive": True, "restart_marker_rows": 1}),
    "png": ("PNG", {}),
    "tiff": ("TIFF", {}),
    "tiff, lzw": ("TIFF", {"compression": "tiff_lzw"}),
    "tiff, deflate": ("TIFF", {"compression": "tiff_adobe_deflate"}),
    "tiff, jpeg": ("TIFF", {"compression": "jpeg"}),
    "bmp": ("BMP", {}),
    "webp": ("WEBP", {}),
    "webp, lossless": ("WEBP", {"lossless": True}),
}


def encodings() -> dict[str, bytes]:
    eye = Image.fromarray(phantom.render(5, 240).photograph)
    made = {"palette": (eye.quantize(64), "PNG", {}), "grey of 16 bits": (deep(eye), "PNG", {})}
    made |= {"transparent": (clear(eye), "PNG", {}), "cmyk": (eye.convert("CMYK"), "JPEG", {})}
    made |= {name: (eye, kind, options) for name, (kind, options) in KINDS.items()}
    result = {}
    for name, (image, kind, options) in made.items():
        file = io.BytesIO()
        image.save(file, kind, **options)
        result[name] = file.getvalue()
    return result


def deep(eye: Image.Image) -> Image.Image:
    return Image.fromarray(np.asarray(eye.convert("L")).astype(np.uint16) * 257)


def clear(eye: Image.Image) -> Image.Image:
    clear = eye.convert("RGBA")
    clear.putalpha(eye.convert("L"))
    return clear


@pytest.fixture(scope="module")
def whole() -> dict[str, bytes]:
    return encodings()


PLACE = st.floats(0, 1)
CHANGE = st.one_of(
    st.tuples(st.just("write"), PLACE, st.binary(min_size=1, max_size=8)),
    st.tuples(st.just("head"), PLACE, st.binary(min_size=1, max_size=4)),  # where sizes and offsets stand
    st.tuples(st.just("insert"), PLACE, st.binary(min_size=1, max_size=400)),
    st.tuples(st.just("remove"), PLACE, st.integers(1, 5000)),
    st.tuples(st.just("repeat"), PLACE, st.integers(1, 5000)),
    st.tuples(st.just("cut"), PLACE, st.none()),
)


def change(data: bytes, kind: str, place: float, what) -> bytes:
    at = int(place * (min(len(data), 200) if kind == "head" else len(data)))
    if kind in ("write", "head"):
        return data[:at] + what + data[at + len(what) :]
    if kind == "insert":
        return data[:at] + what + data[at:]
    if kind == "remove":
        return data[:at] + data[at + what :]
    return data[:at] + (data[at : at + what] + data[at:] if kind == "repeat" else b"")


def open_within_bounds(data: bytes) -> None:
    began, before = time.process_time(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    try:
        read = photograph.read(data, "eye.jpg")
    except PhotographError as error:
        said = str(error)
        assert said.startswith("Cannot read eye.jpg: ")
        assert said.endswith(".")
        assert "upload it again" in said or "upload one page" in said
        assert "\n" not in said
    else:
        assert isinstance(read, Photograph)
        assert (read.pixels.dtype, read.pixels.ndim, read.pixels.shape[2]) == (np.uint8, 3, 3)
        assert read.width * read.height <= photograph.MAX_PIXELS
    assert time.process_time() - began < SLOWEST
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024 < MOST


FEW_OR_MANY = pytest.mark.parametrize("examples", [20, pytest.param(150, marks=pytest.mark.slow)])


def explore(check, examples: int, **drawn) -> None:
    """Run the check on that many examples of what is drawn."""
    hypothesis.settings(CALM, max_examples=examples)(hypothesis.given(**drawn)(check))()


@FEW_OR_MANY
def test_a_damaged_file_is_a_photograph_or_a_sentence(whole, examples):
    def check(data, changes):
        for each in changes:
            data = change(data, *each)
        open_within_bounds(data)

    changes = st.lists(CHANGE, min_size=1, max_size=5)
    explore(check, examples, data=st.sampled_from(list(whole.values())), changes=changes)


ODD = "aZ0 ._-:;%&<>\"'/\\\0\n\r\t\x1b\x7f\u00e9\u202e\u2028\ud800\u773c\U0001f441"
HEADS = (b"", b"\xff\xd8\xff\xe0", b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", b"II*\0", b"MM\0*", b"II+\0", b"BM", b"RIFF")


@FEW_OR_MANY
def test_any_bytes_are_a_photograph_or_a_sentence(examples):
    def check(head, rest):
        open_within_bounds(head + (b"\0\0\0\0WEBPVP8 " if head == b"RIFF" else b"") + rest)

    explore(check, examples, head=st.sampled_from(HEADS), rest=st.binary(max_size=600))


@FEW_OR_MANY
def test_any_name_gives_one_line_without_a_folder(examples):
    def check(name):
        with pytest.raises(PhotographError) as caught:
            photograph.read(b"no", name)
        said = str(caught.value)
        assert said.isprintable()
        assert len(said) < 250
        shown = said.removeprefix("Cannot read ").rpartition(": it is not a readable")[0]
        assert "/" not in shown
        assert "\\" not in shown

    explore(check, examples, name=st.one_of(st.none(), st.text(ODD, max_size=400)))


def test_every_kind_is_read_when_it_is_whole(whole):
    for name, data in whole.items():
        assert photograph.read(data).pixels.shape[2] == 3, name
