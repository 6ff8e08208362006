"""What keeps the page private: who may come in, Gradio's settings, a folder of our own, limits on every request.

Nothing of the package is imported here, and gradio only when it is asked for.
"""

import atexit
import contextlib
import functools
import os
import re
import secrets
import shutil
import tempfile
import time
from pathlib import Path
from typing import IO, Any

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

LOOPBACK = ("127.0.0.1", "localhost")
UPLOAD_LIMIT, BODY_LIMIT = 61 * 2**20, 2**20  # bytes of an upload, two photographs at once; of any other request
STORE_LIMIT = 2 * 2**30  # bytes of uploads and pictures that are kept at a time
SWEEP = 600  # [s] between looks for uploads that are older
SPARE = 2 * UPLOAD_LIMIT  # bytes that stay free on the disk
_SAID = {  # what the page shows of a refusal
    413: "This is more than can be sent at once; choose one photograph of at most 30 MiB at a time.",
    421: "This page is served to this machine only: open it as localhost, or let the proxy ask for localhost.",
    507: "The server has no room for another photograph; clear a case that is done and choose it again.",
}
_OURS, _LOCK = "qmmfl-", "lives"
_held: list[IO[str]] = []
_FOREIGN = re.compile(r"/file[=/]\s*https?:|/proxy=", re.IGNORECASE)  # what Gradio would fetch for whoever asks


def allow(host: str, password: bool) -> None:
    """Raise ValueError where serving on `host` would let others in without a password; a Space is public by purpose.

    An IPv6 address is refused: Gradio keeps the pages of other sites from reading 127.0.0.1 and localhost, but not ::1.
    """
    if ":" in host:
        raise ValueError(f"the page is not served on IPv6 ({host}); name an IPv4 address, or stay on 127.0.0.1")
    if host not in LOOPBACK and not password and not os.environ.get("SPACE_ID"):
        raise ValueError(f"serving on {host} lets others in: give a password file (--auth-file) or stay on 127.0.0.1")


def private_folder() -> Path:
    """This process's own folder for uploads and pictures, mode 0700, removed at exit."""
    folder = _own_folder()
    if not folder.is_dir():  # cleaned away for its age, in spite of the lock: the next photograph must find it
        with contextlib.suppress(FileExistsError):  # two ask at once
            folder.mkdir(mode=0o700, parents=True)
            _lock(folder)
    return folder


@functools.cache
def _own_folder() -> Path:
    _sweep_dead()
    folder = Path(tempfile.mkdtemp(prefix=_OURS)).resolve()
    _lock(folder)
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def _lock(folder: Path) -> None:
    """Hold a lock in the folder for as long as this process lives, so that the next one knows whether it does; and one
    on the folder itself: what cleans up old temporary files leaves it then, and all below it, as tmpfiles.d(5) says.
    """
    if fcntl is None:
        return
    handle = open(folder / f".{_LOCK}", "w")  # noqa: SIM115 (open until the process ends)
    fcntl.flock(handle, fcntl.LOCK_EX)
    (folder / f".{_LOCK}").rename(folder / _LOCK)  # nobody sees it unlocked
    _held.append(handle)
    with contextlib.suppress(OSError):  # a file system without it
        fcntl.flock(os.open(folder, os.O_RDONLY), fcntl.LOCK_SH)  # open until the process ends


def _sweep_dead() -> None:
    """Remove the private folders of processes that were killed and could not do it themselves."""
    if fcntl is None:
        return
    for lock in Path(tempfile.gettempdir()).glob(f"{_OURS}*/{_LOCK}"):
        with contextlib.suppress(OSError), lock.open("r+") as handle:  # of another account, or of one that lives
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(lock.parent, ignore_errors=True)


def sweep_broken() -> None:
    """Delete the files of uploads that broke off, which Gradio leaves behind."""
    sweep("tmp", SWEEP)


def sweep(prefix: str, age: float) -> None:
    """Delete what lies in the private folder under a name that begins so and is older than `age` [s]."""
    for path in private_folder().glob(f"{prefix}*"):
        with contextlib.suppress(OSError):  # somebody else clears theirs
            if path.stat().st_mtime < time.time() - age:
                shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink()


def is_full() -> bool:
    """Whether there is no room for another upload, by our own measure or on the disk."""
    total = 0
    for place, _, names in os.walk(private_folder()):
        for name in names:
            with contextlib.suppress(OSError):  # its case was cleared meanwhile
                total += os.stat(os.path.join(place, name)).st_size
    return total > STORE_LIMIT or shutil.disk_usage(private_folder()).free < SPARE


def gradio() -> Any:  # a module, whose own annotations hide half of what it offers
    """Gradio, with the settings that keep it quiet and private; they must stand before its first import."""
    for name in ("VIBE_MODE", "SHARE", "ALLOWED_PATHS", "WATCH_DIRS", "MCP_SERVER"):
        os.environ.pop(f"GRADIO_{name}", None)
    os.environ.update(
        GRADIO_ANALYTICS_ENABLED="False",
        GRADIO_ANALYTICS_MAX_EVENTS="100",  # who asked what and when: 10,000 would be kept, and gone through each time
        HF_HUB_DISABLE_TELEMETRY="1",
        GRADIO_RUN_HISTORY="False",
        GRADIO_TEMP_DIR=str(private_folder()),
        GRADIO_EXAMPLES_CACHE=str(private_folder() / "examples"),
    )
    import gradio as module

    _keep_apart()
    return module


@functools.cache
def _keep_apart() -> None:
    """Give every upload a folder of its own: Gradio names it after the content alone, so that two people with the same
    file would share it, and the one who clears first would take it from the other.
    """
    from gradio import route_utils

    class Apart(route_utils.GradioUploadFile):
        def __init__(self, *arguments, **options) -> None:
            super().__init__(*arguments, **options)
            self.sha.update(secrets.token_bytes(16))

    route_utils.GradioUploadFile = Apart


_SHARING = b"access-control-"


class Guard:
    """ASGI middleware: bounds request bodies, fetches nothing for others, adds the headers that Gradio lacks, and takes
    away those by which it lets other sites read.

    local: only this machine may ask, by its own name: another name that leads here is another site's trick.
    """

    def __init__(self, app, local: bool = False):
        self.app, self.local = app, local
        framers = " https://huggingface.co https://*.hf.space" if os.environ.get("SPACE_ID") else ""
        policy = (
            "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; style-src 'self' 'unsafe-inline'; "
            "img-src 'self' data: blob:; font-src 'self' data:; connect-src 'self'; worker-src 'self' blob:; "
            f"object-src 'none'; base-uri 'self'; form-action 'self'; frame-ancestors 'self'{framers}"
        )
        headers = {"content-security-policy": policy, "x-content-type-options": "nosniff"}
        headers |= {"referrer-policy": "no-referrer", "permissions-policy": "camera=(), microphone=(), geolocation=()"}
        headers |= {"cross-origin-resource-policy": "same-origin"}  # no other page may show our pictures
        self.headers = [(name.encode(), value.encode()) for name, value in headers.items()]

    async def __call__(self, scope, receive, send):
        """Answer one request, or pass it on with a bounded body."""
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        path, begun = scope["path"], False
        upload = path.rstrip("/").endswith("/gradio_api/upload")
        left = UPLOAD_LIMIT if upload else BODY_LIMIT

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
                given = [each for each in message.get("headers", []) if not each[0].lower().startswith(_SHARING)]
                message = {**message, "headers": [*given, *self.headers, *private]}
                message["status"] = 413 if left < 0 else message["status"]  # whatever the app made of the cut
            await send(message)

        async def refuse(status: int):
            headers = [(b"content-type", b"text/plain; charset=utf-8")]
            await dressed({"type": "http.response.start", "status": status, "headers": headers})
            await send({"type": "http.response.body", "body": _SAID.get(status, "").encode()})

        asked = dict(scope["headers"])
        declared = asked.get(b"content-length", b"0")
        if self.local and asked.get(b"host", b"").decode("latin-1").partition(":")[0] not in LOOPBACK:
            return await refuse(421)
        if _FOREIGN.search(path):
            return await refuse(403)
        if declared.isdigit() and int(declared) > left:
            return await refuse(413)
        if upload:
            sweep_broken()
            if is_full():
                return await refuse(507)
        try:
            await self.app(scope, bounded, dressed)
        except _TooLarge:
            if not begun:
                await refuse(413)


class _TooLarge(Exception):
    pass
