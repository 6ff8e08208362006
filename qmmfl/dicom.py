"""DICOM in and out: one colour picture with the side of its eye; a report as Encapsulated PDF of the same study.

Of a file that is read only the elements named in `_PICTURE` are looked at: no name, number or date of a patient enters
memory, a message or the log. Only `encapsulate` copies the patient and the study, into the DICOM file that it returns.
pydicom (the extra `dicom`) is imported when a DICOM file comes.
"""

import contextlib
import io
import logging
import struct
import threading
import warnings
import zlib
from collections.abc import Callable, Iterator
from datetime import datetime, tzinfo
from importlib.util import find_spec
from typing import Any

import numpy as np
from PIL import Image

KINDS = ("JPEG", "JPEG2000")  # of compressed pixels, what Pillow decodes
NOTE_TEXT = "The DICOM file says that text is burnt into its pixels: look for a name before you share a picture."
DAMAGED = "the DICOM file is damaged or incomplete"
STEPS = "quantization"  # in the picture's info: of the JPEG inside, as Pillow has them of a JPEG file
NO_READER = "it is a DICOM file and pydicom is not installed"
INSTALL = "install qmmfl[dicom], or export it as JPEG or PNG and upload it again"

_PDF_STORAGE = "1.2.840.10008.5.1.4.1.1.104.1"
_PLAIN = ("1.2.840.10008.1.2", "1.2.840.10008.1.2.1")  # transfer syntaxes: pixels as they are, little endian
_JPEG = ("1.2.840.10008.1.2.4.50", "1.2.840.10008.1.2.4.51", "1.2.840.10008.1.2.4.90", "1.2.840.10008.1.2.4.91")
_COLOURS = ("RGB", "YBR_FULL", "YBR_FULL_422", "YBR_ICT", "YBR_RCT")
_SIDES = {"R": "right", "L": "left"}
_PICTURE = (
    *("SamplesPerPixel", "PhotometricInterpretation", "PlanarConfiguration", "NumberOfFrames", "Rows", "Columns"),
    *("BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation", "PixelData", "ICCProfile"),
    *("ImageLaterality", "Laterality", "BurnedInAnnotation"),
)
_WHOSE = (  # patient and study, as the source has them
    *("SpecificCharacterSet", "PatientName", "PatientID", "IssuerOfPatientID"),
    *("PatientBirthDate", "PatientSex", "PatientIdentityRemoved", "DeidentificationMethod", "StudyInstanceUID"),
    *("StudyDate", "StudyTime", "StudyID", "AccessionNumber", "ReferringPhysicianName", "StudyDescription"),
)
_EMPTY = ("PatientName", "PatientID", "PatientBirthDate", "PatientSex")  # must be there, also where nobody is named
_EMPTY += ("StudyDate", "StudyTime", "StudyID", "AccessionNumber", "ReferringPhysicianName")
# What pydicom and the decoders under it raise on damaged files.
_DAMAGED = (OSError, ValueError, TypeError, LookupError, ArithmeticError, AttributeError, EOFError, RuntimeError)
_DAMAGED = (*_DAMAGED, MemoryError, SyntaxError, struct.error, zlib.error)
_QUIET = threading.Lock()  # warnings and logger are the whole process's: two at once would undo each other's silence


class DicomError(ValueError):
    """A DICOM file that cannot be used: `fault`, and `cure` where it is a special one, as halves of a sentence."""

    def __init__(self, fault: str, cure: str | None = None) -> None:
        super().__init__(fault)
        self.fault, self.cure = fault, cure


def is_dicom(data: bytes) -> bool:
    """Whether a file is DICOM, by its content."""
    return data[128:132] == b"DICM"


def read(data: bytes, check: Callable[[int, int], None]) -> tuple[Image.Image, str | None, tuple[str, ...]]:
    """The single colour picture of a DICOM file, mode RGB, as stored.

    check(width, height) [px] is called before anything is decoded and raises for a size that is not wanted.
    Returns the picture, the side of the eye by the file's own word ("right", "left" or None), and notes.
    Raises DicomError, without a word of the file in it.
    """
    header = _open(data, _PICTURE)
    with _quietly():
        if "PixelData" not in header:
            raise DicomError("it is a DICOM file that holds no picture")
        if int(header.get("NumberOfFrames") or 1) > 1:
            raise DicomError(
                "it is a DICOM file of several frames", "export one of them as JPEG or PNG and upload that"
            )
        if header.get("SamplesPerPixel") != 3 or header.get("PhotometricInterpretation") not in _COLOURS:
            raise DicomError("it is a DICOM file whose picture is not in colour (RGB or YBR)")
        if header.get("BitsAllocated") != 8:
            raise DicomError("it is a DICOM file with more than 8 bits per channel")
        check(int(header.Columns), int(header.Rows))
        pixels, steps = _pixels(header)
        picture = Image.fromarray(pixels)
        picture.info[STEPS] = steps
        if header.get("ICCProfile"):
            picture.info["icc_profile"] = bytes(header.ICCProfile)
        side = _SIDES.get(str(header.get("ImageLaterality") or header.get("Laterality")))
        return picture, side, (NOTE_TEXT,) if header.get("BurnedInAnnotation") == "YES" else ()


def encapsulate(source: bytes, pdf: bytes, side: str | None, created: str) -> bytes:
    """A DICOM file, Encapsulated PDF Storage, of the patient and the study of `source`, in a series of its own.

    source: the DICOM file of the photograph. pdf: the report. side: of the eye. created: ISO 8601, when.
    Raises DicomError where the patient and the study cannot be copied.
    """
    whose = _open(source, (*_WHOSE, "SOPClassUID", "SOPInstanceUID", "BurnedInAnnotation", "TimezoneOffsetFromUTC"))
    with _quietly():
        from pydicom.dataset import Dataset, FileMetaDataset
        from pydicom.uid import ExplicitVRLittleEndian, generate_uid

        zone = _zone(str(whose.get("TimezoneOffsetFromUTC")))
        when = datetime.fromisoformat(created).astimezone(zone)
        made = _document(pdf, when, side)
        if zone:  # else the times that are copied are of no known zone, and to name one would move them
            made.TimezoneOffsetFromUTC = f"{when:%z}"
        # The report shows the photograph, and what is burnt into it: unless its maker knows better, say so.
        made.BurnedInAnnotation = "NO" if whose.get("BurnedInAnnotation") == "NO" else "YES"
        made.file_meta = FileMetaDataset()
        made.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        for name in _WHOSE:
            if name in whose:
                made[name] = whose[name]
            elif name in _EMPTY:
                setattr(made, name, "")
        if not made.get("StudyInstanceUID"):
            made.StudyInstanceUID = generate_uid(prefix=None)
        if whose.get("SOPClassUID") and whose.get("SOPInstanceUID"):
            origin = Dataset()
            origin.ReferencedSOPClassUID, origin.ReferencedSOPInstanceUID = whose.SOPClassUID, whose.SOPInstanceUID
            made.SourceInstanceSequence = [origin]
        file = io.BytesIO()
        made.save_as(file, enforce_file_format=True)
        return file.getvalue()


def _document(pdf: bytes, when: datetime, side: str | None) -> Any:
    """The elements that are not the patient's: series, equipment and document."""
    from pydicom.dataset import Dataset
    from pydicom.uid import generate_uid

    from . import __version__

    made = Dataset()
    made.SOPClassUID, made.SOPInstanceUID = _PDF_STORAGE, generate_uid(prefix=None)
    made.SeriesInstanceUID, made.SeriesNumber, made.InstanceNumber = generate_uid(prefix=None), 1, 1
    made.Modality, made.SeriesDescription = "DOC", "Research report, not for diagnosis"
    made.Laterality = {"right": "R", "left": "L"}.get(side or "", "")
    made.Manufacturer, made.ManufacturerModelName, made.SoftwareVersions = "qmmfl", "qmmfl", __version__
    made.ConversionType, made.RecognizableVisualFeatures = "WSD", "NO"
    made.ContentDate, made.ContentTime = f"{when:%Y%m%d}", f"{when:%H%M%S}"
    made.AcquisitionDateTime, made.VerificationFlag = "", "UNVERIFIED"
    made.DocumentTitle, made.ConceptNameCodeSequence = "qmmfl report", []
    made.MIMETypeOfEncapsulatedDocument, made.EncapsulatedDocumentLength = "application/pdf", len(pdf)
    made.EncapsulatedDocument = pdf + bytes(len(pdf) % 2)
    return made


def _zone(offset: str) -> tzinfo | None:
    """The zone of a source's dates and times; None, this machine's, where it names none that there can be."""
    try:
        return datetime.strptime(offset, "%z").tzinfo
    except ValueError:
        return None


def _open(data: bytes, names: tuple[str, ...]) -> Any:
    """The elements `names` of a DICOM file; the others are passed over unread. Raises DicomError."""
    if find_spec("pydicom") is None:
        raise DicomError(NO_READER, INSTALL)
    with _quietly():
        import pydicom
        from pydicom.filereader import read_dataset

        file = io.BytesIO(data)
        file.seek(132)
        meta = read_dataset(file, False, True, stop_when=lambda tag, _kind, _length: tag.group != 2)
        if not meta.get("TransferSyntaxUID"):
            raise DicomError(DAMAGED)
        if meta.TransferSyntaxUID not in _PLAIN + _JPEG:  # one of the others inflates the whole file at once
            raise DicomError("it is a DICOM file compressed in a way that is not read here")
        return pydicom.dcmread(io.BytesIO(data), specific_tags=list(names))


def _pixels(header: Any) -> tuple[Any, dict[int, list[int]]]:
    """uint8 (h, w, 3) RGB of an opened file, and the quantization tables where it is a JPEG inside."""
    from pydicom.encaps import get_frame
    from pydicom.pixels.utils import pixel_array

    steps = {}
    if header.file_meta.TransferSyntaxUID in _JPEG:  # the picture inside may claim another size than the file
        with Image.open(io.BytesIO(get_frame(header.PixelData, 0, number_of_frames=1)), formats=KINDS) as inside:
            if inside.size != (header.Columns, header.Rows):
                raise DicomError("it is a DICOM file that says another size than its picture has")
            steps = getattr(inside, "quantization", {})  # JPEG 2000 has none
            if inside.info.get("adobe_transform") == 1:  # opening it makes RGB of it, which would be made once more
                return np.asarray(inside.convert("RGB")), steps
    return pixel_array(header, raw=False), steps


@contextlib.contextmanager
def _quietly() -> Iterator[None]:
    """Turns what pydicom raises into DicomError, and keeps it from warning or logging, which could tell a name."""
    log = logging.getLogger("pydicom")
    with _QUIET:
        before, log.disabled = log.disabled, True
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                yield
        except DicomError:
            raise
        except _DAMAGED as error:
            if type(error).__module__.startswith("qmmfl."):  # what `check` raised
                raise
            raise DicomError(DAMAGED) from None
        finally:
            log.disabled = before
