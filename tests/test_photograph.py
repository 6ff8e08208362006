"""Files of every kind, good and bad, built in memory; the numbers are the rows of the bad-input table."""

import io
import os
import pickle
import random
import struct
import subprocess
import sys
import zipfile
import zlib

import cv2
import numpy as np
import pytest
from PIL import Image, ImageChops, ImageCms, ImageFile, PngImagePlugin

from qmmfl import photograph
from qmmfl.records import PhotographError

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning", "ignore::RuntimeWarning")
SECRET = b"DOE^JOHN"


def picture(width: int = 320, height: int = 240) -> np.ndarray:
    """An orange disc on black, darker to one corner, so that no turn or flip maps it onto itself."""
    y, x = np.mgrid[:height, :width] / min(width, height)
    inside = (x - width / min(width, height) / 2) ** 2 + (y - height / min(width, height) / 2) ** 2 < 0.2
    colour = np.stack([200 - 40 * y, 120 - 50 * x, 40 + 30 * y], axis=-1)
    return (colour * inside[..., None]).clip(0, 255).astype(np.uint8)


RGB = picture()
IMAGE = Image.fromarray(RGB)
GREY = np.asarray(IMAGE.convert("L"))


def encode(image: Image.Image | np.ndarray = IMAGE, kind: str = "PNG", **options) -> bytes:
    file = io.BytesIO()
    (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(file, kind, **options)
    return file.getvalue()


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png(width: int, height: int, depth: int, colour: int, row: bytes | list[bytes], *extra: bytes) -> bytes:
    """A PNG from its raw rows (one row is repeated), so that large ones cost little."""
    rows = [row] * height if isinstance(row, bytes) else row
    squeeze = zlib.compressobj(1)
    data = b"".join(squeeze.compress(b"\0" + line) for line in rows) + squeeze.flush()
    header = chunk(b"IHDR", struct.pack(">2I5B", width, height, depth, colour, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + b"".join(extra) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def tiff(width: int, height: int, pieces: list[bytes], **tags: int | list[int]) -> bytes:
    """A little-endian TIFF, RGB of 8 bits unless `tags` (t + number) say otherwise."""
    where, offsets = 8, []
    for piece in pieces:
        offsets.append(where)
        where += len(piece)
    tiles = "t322" in tags
    tags = {"t258": [8, 8, 8], "t259": 1, "t262": 2, "t277": 3, **tags, "t256": width, "t257": height}
    tags |= {
        "t324" if tiles else "t273": offsets,
        "t325" if tiles else "t279": [len(piece) for piece in pieces],
    }
    tags |= {} if tiles else {"t278": height}
    where += -where % 2
    entries, tail, start = b"", b"", where + 2 + 12 * len(tags) + 4
    for key, value in sorted(tags.items(), key=lambda item: int(item[0][1:])):
        values = value if isinstance(value, list) else [value]
        body = struct.pack(f"<{len(values)}I", *values)
        if len(values) > 1:
            body, tail = struct.pack("<I", start + len(tail)), tail + body
        entries += struct.pack("<HHI", int(key[1:]), 4, len(values)) + body
    data = struct.pack("<2sHI", b"II", 42, where) + b"".join(pieces)
    return data.ljust(where, b"\0") + struct.pack("<H", len(tags)) + entries + bytes(4) + tail


def icc(primaries: list[tuple[float, float, float]], gamma: float) -> bytes:
    """A matrix profile: XYZ (D50) of red, green and blue, one gamma."""
    fixed = [struct.pack(">3i", *(round(value * 65536) for value in xyz)) for xyz in primaries]
    white = struct.pack(">3i", 63190, 65536, 54061)
    bodies = {b"wtpt": b"XYZ \0\0\0\0" + white}
    for tag, xyz in zip((b"rXYZ", b"gXYZ", b"bXYZ"), fixed, strict=True):
        bodies[tag] = b"XYZ \0\0\0\0" + xyz
    for tag in (b"rTRC", b"gTRC", b"bTRC"):
        bodies[tag] = b"curv\0\0\0\0" + struct.pack(">IHH", 1, round(gamma * 256), 0)
    bodies[b"desc"] = b"desc\0\0\0\0" + struct.pack(">I", 5) + b"test\0" + bytes(79)
    bodies[b"cprt"] = b"text\0\0\0\0test\0\0\0\0"
    table, blob, start = b"", b"", 128 + 4 + 12 * len(bodies)
    for tag, body in bodies.items():
        table += tag + struct.pack(">II", start + len(blob), len(body))
        blob += body
    size = struct.pack(">I", start + len(blob))
    head = size + bytes(4) + b"\x02\x10\0\0mntrRGB XYZ " + bytes(12) + b"acsp" + bytes(28) + white
    return head.ljust(128, b"\0") + struct.pack(">I", len(bodies)) + table + blob


P3 = [(0.51512, 0.24120, -0.00105), (0.29198, 0.69225, 0.04189), (0.15710, 0.06657, 0.78407)]
SRGB_D50 = [(0.43607, 0.22249, 0.01392), (0.38515, 0.71687, 0.09708), (0.14307, 0.06061, 0.71410)]
SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
GOOD = encode()


def refused(data: bytes, *words: str, name: str = "eye 1.jpg") -> str:
    """The message of a refusal after the checks that hold for all; a good photograph still reads then."""
    with pytest.raises(PhotographError) as caught:
        photograph.read(data, f"/srv/private/{name}")
    message = str(caught.value)
    assert message.startswith(f"Cannot read {name}: ")
    assert message.endswith(".")
    assert message.count("\n") == 0
    assert not [mark for mark in ("/", "\\", "<", "0x", "Traceback", "PIL") if mark in message]
    assert "upload" in message
    assert caught.value.__suppress_context__
    for word in words:
        assert word in message
    assert np.array_equal(photograph.read(GOOD).pixels, RGB)
    return message


def cut(data: bytes) -> bytes:
    return data[: len(data) // 2]


def zipped() -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("eye.jpg", encode(kind="JPEG"))
    return file.getvalue()


NOISE = np.random.default_rng(0).integers(0, 256, (224, 300, 3), np.uint8)
SVG = b'<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>'
UNREADABLE = {
    "2 one byte": b"\xff",
    "3 text": b"hello, I am a photograph",
    "4 html": b"<html><script>alert(1)</script></html>",
    "6 jpeg header": b"\xff\xd8\xff\xe0\x00\x10JFIF\x00\x01\x01\x00\x00\x01\x00\x01\x00\x00",
    "31 gif": encode(kind="GIF"),
    "31 animated gif": encode(kind="GIF", save_all=True, append_images=[IMAGE.rotate(90)]),
    "41 svg": SVG,
    "42 svg": b'<?xml version="1.0"?>' + SVG,
    "43 eps": encode(kind="EPS"),
    "44 pdf": encode(kind="PDF"),
    "45 zip": zipped(),
    "46 heic": b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(500),
    "46 avif": b"\0\0\0\x1cftypavif\0\0\0\0avifmif1miaf" + bytes(500),
    "47 jpeg2000": encode(kind="JPEG2000"),
    "47 ico": encode(kind="ICO"),
    "47 fits": b"SIMPLE  =                    T".ljust(2880),
    "47 gd": b"\xff\xfe\x01\x00\x01\x00\x01" + bytes(1100),
    "47 psd": b"8BPS\0\1" + bytes(6) + struct.pack(">HIIHH", 3, 300, 300, 8, 3) + bytes(12),
}


@pytest.mark.parametrize("data", UNREADABLE.values(), ids=UNREADABLE)
def test_what_is_no_photograph_is_refused(data):
    refused(data, "not a readable JPEG, PNG, TIFF, BMP or WebP picture", "export it as JPEG or PNG")


CRC = bytearray(GOOD)
CRC[GOOD.index(b"IEND") - 5] ^= 1  # the last byte of IDAT's checksum
CRC_HEAD = bytearray(GOOD)
CRC_HEAD[30] ^= 1
DAMAGED = {
    "5 jpeg": cut(encode(NOISE, "JPEG")),
    "7 png": cut(GOOD),
    "7 webp": cut(encode(NOISE, "WEBP")),
    "7 bmp": cut(encode(kind="BMP")),
    "7 tiff": tiff(320, 240, [RGB.tobytes()[:70000]], t279=[RGB.nbytes]),
    "7 tiff lzw": cut(cv2.imencode(".tiff", NOISE)[1].tobytes()),
    "7 png without end": GOOD[:-12],
    "9 checksum of pixels": bytes(CRC),
    "9 checksum of header": bytes(CRC_HEAD),
    "48 text bomb": png(
        320, 240, 8, 2, [*map(bytes, RGB)], chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(80 << 20), 1))
    ),
}


@pytest.mark.parametrize("data", DAMAGED.values(), ids=DAMAGED)
def test_damaged_files_are_refused(data):
    message = refused(data, "export it as JPEG or PNG")
    assert "damaged or incomplete" in message or "not a readable" in message


def test_row_1_an_empty_file_is_refused():
    refused(b"", "empty")


@pytest.mark.parametrize(
    ("size", "word"),
    [((1, 1), "at least 224"), ((1, 5000), "at least 224"), ((64, 64), "64 x 64"), ((223, 223), "223"),
     ((300, 223), "300 x 223"), ((224, 673), "3 to 1"), ((4000, 300), "3 to 1")],
)  # fmt: skip
def test_rows_10_to_13_and_60_sizes_below_the_limits_are_refused(size, word):
    refused(encode(Image.new("RGB", size)), word)


def test_row_13_the_smallest_and_the_longest_are_read():
    smallest = photograph.read(encode(picture(224, 224)))
    assert smallest.pixels.shape == (224, 224, 3)
    assert smallest.notes == (photograph.NOTE_SMALL,)
    assert photograph.read(encode(picture(672, 224))).width == 672
    assert photograph.read(encode(picture(600, 512))).notes == ()


BOMBS = {
    "14 one bit": png(20000, 20000, 1, 0, bytes(2500)),
    "15 rgb": png(7000, 7000, 8, 2, bytes(21000)),
    "16 lying header": png(60000, 60000, 8, 2, [bytes(10)]),
    "16 lying bmp": encode(kind="BMP")[:18] + struct.pack("<ii", 60000, 60000) + encode(kind="BMP")[26:],
    "16 lying tiff": tiff(60000, 60000, [b"x"]),
    "17 one row too many": png(6000, 5001, 8, 0, bytes(6000)),
}


@pytest.mark.parametrize("data", BOMBS.values(), ids=BOMBS)
def test_too_many_pixels_are_refused_before_decoding(data, monkeypatch):
    good_read = ImageFile.ImageFile.load

    def load(image):
        assert image.width * image.height <= photograph.MAX_PIXELS
        return good_read(image)

    monkeypatch.setattr(ImageFile.ImageFile, "load", load)
    refused(data, "megapixels", "export it in another size")


def test_row_17_exactly_the_most_pixels_are_read():
    assert photograph.read(png(6000, 5000, 8, 2, bytes(18000))).pixels.shape == (5000, 6000, 3)


def test_row_52_too_many_bytes_are_refused(tmp_path):
    refused(GOOD + bytes(photograph.MAX_BYTES), "30 MiB")
    path = tmp_path / "big.jpg"
    path.write_bytes(GOOD)
    os.truncate(path, 1 << 33)  # 8 GiB without a byte on the disk
    with pytest.raises(PhotographError, match=r"^Cannot read big\.jpg: .*30 MiB"):
        photograph.read(path)


PAGES = {"append_images": [IMAGE.rotate(90), IMAGE.rotate(180), IMAGE.rotate(270)], "save_all": True}
SEVERAL = {
    "28 tiff": (encode(kind="TIFF", **PAGES), "4 pages"),
    "28 many": (
        encode(kind="TIFF", save_all=True, append_images=[Image.new("L", (9, 9))] * 120),
        "100 pages or more",
    ),
    "32 webp": (encode(kind="WEBP", **PAGES), "4 pages"),
    "33 apng": (encode(**PAGES), "4 pages"),
}


@pytest.mark.parametrize(("data", "word"), SEVERAL.values(), ids=SEVERAL)
def test_several_pages_are_refused(data, word):
    refused(data, word, "upload one page")


def test_a_jpeg_with_a_preview_is_read_with_a_note():
    read = photograph.read(encode(kind="MPO", save_all=True, append_images=[IMAGE.resize((80, 60))]))
    assert read.pixels.shape == RGB.shape
    assert photograph.NOTE_FIRST in read.notes


@pytest.mark.parametrize(("mark", "pages"), [(1, 1), (0, 2), (2, 2)])
def test_a_tiff_with_a_preview_is_read_and_one_with_two_pictures_is_not(mark, pages):
    preview = IMAGE.resize((80, 60))
    preview.encoderinfo = {"tiffinfo": {254: mark}}
    data = encode(kind="TIFF", save_all=True, append_images=[preview])
    if pages > 1:
        refused(data, "2 pages", "upload one page")
    else:
        assert np.array_equal(photograph.read(data).pixels, RGB)


def bigtiff(claimed: int) -> bytes:
    """A grey BigTIFF whose one strip begins at `claimed` and is that long [bytes]."""
    entries = [(256, 4, 300), (257, 4, 300), (258, 3, 8), (259, 3, 1), (262, 3, 1), (273, 16, claimed), (277, 3, 1)]
    entries += [(278, 4, 300), (279, 16, claimed)]
    body = b"".join(struct.pack("<HHQQ", tag, kind, 1, value) for tag, kind, value in entries)
    return struct.pack("<2sHHHQQ", b"II", 43, 8, 0, 16, len(entries)) + body + bytes(8)


def test_row_30_a_bigtiff_that_claims_five_gigabytes_is_refused():
    refused(bigtiff(5 << 30))


PIXELS = {
    "25 one bit png": encode(IMAGE.convert("1")),
    "25 one bit tiff": encode(IMAGE.convert("1"), "TIFF"),
    "26 int32 tiff": encode(IMAGE.convert("I"), "TIFF"),
    "27 float tiff": encode(np.full((240, 320), np.nan, np.float32), "TIFF"),
    "lab tiff": encode(Image.new("LAB", (320, 240)), "TIFF"),
}


@pytest.mark.parametrize("data", PIXELS.values(), ids=PIXELS)
def test_pixels_no_photograph_has_are_refused(data):
    refused(data, "its pixels are", "export it as JPEG or PNG")


def sixteen(array: np.ndarray, low: int = 0) -> np.ndarray:
    return array.astype(np.uint16) * 257 + low


def swapped(array: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(array[..., ::-1])


SIXTEEN = {
    "18 grey png": (encode(sixteen(GREY)), GREY),
    "18 grey tiff": (encode(sixteen(GREY), "TIFF"), GREY),
    "18 white is zero": (tiff(320, 240, [sixteen(255 - GREY).tobytes()], t258=16, t262=0, t277=1), GREY),
    "19 png": (cv2.imencode(".png", sixteen(swapped(RGB)))[1].tobytes(), RGB),
    "19 tiff lzw": (cv2.imencode(".tiff", sixteen(swapped(RGB)))[1].tobytes(), RGB),
    "19 tiff raw": (tiff(320, 240, [sixteen(RGB).tobytes()], t258=[16] * 3), RGB),
    "19 tiff deflate": (tiff(320, 240, [zlib.compress(sixteen(RGB).tobytes())], t258=[16] * 3, t259=8), RGB),
    "19 png with key colour": (
        png(320, 240, 16, 2, [row.tobytes() for row in sixteen(RGB).astype(">u2")], chunk(b"tRNS", bytes(6))),
        RGB,
    ),
}  # fmt: skip


@pytest.mark.parametrize(("data", "twin"), SIXTEEN.values(), ids=SIXTEEN)
def test_sixteen_bits_equal_the_eight_bit_twin(data, twin):
    read = photograph.read(data)
    twin = np.broadcast_to(twin[..., None], RGB.shape) if twin.ndim == 2 else twin
    assert np.abs(read.pixels.astype(int) - twin).max() <= 1
    assert photograph.NOTE_SIXTEEN_BIT in read.notes
    assert (photograph.NOTE_GREY in read.notes) == (twin[..., 0] == twin[..., 2]).all()


@pytest.mark.parametrize("bits", [10, 12])
def test_few_bits_in_sixteen_are_refused_with_their_cure(bits):
    """Pillow takes the upper eight of sixteen: the eye would be called too dark to read, and taken again in vain."""
    few = RGB.astype(np.uint16) << bits - 8
    refused(cv2.imencode(".png", few)[1].tobytes(), "12 or fewer", "with 8 bits per channel")
    refused(tiff(320, 240, [few.tobytes()], t258=[16] * 3), "12 or fewer", "with 8 bits per channel")


def test_deep_planes_are_read_where_they_are_compressed_and_refused_where_they_are_not():
    """Pillow would take their bytes for samples, and the gates the halves of two eyes for one."""
    planes = [sixteen(RGB[..., channel]).tobytes() for channel in range(3)]
    refused(tiff(320, 240, planes, t258=[16] * 3, t284=2), "its channels lie one behind the other", "JPEG or PNG")
    shallow = [np.ascontiguousarray(RGB[..., channel]).tobytes() for channel in range(3)]
    assert np.array_equal(photograph.read(tiff(320, 240, shallow, t284=2)).pixels, RGB)


@pytest.mark.parametrize("key", ["quantization", "transparency", "comment", "icc", "exif"])
def test_a_text_in_a_png_is_no_more_than_a_text(key):
    texts = PngImagePlugin.PngInfo()
    texts.add_text(key, "something")
    read = photograph.read(encode(pnginfo=texts))
    assert np.array_equal(read.pixels, RGB)
    assert read.jpeg_quality is None


def test_sixteen_bits_at_any_level_are_within_one_level():
    deep = np.random.default_rng(1).integers(0, 65536, (240, 320), np.uint16)
    assert np.abs(photograph.read(encode(deep)).pixels[..., 0] - deep / 257).max() <= 0.51
    colour = np.stack([deep, deep[::-1], deep[:, ::-1]], axis=-1)
    read = photograph.read(cv2.imencode(".png", swapped(colour))[1].tobytes())
    assert np.abs(read.pixels - colour / 257).max() <= 1


def test_twelve_bits_are_scaled_by_their_own_range():
    deep = np.arange(240 * 320).reshape(240, 320) % 4096
    even, odd = deep[:, ::2], deep[:, 1::2]
    packed = np.stack([even >> 4, (even & 15) << 4 | odd >> 8, odd & 255], axis=-1).astype(np.uint8)
    read = photograph.read(tiff(320, 240, [packed.tobytes()], t258=12, t262=1, t277=1))
    assert np.abs(read.pixels[..., 0] - deep / 4095 * 255).max() <= 0.51
    assert photograph.NOTE_SIXTEEN_BIT in read.notes


@pytest.mark.parametrize("kind", ["JPEG", "TIFF"])
def test_row_20_cmyk_equals_its_rgb_twin(kind):
    read = photograph.read(encode(IMAGE.convert("CMYK"), kind))
    assert np.abs(read.pixels.astype(int) - RGB).mean() < 3
    assert photograph.NOTE_CMYK in read.notes


def test_row_20_cmyk_that_adobe_did_not_invert_equals_its_rgb_twin():
    data = encode(ImageChops.invert(IMAGE.convert("CMYK")), "JPEG")
    start = data.index(b"\xff\xee")
    plain = data[:start] + data[start + 2 + int.from_bytes(data[start + 2 : start + 4], "big") :]
    assert b"Adobe" in data
    assert b"Adobe" not in plain
    assert np.abs(photograph.read(plain).pixels.astype(int) - RGB).mean() < 3


def test_row_21_palette_is_converted():
    palette = IMAGE.quantize(256)
    read = photograph.read(encode(palette))
    assert np.array_equal(read.pixels, np.asarray(palette.convert("RGB")))
    assert photograph.NOTE_GREY not in read.notes


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "BMP"])
@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_row_22_grey_is_read_as_not_a_colour_photograph(kind, mode):
    read = photograph.read(encode(IMAGE.convert("L").convert(mode), kind))
    assert read.pixels.shape == RGB.shape
    assert photograph.NOTE_GREY in read.notes


def test_a_dark_colour_photograph_is_not_grey():
    assert photograph.NOTE_GREY not in photograph.read(encode(RGB // 12)).notes


def with_alpha(alpha: np.ndarray, mode: str = "RGBA") -> Image.Image:
    image = IMAGE.convert(mode)
    image.putalpha(Image.fromarray(alpha))
    return image


@pytest.mark.parametrize(("quality", "told"), [(20, True), (39, True), (50, False), (90, False)])
def test_a_strongly_compressed_file_is_read_with_a_note(quality, told):
    file = io.BytesIO()
    Image.fromarray(RGB).save(file, "JPEG", quality=quality)
    notes = [note for note in photograph.read(file.getvalue()).notes if "compressed" in note]
    assert notes == ([photograph.NOTE_COMPRESSED.format(quality)] if told else [])


def test_rows_23_and_24_alpha_is_filled_with_black():
    half = np.where(np.arange(320) < 160, 255, 0).astype(np.uint8)[None].repeat(240, 0)
    for kind in ("PNG", "TIFF"):
        read = photograph.read(encode(with_alpha(half), kind))
        assert np.array_equal(read.pixels, np.where(half[..., None], RGB, 0))
        assert photograph.NOTE_ALPHA in read.notes
    read = photograph.read(encode(with_alpha(half, "L")))
    assert {photograph.NOTE_ALPHA, photograph.NOTE_GREY} <= set(read.notes)
    soft = photograph.read(encode(with_alpha(np.full((240, 320), 128, np.uint8)))).pixels
    assert np.abs(soft - RGB * (128 / 255)).max() <= 1
    opaque = photograph.read(encode(with_alpha(np.full((240, 320), 255, np.uint8))))
    assert photograph.NOTE_ALPHA not in opaque.notes
    assert np.array_equal(opaque.pixels, RGB)


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "WEBP"])
def test_row_24_fully_transparent_is_refused(kind):
    refused(encode(with_alpha(np.zeros((240, 320), np.uint8)), kind), "fully transparent")


def tiled() -> bytes:
    pieces = []
    for y in range(0, 240, 128):
        for x in range(0, 320, 128):
            piece = np.zeros((128, 128, 3), np.uint8)
            part = RGB[y : y + 128, x : x + 128]
            piece[: part.shape[0], : part.shape[1]] = part
            pieces.append(zlib.compress(piece.tobytes()))
    return tiff(320, 240, pieces, t259=8, t322=128, t323=128)


LOSSLESS = {
    "29 tiled": tiled(),
    "29 raw": encode(kind="TIFF"),
    "29 lzw": encode(kind="TIFF", compression="tiff_lzw"),
    "29 deflate": encode(kind="TIFF", compression="tiff_adobe_deflate"),
    "29 packbits": encode(kind="TIFF", compression="packbits"),
    "png": GOOD,
    "bmp": encode(kind="BMP"),
    "webp": encode(kind="WEBP", lossless=True),
}


@pytest.mark.parametrize("data", LOSSLESS.values(), ids=LOSSLESS)
def test_lossless_files_keep_every_pixel(data):
    read = photograph.read(data)
    assert np.array_equal(read.pixels, RGB)
    assert read.pixels.dtype == np.uint8
    assert read.notes == (photograph.NOTE_SMALL,)


@pytest.mark.parametrize(("kind", "options"), [("JPEG", {}), ("WEBP", {}), ("TIFF", {"compression": "jpeg"})])
def test_lossy_files_keep_the_picture(kind, options):
    assert np.abs(photograph.read(encode(kind=kind, **options)).pixels.astype(int) - RGB).mean() < 3


def exif(orientation: object = 1) -> Image.Exif:
    data = Image.Exif()
    data[274] = orientation
    return data


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "WEBP"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_row_34_the_orientation_is_applied(kind, orientation):
    # What the camera stores for the upright picture at each orientation.
    stored = {1: RGB, 2: RGB[:, ::-1], 3: RGB[::-1, ::-1], 4: RGB[::-1], 5: RGB.transpose(1, 0, 2)}
    stored |= {6: np.rot90(RGB), 7: RGB[::-1, ::-1].transpose(1, 0, 2), 8: np.rot90(RGB, -1)}
    image = Image.fromarray(np.ascontiguousarray(stored[orientation]))
    options = {"quality": 95, "subsampling": 0} if kind == "JPEG" else {"lossless": True} if kind == "WEBP" else {}
    read = photograph.read(encode(image, kind, exif=exif(orientation), **options))
    assert read.pixels.shape == RGB.shape
    assert np.abs(read.pixels.astype(int) - RGB).mean() < (1 if kind == "JPEG" else 1e-9)


def test_rows_35_and_36_a_broken_orientation_is_ignored():
    clean = photograph.read(encode(kind="JPEG")).pixels
    junk = random.Random(2).randbytes(60000)
    head = b"Exif\0\0II*\0"
    as_text = head + struct.pack("<IHHHI4sI", 8, 1, 274, 2, 2, b"6\0", 0)
    blocks = (exif(99), exif(0), as_text, head + b"\xff" * 4, head + junk, b"Exif\0\0" + junk, junk)
    for block in blocks:
        assert np.array_equal(photograph.read(encode(kind="JPEG", exif=block)).pixels, clean)


def carriers() -> dict[str, bytes]:
    block = Image.Exif()
    block[0x013B], block[0x010E] = SECRET.decode(), SECRET.decode() + " MRN 12345"
    block.get_ifd(0x8825).update({1: "N", 2: (48.0, 8.0, 14.0)})
    text = PngImagePlugin.PngInfo()
    text.add_text("PatientName", SECRET.decode())
    text.add_itxt("XML:com.adobe.xmp", SECRET.decode())
    text.add_text("Compressed", SECRET.decode(), zip=True)
    xmp = b"<x:xmpmeta xmlns:x='adobe:ns:meta/'>" + SECRET + b"</x:xmpmeta>"
    iptc = b"Photoshop 3.0\x008BIM\x04\x04\0\0\0\0\0\x0e\x1c\x02\x50\0\x08" + SECRET + b"\0"
    plain = encode(kind="JPEG")
    marker = b"\xff\xed" + struct.pack(">H", len(iptc) + 2) + iptc
    return {
        "37 jpeg": encode(kind="JPEG", exif=block, comment=SECRET, xmp=xmp),
        "37 jpeg iptc": plain[:2] + marker + plain[2:],
        "37 png": encode(exif=block, pnginfo=text),
        "37 tiff": encode(kind="TIFF", exif=block, description=SECRET.decode(), artist=SECRET.decode()),
        "37 webp": encode(kind="WEBP", lossless=True, exif=block, xmp=xmp),
        "45 polyglot": plain + zipped() + b"<script>alert(1)</script>" + SECRET,
    }


@pytest.mark.parametrize("data", carriers().values(), ids=carriers())
def test_rows_37_38_and_45_nothing_but_pixels_is_left(data):
    assert SECRET in data
    read = photograph.read(data, "eye.jpg")
    whole = pickle.dumps(read)
    assert SECRET not in whole
    assert b"12345" not in whole
    assert b"script" not in whole
    clean = photograph.read(encode(kind="JPEG")).pixels if data[:2] == b"\xff\xd8" else RGB
    assert np.array_equal(read.pixels, clean)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "WEBP"])
def test_row_38_a_place_in_the_file_changes_no_word(kind):
    block = exif()
    block.get_ifd(0x8825).update({1: "N", 2: (48.0, 8.0, 14.0), 3: "E", 4: (11.0, 34.0, 31.0)})
    tagged = encode(kind=kind, exif=block.tobytes())
    with Image.open(io.BytesIO(tagged)) as image:
        image.load()
        assert image.getexif().get_ifd(0x8825)[2] == (48, 8, 14)
    read, clean = photograph.read(tagged, "eye.jpg"), photograph.read(encode(kind=kind), "eye.jpg")
    assert (read.name, read.notes, read.side) == (clean.name, clean.notes, clean.side)
    assert np.array_equal(read.pixels, clean.pixels)


@pytest.mark.parametrize("profile", [b"junk" * 50, SRGB[:200], SRGB[:128] + bytes(len(SRGB) - 128)])
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "WEBP"])
def test_row_39_a_broken_profile_is_ignored_with_a_note(kind, profile):
    read = photograph.read(encode(kind=kind, icc_profile=profile))
    assert np.abs(read.pixels.astype(int) - RGB).mean() < 3
    assert photograph.NOTE_BROKEN_PROFILE in read.notes


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "P", "L"])
def test_row_40_a_wide_gamut_is_converted_to_srgb(mode):
    image = Image.new("RGB", (320, 240), (150, 120, 100)).convert(mode)
    read = photograph.read(encode(image, icc_profile=icc(P3, 2.2)))
    device = np.asarray(image.convert("RGB"))[0, 0] / 255
    linear = np.linalg.inv(np.array(SRGB_D50).T) @ np.array(P3).T @ device**2.2
    expected = np.where(linear > 0.0031308, 1.055 * linear.clip(0) ** (1 / 2.4) - 0.055, 12.92 * linear) * 255
    assert np.abs(read.pixels[0, 0] - expected).max() <= 2
    assert photograph.NOTE_PROFILE in read.notes


@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_an_srgb_profile_changes_nothing(mode):
    read = photograph.read(encode(IMAGE.convert(mode), icc_profile=SRGB))
    assert np.array_equal(read.pixels, np.asarray(IMAGE.convert(mode).convert("RGB")))
    assert not {photograph.NOTE_PROFILE, photograph.NOTE_BROKEN_PROFILE} & set(read.notes)


@pytest.mark.parametrize("name", ["öç 眼.jpg", "a\"b'c;d&e.jpg", "CON.jpg", "noextension", "eye.txt", "eye.dcm"])
def test_rows_49_and_51_any_name_is_read(name, tmp_path):
    read = photograph.read(GOOD, name)
    assert read.name == name
    assert np.array_equal(read.pixels, RGB)
    (tmp_path / name).write_bytes(GOOD)
    assert photograph.read(tmp_path / name).name == name
    refused(b"no", name=name)


@pytest.mark.parametrize(
    ("name", "shown"),
    [("../../x.jpg", "x.jpg"), ("C:\\patients\\x.jpg", "x.jpg"), ("\ud800x.jpg", "x.jpg"),
     ("/srv/folder/", "folder"),
     ("a\0b\n\x1b[31mc\u202egpj.jpg", "ab[31mcgpj.jpg"), (None, "the photograph"), ("", "the photograph")],
)  # fmt: skip
def test_row_50_names_lose_folders_and_control_characters(name, shown):
    with pytest.raises(PhotographError) as caught:
        photograph.read(b"no", name)
    assert str(caught.value).startswith(f"Cannot read {shown}: ")


def test_row_50_a_long_name_is_shortened_in_messages():
    with pytest.raises(PhotographError) as caught:
        photograph.read(b"no", "x" * 296 + ".jpg")
    shown = str(caught.value).removeprefix("Cannot read ").partition(":")[0]
    assert len(shown) == 60
    assert shown.endswith("x.jpg")


def test_a_path_gives_its_own_name_unless_told(tmp_path):
    path = tmp_path / "left eye.png"
    path.write_bytes(GOOD)
    assert photograph.read(str(path)).name == "left eye.png"
    assert photograph.read(path, "other.png").name == "other.png"
    assert photograph.read(path, None).name is None
    assert photograph.read(GOOD).name is None
    assert photograph.read(path).sha256 == photograph.read(GOOD).sha256


def test_files_that_cannot_be_opened_are_refused(tmp_path, monkeypatch):
    for path in (tmp_path / "missing.jpg", tmp_path, "/dev/zero", "a\0b.jpg", "x" * 5000, ""):
        with pytest.raises(PhotographError, match="no such file") as caught:
            photograph.read(path)
        assert "/" not in str(caught.value)
    path = tmp_path / "locked.jpg"
    path.write_bytes(GOOD)

    def locked(*_):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr("builtins.open", locked)
    with pytest.raises(PhotographError, match="cannot be opened") as caught:
        photograph.read(path)
    assert str(tmp_path) not in str(caught.value)


def test_from_pixels_takes_arrays_and_images():
    read = photograph.from_pixels(RGB, "eye.png")
    assert np.array_equal(read.pixels, RGB)
    assert not np.shares_memory(read.pixels, RGB)
    assert read.name == "eye.png"
    assert read.sha256 == photograph.from_pixels(IMAGE).sha256
    assert np.array_equal(photograph.from_pixels(RGB[:, ::-1]).pixels, RGB[:, ::-1])
    assert photograph.NOTE_GREY in photograph.from_pixels(IMAGE.convert("L")).notes
    turned = Image.open(io.BytesIO(encode(kind="JPEG", exif=exif(6))))
    assert photograph.from_pixels(turned).pixels.shape == (320, 240, 3)


@pytest.mark.parametrize(
    "data", [encode(kind="JPEG", quality=30), SIXTEEN["18 white is zero"][0]], ids=["coarse", "deep"]
)
def test_an_opened_picture_is_read_as_its_file_is(data):
    file, opened = photograph.read(data), photograph.from_pixels(Image.open(io.BytesIO(data)))
    assert np.array_equal(opened.pixels, file.pixels)
    assert (opened.jpeg_quality, opened.notes) == (file.jpeg_quality, file.notes)


@pytest.mark.parametrize(
    "pixels",
    [RGB.astype(float), RGB[..., 0], RGB[None], RGB[..., [0, 1, 2, 2]], RGB.tolist(), None, RGB[:100],
     Image.new("F", (300, 300)), Image.new("RGB", (100, 300)),
     Image.open(io.BytesIO(cut(encode(NOISE, "JPEG"))))],
)  # fmt: skip
def test_from_pixels_refuses_everything_else(pixels):
    with pytest.raises(PhotographError, match=r"^Cannot read eye: .*; .*\.$"):
        photograph.from_pixels(pixels, "eye")


SEEDS = [
    encode(kind="JPEG", exif=exif(6), icc_profile=SRGB),
    encode(kind="JPEG", progressive=True),
    encode(icc_profile=SRGB),
    encode(kind="TIFF"),
    encode(kind="TIFF", compression="tiff_lzw"),
    encode(kind="TIFF", compression="jpeg"),
    encode(kind="TIFF", exif=exif(8), icc_profile=icc(P3, 2.2)),
    encode(kind="BMP"),
    encode(kind="WEBP", exif=exif(3)),
]


@pytest.mark.parametrize("seed", range(int(os.environ.get("QMMFL_FUZZ", "20"))))
def test_damage_anywhere_gives_a_photograph_or_a_refusal(seed):
    chance = random.Random(seed)
    for good in SEEDS:
        data = bytearray(good)
        for _ in range(chance.choice((1, 5, 100))):
            data[chance.randrange(chance.choice((64, 400, len(data))))] = chance.choice((0, 255, chance.randrange(256)))
        message = None
        try:
            pixels = photograph.read(bytes(data), "eye.jpg").pixels
        except PhotographError as error:
            message = str(error)
        if message is None:
            assert pixels.dtype == np.uint8
            assert pixels.shape[2] == 3
        else:
            assert message.startswith("Cannot read eye.jpg: ")


@pytest.mark.parametrize("kind", ["TIFF", "WEBP"])
def test_a_fresh_process_knows_every_format(kind, tmp_path):
    (tmp_path / "eye").write_bytes(encode(kind=kind))
    code = "import sys; from qmmfl import photograph; print(photograph.read(sys.argv[1]).width)"
    done = subprocess.run([sys.executable, "-c", code, tmp_path / "eye"], capture_output=True, text=True, check=True)
    assert done.stdout == "320\n"
