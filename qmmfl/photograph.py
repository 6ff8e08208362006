"""Reads a colour fundus photograph: the one door through which files and arrays come in.

What a file is, is decided by its content and never by its name, and its size is checked before it is decoded.
Only pixels come out: orientation and colour profile are applied, then all metadata are dropped (but the side of the eye
in a DICOM file). Standard library, numpy and Pillow; pydicom where it is installed.
"""

import contextlib
import hashlib
import io
import math
import os
import struct
import zlib
from collections.abc import Iterator
from typing import NoReturn

import numpy as np
from PIL import Image, ImageChops, ImageCms

from . import dicom
from .records import Photograph, PhotographError

FORMATS = ("JPEG", "PNG", "TIFF", "BMP", "WEBP")
MAX_BYTES = 30 * 2**20
MAX_PIXELS = 30_000_000
MIN_SIDE = 224  # [px]
MAX_ASPECT = 3  # longest side over shortest side
LOW_SIDE = 512  # [px], a shortest side below this is read with a note

SIMULATED = b"qmmfl simulated eye"  # comment of a JPEG file that `examples/simulate.py` drew
NOTE_SIMULATED = "This is a simulated eye, drawn by a computer: it is of no person."
NOTE_GREY = "This is not a colour photograph: its three channels are equal."
NOTE_SIXTEEN_BIT = "The photograph had more than 8 bits per channel and was reduced to 8."
NOTE_CMYK = "The photograph was stored in CMYK (print colours) and was converted to RGB; colours may be off."
NOTE_ALPHA = "The photograph had transparent parts; they were filled with black."
NOTE_PROFILE = "The photograph was converted from its own colour profile to sRGB."
NOTE_BROKEN_PROFILE = "The colour profile in the file is not usable and was ignored; colours may be off."
NOTE_FIRST = "The file held more than one picture; the first was read."
NOTE_SIDE = "The DICOM file says that it is a {} eye."
NOTE_COMPRESSED = (
    "The file is strongly compressed (JPEG quality about {}): small lesions are lost in it, and its traces can look "
    "like some; export it with a quality of 90 or more."
)
NOTE_SMALL = f"The photograph is small (shortest side under {LOW_SIDE} pixels); small lesions may not show."

LOW_QUALITY = 40  # of JPEG; at 50 the grade still agrees with clinicians', at 20 less (training.stress)
_QUANTIZED = 3688  # sum of the brightness steps of a JPEG of quality 50

_CURE = "export it as JPEG or PNG and upload it again"
_CURE_SIZE = "export it in another size and upload it again"
_CURE_DEPTH = "export it with 8 bits per channel and upload it again"
_NAME_LENGTH = 60  # longest file name in a message
_MAX_PAGES = 100  # pages are counted up to here
_LEAST_USED = 17  # [0..255] 12 bits in 16 come to at most 15
_STRIP = 64  # [px] rows that are copied at a time: few enough to stay in a processor's cache
# What Pillow and the decoders under it raise on damaged files.
_DAMAGED = (OSError, SyntaxError, ValueError, TypeError, LookupError, ArithmeticError, EOFError)
_DAMAGED = (*_DAMAGED, struct.error, zlib.error)
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_ORIENTATION, _BITS_PER_SAMPLE, _PHOTOMETRIC, _PLANAR = 274, 258, 262, 284  # tags of EXIF and TIFF
_SUBFILE, _REDUCED = 254, 1  # tag of a TIFF's page, and the bit that says that it is a preview of another
_PROBE = Image.fromarray(np.indices((16, 16, 16), np.uint8).reshape(3, 64, 64).transpose(1, 2, 0) * 17)
_PROFILE_TOLERANCE = 3  # [grey levels], a profile that moves no colour further than this is sRGB


def read(source: str | os.PathLike | bytes, name: str | None = "") -> Photograph:
    """The photograph in a JPEG, PNG, TIFF, BMP, WebP or DICOM file, given by its path or as the file's bytes.

    name: what to call it in messages and in the record; "" takes the file's own name, None keeps it nameless.
    Returns pixels uint8 (H, W, 3) in 0..255, RGB, upright, sRGB, within MIN_SIDE, MAX_PIXELS and MAX_ASPECT.
    Raises PhotographError, one sentence with the name and the cure, for everything that cannot be read.
    """
    if isinstance(source, bytes):
        name, data = _clean(name), source
    else:
        path = os.fsdecode(source)
        name = _clean(path if name == "" else name)
        data = _file_bytes(path, name)
    if not data:
        _refuse(name, "the file is empty")
    if len(data) > MAX_BYTES:
        _refuse(name, f"the file has more than {MAX_BYTES // 2**20} MiB", _CURE_SIZE)
    if dicom.is_dicom(data):
        return _from_dicom(data, name)
    with _in_our_words(name):
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            first = _check_pages(image, name)
            if image.format == "PNG":
                image.verify()  # decoding alone does not look at the checksums
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            quality = _jpeg_quality(image)
            drawn = (NOTE_SIMULATED,) if _is_marked(image) else ()
            pixels, notes = _convert(image, name)
    return Photograph(pixels, name, hashlib.sha256(data).hexdigest(), drawn + first + notes, jpeg_quality=quality)


def is_simulated(path: str | os.PathLike) -> bool:
    """Whether a file says of itself that it is one of the simulated eyes; it is not decoded."""
    with contextlib.suppress(*_DAMAGED, Image.DecompressionBombError), Image.open(path, formats=("JPEG",)) as image:
        return _is_marked(image)
    return False


def _is_marked(image: Image.Image) -> bool:
    return image.info.get("comment") == SIMULATED


def from_pixels(pixels: np.ndarray | Image.Image, name: str | None = None) -> Photograph:
    """The photograph in an array uint8 (H, W, 3) RGB 0..255 or in a Pillow image; the pixels are copied.

    Sizes, modes, colour profile, orientation and compression follow the rules of `read`; `sha256` is that of the
    pixels. Raises PhotographError for another shape, dtype or size.
    """
    name = _clean(name)
    if isinstance(pixels, Image.Image):
        with _in_our_words(name):
            array, notes = _convert(pixels, name)  # not a copy of it, which would not know its format
            notes, quality = (NOTE_SIMULATED, *notes) if _is_marked(pixels) else notes, _jpeg_quality(pixels)
    else:
        if not isinstance(pixels, np.ndarray) or pixels.dtype != np.uint8 or pixels.shape[2:] != (3,):
            _refuse(name, "it is not an array uint8 (height, width, 3)", "pass RGB pixels in 0..255")
        _check_size(pixels.shape[1], pixels.shape[0], name)
        array = np.array(pixels, order="C")
        notes, quality = _looks(array), None
    return Photograph(array, name, hashlib.sha256(array.tobytes()).hexdigest(), notes, jpeg_quality=quality)


def _from_dicom(data: bytes, name: str | None) -> Photograph:
    try:
        image, side, notes = dicom.read(data, lambda width, height: _check_size(width, height, name))
    except dicom.DicomError as error:
        _refuse(name, error.fault, error.cure or _CURE)
    with _in_our_words(name):
        pixels, more = _convert(image, name)
    notes += (NOTE_SIDE.format(side),) if side else ()
    digest = hashlib.sha256(data).hexdigest()
    return Photograph(pixels, name, digest, notes + more, side, jpeg_quality=_jpeg_quality(image))


@contextlib.contextmanager
def _in_our_words(name: str | None) -> Iterator[None]:
    """Turns what Pillow raises on a picture into PhotographError."""
    try:
        yield
    except PhotographError:
        raise
    except Image.DecompressionBombError:
        _refuse(name, f"it has more than {MAX_PIXELS // 10**6} megapixels", _CURE_SIZE)
    except MemoryError:
        _refuse(name, "memory ran out while it was decoded", "close other programs and choose it again")
    except Image.UnidentifiedImageError:
        _refuse(name, "it is not a readable JPEG, PNG, TIFF, BMP or WebP picture")
    except _DAMAGED:
        _refuse(name, "the file is damaged or incomplete")


def _convert(image: Image.Image, name: str | None) -> tuple[np.ndarray, tuple[str, ...]]:
    """Pixels uint8 (H, W, 3), upright sRGB, and notes of an opened picture; raises what Pillow raises."""
    _check_size(*image.size, name)
    if _is_torn(image):
        _refuse(name, "its channels lie one behind the other with more than 8 bits each")
    if isinstance(image.info.get("transparency"), str):  # a text of that name, which is none
        del image.info["transparency"]
    deep = image.format in ("PNG", "TIFF") and ";16" in str(
        getattr(image, "tile", "")
    )  # Pillow itself reduces 16-bit colour
    notes = [NOTE_SIXTEEN_BIT] if deep or image.mode.startswith("I;16") else []
    quality = _jpeg_quality(image)
    if quality is not None and quality < LOW_QUALITY:
        notes.append(NOTE_COMPRESSED.format(quality))
    image.load()
    profile = image.info.get("icc_profile")
    turn = None
    with contextlib.suppress(*_DAMAGED):  # a broken EXIF block is no reason to refuse the picture
        turn = _TURNS.get(image.getexif().get(_ORIENTATION, 1))
    if image.mode.startswith("I;16"):
        image = _eight_bit(image)
    if image.mode == "CMYK":
        notes.append(NOTE_CMYK)
        if image.format == "JPEG" and "adobe" not in image.info:  # only Adobe's are inverted, Pillow takes all for that
            image = ImageChops.invert(image)
    elif image.mode not in ("L", "LA", "P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "YCbCr"):
        _refuse(name, "its pixels are 1 bit, 32 bits, floating point or Lab")
    alpha = None
    if image.mode in ("LA", "PA", "RGBA", "RGBa") or "transparency" in image.info:
        image = image.convert("RGBA")
        alpha = image.getchannel("A")
        if not alpha.getbbox():
            _refuse(name, "it is fully transparent")
    if image.mode not in ("L", "CMYK", "RGB"):
        image = image.convert("RGB")
    if profile:
        image = _to_srgb(image, profile, notes)
    if image.mode != "RGB":  # to convert what is RGB already is to copy it
        image = image.convert("RGB")
    if alpha is not None and ImageChops.invert(alpha).getbbox():
        image.paste((0, 0, 0), mask=ImageChops.invert(alpha))
        notes.append(NOTE_ALPHA)
    if turn is not None:
        image = image.transpose(turn)
    pixels = np.empty((image.height, image.width, 3), np.uint8)
    for top in range(0, image.height, _STRIP):  # Pillow's own way to an array holds three copies at once
        pixels[top : top + _STRIP] = np.asarray(image.crop((0, top, image.width, min(top + _STRIP, image.height))))
    if NOTE_SIXTEEN_BIT in notes and pixels.max() < _LEAST_USED:
        _refuse(name, "its 16 bits per channel hold 12 or fewer, so that it would be far too dark", _CURE_DEPTH)
    return pixels, (*notes, *_looks(pixels))


def _jpeg_quality(image: Image.Image) -> int | None:
    """Quality 1..100 by which libjpeg would have made these quantization steps; None where there are none."""
    steps = getattr(image, "quantization", image.info.get(dicom.STEPS))
    if not steps or not isinstance(steps, dict):  # a PNG may hold a text of that name
        return None
    scale = 100 * sum(next(iter(steps.values()))) / _QUANTIZED
    return max(1, round(5000 / scale if scale > 100 else (200 - scale) / 2))


def _is_torn(image: Image.Image) -> bool:
    """Whether Pillow would take the bytes of a TIFF's samples for samples: plane by plane, deep and not compressed."""
    tags, tiles = getattr(image, "tag_v2", {}), getattr(image, "tile", ())
    deep = max(tags.get(_BITS_PER_SAMPLE, (8,))) > 8
    return bool(tiles) and tiles[0][0] == "raw" and tags.get(_PLANAR) == 2 and deep


def _eight_bit(image: Image.Image) -> Image.Image:
    """Mode L of a 16-bit grey picture, scaled (Pillow's own conversion cuts off at 255)."""
    tags = getattr(image, "tag_v2", {})
    top = 4095 if tags.get(_BITS_PER_SAMPLE) == (12,) else 65535
    levels = (np.arange(65536) * 255 + top // 2) // top
    table = np.minimum(levels, 255).astype(np.uint8)
    return Image.fromarray((255 - table if tags.get(_PHOTOMETRIC) == 0 else table)[np.asarray(image)])


def _to_srgb(image: Image.Image, profile: bytes, notes: list[str]) -> Image.Image:
    """The picture (L, RGB or CMYK) in sRGB by its profile; unchanged where that is sRGB or not usable."""
    try:
        own = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        if image.mode == "L" and str(getattr(own.profile, "xcolor_space", "")).strip() == "RGB":
            image = image.convert("RGB")
        transform = ImageCms.buildTransform(own, ImageCms.createProfile("sRGB"), image.mode, "RGB")
        if image.mode != "CMYK":
            probe = _PROBE if image.mode == "RGB" else _PROBE.convert("L")
            shift = np.asarray(ImageCms.applyTransform(probe, transform), np.int16) - np.asarray(probe.convert("RGB"))
            if np.abs(shift).max() <= _PROFILE_TOLERANCE:
                return image
        moved = ImageCms.applyTransform(image, transform)
        notes.append(NOTE_PROFILE)
        return moved or image  # never None, since it does not work in place
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
        notes.append(NOTE_BROKEN_PROFILE)
    return image


def _looks(pixels: np.ndarray) -> tuple[str, ...]:
    """Notes on pixels uint8 (H, W, 3): whether they are grey, whether they are few."""
    step = 1 + math.isqrt(pixels.shape[0] * pixels.shape[1] // 1_000_000)
    sample = np.ascontiguousarray(pixels[::step, ::step].transpose(2, 0, 1))
    spread = (np.maximum(sample[:2], sample[1:]) - np.minimum(sample[:2], sample[1:])).max(axis=0)
    grey, few = np.mean(spread > 2) < 0.001, min(pixels.shape[:2]) < LOW_SIDE
    return tuple(note for note, holds in ((NOTE_GREY, grey), (NOTE_SMALL, few)) if holds)


def _check_size(width: int, height: int, name: str | None) -> None:
    size = f"it is {width} x {height} pixels"
    short, long = sorted((width, height))
    if short * long > MAX_PIXELS:
        _refuse(name, f"{size}, more than {MAX_PIXELS // 10**6} megapixels", _CURE_SIZE)
    if short < MIN_SIDE:
        _refuse(name, f"{size} and its shortest side must have at least {MIN_SIDE}", _CURE_SIZE)
    if long > MAX_ASPECT * short:
        _refuse(name, f"{size}, longer than {MAX_ASPECT} to 1", "export it uncropped and upload it again")


def _check_pages(image: Image.Image, name: str | None) -> tuple[str, ...]:
    """Refuses several pages; previews are none, and of a JPEG all but the first are taken for such, with a note."""
    pages = 1 if image.format == "TIFF" else getattr(image, "n_frames", 1)
    if image.format == "TIFF":  # a small file can claim millions, so they are looked at up to a hundred
        with contextlib.suppress(EOFError):
            for page in range(1, _MAX_PAGES):
                image.seek(page)
                pages += not getattr(image, "tag_v2", {}).get(_SUBFILE, 0) & _REDUCED
    if pages > 1 and image.format == "MPO":
        return (NOTE_FIRST,)
    if pages > 1:
        count = f"{pages} pages" + (" or more" if pages == _MAX_PAGES else "")
        _refuse(name, f"it has {count} and only one can be read", "upload one page as JPEG or PNG")
    return ()


def _file_bytes(path: str, name: str | None) -> bytes:
    """The file's first MAX_BYTES + 1 bytes."""
    if not os.path.isfile(path):
        _refuse(name, "there is no such file", "check its name and choose a JPEG or PNG file")
    try:
        with open(path, "rb") as file:
            return file.read(MAX_BYTES + 1)
    except OSError:
        _refuse(name, "the file cannot be opened", "copy it to a folder of your own and choose it again")


def _clean(name: str | None) -> str | None:
    """The name without folders (of any system) and unprintable characters, None when nothing is left."""
    base = (name or "").replace("\\", "/").rstrip("/").rpartition("/")[2]
    return "".join(filter(str.isprintable, base)).strip() or None


def _refuse(name: str | None, fault: str, cure: str = _CURE) -> NoReturn:
    """Raises PhotographError in one sentence, without the decoder's own words (they could carry paths)."""
    shown = name or "the photograph"
    if len(shown) > _NAME_LENGTH:
        shown = f"{shown[: _NAME_LENGTH - 16]}…{shown[-15:]}"
    raise PhotographError(f"Cannot read {shown}: {fault}; {cure}.") from None
