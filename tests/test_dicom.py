"""DICOM in and out, on files made here from a simulated eye: the right pixels, the side, and no word of a patient."""

import hashlib
import io
import json
import logging
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from threading import Event

import cv2
import numpy as np
import pytest
from fakes import FakePipeline
from test_ui import silent, upload

from qmmfl import cli, compression, dicom, laterality, photograph, prose, results, review, runs, screening
from qmmfl.records import Eye, PhotographError
from qmmfl.ui import cases, exports, uploads
from qmmfl.ui.reader import Reader

pydicom = pytest.importorskip("pydicom", reason="pydicom is not installed (qmmfl[dicom])")
from pydicom.dataset import Dataset, FileMetaDataset  # noqa: E402
from pydicom.encaps import encapsulate  # noqa: E402
from pydicom.uid import (  # noqa: E402
    DeflatedExplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEGBaseline8Bit,
    generate_uid,
)

NAME, NUMBER, BORN = "Müster^Jane", "4711-X", "19500203"
STUDY = generate_uid(prefix=None, entropy_srcs=["study"])


def dataset(pixels: np.ndarray, **changes) -> Dataset:
    """An Ophthalmic Photography 8 Bit image of a person, as a camera makes it; a value of None leaves it out."""
    values = {
        "SpecificCharacterSet": "ISO_IR 192",
        "SOPClassUID": "1.2.840.10008.5.1.4.1.1.77.1.5.1",
        "SOPInstanceUID": generate_uid(prefix=None, entropy_srcs=["image"]),
        "StudyInstanceUID": STUDY,
        "StudyDate": "20260102",
        "PatientName": NAME,
        "PatientID": NUMBER,
        "PatientBirthDate": BORN,
        "PatientSex": "F",
        "InstitutionName": "Clinic of Müster",
        "PatientComments": f"{NAME} was here",
        "Modality": "OP",
        "ImageLaterality": "R",
        "SamplesPerPixel": 3,
        "PhotometricInterpretation": "RGB",
        "PlanarConfiguration": 0,
        "Rows": pixels.shape[0],
        "Columns": pixels.shape[1],
        "BitsAllocated": 8,
        "BitsStored": 8,
        "HighBit": 7,
        "PixelRepresentation": 0,
        "PixelData": pixels.tobytes(),
    }
    made = Dataset()
    for name, value in {**values, **changes}.items():
        if value is not None:
            setattr(made, name, value)
    return made


def written(made: Dataset, syntax: str = ExplicitVRLittleEndian) -> bytes:
    made.file_meta = FileMetaDataset()
    made.file_meta.TransferSyntaxUID = syntax
    file = io.BytesIO()
    made.save_as(file, enforce_file_format=True)
    return file.getvalue()


def ybr(pixels: np.ndarray) -> np.ndarray:
    """As DICOM wants it: the full range of JPEG, Cb before Cr."""
    return np.ascontiguousarray(cv2.cvtColor(pixels, cv2.COLOR_RGB2YCrCb)[..., [0, 2, 1]])


def jpeg(pixels: np.ndarray) -> bytes:
    return encapsulate([cv2.imencode(".jpg", pixels[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 98])[1].tobytes()])


@pytest.fixture(scope="module")
def pixels(eye):
    return eye.photograph


def kinds(pixels: np.ndarray) -> dict[str, bytes]:
    inside = {"PhotometricInterpretation": "YBR_FULL_422", "PixelData": jpeg(pixels)}
    planes = {"PlanarConfiguration": 1, "PixelData": np.ascontiguousarray(pixels.transpose(2, 0, 1)).tobytes()}
    return {
        "rgb": written(dataset(pixels)),
        "implicit": written(dataset(pixels), ImplicitVRLittleEndian),
        "planes": written(dataset(pixels, **planes)),
        "ybr": written(dataset(ybr(pixels), PhotometricInterpretation="YBR_FULL")),
        "jpeg": written(dataset(pixels, **inside), JPEGBaseline8Bit),
    }


KINDS = ("rgb", "implicit", "planes", "ybr", "jpeg")


@pytest.mark.parametrize("kind", KINDS)
def test_the_picture_and_the_side_are_read_and_nothing_else(pixels, kind, capfd, caplog, recwarn):
    read = photograph.read(kinds(pixels)[kind], "no_suffix")
    limit = {"ybr": 2, "jpeg": 12}.get(kind, 0)
    assert np.abs(read.pixels.astype(int) - pixels).mean() <= limit / 4
    assert np.percentile(np.abs(read.pixels.astype(int) - pixels), 99) <= limit
    assert read.side == "right"
    assert photograph.NOTE_SIDE.format("right") in read.notes
    told = f"{read.notes}{read.name}{caplog.text}{capfd.readouterr()}{[str(each.message) for each in recwarn]}"
    assert not any(word in told for word in ("ster", NUMBER, BORN))


def test_a_jpeg_whose_colours_adobe_s_marker_tells_is_read_as_its_file_would_be(pixels):
    """Whoever opens it makes RGB of it, and the header would have that done once more."""
    stored = cv2.imencode(".jpg", pixels[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 95])[1].tobytes()
    at = stored.index(b"\xff\xe0")
    end = at + 2 + int.from_bytes(stored[at + 2 : at + 4], "big")
    marked = stored[:at] + b"\xff\xee\x00\x0eAdobe\x00\x64\0\0\0\0\x01" + stored[end:]
    inside = {"PhotometricInterpretation": "YBR_FULL_422", "PixelData": encapsulate([marked])}
    wrapped = photograph.read(written(dataset(pixels, **inside), JPEGBaseline8Bit))
    np.testing.assert_array_equal(wrapped.pixels, photograph.read(marked).pixels)
    assert wrapped.jpeg_quality == 95


def test_a_coarse_picture_inside_is_told_and_healed_as_its_file_would_be(pixels):
    stored = cv2.imencode(".jpg", pixels[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 20])[1].tobytes()
    inside = {"PhotometricInterpretation": "YBR_FULL_422", "PixelData": encapsulate([stored])}
    file, wrapped = photograph.read(stored), photograph.read(written(dataset(pixels, **inside), JPEGBaseline8Bit))
    assert file.jpeg_quality == wrapped.jpeg_quality == 20
    assert photograph.NOTE_COMPRESSED.format(20) in wrapped.notes
    healed = compression.heal(wrapped, 1024).astype(int)
    assert np.abs(healed - wrapped.pixels).mean() > 0.3
    assert photograph.read(written(dataset(pixels))).jpeg_quality is None


def test_a_side_is_read_from_either_tag_or_not_at_all(pixels):
    def side(**tags):
        return photograph.read(written(dataset(pixels, **{"ImageLaterality": None, **tags}))).side

    assert side(Laterality="L") == "left"
    assert side(ImageLaterality="L", Laterality="R") == "left", "the picture's own tag before that of its series"
    assert side(ImageLaterality="B") is None
    assert side() is None


def test_text_in_the_pixels_is_told(pixels):
    assert dicom.NOTE_TEXT in photograph.read(written(dataset(pixels, BurnedInAnnotation="YES"))).notes
    assert dicom.NOTE_TEXT not in photograph.read(written(dataset(pixels, BurnedInAnnotation="NO"))).notes


def bad(pixels: np.ndarray) -> dict[str, tuple[bytes, str]]:
    """Name -> a file that is refused, and the fault in the sentence."""
    colour = "not in colour"
    grey = {"SamplesPerPixel": 1, "PhotometricInterpretation": "MONOCHROME2", "PlanarConfiguration": None}
    deep = {"BitsAllocated": 16, "BitsStored": 12, "HighBit": 11, "PixelData": bytes(2 * pixels.size)}
    large = cv2.resize(pixels, (2 * pixels.shape[1], 2 * pixels.shape[0]))
    lie = {"PhotometricInterpretation": "YBR_FULL_422", "PixelData": jpeg(large)}
    rgb = written(dataset(pixels))
    return {
        "grey": (written(dataset(pixels, PixelData=pixels[..., 0].tobytes(), **grey)), colour),
        "palette": (
            written(dataset(pixels, **{**grey, "PhotometricInterpretation": "PALETTE COLOR"})),
            "not in colour",
        ),
        "frames": (written(dataset(pixels, NumberOfFrames=2, PixelData=2 * pixels.tobytes())), "several frames"),
        "no pixels": (written(dataset(pixels, PixelData=None)), "holds no picture"),
        "12 bits": (written(dataset(pixels, **deep)), "more than 8 bits"),
        "truncated": (rgb[: len(rgb) // 2], "damaged or incomplete"),
        "too few pixels": (written(dataset(pixels, PixelData=bytes(1000))), "damaged or incomplete"),
        "head only": (rgb[:140], "damaged or incomplete"),
        "no JPEG in it": (
            written(dataset(pixels, PixelData=encapsulate([b"no JPEG at all"])), JPEGBaseline8Bit),
            "damaged or incomplete",
        ),
        "another size inside": (written(dataset(pixels, **lie), JPEGBaseline8Bit), "another size"),
        "deflated": (written(dataset(pixels), DeflatedExplicitVRLittleEndian), "compressed in a way"),
        "RLE": (rgb.replace(b"1.2.840.10008.1.2.1\0", b"1.2.840.10008.1.2.5\0"), "compressed in a way"),
    }


@pytest.mark.parametrize("name", list(bad(np.zeros((300, 300, 3), np.uint8))))
def test_what_holds_no_single_colour_picture_is_refused_in_one_sentence(pixels, name, capfd, caplog, recwarn):
    data, fault = bad(pixels)[name]
    with pytest.raises(PhotographError, match=rf"^Cannot read eye\.dcm: [^.]*{fault}[^.]*; export [^.]*\.$") as caught:
        photograph.read(data, "eye.dcm")
    told = f"{caught.value}{caplog.text}{capfd.readouterr()}{[str(each.message) for each in recwarn]}"
    assert not any(word in told for word in ("ster", NUMBER, BORN))
    assert caught.value.__cause__ is None


def test_its_size_is_checked_before_anything_is_decoded(pixels, monkeypatch):
    def decoded(*_):
        raise AssertionError("decoded")

    monkeypatch.setattr(dicom, "_pixels", decoded)
    for rows, columns, fault in ((60000, 60000, "more than 30 megapixels"), (100, 400, "at least 224")):
        with pytest.raises(PhotographError, match=fault):
            photograph.read(written(dataset(pixels, Rows=rows, Columns=columns)), "eye.dcm")


def test_without_pydicom_the_sentence_says_what_to_install(pixels, monkeypatch):
    data = written(dataset(pixels))
    monkeypatch.setitem(sys.modules, "pydicom", None)
    with pytest.raises(PhotographError, match=r"pydicom is not installed; install qmmfl\[dicom\]"):
        photograph.read(data, "eye.dcm")


def test_two_files_at_once_are_both_silent_and_the_log_speaks_afterwards(pixels):
    data, log, second = written(dataset(pixels)), logging.getLogger("pydicom"), Event()

    def first_check(*_):
        started.set()
        second.wait(0.5)  # were both inside at once, the second would come in here

    def second_check(*_):
        second.set()
        first.result()
        silent.append(log.disabled)

    started, silent = Event(), []
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(dicom.read, data, first_check)
        assert started.wait(30)
        pool.submit(dicom.read, data, second_check).result()
    assert silent == [True]
    assert not log.disabled


@pytest.mark.parametrize(
    ("tag", "light", "side"),
    [("R", 1, "right"), ("L", 1, None), ("L", 60, "left")],
    ids=["as the photograph shows", "another than it shows", "it shows none"],
)
def test_the_command_line_takes_the_side_of_the_tag(pixels, tmp_path, monkeypatch, tag, light, side):
    monkeypatch.setattr(prose, "report_pdf", lambda *_: b"%PDF-1.4")  # drawing takes seconds
    (tmp_path / "image.dcm").write_bytes(written(dataset(pixels // light, ImageLaterality=tag)))
    with runs.Run(tmp_path / "out", "f" * 64, results.Parts(planes=False)) as run:
        (row,) = screening.screen([tmp_path / "image.dcm"], run, FakePipeline())  # its photographs show a right eye
    report = json.loads((tmp_path / "out" / "image" / "report.json").read_text())
    document = pydicom.dcmread(tmp_path / "out" / "image" / "report.dcm")
    assert (row["side"], report["eye"]["side"]) == (side or "", side)
    assert document.Laterality == {"right": "R", "left": "L", None: ""}[side]
    asked = [note for note in report["input"]["notes"] if note.endswith("Which eye is it?")]
    assert len(asked) == (side is None)


def test_a_report_that_cannot_become_dicom_costs_only_that_copy(pixels, tmp_path, monkeypatch):
    def fail(*_):
        raise dicom.DicomError("its study cannot be copied")

    monkeypatch.setattr(prose, "report_pdf", lambda *_: b"%PDF-1.4")
    monkeypatch.setattr(dicom, "encapsulate", fail)
    (tmp_path / "image.dcm").write_bytes(written(dataset(pixels)))
    with runs.Run(tmp_path / "out", "f" * 64, results.Parts(planes=False)) as run:
        (row,) = screening.screen([tmp_path / "image.dcm"], run, FakePipeline())
    assert row["status"] == "ok"
    assert row["reason"] == "There is no report as DICOM, because its study cannot be copied."
    assert {path.name for path in (tmp_path / "out" / "image").iterdir()} == {"report.json", "report.pdf"}


@pytest.mark.parametrize("later", ["another patient", "no DICOM", "gone"])
@pytest.mark.parametrize("name", ["image.dcm", "IM000001"])
def test_a_file_that_is_replaced_while_it_is_read_lends_its_patient_to_nobody(
    pixels, tmp_path, monkeypatch, later, name
):
    path, first = tmp_path / name, written(dataset(pixels, ImageLaterality=None))

    class Slow(FakePipeline):
        def __call__(self, photograph, *given, **how):
            path.unlink()
            if later == "another patient":
                path.write_bytes(written(dataset(pixels, PatientName="Other^One")))
            elif later == "no DICOM":
                cv2.imwrite(str(tmp_path / "image.png"), pixels)
                (tmp_path / "image.png").rename(path)
            return super().__call__(photograph, *given, **how)

    monkeypatch.setattr(prose, "report_pdf", lambda *_: b"%PDF-1.4")
    path.write_bytes(first)
    with runs.Run(tmp_path / "out", "f" * 64, results.Parts(planes=False)) as run:
        (row,) = screening.screen([path], run, Slow())
    assert (row["status"], row["sha256"]) == ("ok", hashlib.sha256(first).hexdigest())
    assert row["reason"] == f"There is no report as DICOM, because {results.REPLACED}."
    assert {each.name for each in (tmp_path / "out" / row["folder"]).iterdir()} == {"report.json", "report.pdf"}


def test_no_patient_is_lent_to_what_came_without_one(pixels, tmp_path, monkeypatch):
    path = tmp_path / "eye.png"

    class Slow(FakePipeline):
        def __call__(self, photograph, *given, **how):
            path.write_bytes(written(dataset(pixels)))
            return super().__call__(photograph, *given, **how)

    monkeypatch.setattr(prose, "report_pdf", lambda *_: b"%PDF-1.4")
    cv2.imwrite(str(path), pixels)
    with runs.Run(tmp_path / "out", "f" * 64, results.Parts(planes=False)) as run:
        (row,) = screening.screen([path], run, Slow())
    assert (row["status"], row["reason"]) == ("ok", "")
    assert {each.name for each in (tmp_path / "out" / "eye").iterdir()} == {"report.json", "report.pdf"}


@pytest.fixture
def case(pixels, tmp_path):
    """A DICOM case that was read."""
    path = tmp_path / "image.dcm"
    path.write_bytes(written(dataset(pixels)))
    opened, said = uploads.take(cases.open_case(), [upload(str(path), "IMG_0001.dcm")])
    assert said == []
    yield Reader(FakePipeline()).read(opened, silent)
    cases.forget(opened)


def test_the_tag_settles_the_side_and_a_conflict_is_asked_about(case):
    eye = case.changed(0, seen=Eye(None, None)).eye
    assert eye.settle() == (Eye("right", "DICOM tag"), None)
    for other in (replace(eye, named="left"), replace(eye, seen=Eye("left", "place of the disc"))):
        assert other.settle()[0].side is None
        assert "The DICOM tag says right eye" in other.settle()[1]
    against, asked = replace(eye, named="left", chosen="left").settle()
    assert against == Eye("left", "chosen by the clinician, against the DICOM tag")
    assert "The DICOM tag says right eye and left was chosen" in asked
    assert replace(eye, named="left", chosen="right").settle() == (Eye("right", "chosen by the clinician"), None)
    assert replace(eye, chosen=laterality.UNKNOWN).settle() == (Eye(None, "chosen by the clinician: not known"), None)


def test_no_export_but_the_dicom_names_the_patient(case):
    report = case.eye.report
    texts = [exports.as_json(case, 0), prose.report_pdf(report), review.to_csv([(report, case.eye.review)]).encode()]
    texts += [json.dumps(report.to_dict()).encode(), *(path.read_bytes() for path in case.folder.rglob("*.jpg"))]
    assert len(texts) > 4
    for text in texts:
        assert not any(word in text for word in (b"ster^Jane", NUMBER.encode(), BORN.encode(), STUDY.encode()))


def test_the_report_goes_out_as_a_new_document_of_the_same_study(case, tmp_path):
    pdf = prose.report_pdf(case.eye.report)
    path = Path(exports.export(case, 0, "retinal_report.dcm", exports.as_dicom(case.eye, pdf)))
    assert path.name == "retinal_report_right_eye.dcm"
    made, source = pydicom.dcmread(path), pydicom.dcmread(case.eye.file)
    assert made.SOPClassUID == "1.2.840.10008.5.1.4.1.1.104.1"
    assert made.EncapsulatedDocument[: made.EncapsulatedDocumentLength] == pdf
    assert made.MIMETypeOfEncapsulatedDocument == "application/pdf"
    for name in ("PatientName", "PatientID", "PatientBirthDate", "PatientSex", "StudyInstanceUID", "StudyDate"):
        assert made[name].value == source[name].value, name
    assert str(made.PatientName) == NAME
    assert made.SOPInstanceUID not in (source.SOPInstanceUID, STUDY)
    assert made.SeriesInstanceUID not in (STUDY, made.SOPInstanceUID)
    assert made.SourceInstanceSequence[0].ReferencedSOPInstanceUID == source.SOPInstanceUID
    assert (made.Modality, made.Laterality, made.VerificationFlag) == ("DOC", "R", "UNVERIFIED")
    assert made.file_meta.MediaStorageSOPInstanceUID == made.SOPInstanceUID
    assert not any(name in made for name in ("InstitutionName", "PatientComments", "PixelData", "Rows"))
    again = pydicom.dcmread(io.BytesIO(exports.as_dicom(case.eye, pdf)))
    assert again.SOPInstanceUID != made.SOPInstanceUID, "a second export is another document"


def test_a_source_that_names_nobody_gives_a_document_of_nobody(pixels):
    nobody = dict.fromkeys(("PatientName", "PatientID", "PatientBirthDate", "PatientSex", "StudyInstanceUID"))
    out = dicom.encapsulate(written(dataset(pixels, **nobody)), b"%PDF-1.4", None, "2026-01-02T03:04:05+00:00")
    made = pydicom.dcmread(io.BytesIO(out))
    assert (str(made.PatientName), made.PatientID, made.Laterality) == ("", "", "")
    assert made.StudyInstanceUID
    assert made.EncapsulatedDocumentLength == 8


@pytest.mark.skipif(not hasattr(time, "tzset"), reason="this system's zone cannot be set")
@pytest.mark.parametrize(
    ("offset", "told"),
    [
        ("+0900", ("20261130", "083000", "+0900")),
        ("-0330", ("20261129", "200000", "-0330")),
        *((unknown, ("20261129", "183000", None)) for unknown in (None, "", "in winter", "+9900")),
    ],
)
def test_the_time_of_the_report_is_told_in_the_zone_of_its_study(pixels, monkeypatch, offset, told):
    monkeypatch.setenv("TZ", "XXX+05")  # a machine west of Greenwich
    time.tzset()
    source = written(dataset(pixels, StudyDate="20261130", StudyTime="080000", TimezoneOffsetFromUTC=offset))
    out = dicom.encapsulate(source, b"%PDF-1.4", None, "2026-11-29T23:30:00+00:00")
    made = pydicom.dcmread(io.BytesIO(out))
    monkeypatch.undo()
    time.tzset()
    assert (made.ContentDate, made.ContentTime, made.get("TimezoneOffsetFromUTC")) == told
    assert (made.StudyDate, made.StudyTime) == ("20261130", "080000")


@pytest.mark.parametrize(("said", "told"), [("NO", "NO"), ("YES", "YES"), (None, "YES")])
def test_text_that_may_be_in_the_photograph_is_told_of_the_report(pixels, said, told):
    source = written(dataset(pixels, BurnedInAnnotation=said))
    out = dicom.encapsulate(source, b"%PDF-1.4", None, "2026-01-02T03:04:05+00:00")
    assert pydicom.dcmread(io.BytesIO(out)).BurnedInAnnotation == told


@pytest.mark.slow
def test_a_folder_of_dicom_is_read_and_the_patient_stays_in_the_dicom(pixels, tmp_path, tiny_folder, capfd):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "IMG_0001.dcm").write_bytes(written(dataset(pixels)))
    out = tmp_path / "out"
    arguments = ["read", str(tmp_path / "in"), "--out", str(out), "--weights", str(tiny_folder), "--device", "cpu"]
    assert cli.main(arguments) == cli.OK
    made = pydicom.dcmread(out / "IMG_0001" / "report.dcm")
    assert (str(made.PatientName), made.StudyInstanceUID) == (NAME, STUDY)
    assert made.EncapsulatedDocument.startswith((out / "IMG_0001" / "report.pdf").read_bytes())
    others = [path for path in out.rglob("*") if path.is_file() and path.suffix != ".dcm"]
    assert len(others) > 4
    assert not any(NUMBER.encode() in path.read_bytes() for path in others)
    assert NUMBER not in "".join(capfd.readouterr())
