"""The page around a pipeline: what stands where, and what answers which control."""

import html
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

from .. import atlas, labels, laterality, photograph, prose, review
from ..guard import gradio
from ..prose import about
from ..prose.similar import SUBJECTS
from ..records import PhotographError
from . import answers, examples
from .border import Stopped, told
from .cases import FILE_TYPES, KEEP, MOST, Case, as_json, export, forget, open_case, take, upload_of
from .reader import NO_WHY, Reader, check, explained, stop

_PICKED = "(code, box) => [window.qmmfl.picked(), box]"
_BOX = "(box, state) => [window.qmmfl.box(), state]"
_REVIEW = "(text, state) => [window.qmmfl.review(), state]"


def build(pipeline):
    """The page around a pipeline, a callable (Photograph, progress, *, override) -> Report: gr.Blocks, not launched."""
    gr = gradio()
    reader = Reader(pipeline)

    def warn(said: list[str]) -> None:
        for sentence in said:
            gr.Warning(html.escape(sentence), 12, title="Not read")

    def shown(case: Case | None, marks: str = "GRADE", space: str = labels.FUSED) -> dict:
        """Every part of the page for a case."""
        parts = answers.everything(case, reader, marks, space)
        eyes = case.eyes if case else ()
        closed = gr.DownloadButton(value=None, interactive=False)
        can = explained(case.eye if case else None)
        suspected = prose.suspected(case.eye.report) if can and case and case.eye and case.eye.report else []
        first = next((f.code for f in suspected if f.code in dict(can).values()), None)
        titles = [(case.title(number), number) for number in range(len(eyes))] if case else []
        poor = bool(case and case.eye and case.eye.report and not case.eye.report.quality.gradable)
        result = {state: case, pdf: closed, data: closed, table: closed}
        result |= {place: parts[name] for name, place in places.items()}
        result[which] = gr.Radio(titles, value=case.shown if titles and case else None, visible=len(titles) > 1)
        result[finding] = gr.Dropdown(can, value=first or (can[0][1] if can else None))
        result[override] = gr.Button(visible=poor and not (case and case.eye and case.eye.overridden))
        for number, side in enumerate(sides):
            label = f"Photograph {number + 1} is of which eye?" if len(eyes) > 1 else "Which eye?"
            value = answers.side_of(case, number)
            result[side] = gr.Radio(answers.SIDES, value=value, label=label, visible=number < len(eyes))
        return result

    @told
    def choose(paths: list[str] | str | None, case: Case | None) -> dict:
        stop(case)  # what is being read would answer for the photographs of before
        given = [paths] if isinstance(paths, str) else paths or []
        case, said = take(case if case and case.folder.is_dir() else open_case(), given)
        warn(said)
        return {**shown(case), file: case.files or None}

    @told
    def example(index: int, case: Case | None) -> dict:
        wanted = laterality.find_in_name(eyes[index].name)
        if not case or len(case.eyes) != 1 or answers.side_of(case, 0) in (None, wanted):  # not the fellow eye
            forget(case)
            case = open_case()
        return choose([*case.files, str(eyes[index])], case)

    def emptied(case: Case | None) -> dict:
        forget(case)
        return {**shown(None), file: None}

    def analysed(case: Case | None, progress, override: bool) -> dict:
        if case is None or not case.eyes:
            raise PhotographError("Choose a photograph first.")
        try:
            case = reader.read(case, lambda done, total, stage: progress((done, total), desc=stage), override)
            result = shown(case)
            check(case)
            return result
        except Stopped:
            if case.folder.is_dir():
                gr.Info("The analysis was stopped; the photograph is still here.", 6)
            return {summary: gr.skip()}

    @told
    def analyse_page(case: Case | None, progress=gr.Progress()):  # noqa: B008 (Gradio's way to ask for it)
        return analysed(case, progress, False)

    @told
    def override_page(case: Case | None, progress=gr.Progress()):  # noqa: B008
        return analysed(case, progress, True)

    @told
    def turn(number: int | None, case: Case | None) -> dict:
        return shown(replace(case, shown=number) if case and number is not None else case)

    def correct(number: int):
        @told
        def corrected(side: str | None, case: Case | None) -> dict:
            if case is None or number >= len(case.eyes):
                return shown(case)
            case = case.changed(number, chosen=side)
            return shown(case.changed(number, report=case.eyes[number].settled().report))

        return corrected

    @told
    def score_of(code: str | None, case: Case | None) -> str:
        return answers.score(case, code)

    def reviewed_case(text: str, case: Case | None) -> Case | None:
        """The case with the review that the page sent, at the eye it was made for."""
        whose = review.eye_of(text)
        for number, each in enumerate(case.eyes if case else ()):
            if case and each.report and each.report.photograph.sha256 == whose:
                case = case.changed(number, review=review.parse(text))
        return case

    @told
    def noted(text: str, case: Case | None):
        return reviewed_case(text, case), *[gr.DownloadButton(value=None, interactive=False)] * 3

    @told
    def keep(text: str, case: Case | None):
        case = reviewed_case(text, case)
        if case is None or case.eye is None or case.eye.report is None or not case.folder.is_dir():
            return gr.skip(), gr.skip(), gr.skip()
        eye, report, number, whose = case.eye, case.eye.report, case.shown, case.title(case.shown).lower()
        read = [(each.report, each.review) for each in case.eyes if each.report]
        files = (
            (f"PDF, {whose}", export(case, number, "retinal_report.pdf", prose.report_pdf(report, eye.review))),
            (f"JSON, {whose}", export(case, number, "retinal_report.json", as_json(eye))),
            ("CSV, one row per finding", export(case, None, "retinal_review.csv", review.to_csv(read).encode())),
        )
        return [gr.DownloadButton(name, value=path, interactive=True) for name, path in files]

    @told
    def why(code: str | None, method: str, modality: str, case: Case | None) -> str:
        if not code:
            raise PhotographError(NO_WHY)
        return reader.explain(case and case.eye, code, method, modality)

    @told
    def drop(modality: str, case: Case | None) -> str:
        return reader.drop(case and case.eye, modality)

    @told
    def hide(box: str, case: Case | None) -> str:
        return reader.hide(case and case.eye, box)

    @told
    def place(subject: str, space: str, case: Case | None) -> str:
        return reader.place(case and case.eye, subject, space)

    @told
    def analyse_file(photograph_file: gr.FileData) -> dict:  # pyright: ignore[reportInvalidTypeForm]
        """One colour fundus photograph in, report.json (schema 1) out."""
        given = photograph_file["path"] if isinstance(photograph_file, dict) else photograph_file.path
        return pipeline(photograph.read(upload_of(Path(given)), None), None).to_dict()

    quiet: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden"}
    model: dict[str, Any] = {"concurrency_limit": 1, "concurrency_id": "model"}
    slow: dict[str, Any] = {"api_visibility": "private", **model}

    def part(name: str, value: str = ""):
        return gr.HTML(value, elem_id=name, padding=False)

    with gr.Blocks(title="qmmfl", analytics_enabled=False, fill_width=True, delete_cache=(600, KEEP)) as demo:
        banners = [pipeline.banner] if pipeline.banner else []
        banners += [answers.PUBLIC] if os.environ.get("SPACE_ID") else []
        above = "".join(f"<p>{html.escape(each)}</p>" for each in banners)
        gr.HTML(f"<p><strong>{labels.NOTICE}</strong></p>{above}", elem_id="notice", padding=False)
        state = gr.State(None, time_to_live=KEEP, delete_callback=forget)
        text = gr.Textbox(visible=False)
        with gr.Row(elem_id="columns"):
            with gr.Column(scale=1, min_width=220, elem_id="side"):
                part("title", "<h1>Retinal photograph reading</h1>")
                file = gr.File(
                    label="Colour fundus photographs, one of each eye", file_types=list(FILE_TYPES),
                    file_count="multiple", height=130, elem_id="upload",
                )  # fmt: skip
                question = part("question")
                sides = [gr.Radio(answers.SIDES, visible=False, elem_id=f"side-{n + 1}") for n in range(MOST)]
                with gr.Row(elem_id="go"):
                    go = gr.Button("Analyse", variant="primary", elem_id="analyse", min_width=100)
                    halt = gr.Button("Stop", variant="secondary", elem_id="stop", interactive=False, min_width=60)
                clear = gr.Button("Clear case", variant="secondary", elem_id="clear")
                eyes = examples.copy_examples()
                if eyes:
                    offered = gr.Dataset(
                        label="Simulated examples (no person's eye)", components=[gr.Textbox(visible=False)],
                        samples=[[examples.title(path)] for path in eyes], type="index", elem_id="examples",
                    )  # fmt: skip
                part("privacy", f"<p>{answers.PRIVACY}</p>")
            with gr.Column(scale=4, min_width=480, elem_id="main"):
                which = gr.Radio([], label="Eye on the page", visible=False, elem_id="which")
                summary = part("summary")
                override = gr.Button("Show the predictions all the same", visible=False, elem_id="override")
                with gr.Tabs(elem_id="tabs"):
                    with gr.Tab("Reading", elem_id="tab-reading"), gr.Row(elem_id="desk"):
                        with gr.Column(scale=6, min_width=400):
                            viewer = part("viewer", answers.WELCOME)
                            score = part("score")
                        with gr.Column(scale=5, min_width=340):
                            reading = part("reading")
                    with gr.Tab("All pictures", elem_id="tab-pictures"):
                        pictures = part("pictures")
                    with gr.Tab("Explanations", elem_id="tab-why"):
                        with gr.Row():
                            finding = gr.Dropdown([], label="Finding", elem_id="finding", filterable=False)
                            method = gr.Dropdown(
                                [(name, key) for key, name in labels.METHODS.items()], value="exact", label="Method",
                                elem_id="method", filterable=False,
                            )  # fmt: skip
                            seen = [("All, fused", labels.FUSED), *((m.title, m.name) for m in labels.MODALITIES)]
                            modality = gr.Dropdown(
                                seen, value=labels.FUSED, label="Modality", elem_id="modality", filterable=False
                            )
                            ask = gr.Button("Explain", variant="primary", elem_id="explain", min_width=90)
                        explanation = part("explanation")
                        part("whatif-title", "<h3>What if</h3>")
                        with gr.Row():
                            with gr.Column(scale=1, min_width=260):
                                dropped = gr.Dropdown(
                                    seen[1:], value=labels.COLOUR.name, label="Leave a modality out", elem_id="dropped",
                                    filterable=False,
                                )  # fmt: skip
                                leave = gr.Button("Read without it", elem_id="drop")
                                boxer = part("boxer")
                                cover = gr.Button("Read with the box hidden", elem_id="hide")
                            with gr.Column(scale=2, min_width=320):
                                whatif = part("whatif")
                    with gr.Tab("Similar eyes", elem_id="tab-similar"):
                        known = not isinstance(reader.atlas, str)
                        with gr.Row(visible=known):
                            marks = gr.Dropdown(
                                [(name, key) for key, name in SUBJECTS.items()], value="GRADE", label="Marks show",
                                elem_id="marks", filterable=False,
                            )  # fmt: skip
                            spaces = (
                                list(reader.atlas.spaces) if isinstance(reader.atlas, atlas.Atlas) else [labels.FUSED]
                            )
                            space = gr.Dropdown(
                                [(atlas.TITLES[each], each) for each in spaces], value=spaces[0], label="Alike in",
                                elem_id="space", filterable=False,
                            )  # fmt: skip
                        similar = part("similar", reader.place(None, "GRADE", labels.FUSED))
                    with gr.Tab("Both eyes", elem_id="tab-both"):
                        both = part("both")
                    with gr.Tab("Review", elem_id="tab-review"):
                        reviewed = part("review")
                    with gr.Tab("Report", elem_id="tab-report") as report_tab:
                        with gr.Row():
                            pdf = gr.DownloadButton("PDF", interactive=False, elem_id="pdf")
                            data = gr.DownloadButton("JSON", interactive=False, elem_id="json")
                            table = gr.DownloadButton("CSV", interactive=False, elem_id="csv")
                        provenance = part("provenance")
                    with gr.Tab("About", elem_id="tab-about"):
                        part("about", about.about_html(pipeline.card, pipeline.source))
        pick = gr.Button("Map of the finding", visible="hidden", elem_id="pick")
        store = gr.Button("Keep the review", visible="hidden", elem_id="review-keep")

        places = {"summary": summary, "viewer": viewer, "reading": reading, "score": score, "pictures": pictures}
        places |= {"question": question, "explanation": explanation, "whatif": whatif, "boxer": boxer, "both": both}
        places |= {"similar": similar, "review": reviewed, "provenance": provenance}
        every = [state, file, which, finding, override, *sides, pdf, data, table, *places.values()]

        def running(on: bool):
            return lambda: gr.Button(interactive=on)

        for change in (file.upload, file.delete):
            change(choose, [file, state], every, **quiet)
        file.clear(emptied, state, every, queue=False, **quiet)
        clear.click(emptied, state, every, queue=False, **quiet)
        if eyes:
            offered.click(example, [offered, state], every, **quiet)
        for button, read in ((go, analyse_page), (override, override_page)):
            begun = button.click(running(True), None, halt, queue=False, **quiet)
            done = begun.then(read, state, every, show_progress_on=[viewer], **slow)
            done.then(running(False), None, halt, queue=False, **quiet)
        halt.click(stop, state, None, queue=False, **quiet)
        which.input(turn, [which, state], every, **quiet)
        for number, side in enumerate(sides):
            side.input(correct(number), [side, state], every, **quiet)
        pick.click(score_of, [text, state], score, js=_PICKED, trigger_mode="always_last", **quiet)
        files = [pdf, data, table]
        kept = report_tab.select(keep, [text, state], files, js=_REVIEW, trigger_mode="multiple", **quiet)
        store.click(  # files made before the last word must not arrive after it
            noted, [text, state], [state, *files], js=_REVIEW, trigger_mode="always_last", cancels=[kept], **quiet
        )
        ask.click(why, [finding, method, modality, state], explanation, **slow)
        leave.click(drop, [dropped, state], whatif, **slow)
        cover.click(hide, [text, state], whatif, js=_BOX, **slow)
        for choice in (marks, space):
            choice.input(place, [marks, space, state], similar, **quiet)
        gr.api(analyse_file, api_name="analyse", **model)
    demo.queue(max_size=16, default_concurrency_limit=1, api_open=False)
    return demo
