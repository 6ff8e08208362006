"""The page around a pipeline: which control calls which handler."""

from functools import partial
from typing import Any

from ..guard import gradio
from . import examples
from .cases import KEEP, SWEEP
from .handlers import Handlers
from .layout import lay_out
from .reader import Reader, begin, stop

_PICKED = "(code, box) => [window.qmmfl.picked(), box]"
_BOX = "(box, wanted, state) => [window.qmmfl.box(), wanted, state]"
_REVIEW = "(text, state) => [window.qmmfl.review(), state]"
_MAKE = "() => window.qmmfl.make()"


def build(pipeline):
    """The page around a pipeline, a callable (Photograph, progress, *, override) -> Report: gr.Blocks, not launched."""
    gr = gradio()
    reader, eyes = Reader(pipeline), examples.copy_examples()
    with gr.Blocks(title="qmmfl", analytics_enabled=False, fill_width=True, delete_cache=(SWEEP, KEEP)) as demo:
        page = lay_out(pipeline, reader, eyes)
        answer = Handlers(page, reader, eyes)

        def analyse(_, case, progress=gr.Progress()):  # noqa: B008 (Gradio's way to ask for it)
            return answer.analyse(case, progress)

        def override(wanted, case, progress=gr.Progress()):  # noqa: B008
            return answer.override(wanted, case, progress)

        def measure(wanted, case, progress=gr.Progress()):  # noqa: B008
            return answer.measure(wanted, case, progress)

        def analyse_file(photograph_file: gr.FileData) -> dict:  # pyright: ignore[reportInvalidTypeForm]
            """One colour fundus photograph in, report.json (schema 1) out."""
            return answer.analyse_file(photograph_file)

        def left(request: gr.Request) -> None:  # pyright: ignore[reportInvalidTypeForm]
            """The tab was closed: what is computed for it ends soon; its case goes when its time is up."""
            if request.session_hash in demo.state_holder:
                stop(demo.state_holder[request.session_hash][page.state._id])

        gr.api(analyse_file, api_name="analyse", **_MODEL)  # first: the name is its own
        _connect(page, answer, analyse, override, measure)
        demo.unload(left)
    demo.queue(max_size=16, default_concurrency_limit=1, api_open=False)
    return demo


_MODEL: dict[str, Any] = {"concurrency_limit": 1, "concurrency_id": "model"}
# What takes the case, draws for seconds and writes the whole of it: one after the other, so that none is written over.
_CASE: dict[str, Any] = {"concurrency_limit": 1, "concurrency_id": "case"}


def _connect(page: Any, answer: Handlers, analyse, override, measure) -> None:
    gr = gradio()
    quiet: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden"}
    slow: dict[str, Any] = {"api_visibility": "private", **_MODEL}
    state, text, every, files = page.state, page.text, page.every, page.files

    def shown(case):
        return case.eye.file if case and case.eye else None

    def begun(case):
        begin(case)
        return gr.Button(interactive=True), shown(case)

    def started(button):
        """What a button starts after an earlier stop was forgotten, with the button that stops it; and the file of the
        eye on the page, since the clinician may turn to the other while this waits for its turn.
        """
        wanted = gr.State(time_to_live=KEEP)
        return button.click(begun, state, [page.halt, wanted], queue=False, **quiet), wanted

    def noticed(button):
        """Likewise, of what nothing stops."""
        wanted = gr.State(time_to_live=KEEP)
        return button.click(shown, state, wanted, queue=False, **quiet), wanted

    def asked(start, wanted, ask, given, place, js=None):
        """What answers a button beside the eye that was asked about, if that one is still on the page by then."""
        made = gr.State(time_to_live=KEEP)
        last = {"trigger_mode": "always_last", "show_progress_on": [place]}  # a box may be moved while this waits
        question = start.then(ask, [*given, wanted, state], made, js=js, **last, **slow)
        question.success(answer.deliver, [made, wanted, state], place, trigger_mode="multiple", **quiet, **_CASE)
        return question

    def ended(event):
        event.then(lambda: gr.Button(interactive=False), None, page.halt, queue=False, **quiet)

    # Files of before the last word can be fetched no more while those with it are made.
    closed = gr.on(
        [page.report_tab.select, page.make.click],
        answer.close_files,
        state,
        files,
        queue=False,
        trigger_mode="multiple",
        **quiet,
    )
    kept = closed.then(answer.keep, [text, state], files, js=_REVIEW, trigger_mode="multiple", **quiet)

    def remade(event):
        """The files of what the event brings onto the page, where the tab that keeps them is open."""
        event.success(None, js=_MAKE, **quiet)

    questions = [
        asked(*started(page.ask), answer.explain, [page.finding, page.method, page.modality], page.explanation),
        asked(*noticed(page.leave), answer.drop, [page.dropped], page.whatif),
        asked(*noticed(page.cover), answer.hide, [text], page.whatif, _BOX),
    ]
    ended(questions[0])
    last: dict[str, Any] = {"trigger_mode": "always_last", **quiet, **_CASE}  # the last choice may not be dropped
    pick = page.pick.click(answer.score, [text, state], page.score, js=_PICKED, **last)
    placed = [
        choice.input(answer.place, [page.marks, page.space, state], page.similar, **last)
        for choice in (page.marks, page.space)
    ]
    # An answer must not arrive beside another eye.
    other: dict[str, Any] = {"cancels": [*questions, kept, pick, *placed], **quiet}
    every_time: dict[str, Any] = {"trigger_mode": "multiple", **other, **_CASE}  # the last word may not be dropped
    for change in (page.file.upload, page.file.delete):
        remade(change(answer.choose, [page.file, state], every, **every_time))
    page.file.clear(answer.empty, state, every, queue=False, **other)
    page.clear.click(answer.clear, state, every, queue=False, **other)
    if page.offered:
        remade(page.offered.click(answer.choose_example, [page.offered, state], every, **other, **_CASE))
    for button, read in ((page.go, analyse), (page.override, override), (page.measure, measure)):
        start, wanted = started(button)
        made = start.then(read, [wanted, state], page.read, show_progress_on=[page.viewer], **slow)
        adopted = made.then(
            answer.adopt,
            [page.read, state],
            [page.read, *every],
            show_progress_on=[page.viewer],
            api_visibility="private",
            **_CASE,
        )
        ended(adopted)
        remade(adopted)
    page.halt.click(stop, state, None, queue=False, **quiet)
    remade(page.which.input(answer.turn, [page.which, state], every, **every_time))
    for number, side in enumerate(page.sides):
        remade(side.input(partial(answer.correct, number), [side, state], every, **every_time))
    page.used.click(answer.use, state, state, queue=False, **quiet)
    noted = page.store.click(
        answer.note,
        [text, state],
        [state, *files],
        js=_REVIEW,
        trigger_mode="always_last",
        cancels=[kept],  # files made before the last word must not arrive after it
        **quiet,
        **_CASE,
    )
    remade(noted)
