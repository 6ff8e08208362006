"""The page: a photograph in, everything the pipeline computes out. One `gr.State` per session, nothing on modules.

Gradio encodes no picture: they are written once into a private folder under a name that cannot be guessed.
"""

import functools
import html
import json
import logging
import os
import secrets
import shutil
import signal
import sys
import traceback
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from . import draw, labels, photograph, prose
from .guard import Guard, allow, gradio, private_folder
from .prose import markup
from .records import Photograph, PhotographError, Report

SIDE = 1280  # [px] of the pictures on the page, at most
FILE_TYPES = [".jpg", ".jpeg", ".png", ".tif", ".tiff", ".webp", ".bmp"]
KEEP = 3600  # [s] a case that nobody clears is deleted after this long
PRIVACY = (
    "Everything is computed by the machine that serves this page; nothing is sent elsewhere. The case is deleted when "
    "it is cleared or another photograph is chosen, at the latest after some hours or when the server stops."
)
WELCOME = "<p class='empty'>Choose one colour fundus photograph, or a simulated example, then press Analyse.</p>"


@dataclass(frozen=True, eq=False)
class Case:
    """What a session holds: a private folder of encoded pictures and, once analysed, the report."""

    folder: Path
    report: Report | None = None

    def save(self, name: str, picture: np.ndarray, kind: str) -> str:
        """Encode a picture into the folder; the address under which the page gets it. A name is written once."""
        path = self.folder / f"{name}.{'jpg' if kind == 'jpeg' else kind}"
        if not path.exists():  # the browser may be fetching it: never rewrite it in place
            part = path.with_suffix(".part")
            part.write_bytes(draw.encode(picture, kind))
            part.replace(path)
        return f"gradio_api/file={path}"


def examples_folder() -> Path | None:
    """The simulated example photographs, packaged or beside the checkout; None where there are none."""
    here = Path(__file__).parent
    return next((p for p in (here / "_examples", here.parent / "examples" / "eyes") if any(p.glob("*.jpg"))), None)


def build(pipeline):
    """The page around a pipeline, a callable (Photograph, progress) -> Report: gr.Blocks, not launched yet."""
    gr = gradio()

    def told(function):
        """Every fault reaches the page as one sentence; a fault of ours is logged without its message."""

        @functools.wraps(function)
        def wrapped(*arguments, **options):
            try:
                return function(*arguments, **options)
            except PhotographError as error:
                raise gr.Error(html.escape(str(error)), 12, title="Not read", print_exception=False) from None
            except Exception as error:
                mark = secrets.token_hex(3)
                where = "".join(traceback.format_tb(error.__traceback__))
                logging.getLogger(__name__).error("reference %s: %s\n%s", mark, type(error).__name__, where)
                sentence = f"The analysis failed and no result is shown; quote reference {mark} when you report it."
                raise gr.Error(sentence, 20, title="Internal error", print_exception=False) from None

        return wrapped

    @told
    def preview(path: str | None):
        if path is None:
            return None, WELCOME
        picture, case = _read(path), _new_case()
        return case, markup.preview_html(picture, case.save("preview", _shrunk(picture), "jpeg"))

    @told
    def analyse_page(path: str | None, case: Case | None, progress=gr.Progress()):  # noqa: B008 (Gradio's way to ask for it)
        if path is None:
            raise PhotographError("Choose a photograph first.")
        report = pipeline(_read(path), lambda done, total, stage: progress((done, total), desc=stage))
        _forget(case)
        case = _new_case(report)
        side = min(SIDE, report.grid[2] if report.grid else report.photograph.width)
        explained = [f for f in prose.ranked(report) if f.code in report.maps]
        chosen = next((f.code for f in prose.suspected(report) if f in explained), None)
        maps = (labels.LESION_MAPS, labels.DISC_CUP, labels.VESSELS)
        return (
            case,
            markup.summary_html(report),
            markup.pictures_html(report, case.save, side),
            markup.reading_html(report),
            gr.Dropdown([(f"{f.name}: {prose.call(f)}", f.code) for f in explained], value=chosen),
            markup.score_html(report, chosen, case.save, side),
            markup.planes_html(report, labels.MSI, case.save, side // 2),
            "".join(markup.planes_html(report, each, case.save, side // 2) for each in maps),
            markup.provenance_html(report),
        )

    @told
    def explain(code: str | None, case: Case | None):
        if case is None or case.report is None:
            return ""
        return markup.score_html(case.report, code, case.save, min(SIDE, (case.report.grid or (0, 0, SIDE))[2]))

    @told
    def keep(case: Case | None):
        if case is None or case.report is None or not case.folder.is_dir():
            return gr.skip(), gr.skip(), gr.skip()
        pdf, data = case.folder / "retinal_report.pdf", case.folder / "retinal_report.json"
        pdf.write_bytes(prose.report_pdf(case.report))
        data.write_text(json.dumps(case.report.to_dict(), indent=1))
        ready = [gr.DownloadButton(value=str(file), interactive=True) for file in (pdf, data)]
        return *ready, replace(case, report=replace(case.report, planes={}))  # nobody needs the planes from here on

    @told
    def analyse_file(photograph: gr.FileData) -> dict:  # pyright: ignore[reportInvalidTypeForm]
        """One colour fundus photograph in, report.json (schema 1) out."""
        return pipeline(_read(photograph["path"] if isinstance(photograph, dict) else photograph.path), None).to_dict()

    private: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden"}
    model: dict[str, Any] = {"concurrency_limit": 1, "concurrency_id": "model"}
    with gr.Blocks(title="qmmfl", analytics_enabled=False, fill_width=True, delete_cache=(600, KEEP)) as demo:
        banner = f"<p>{html.escape(pipeline.banner)}</p>" if pipeline.banner else ""
        gr.HTML(f"<p><strong>{labels.NOTICE}</strong></p>{banner}", elem_id="notice", padding=False)
        case = gr.State(None, time_to_live=KEEP, delete_callback=_forget)
        with gr.Row(elem_id="columns"):
            with gr.Column(scale=1, min_width=240, elem_id="side"):
                gr.HTML("<h1>Retinal photograph reading</h1>", elem_id="title", padding=False)
                file = gr.File(label="Colour fundus photograph", file_types=FILE_TYPES, height=120, elem_id="upload")
                go = gr.Button("Analyse", variant="primary", elem_id="analyse")
                clear = gr.Button("Clear case", variant="secondary", elem_id="clear")
                examples = _examples()
                if examples:
                    names = [_title(path) for path in examples]
                    shown = gr.Dataset(
                        label="Simulated examples (no person's eye)", components=[gr.Textbox(visible=False)],
                        samples=[[name] for name in names], type="index", elem_id="examples",
                    )  # fmt: skip
                    shown.click(lambda index: str(examples[index]), shown, file, **private)
                gr.HTML(f"<p>{PRIVACY}</p>", elem_id="privacy", padding=False)
            with gr.Column(scale=4, min_width=480, elem_id="main"):
                summary = gr.HTML(elem_id="summary", padding=False)
                pictures = gr.HTML(WELCOME, elem_id="pictures", padding=False)
                with gr.Tabs(elem_id="tabs"):
                    with gr.Tab("Findings", elem_id="tab-findings"):
                        findings = gr.HTML(elem_id="findings", padding=False)
                    with gr.Tab("Score maps", elem_id="tab-scores"):
                        finding = gr.Dropdown([], label="Finding", elem_id="finding", filterable=False)
                        score = gr.HTML(elem_id="score", padding=False)
                    with gr.Tab("Spectral bands", elem_id="tab-bands"):
                        bands = gr.HTML(elem_id="bands", padding=False)
                    with gr.Tab("Lesion, disc and vessel maps", elem_id="tab-maps"):
                        planes = gr.HTML(elem_id="planes", padding=False)
                    with gr.Tab("Report", elem_id="tab-report"):
                        with gr.Row():
                            pdf = gr.DownloadButton("Report as PDF", interactive=False, elem_id="pdf")
                            data = gr.DownloadButton("Report as JSON", interactive=False, elem_id="json")
                        origin = gr.HTML(elem_id="provenance", padding=False)
                    with gr.Tab("About", elem_id="tab-about"):
                        gr.HTML(markup.about_html(pipeline.card.summary(), pipeline.source), elem_id="about")
        result = [case, summary, pictures, findings, finding, score, bands, planes, origin]

        def wipe(case: Case | None):
            _forget(case)
            closed = gr.DownloadButton(value=None, interactive=False)
            return None, "", "", "", gr.Dropdown([], value=None), "", "", "", "", closed, closed

        wiped = [*result, pdf, data]

        def restart(case: Case | None):
            return wipe(case) if case and case.report else [gr.skip()] * len(wiped)  # a preview may stay in view

        reading = go.click(restart, case, wiped, queue=False, **private)
        run: dict[str, Any] = {"api_visibility": "private", "show_progress_on": [pictures], **model}
        reading = reading.then(analyse_page, [file, case], result, **run)
        kept = reading.success(keep, case, [pdf, data, case], **private)
        emptied = file.change(wipe, case, wiped, queue=False, cancels=[reading, kept], **private)
        emptied.then(preview, file, [case, pictures], **private)
        clear.click(lambda: None, None, file, queue=False, **private)
        finding.input(explain, [finding, case], score, **private)
        gr.api(analyse_file, api_name="analyse", **model)
    demo.queue(max_size=16, default_concurrency_limit=1, api_open=False)
    return demo


def serve(pipeline, host: str = "127.0.0.1", port: int = 7860, auth=None, *, wait: bool = True):
    """Serve the page until stopped. auth: (user, password) pairs, needed for any host but this machine.

    With `wait` False it returns the running gr.Blocks; the caller closes it. Raises ValueError for a host that would
    let others in without a password, OSError where the port is taken.
    """
    allow(host, bool(auth))
    os.umask(0o077)
    demo, gr = build(pipeline), gradio()
    from starlette.middleware import Middleware

    theme = gr.themes.Default(primary_hue="blue", neutral_hue="slate", font=["system-ui", "sans-serif"])
    demo.launch(
        server_name=host, server_port=port, auth=auth, share=False, show_error=False, run_history=False, quiet=True,
        footer_links=[], enable_monitoring=False, max_file_size="30mb", state_session_capacity=50, ssr_mode=False,
        pwa=False, mcp_server=False, strict_cors=True, theme=theme, css_paths=Path(__file__).with_name("style.css"),
        app_kwargs={"middleware": [Middleware(Guard)]}, prevent_thread_lock=True,
    )  # fmt: skip
    print(f"qmmfl: {labels.NOTICE}\nqmmfl: open {demo.local_url}", flush=True)
    if wait:
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))  # so that the private folder is removed
        demo.block_thread()
    return demo


def _read(path: str) -> Photograph:
    if not Path(path).resolve().is_relative_to(private_folder()):
        raise PhotographError("Only an uploaded photograph can be read.")
    return photograph.read(path, None)


def _new_case(report: Report | None = None) -> Case:
    folder = private_folder() / secrets.token_urlsafe(18)
    folder.mkdir(mode=0o700)
    return Case(folder, report)


def _forget(case: Case | None) -> None:
    if case is not None:
        shutil.rmtree(case.folder, ignore_errors=True)


def _shrunk(picture: Photograph) -> np.ndarray:
    step = max(1, -(-max(picture.width, picture.height) // SIDE))
    return np.ascontiguousarray(picture.pixels[::step, ::step])


def _examples() -> list[Path]:
    """Copies of the examples where Gradio may serve them from."""
    source, target = examples_folder(), private_folder() / "eyes"
    target.mkdir(exist_ok=True)
    return [Path(shutil.copy(path, target)) for path in sorted(source.glob("*.jpg"))] if source else []


def _title(path: Path) -> str:
    words = path.stem.removeprefix("simulated_").split("_")
    return " ".join("DR" if word == "dr" else word for word in [words[0].capitalize(), *words[1:]])
