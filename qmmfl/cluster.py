"""Many eyes on many machines: `screening.read_eye` on the workers of a Ray cluster, rows and reports as everywhere.

Photographs, results and weights are read and written by the workers: their paths must mean the same on each machine.
A worker that dies is replaced by Ray and its share is read again; only finished shares give rows.
"""

import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from . import __version__, screening
from .runs import Run, RunError

_SHARE = 4  # eyes that a worker takes at a time, and reads again if it dies
LOCAL = "local"  # address: this machine, every core a worker


class _Worker:
    """One process of the cluster with its own networks."""

    def __init__(self, load: Callable[[], Any], run: dict[str, Any]) -> None:
        self._reader, self._folder, self._parts = load(), Path(run["path"]), run["parts"]
        own = {"weights_sha256": self._reader.card.sha256, "card": self._reader.card.digest, "version": __version__}
        if any(run[key] and run[key] != value for key, value in own.items()):
            raise RuntimeError("a worker has other weights, or another version, than the machine that started it")

    def __call__(self, given: dict[str, Any]) -> dict[str, str]:
        item = screening.Item(Path(os.fsdecode(given["path"])), given["shown"], os.fsdecode(given["folder"]))
        return screening.read_eye(item, self._reader, self._folder, self._parts)


def screen(
    sources: Iterable[Path], run: Run, load: Callable[[], Any], *, address: str = LOCAL, workers: int | None = None
) -> Iterator[screening.Row]:
    """Like `screening.screen`, in the order in which eyes are finished.

    load: makes the Pipeline, called once by each worker. address: of a running cluster ("auto", "ray://host:port"), or
    LOCAL. workers: processes, by default one for each core of the cluster.
    Raises RunError where ray is missing, the cluster cannot be reached or its workers fail; OSError.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # a cluster that starts here sends nothing anywhere
    try:
        import ray.data  # pyright: ignore[reportMissingImports]
        import ray.exceptions  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise RunError('a cluster needs Ray: pip install "qmmfl[cluster]"') from error

    given = [
        {"path": os.fsencode(item.path), "shown": item.shown, "folder": os.fsencode(item.folder)}
        for item in screening.claim(sources, run)
    ]
    if not given:
        return
    settings = {"path": str(run.path.absolute()), "parts": run.parts, "weights_sha256": run.weights_sha256}
    settings |= {"card": run.card, "version": __version__}
    try:
        if not ray.is_initialized():
            _join(address)
        ray.data.DataContext.get_current().enable_progress_bars = False  # whoever takes the rows shows how many
        count = workers or int(ray.cluster_resources().get("CPU", 1))
        shares = ray.data.from_items(given, override_num_blocks=-(-len(given) // _SHARE))
        worker: Any = _Worker  # Ray makes one in each process
        rows = shares.map(
            worker, fn_constructor_args=(load, settings), num_cpus=1, compute=ray.data.ActorPoolStrategy(size=count)
        )
        for row in rows.iter_rows():
            run.append(row)
            yield row
    except (ConnectionError, ray.exceptions.RayError) as error:
        cause = str(error).strip().splitlines()[-1:] or [type(error).__name__]
        raise RunError(f"the cluster failed ({cause[0]}); mend it and run the same command again") from error


def _join(address: str) -> None:
    """Start a cluster on this machine, or become part of a running one."""
    import ray  # pyright: ignore[reportMissingImports]

    try:
        # Without an address Ray would join whatever cluster the environment or an earlier program names.
        ray.init(address=address, log_to_driver=False, include_dashboard=False)
    except (ValueError, RuntimeError, ConnectionError) as error:
        cause = str(error).strip().splitlines()[:1] or [type(error).__name__]
        raise RunError(f"there is no cluster at {address} ({cause[0]}); check its address, or use {LOCAL}") from error
