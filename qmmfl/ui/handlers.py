"""What answers which control of the page. A handler gets the case of its own session and returns what changes."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from .. import evidence, labels, laterality, photograph, prose, results, review
from ..guard import gradio
from ..records import PhotographError
from . import answers, examples
from .border import Stopped, said_html, told, warn, warn_gone
from .cases import Case, forget, hold, open_case
from .exports import as_dicom, as_json, export
from .layout import FILES
from .reader import NO_WHY, Reader, explained, stop
from .uploads import discard, take, upload_of

NO_UPLOAD = "Send one uploaded photograph as gradio.FileData; gradio_client.handle_file makes it of a file."


class Handlers:
    """The handlers of one page. Holds no case: each comes from the session that asks."""

    def __init__(self, page: SimpleNamespace, reader: Reader, eyes: list[Path]) -> None:
        """page: as `layout.lay_out` made it. eyes: the simulated examples."""
        self.page, self.reader, self.eyes = page, reader, eyes

    def show(self, case: Case | None, marks: str = labels.GRADE, space: str = labels.FUSED) -> dict:
        """Every part of the page for a case."""
        gr, page = gradio(), self.page
        if case:
            hold(case)
        eye = case.eye if case else None
        parts = answers.everything(case, self.reader, marks, space)
        result = {page.state: case, **{place: parts[name] for name, place in page.places.items()}}
        result |= dict(zip(page.files, self.close_files(case), strict=True))
        result |= {page.marks: marks, page.space: space}
        can = explained(eye)
        first = prose.first_map(eye.report) if can and eye and eye.report else None
        code = first or (can[0][1] if can else None)
        result[page.finding] = gr.Dropdown(can, value=code)
        if code:
            result[page.method], result[page.modality] = self.reader.first_kind(code)
        poor = bool(eye and eye.report and not eye.report.quality.gradable)
        result[page.override] = gr.Button(visible=poor and not (eye and eye.overridden))
        result[page.measure] = gr.Button(visible=answers.can_measure(eye))
        return result | self._choices(case)

    def _choices(self, case: Case | None) -> dict:
        """Which eye is on the page, and which is which."""
        gr, page, eyes = gradio(), self.page, case.eyes if case else ()
        titles = [(case.title(number), number) for number in range(len(eyes))] if case else []
        shown = case.shown if titles and case else None
        result = {page.which: gr.Radio(titles, value=shown, visible=len(titles) > 1)}
        for number, side in enumerate(page.sides):
            label = f"Photograph {number + 1} is of which eye?" if len(eyes) > 1 else "Which eye?"
            value = answers.side_of(case, number)
            result[side] = gr.Radio(answers.SIDES, value=value, label=label, visible=number < len(eyes))
        return result

    def close_files(self, case: Case | None) -> list[Any]:
        """The buttons of the report without their files and eyes; that for DICOM only where the eye came as DICOM."""
        came = bool(case and case.eye and case.eye.is_dicom)
        close = gradio().DownloadButton
        return [close(name.upper(), value=None, interactive=False, visible=came or name != "dicom") for name in FILES]

    @told
    def choose(self, paths: list[str] | str | None, case: Case | None) -> dict:
        """Take what was chosen."""
        return self._taken(paths, case)

    @told
    def choose_example(self, index: int, case: Case | None) -> dict:
        """Take a simulated eye: into this case where it is a simulated one's fellow, else into a new one."""
        if not self.eyes[index].is_file():  # cleaned away with other old temporary files
            examples.copy_examples()
        wanted = laterality.find_in_name(self.eyes[index].name)
        alone = case is not None and len(case.eyes) == 1 and case.eyes[0].is_simulated  # never beside a person's eye
        if case is None or not alone or answers.side_of(case, 0) in (None, wanted):
            if case and case.is_precious:
                raise PhotographError("A simulated eye does not belong to your case: clear the case first.")
            forget(case)
            case = open_case()
        return self._taken([*case.files, str(self.eyes[index])], case)

    def _taken(self, paths: list[str] | str | None, case: Case | None) -> dict:
        stop(case)  # what is being read would answer for the photographs of before
        given = [paths] if isinstance(paths, str) else paths or []
        case, said = take(case if case and case.folder.is_dir() else open_case(), given)
        if given and not (case.eyes or said):
            forget(case)
            return self._lost()
        for sentence in said:
            warn(sentence)
        chosen = _unless_cleared(case, lambda: {**self.show(case), self.page.file: case.files or None})
        return chosen or gradio().skip()

    def _lost(self) -> dict:
        """The page stays as it is where its case was deleted: the browser holds the review as long as it shows it."""
        warn_gone()
        return {self.page.state: None}

    async def use(self, case: Case | None) -> Case | None:
        """The case, whose time begins anew when it is written; async, so that no other answer writes it meanwhile."""
        if case:
            hold(case)
        return case

    def clear(self, case: Case | None) -> dict:
        """Forget the case."""
        forget(case)
        return {**self.show(None), self.page.file: None}

    def empty(self, case: Case | None) -> dict:
        """The box for photographs was cleared: likewise. Of a case that was deleted before, the review stays."""
        if case and case.folder.is_dir():
            return self.clear(case)
        return {**self.show(None), self.page.file: None, self.page.viewer: answers.NO_EYE}

    @told
    def analyse(self, case: Case | None, progress: Callable) -> Case | None:
        """The case read, for `adopt`; None where it was stopped. progress: as gr.Progress."""
        if case is None or not case.eyes:
            raise PhotographError("Choose a photograph first.")
        read = self._unless_stopped(case, lambda: self.reader.read(case, _shown(progress)))
        if read and any(each.report is None for each in read.eyes):
            gradio().Info("The analysis was stopped; what was read until then is shown.", 6)
        return read

    @told
    def override(self, wanted: Path | None, case: Case | None, progress: Callable) -> Case | None:
        """The case with the eye that was on the page when it was asked for, `wanted`, read whatever its quality."""
        case = case and case.asked(wanted)
        if case is None:
            raise PhotographError("Choose a photograph first.")
        return self._unless_stopped(case, lambda: self.reader.read(case, _shown(progress), True))

    @told
    def measure(self, wanted: Path | None, case: Case | None, progress: Callable) -> Case | None:
        """The case with the vessels of the eye that was on the page when it was asked for, likewise."""
        case = case and case.asked(wanted)
        if case is None or not answers.can_measure(case.eye):
            raise PhotographError(NO_WHY)
        return self._unless_stopped(case, lambda: self.reader.measure(case, _shown(progress)))

    @told
    def adopt(self, read: Case | None, case: Case | None) -> dict:
        """Onto the page what `analyse` or `measure` made, which took a while: the case may say more by now."""
        made = {self.page.read: None}
        if read is None or case is None or read.folder != case.folder:
            return made
        old, case = case.eye, self.reader.settle(case.adopt(read))
        same = old and case.eye and (case.eye.file, case.eye.readings) == (old.file, old.readings)
        return made | (_unless_cleared(case, lambda: (self._beside if same else self.show)(case)) or {})

    def _beside(self, case: Case) -> dict:
        """What changes on the page where the eye on it was not read anew: its vessels, and what is said of both eyes.
        The form of the review stays as it is: a note may be half written.
        """
        page, eye = self.page, case.eye
        made = {page.state: case, page.both: answers.both(case), page.question: answers.question(case)}
        if eye is not None and eye.measured:
            made |= {page.reading: answers.reading(eye), page.measure: gradio().Button(visible=False)}
            made |= dict(zip(page.files, self.close_files(case), strict=True))
        return made | self._choices(case)

    def _unless_stopped(self, case: Case, read: Callable[[], Case]) -> Case | None:
        try:
            return read()
        except Stopped:
            if case.folder.is_dir():
                gradio().Info("The analysis was stopped; the photograph is still here.", 6)
            return None

    @told
    def turn(self, number: int | None, case: Case | None) -> dict:
        """The other eye onto the page."""
        if case is None:
            return self._lost()
        turned = case if number is None else case.turned(number)
        return _unless_cleared(case, lambda: self.show(turned)) or gradio().skip()

    @told
    def correct(self, number: int, side: str | None, case: Case | None) -> dict:
        """The clinician's word on the side of eye `number`."""
        if case is None:
            return self._lost()
        corrected = self.reader.settle(case.changed(number, chosen=side)) if number < len(case.eyes) else case
        return _unless_cleared(case, lambda: self.show(corrected)) or gradio().skip()

    @told
    def score(self, code: str | None, case: Case | None) -> Any:
        """The score panel of one finding."""
        if case is None:
            warn_gone()
            return gradio().skip()
        return answers.score(case, self.reader, code)

    @told
    def note(self, text: str, case: Case | None) -> list[Any]:
        """The review that the page sent; files made before it are stale."""
        case = _reviewed(text, case)
        return [case, *self.close_files(case)]

    @told
    def keep(self, text: str, case: Case | None) -> list[Any]:
        """Write the files of the report."""
        case, gr = _reviewed(text, case), gradio()
        report = case.noted(case.shown) if case and case.eye else None
        if case is None or case.eye is None or report is None or not case.folder.is_dir():
            return [gr.skip()] * len(FILES)
        eye, number, whose = case.eye, case.shown, case.title(case.shown).lower()
        pdf = prose.report_pdf(report, eye.review)
        noted = ((case.noted(n), each.review) for n, each in enumerate(case.eyes))
        read = [(report, said) for report, said in noted if report]
        files = [
            (f"PDF, {whose}", export(case, number, "retinal_report.pdf", pdf)),
            (f"JSON, {whose}", export(case, number, "retinal_report.json", as_json(case, number))),
            ("CSV, one row per finding", export(case, None, "retinal_review.csv", review.to_csv(read).encode())),
        ]
        buttons = [gr.DownloadButton(name, value=path, interactive=True) for name, path in files]
        return [*buttons, self._dicom(case, eye, pdf, whose)]

    def _dicom(self, case: Case, eye, pdf: bytes, whose: str) -> Any:
        button = gradio().DownloadButton
        if not eye.is_dicom:
            return button(value=None, visible=False)
        try:
            path = export(case, case.shown, "retinal_report.dcm", as_dicom(eye, pdf))
        except PhotographError as error:  # the other files are good
            warn(str(error))
            return button(value=None, interactive=False)
        return button(f"DICOM, {whose}, names the patient", value=path, interactive=True)

    @told
    def explain(self, code: str | None, method: str, modality: str, wanted: Path | None, case: Case | None) -> str:
        """Where one score comes from, of the eye that was on the page when it was asked, `wanted`; for `deliver`."""
        case = case and case.asked(wanted)
        try:
            return self.reader.explain(case, code, method, modality, _whose(case))
        except Stopped:
            return said_html("The explanation was stopped")

    @told
    def drop(self, modality: str, wanted: Path | None, case: Case | None) -> str:
        """What if there were one modality less, likewise."""
        case = case and case.asked(wanted)
        return self.reader.drop(case and case.eye, modality, _whose(case))

    @told
    def hide(self, box: str, wanted: Path | None, case: Case | None) -> str:
        """What if the box were hidden, likewise."""
        case = case and case.asked(wanted)
        return self.reader.hide(case and case.eye, box, _whose(case))

    @told
    def deliver(self, said: str | None, wanted: Path | None, case: Case | None) -> Any:
        """An answer onto the page, unless another eye than the one that was asked about came onto it meanwhile."""
        shown = case.eye.file if case and case.eye else None
        return said if said is not None and shown == wanted else gradio().skip()

    @told
    def place(self, subject: str, space: str, case: Case | None) -> str:
        """Where the eye lies among the references."""
        return self.reader.place(case and case.eye, subject, space)

    @told
    def analyse_file(self, given: Any) -> dict:
        """report.json of one upload, which is deleted then; nobody can be asked, so that a side in doubt stays open.

        given: whatever was sent, gradio.FileData or its dict.
        """
        path = given.get("path") if isinstance(given, dict) else getattr(given, "path", None)
        if not isinstance(path, str):
            raise PhotographError(NO_UPLOAD)
        upload = upload_of(Path(path))
        try:
            picture = photograph.read(upload, None)
        finally:
            discard(upload)
        report = laterality.settled(evidence.sided(self.reader.ask(picture, None, False)), upload.name)
        return results.to_json(report)


def _unless_cleared(case: Case, draw: Callable[[], dict]) -> dict | None:
    """What is drawn of a case, which takes seconds; None where the case was cleared meanwhile: nothing comes back."""
    try:
        made = draw()
    except OSError:
        if case.folder.is_dir():
            raise
    return made if case.folder.is_dir() else None


def _reviewed(text: str, case: Case | None) -> Case | None:
    """The case with what the page heard, each review at the eye it was made for.

    The page sends all of it every time: where two answers overtake each other, none of it is lost.
    """
    said = review.parse(text)
    if said and case is None:
        warn_gone()
    for number, each in enumerate(case.eyes if case else ()):
        if case and each.report and each.report.photograph.sha256 in said:
            case = case.changed(number, review=said[each.report.photograph.sha256])
    return case


def _whose(case: Case | None) -> str:
    """What the eye on the page is called where there are two."""
    return case.title(case.shown) if case and len(case.eyes) > 1 else ""


def _shown(progress: Callable) -> Callable[[int, int, str], None]:
    return lambda done, total, stage: progress((done, total), desc=stage)
