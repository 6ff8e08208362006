"""The page: a photograph in, everything the pipeline computes out. One `gr.State` per session, nothing on modules.

Gradio encodes no picture: they are written once into a private folder under a name that cannot be guessed.
"""

import atexit
import functools
import html
import json
import logging
import os
import secrets
import shutil
import signal
import sys
import tempfile
import traceback
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from . import draw, labels, photograph, prose
from .prose import markup
from .records import Photograph, PhotographError, Report

SIDE = 1280  # [px] of the pictures on the page, at most
FILE_TYPES = [".jpg", ".jpeg", ".png", ".tif", ".tiff", ".webp", ".bmp"]
LOOPBACK = ("127.0.0.1", "localhost", "::1")
KEEP = 3600  # [s] a case that nobody clears is deleted after this long
UPLOAD_LIMIT, BODY_LIMIT = 31 * 2**20, 2**20  # bytes of an upload, of any other request
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
        """Encode a picture into the folder; the address under which the page gets it."""
        path = self.folder / f"{name}.{'jpg' if kind == 'jpeg' else kind}"
        path.write_bytes(draw.encode(picture, kind))
        return f"gradio_api/file={path}"


def examples_folder() -> Path | None:
    """The simulated example photographs, packaged or beside the checkout; None where there are none."""
    here = Path(__file__).parent
    return next((p for p in (here / "_examples", here.parent / "examples" / "eyes") if any(p.glob("*.jpg"))), None)


@functools.cache
def private_folder() -> Path:
    """This process's own folder for uploads and pictures, mode 0700, removed at exit."""
    folder = Path(tempfile.mkdtemp(prefix="qmmfl-")).resolve()
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


class Guard:
    """ASGI middleware: bounds request bodies, fetches nothing for others, and adds the headers that Gradio lacks."""

    def __init__(self, app):
        self.app = app
        framers = " https://huggingface.co https://*.hf.space" if os.environ.get("SPACE_ID") else ""
        policy = (
            "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; style-src 'self' 'unsafe-inline'; "
            "img-src 'self' data: blob:; font-src 'self' data:; connect-src 'self'; worker-src 'self' blob:; "
            f"object-src 'none'; base-uri 'self'; form-action 'self'; frame-ancestors 'self'{framers}"
        )
        headers = {"content-security-policy": policy, "x-content-type-options": "nosniff"}
        headers |= {"referrer-policy": "no-referrer", "permissions-policy": "camera=(), microphone=(), geolocation=()"}
        self.headers = [(name.encode(), value.encode()) for name, value in headers.items()]

    async def __call__(self, scope, receive, send):
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        path, begun = scope["path"], False
        left = UPLOAD_LIMIT if path.rstrip("/").endswith("/upload") else BODY_LIMIT

        async def bounded():
            nonlocal left
            message = await receive()
            left -= len(message.get("body", b""))
            if left < 0:
                raise _TooLarge
            return message

        async def dressed(message):
            nonlocal begun
            if message["type"] == "http.response.start":
                begun = True
                private = [(b"cache-control", b"no-store")] if "file=" in path else []
                message = {**message, "headers": [*message.get("headers", []), *self.headers, *private]}
            await send(message)

        async def refuse(status: int):
            await dressed({"type": "http.response.start", "status": status, "headers": []})
            await send({"type": "http.response.body", "body": b""})

        declared = dict(scope["headers"]).get(b"content-length", b"0")
        if "file=http" in path or "/proxy=" in path:
            return await refuse(403)
        if declared.isdigit() and int(declared) > left:
            return await refuse(413)
        try:
            await self.app(scope, bounded, dressed)
        except _TooLarge:
            if not begun:
                await refuse(413)


class _TooLarge(Exception):
    pass


def build(pipeline):
    """The page around a pipeline, a callable (Photograph, progress) -> Report: gr.Blocks, not launched yet."""
    gr = _gradio()

    def told(function):
        """Every fault reaches the page as one sentence; a fault of ours is logged without its message."""

        @functools.wraps(function)
        def wrapped(*arguments, **options):
            try:
                return function(*arguments, **options)
            except PhotographError as error:
                raise gr.Error(html.escape(str(error)), 20, title="Not read", print_exception=False) from None
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
    def analyse(path: str | None, case: Case | None, progress=gr.Progress()):  # noqa: B008 (Gradio's way to ask for it)
        if path is None:
            raise PhotographError("Choose a photograph first.")
        report = pipeline(_read(path), lambda done, total, stage: progress((done, total), desc=stage))
        _forget(case)
        case = _new_case(report)
        side = min(SIDE, report.grid[2] if report.grid else report.photograph.width)
        explained = [f for f in prose.ranked(report) if f.code in report.maps]
        chosen = explained[0].code if explained else None
        maps = (labels.LESION_MAPS, labels.DISC_CUP, labels.VESSELS)
        return (
            case,
            markup.summary_html(report),
            markup.pictures_html(report, case.save, side),
            markup.findings_html(report),
            markup.grade_html(report) + markup.facts_html(report),
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
        if case is None or case.report is None:
            return gr.skip(), gr.skip(), gr.skip()
        pdf, data = case.folder / "retinal_report.pdf", case.folder / "retinal_report.json"
        pdf.write_bytes(prose.report_pdf(case.report))
        data.write_text(json.dumps(case.report.to_dict(), indent=1))
        ready = [gr.DownloadButton(value=str(file), interactive=True) for file in (pdf, data)]
        return *ready, replace(case, report=replace(case.report, planes={}))  # nobody needs the planes from here on

    @told
    def analyse_file(photograph: gr.FileData) -> dict:
        """One colour fundus photograph in, report.json (schema 1) out."""
        return pipeline(_read(photograph["path"] if isinstance(photograph, dict) else photograph.path), None).to_dict()

    private = {"api_visibility": "private", "show_progress": "hidden"}
    model = {"concurrency_limit": 1, "concurrency_id": "model"}
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
                    shown = gr.Dataset(components=[gr.Textbox(visible=False)], samples=[[name] for name in names],
                        label="Simulated examples (no person's eye)", type="index", elem_id="examples")
                    shown.click(lambda index: str(examples[index]), shown, file, **private)
                gr.HTML(f"<p>{PRIVACY}</p>", elem_id="privacy", padding=False)
            with gr.Column(scale=4, min_width=480, elem_id="main"):
                summary = gr.HTML(elem_id="summary", padding=False)
                pictures = gr.HTML(WELCOME, elem_id="pictures", padding=False)
                with gr.Tabs(elem_id="tabs"):
                    with gr.Tab("Findings", elem_id="tab-findings"), gr.Row():
                        findings = gr.HTML(elem_id="findings", padding=False)
                        measures = gr.HTML(elem_id="measures", padding=False)
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
        result = [case, summary, pictures, findings, measures, finding, score, bands, planes, origin]

        def wipe(case: Case | None):
            _forget(case)
            closed = gr.DownloadButton(value=None, interactive=False)
            return None, "", "", "", "", gr.Dropdown([], value=None), "", "", "", "", closed, closed

        wiped = [*result, pdf, data]
        def restart(case: Case | None):
            return wipe(case) if case and case.report else [gr.skip()] * len(wiped)  # a preview may stay in view

        reading = go.click(restart, case, wiped, queue=False, **private)
        reading = reading.then(analyse, [file, case], result, api_visibility="private", **model,
            show_progress="full", show_progress_on=[pictures])
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
    if host not in LOOPBACK and not auth and not os.environ.get("SPACE_ID"):
        raise ValueError(f"serving on {host} lets others in: give a password file (--auth-file) or stay on 127.0.0.1")
    os.umask(0o077)
    demo, gr = build(pipeline), _gradio()
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


def _gradio():
    """Gradio, with the settings that keep it quiet and private; they must stand before its first import."""
    for name in ("VIBE_MODE", "SHARE", "ALLOWED_PATHS", "WATCH_DIRS", "MCP_SERVER"):
        os.environ.pop(f"GRADIO_{name}", None)
    os.environ.update(
        GRADIO_ANALYTICS_ENABLED="False",
        HF_HUB_DISABLE_TELEMETRY="1",
        GRADIO_RUN_HISTORY="False",
        GRADIO_TEMP_DIR=str(private_folder()),
        GRADIO_EXAMPLES_CACHE=str(private_folder() / "examples"),
        GRADIO_QUEUE_SESSION_RESUME_TTL="60",
    )
    import gradio

    return gradio


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
    words = path.stem.removeprefix("simulated_").replace("healthy", "no lesions").replace("_", " ")
    return words.replace(" dr", " DR").capitalize().replace(" dr", " DR")
