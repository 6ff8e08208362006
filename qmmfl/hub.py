"""Files from the Hugging Face Hub: the local cache first, then one attempt with a deadline of our own.

The client has no overall deadline: it waits and retries 20 s and more for a Hub that cannot be reached, and resumes a
download that breaks off for as long as some bytes arrive. A thread could not be stopped, so the attempt is a child
process (`main` of this file). Environment variables of the client are honoured: HF_ENDPOINT, HF_HOME,
HF_HUB_OFFLINE, HF_TOKEN and proxies.
"""

import contextlib
import errno
import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from .records import WeightsError

BRANCH = "main"  # where no revision is named
DEADLINE = 60.0  # [s], for an attempt at start; the embedded weights stand by
FETCH_DEADLINE = 900.0  # [s], for an attempt that somebody asked for and waits for
_ANSWER = 10.0  # [s], for the Hub's first word
_MAYBE = "?"  # behind a name that need not be there
# Python puts the folder one stands in first, with whatever modules lie there, beside photographs from anywhere.
_CHILD = "import sys; sys.path[:] = filter(None, sys.path); from qmmfl import hub; hub.main(sys.argv[1:])"
_REACHED, _MISSING, _UNREACHABLE, _UNWRITTEN = "folder", "missing", "unreachable", "unwritten"  # what the child says
_DENIED = (401, 403)  # the Hub did answer
_NO_ROOM = (errno.EACCES, errno.EDQUOT, errno.ENOSPC, errno.ENOTDIR, errno.EPERM, errno.EROFS)


class Unreachable(WeightsError):
    """The Hub did not give the files this time: no network, no answer in time, an error of the server's, no room."""


def find(repository: str, revision: str | None, names: Sequence[str], extras: Sequence[str] = ()) -> Path:
    """Folder with the files `names` of "owner/repo" at a branch, tag or commit (None: BRANCH).

    `extras` come along where the repository has them. A cached snapshot is used at once, also of a branch that has
    moved since; `fetch` brings the newest. Raises Unreachable, or WeightsError where the Hub says that there is no such
    thing.
    """
    return find_cached(repository, revision, names) or fetch(repository, revision, names, extras, deadline=DEADLINE)


def find_cached(repository: str, revision: str | None, names: Sequence[str]) -> Path | None:
    """Folder of the cached snapshot that holds all of `names`, or None. No network."""
    from huggingface_hub import errors, try_to_load_from_cache

    try:
        found = [try_to_load_from_cache(repository, name, revision=revision or BRANCH) for name in names]
    except errors.HFValidationError:  # no name that the Hub knows: not in the cache either
        return None
    paths = [Path(path) for path in found if isinstance(path, str)]
    return paths[0].parent if len(paths) == len(names) else None


def fetch(
    repository: str,
    revision: str | None,
    names: Sequence[str],
    extras: Sequence[str] = (),
    *,
    anew: bool = False,
    deadline: float = FETCH_DEADLINE,
) -> Path:
    """One attempt to bring `names`, and what there is of `extras`, into the client's cache; the snapshot's folder.

    anew: download also what is cached (it may be damaged). deadline [s]: for everything together.
    Raises Unreachable or WeightsError like `find`.
    """
    shown = f"{repository}@{revision or BRANCH}"
    answer = _ask(
        [repository, revision or BRANCH, "anew" if anew else "", *names, *(f"{name}{_MAYBE}" for name in extras)],
        deadline,
    )
    if _REACHED in answer:
        return Path(answer[_REACHED])
    if _MISSING in answer:
        raise WeightsError(
            f"the Hub has no {' and '.join(names)} at {shown} for you ({answer[_MISSING]}); check the name and the "
            "revision, or log in with `hf auth login` where it is private or your token is no longer good"
        )
    if _UNWRITTEN in answer:
        raise Unreachable(
            f"{shown} could not be stored in the client's cache ({answer[_UNWRITTEN]}); "
            f"make room there, or name another place by HF_HOME, and run: qmmfl weights fetch {shown}"
        )
    raise Unreachable(
        f"{shown} could not be fetched from the Hub ({answer[_UNREACHABLE]}); "
        f"check the network and run: qmmfl weights fetch {shown}"
    )


def _ask(arguments: Sequence[str], deadline: float) -> dict[str, str]:
    path = os.pathsep.join(filter(None, [str(Path(__file__).parent.parent), *sys.path]))  # the modules that we have
    environment = {**os.environ, "PYTHONPATH": path, "HF_HUB_DISABLE_TELEMETRY": "1"}
    command = [sys.executable, "-c", _CHILD, *arguments]
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, env=environment) as child:
        try:
            told, _ = child.communicate(timeout=deadline)
        except subprocess.TimeoutExpired:
            child.terminate()
            try:
                child.communicate(timeout=5)
            except subprocess.TimeoutExpired:
                child.kill()
            return {_UNREACHABLE: f"not done within {deadline:g} s"}
    try:
        return json.loads(told)
    except ValueError:
        return {_UNREACHABLE: f"the client ended with status {child.returncode}"}


def _download(repository: str, revision: str, anew: bool, names: Sequence[str]) -> dict[str, str]:
    """In the child: what became of it, as one of the answers above and its reason."""
    from huggingface_hub import HfApi, errors, hf_hub_download

    faults: tuple[type[Exception], ...] = errors.HfHubHTTPError.__bases__  # the HTTP client's own base, and OSError
    gone = (errors.RepositoryNotFoundError, errors.RevisionNotFoundError, errors.RemoteEntryNotFoundError)
    try:
        # This call is not retried by the client: without a network it fails at once.
        commit = HfApi().model_info(repository, revision=revision, timeout=_ANSWER).sha or revision
        needed = [name for name in names if not name.endswith(_MAYBE)]
        for name in set(names).difference(needed):  # first: where the needed ones are cached nobody asks again
            with contextlib.suppress(errors.RemoteEntryNotFoundError):
                hf_hub_download(repository, name.removesuffix(_MAYBE), revision=commit, force_download=anew)
        paths = [hf_hub_download(repository, name, revision=commit, force_download=anew) for name in needed]
        if commit != revision:  # only now does the cache learn where the branch points: never to half a snapshot
            hf_hub_download(repository, names[0], revision=revision)
    except (*gone, errors.DisabledRepoError, errors.HFValidationError) as error:
        return {_MISSING: type(error).__name__}
    except errors.HfHubHTTPError as error:
        status = error.response.status_code
        return {_MISSING if status in _DENIED else _UNREACHABLE: f"status {status}"}
    except errors.OfflineModeIsEnabled:
        return {_UNREACHABLE: "HF_HUB_OFFLINE is set"}
    except (*faults, ValueError) as error:  # ValueError: an answer that is no JSON
        if isinstance(error, OSError) and error.errno in _NO_ROOM:
            return {_UNWRITTEN: os.strerror(error.errno).lower()}
        return {_UNREACHABLE: type(error).__name__}
    return {_REACHED: str(Path(paths[0]).parent)}


def _leave(number: int, frame: object) -> NoReturn:
    raise SystemExit(1)  # unlike the default, unwinds: the client removes its half-written file


def main(arguments: Sequence[str]) -> None:
    """The child: REPOSITORY REVISION "anew"|"" NAME... EXTRA?... -> one line of JSON on standard output."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _leave)
    repository, revision, anew, *names = arguments
    print(json.dumps(_download(repository, revision, bool(anew), names)))
