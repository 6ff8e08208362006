"""What stands where on the page: its components, by name."""

import html
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from .. import atlas, labels
from ..guard import gradio
from ..prose import about
from . import answers, examples
from .cases import KEEP, MOST, forget
from .reader import NO_LESIONS, Reader

PLACES = (  # of HTML, each with the name of its part in `answers.everything`
    *("summary", "viewer", "reading", "score", "pictures", "question", "explanation", "whatif", "boxer", "both"),
    *("similar", "review", "provenance"),
)
FILES = ("pdf", "json", "csv", "dicom")  # the buttons that keep something


def lay_out(pipeline: Any, reader: Reader, eyes: list[Path]) -> SimpleNamespace:
    """The components inside an open gr.Blocks; `eyes` are the simulated examples. Names as in `PLACES` and `FILES`."""
    gr, page = gradio(), SimpleNamespace()
    _put("notice", _notice(pipeline))
    page.state = gr.State(None, time_to_live=KEEP, delete_callback=forget)
    page.read = gr.State(None, time_to_live=KEEP)  # what a reading made, until it is adopted
    page.text = gr.Textbox(visible=False)
    with gr.Row(elem_id="columns"):
        with gr.Column(scale=1, min_width=220, elem_id="side"):
            _side(page, eyes)
        with gr.Column(scale=4, min_width=480, elem_id="main"):
            page.which = gr.Radio([], label="Eye on the page", visible=False, elem_id="which")
            page.summary = _put("summary")
            page.override = gr.Button("Show the predictions all the same", visible=False, elem_id="override")
            with gr.Tabs(elem_id="tabs"):
                _tabs(page, pipeline, reader)
    page.pick = gr.Button("Map of the finding", visible="hidden", elem_id="pick")
    page.store = gr.Button("Keep the review", visible="hidden", elem_id="review-keep")
    page.make = gr.Button("Make the files", visible="hidden", elem_id="report-make")
    page.used = gr.Button("Keep the case", visible="hidden", elem_id="case-keep")
    page.places = {name: getattr(page, name) for name in PLACES}
    page.files = [getattr(page, name) for name in FILES]
    page.every = [
        page.state,
        page.file,
        page.which,
        page.finding,
        page.method,
        page.modality,
        page.override,
        page.measure,
        page.marks,
        page.space,
        *page.sides,
        *page.files,
    ]
    page.every += page.places.values()
    return page


def _side(page: SimpleNamespace, eyes: list[Path]) -> None:
    """The column of what goes in."""
    gr = gradio()
    _put("title", "<h1>Retinal photograph reading</h1>")
    page.file = gr.File(  # of any name: what a file is, its content decides
        label="Fundus photographs", file_count="multiple", height=130, elem_id="upload"
    )
    page.question = _put("question")
    page.sides = [gr.Radio(answers.SIDES, visible=False, elem_id=f"side-{n + 1}") for n in range(MOST)]
    with gr.Row(elem_id="go"):
        page.go = gr.Button("Analyse", variant="primary", elem_id="analyse", min_width=100)
        page.halt = gr.Button("Stop", variant="secondary", elem_id="stop", interactive=False, min_width=60)
    page.clear = gr.Button("Clear case", variant="secondary", elem_id="clear")
    page.offered = None
    if eyes:
        page.offered = gr.Dataset(
            label="Simulated eyes (no person)", components=[gr.Textbox(visible=False)],
            samples=[[examples.title(path)] for path in eyes], type="index", elem_id="examples",
        )  # fmt: skip
    _put("privacy", f"<p>{answers.PRIVACY}</p>")


def _tabs(page: SimpleNamespace, pipeline: Any, reader: Reader) -> None:
    """What comes out."""
    gr = gradio()
    with gr.Tab("Reading", elem_id="tab-reading"), gr.Row(elem_id="desk"):
        with gr.Column(scale=6, min_width=400):
            page.viewer = _put("viewer", answers.WELCOME)
            page.score = _put("score")
        with gr.Column(scale=5, min_width=340):
            page.reading = _put("reading")
            page.measure = gr.Button(answers.MEASURE, visible=False, elem_id="measure")
    with gr.Tab("All pictures", elem_id="tab-pictures"):
        page.pictures = _put("pictures")
    with gr.Tab("Explanations", elem_id="tab-why"):
        _explanations(page)
    with gr.Tab("Similar eyes", elem_id="tab-similar"):
        _similar(page, reader)
    with gr.Tab("Both eyes", elem_id="tab-both"):
        page.both = _put("both")
    with gr.Tab("Review", elem_id="tab-review"):
        page.review = _put("review")
    with gr.Tab("Report", elem_id="tab-report") as page.report_tab:
        with gr.Row():
            for name in FILES:
                shown = name != "dicom"  # only where the photograph came as DICOM
                button = gr.DownloadButton(name.upper(), interactive=False, visible=shown, elem_id=name)
                setattr(page, name, button)
        _put("making", f"<p>{answers.MAKING}</p>")
        page.provenance = _put("provenance")
    with gr.Tab("About", elem_id="tab-about"):
        _put("about", about.about_html(pipeline.card, pipeline.source))


def _explanations(page: SimpleNamespace) -> None:
    gr = gradio()
    seen = [("All, fused", labels.FUSED), *((m.title, m.name) for m in labels.MODALITIES)]
    with gr.Row(elem_id="why"):
        page.finding = _choice("finding", "Finding", [])
        page.method = _choice("method", answers.METHOD, [(name, key) for key, name in labels.METHODS.items()])
        page.modality = _choice("modality", "Modality", seen)
        page.ask = gr.Button("Explain", variant="primary", elem_id="explain", scale=0, min_width=110)
    page.explanation = _put("explanation")
    _put("whatif-title", "<h2>What if</h2>")
    with gr.Row():
        with gr.Column(scale=1, min_width=260):
            page.dropped = _choice(
                "dropped", "Leave a modality out", [*seen[1:], ("Lesions, from their maps", NO_LESIONS)]
            )
            page.leave = gr.Button("Read without it", elem_id="drop")
            page.boxer = _put("boxer")
            page.cover = gr.Button("Read with the box hidden", elem_id="hide")
        with gr.Column(scale=2, min_width=320):
            page.whatif = _put("whatif")


def _similar(page: SimpleNamespace, reader: Reader) -> None:
    gr = gradio()
    known = reader.atlas if isinstance(reader.atlas, atlas.Atlas) else None
    spaces = list(known.spaces) if known else [labels.FUSED]
    with gr.Row(visible=known is not None):
        page.marks = _choice("marks", "Marks show", [(name, key) for key, name in atlas.SUBJECTS.items()])
        page.space = _choice("space", "Alike in", [(atlas.TITLES[each], each) for each in spaces])
    page.similar = _put("similar", reader.place(None, labels.GRADE, labels.FUSED))


def _notice(pipeline: Any) -> str:
    said = [pipeline.banner] if pipeline.banner else []
    said += [answers.PUBLIC] if os.environ.get("SPACE_ID") else []
    return f"<p><strong>{labels.NOTICE}</strong></p>" + "".join(f"<p>{html.escape(each)}</p>" for each in said)


def _choice(name: str, label: str, choices: list[tuple[str, str]]) -> Any:
    """A dropdown, the first choice chosen."""
    value = choices[0][1] if choices else None
    return gradio().Dropdown(choices, value=value, label=label, elem_id=name, filterable=False)


def _put(name: str, value: str = "") -> Any:
    return gradio().HTML(value, elem_id=name, padding=False)
