"""The clinician's review as a form for the page and as rows for paper."""

from html import escape

from .. import labels
from ..records import Report
from ..review import CUP, NOTE_LENGTH, OPINIONS, SUBJECTS, Review
from .sentences import call, cup_to_disc, oedema, ranked, standing
from .wording import GRADE, OEDEMA, percent

NO_WORD = "no word"  # takes an opinion back


def review_html(report: Report, review: Review) -> str:
    """One row per finding, measurement and kind of picture with three choices and one to take them back; a corrected
    grade and a note.
    """
    rows = "".join(_row(code, said, review) for code, said in subjects(report))
    choices = "".join(f'<th scope="col">{word.capitalize()}</th>' for word in (*OPINIONS, NO_WORD))
    grades = "".join(
        f'<option value="{number}"{" selected" if review.grade == number else ""}>{number} {escape(name)}</option>'
        for number, name in enumerate(labels.GRADES)
    )
    return (
        f'<form data-eye="{report.photograph.sha256}"><table class="review">'
        f"<caption>{f'{report.eye.side.capitalize()} eye: your' if report.eye.side else 'Your'} own word beside the "
        "machine's; it goes into the report and the CSV"
        f'</caption><thead><tr><th scope="col">Subject</th><th scope="col">Machine</th>{choices}</tr></thead>'
        f'<tbody>{rows}</tbody></table><p><label>Corrected grade of diabetic retinopathy <select name="grade">'
        f'<option value="">no correction</option>{grades}</select></label></p><p><label>Note (no names, no dates of '
        f'birth)<br><textarea name="note" rows="4" maxlength="{NOTE_LENGTH}">{escape(review.note)}</textarea></label>'
        "</p></form>"
    )


def subjects(report: Report) -> list[tuple[str, str]]:
    """What can be agreed with in this report: code, and what the machine says. Nobody can agree with what is withheld:
    it may be shown later.
    """
    known = [finding for finding in ranked(report) if finding.probability is not None]
    found = [(each.code, f"{percent(each.probability)} {call(each)}".strip()) for each in known]
    found += [(GRADE, standing(report, GRADE)[0])] if report.dr.grade is not None else []
    found += [(OEDEMA, oedema(report))] if report.dme.probability is not None else []
    found += [(CUP, cup_to_disc(report))] if report.disc_cup.vcdr is not None else []
    return found + [
        (f"map:{each.name}", "computed, see the viewer")
        for each in labels.SYNTHESES
        if any(name in report.planes for name in each.planes)
    ]


def review_rows(review: Review) -> list[tuple[str, str]]:
    """Name and word of everything the clinician said, for paper."""
    rows = [(SUBJECTS[code], word) for code, word in review.opinions.items()]
    if review.grade is not None:
        rows.append(("Corrected grade", f"{review.grade}, {labels.GRADES[review.grade].lower()}"))
    return rows + ([("Note", " ".join(review.note.split()))] if review.note else [])


def _row(code: str, said: str, review: Review) -> str:
    name = escape(SUBJECTS[code])
    cells = "".join(
        f'<td><input type="radio" name="{code}" value="{value}" aria-label="{word}: {name}"'
        f"{' checked' if review.opinions.get(code, '') == value else ''}></td>"
        for value, word in (*zip(OPINIONS, OPINIONS, strict=True), ("", NO_WORD))
    )
    return f'<tr><th scope="row">{name}</th><td>{escape(said)}</td>{cells}</tr>'
