"""Serving the page."""

import os
import signal
import sys
from pathlib import Path

from .. import labels
from ..guard import LOOPBACK, Guard, allow, gradio
from . import sessions
from .page import build

SESSIONS = 64  # remembered at a time with a case, and without one: a report with its planes takes tens of megabytes
_HERE = Path(__file__).parent.parent
_ENDS = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]  # HUP: terminal closed


def serve(pipeline, host: str = "127.0.0.1", port: int = 7860, auth=None, tls=None, *, wait: bool = True):
    """Serve the page until stopped. auth: (user, password) pairs, needed for any host but this machine. tls: paths of a
    certificate and of its key, for https.

    With `wait` False it returns the running gr.Blocks; the caller closes it. Raises ValueError for a host that would
    let others in without a password, OSError where the port is taken.
    """
    allow(host, bool(auth))
    os.umask(0o077)
    demo, gr = build(pipeline), gradio()
    certificate, key = map(str, tls) if tls else (None, None)
    from starlette.middleware import Middleware

    theme = gr.themes.Default(primary_hue="blue", neutral_hue="slate", font=["system-ui", "sans-serif"])
    demo.launch(
        server_name=host, server_port=port, auth=auth, share=False, show_error=False, run_history=False, quiet=True,
        footer_links=[], enable_monitoring=False, max_file_size="30mb", state_session_capacity=SESSIONS, ssr_mode=False,
        pwa=False, mcp_server=False, strict_cors=True, theme=theme, css_paths=_HERE / "style.css",
        head=f"<script>{(_HERE / 'viewer.js').read_text(encoding='utf-8')}</script>",
        app_kwargs={"middleware": [Middleware(Guard, local=host in LOOPBACK and not auth)], "lifespan": sessions.kept},
        prevent_thread_lock=True,
        ssl_certfile=certificate, ssl_keyfile=key, ssl_verify=False,  # it asks itself whether it runs: by IP, not name
        _frontend=False,  # else Gradio gives up, and asks for a share link, where a busy machine takes 3 s for the page
    )  # fmt: skip
    print(f"qmmfl: {labels.NOTICE}\nqmmfl: open {demo.local_url}", flush=True)
    if wait:
        for number in _ENDS:
            if signal.getsignal(number) is not signal.SIG_IGN:  # as under nohup
                signal.signal(number, _leave)
        demo.block_thread()
    return demo


def _leave(*_: object) -> None:
    """Exit so that the private folder is removed, which a second signal must not cut short."""
    for number in _ENDS:
        signal.signal(number, signal.SIG_IGN)
    sys.exit(0)
