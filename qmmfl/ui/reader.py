"""What the page asks of the pipeline: read a case, with progress and a stop; explain; place among the references."""

from collections.abc import Callable
from dataclasses import replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from .. import atlas, evidence, labels
from ..prose import similar
from ..prose.wording import SCORES
from ..records import Photograph, PhotographError, Report
from . import gpu
from .border import Stopped, in_place, said_html
from .cases import Case, Taken

_STOP = "stop"  # a file in the case's folder: the analysis looks for it between stages
NO_LESIONS = "no_lesions"  # in place of a modality that is left out: its maps are emptied
NO_WHY = "Choose a photograph and press Analyse first."
WITHHELD = "There is no score to explain: the predictions of this photograph are withheld; the summary says why."


class Reader:
    """The pipeline behind the page. Holds no case."""

    def __init__(self, pipeline: Any) -> None:
        self.pipeline = pipeline
        self._on_loan = gpu.borrow(lambda photograph, override: pipeline(photograph, override=override))
        self._why = gpu.borrow(self._asked)

    def read(self, case: Case, progress: Callable[[int, int, str], None], override: bool = False) -> Case:
        """Read what was not read yet, or not wholly; with `override` the one on the page, gradable or not.

        Stopped after the first eye it returns that one alone. Raises Stopped where `stop` was called before that, or
        the case was cleared, PhotographError for what cannot be read.
        """
        start = case
        check(case)
        unread = [n for n, each in enumerate(case.eyes) if each.report is None or each.report.failures]
        wanted = [case.shown] if override else unread
        for place, number in enumerate(wanted):
            whose = f"{case.title(number)}: " if len(case.eyes) > 1 else ""

            def told(done: int, total: int, stage: str, place: int = place, whose: str = whose) -> None:
                check(start)
                progress(place * total + done, len(wanted) * total, whose + stage)

            try:
                case = case.changed(number, **self._seen(case.eyes[number], told, override))
            except Stopped:
                if case is start or not case.folder.is_dir():
                    raise
                break
        return replace(case, shown=wanted[0] if wanted else case.shown)

    def settle(self, case: Case) -> Case:
        """With the sides in the reports as far as they are known, and what was measured by place for these sides."""
        for number, each in enumerate(case.eyes):
            settled = each.settled()
            if settled.report and each.report and each.evidence and settled.report.eye != each.report.eye:
                found = self._measured(settled.report)
                settled = replace(settled, evidence=replace(found, vessels=each.evidence.vessels))
            case = case.changed(number, report=settled.report, evidence=settled.evidence)
        return case

    def _seen(self, taken: Taken, told: Callable[[int, int, str], None], override: bool) -> dict[str, Any]:
        report = self.ask(taken.read(), told, override)
        seen = evidence.sided(report).eye
        settled = replace(taken, report=report, seen=seen).settled().report
        assert settled is not None
        made = {"report": settled, "evidence": self._measured(settled), "seen": seen, "readings": taken.readings + 1}
        return {**made, "overridden": override, "measured": False}

    def measure(self, case: Case, progress: Callable[[int, int, str], None]) -> Case:
        """Measure the vessels of the eye on the page, which takes a second reading: only what repeats is given.

        Raises Stopped as `read`.
        """
        eye, start = case.eye, case
        report = _report(eye)
        assert eye is not None
        assert eye.evidence is not None

        def told(done: int, total: int, stage: str) -> None:
            check(start)
            progress(done, total, f"Second copy: {stage}")

        again = self.ask(evidence.second_copy(report.photograph), told, eye.overridden)
        found = self._measured(report, again)
        return case.changed(case.shown, measured=True, evidence=replace(eye.evidence, vessels=found.vessels))

    def ask(self, photograph: Photograph, told: Callable[[int, int, str], None] | None, override: bool) -> Report:
        """The pipeline's report. On a GPU that is lent it has one stage, since it is another process that reads."""
        if not gpu.is_lent():
            return self.pipeline(photograph, told, override=override)
        if told:
            told(0, 1, "On the GPU")
        return self._on_loan(photograph, override)

    def _asked(self, question: str, *arguments: Any) -> Any:
        """A function of `explain` by its name, of this pipeline."""
        from .. import explain  # the networks and what explains them take seconds to import

        return getattr(explain, question)(self.pipeline, *arguments)

    def _measured(self, report: Report, again: Report | None = None) -> evidence.Evidence:
        card = self.pipeline.card
        limits, errors = (getattr(card, name, {}) for name in ("lesion_thresholds", "vessel_errors"))
        return evidence.measure(report, limits, again, errors)

    def first_kind(self, code: str) -> tuple[str, str]:
        """(method, modality) of the map of a score to look at first."""
        from .. import explain

        return explain.first_kind(self._metrics, code)

    def trust(self, code: str | None) -> str:
        """How far the map that stands beside a score can be trusted, in words; empty where there is none."""
        if code is None:
            return ""
        from ..explain import agreement
        from ..prose import explanation

        kind = ("exact", labels.FUSED)
        own = [each for each in agreement.find_agreements(self._metrics, *kind) if each.code == code]
        return explanation.trust_text(own, code, agreement.key_of(*kind)) if own else explanation.UNMEASURED

    @property
    def _metrics(self) -> Any:
        return getattr(self.pipeline.card, "metrics", {})

    @in_place
    def explain(self, case: Case | None, code: str | None, method: str, modality: str, whose: str = "") -> str:
        """One explanation as HTML, or one sentence that says why there is none. whose: the eye's name on the page.

        Raises Stopped as `read`.
        """
        from ..prose import reasons

        taken = case.eye if case else None
        report = _report(taken)
        if not code:
            raise PhotographError(WITHHELD if not report.maps else NO_WHY)
        assert case is not None
        check(case)
        told = () if gpu.is_lent() else (partial(check, case),)  # another process would not see the stop
        made = self._why("explain", report, code, method, modality, *told)
        return reasons.explanation_html(made, _taken(taken).save, 900, whose)

    @in_place
    def drop(self, taken: Taken | None, modality: str, whose: str = "") -> str:
        """How the probabilities move without one modality, or with no lesion on the lesion maps (`NO_LESIONS`), as HTML
        or a sentence as above.
        """
        from ..prose import reasons

        asked = ("clear_lesions",) if modality == NO_LESIONS else ("drop_modality", modality)
        return reasons.whatif_html(self._why(asked[0], _report(taken), *asked[1:]), whose)

    @in_place
    def hide(self, taken: Taken | None, box: str, whose: str = "") -> str:
        """How they move with a box hidden, likewise. box: x, y, width, height as shares of the square on the page."""
        from ..prose import reasons

        report = _report(taken)
        try:
            x, y, width, height = (min(max(float(part), 0.0), 1.0) for part in box.split())
        except ValueError:
            raise PhotographError("Draw a box on the picture first.") from None
        left, top, wide, high = report.grid or (0, 0, report.photograph.width, report.photograph.height)
        region = (left + round(x * wide), top + round(y * high), round(width * wide), round(height * high))
        return reasons.whatif_html(self._why("hide_region", report, region), whose)

    @cached_property
    def atlas(self) -> "atlas.Atlas | str":
        """The reference eyes of these weights, or a sentence that says why there are none."""
        folder: Path | None = getattr(self.pipeline, "folder", None)
        try:
            if folder is None:
                raise atlas.AtlasMissing
            return atlas.load(folder, self.pipeline.card.sha256)
        except atlas.AtlasError as error:
            return str(error)

    @in_place
    def place(self, taken: Taken | None, subject: str, space: str) -> str:
        """Where the eye lies among the references, as HTML, or one sentence that says why it has no place."""
        if isinstance(self.atlas, str):
            return said_html(self.atlas)
        return similar.similar_html(self.atlas, self.atlas.place(_report(taken), space), subject)


def check(case: Case) -> None:
    """Raise Stopped where `stop` was called or the case was cleared."""
    if not case.folder.is_dir() or (case.folder / _STOP).exists():
        raise Stopped


def begin(case: Case | None) -> None:
    """Forget that a stop was asked for before; what is stopped from here on, be it still waiting, does not run."""
    if case is not None:
        (case.folder / _STOP).unlink(missing_ok=True)


def stop(case: Case | None) -> None:
    """Let the running analysis of this case end at its next stage."""
    if case is not None and case.folder.is_dir():
        (case.folder / _STOP).touch()


def explained(taken: Taken | None) -> list[tuple[str, str]]:
    """(words, code) of every score that can be explained."""
    if taken is None or taken.report is None or not taken.report.maps:
        return []
    return [(SCORES[code], code) for code in taken.report.maps if code in SCORES]


def _taken(taken: Taken | None) -> Taken:
    if taken is None or taken.report is None:
        raise PhotographError(NO_WHY)
    return taken


def _report(taken: Taken | None):
    report = _taken(taken).report
    assert report is not None
    return report
