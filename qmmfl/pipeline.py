"""One photograph in, one report out."""

import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from . import (
    __version__,
    compression,
    conclusions,
    fundus,
    labels,
    measures,
    memory,
    photograph,
    quality,
    stages,
    weights,
)
from .nets import runtime as runtimes
from .records import Eye, Photograph, Provenance, Report
from .stages import FIELD_STAGE, FUSION_STAGE, MEASURE_STAGE, STAGES, Outcome, Progress

if TYPE_CHECKING:
    import torch

    from .nets import Network

Source = Photograph | str | Path | np.ndarray | Image.Image

__all__ = ["FIELD_STAGE", "FUSION_STAGE", "MEASURE_STAGE", "STAGES", "Pipeline", "Progress", "load"]


class Pipeline:
    """Reads photographs with one set of weights. Safe to call from several threads; they take turns."""

    def __init__(
        self,
        network: "Network | None",
        card: weights.Card,
        source: str,
        device: str = "auto",
        banner: str | None = None,
        folder: Path | None = None,
        runtime: runtimes.Runtime | None = None,
    ) -> None:
        """network: None where a runtime is given; it is then loaded from `folder` when somebody first asks for it.
        device: "auto" (a GPU where there is one), "cpu" or "cuda". banner: a sentence that the page must show.
        folder: where the weights lie, and an atlas beside them. runtime: what reads, by default torch.
        """
        self.card, self.source, self.banner, self.folder = card, source, banner, folder
        self._loading = Lock()
        self._network = network and _place(network, device)
        self.runtime = runtime or _eager(self.network)
        self._lock = Lock()  # explanations hook the shared network: two readers at once would mix patients

    @property
    def network(self) -> "Network":
        """The network as it was trained, for those who look inside; reading goes by `runtime`."""
        with self._loading:
            if self._network is None:
                assert self.folder is not None
                network, card = weights.load(self.folder)
                if card.sha256 != self.card.sha256:
                    raise weights.WeightsError(f"the weights in {self.folder.name} changed while in use; start again")
                self._network = _place(network, "cpu")
            return self._network

    @property
    def device(self) -> "torch.device":
        """Where `network` lies."""
        return self.network.heads.bias.device

    def __call__(
        self,
        source: Source,
        progress: Progress | None = None,
        *,
        override: bool = False,
    ) -> Report:
        """Read one photograph: a path, uint8 (H, W, 3) RGB pixels, a Pillow image or a `Photograph`.

        progress(done, total, stage) is told before each stage. `override` computes every number also for a
        photograph that is not gradable (evaluation, or a clinician who asks for it). Where a network fails the report
        is partial: `Report.failures` says why, and every number is withheld.
        Raises PhotographError for what cannot be read.
        """
        began = time.monotonic()
        report = self._read(_photograph(source), progress or _silent, override, began)
        memory.release()
        return report

    @contextmanager
    def borrow(self) -> "Iterator[Network]":
        """The network for one borrower at a time; until it is given back every other reader waits.

        The borrower must not call the pipeline (it would wait for itself) and leaves the network as it was.
        """
        with self._lock:
            yield self.network

    def _read(self, picture: Photograph, progress: Progress, override: bool, began: float) -> Report:
        progress(0, len(STAGES), FIELD_STAGE)
        try:
            square, frame = fundus.canonical(compression.heal(picture, self.card.prep.size), self.card.prep)
        except fundus.FieldError:
            return self._report(picture, began, (quality.BLANK,))
        if not frame.field.circular:
            picture = replace(picture, notes=(*picture.notes, fundus.NOTE_CROP))
        if frame.field.aspect != 1:
            picture = replace(picture, notes=(*picture.notes, fundus.NOTE_SQUEEZED.format(frame.field.aspect)))
        part = fundus.visible_part(square, self.card.prep)
        if part < fundus.LEAST_PART:
            picture = replace(picture, notes=(*picture.notes, fundus.NOTE_PART.format(part)))
        faults = (*(() if frame.field.alone else (quality.TWO,)), *quality.find_faults(square))
        if faults and not override:
            return self._report(picture, began, faults)
        with self._lock:  # only the networks want all cores; what stands before and after overlaps with other readers
            outcome = stages.run(self.runtime, square, progress)
        progress(len(STAGES) - 1, len(STAGES), MEASURE_STAGE)
        return self._report(picture, began, faults, outcome, frame, override)

    def _report(
        self,
        picture: Photograph,
        began: float,
        faults: tuple[str, ...],
        outcome: Outcome = Outcome(),  # noqa: B008 (frozen)
        frame: fundus.Frame | None = None,
        override: bool = False,
    ) -> Report:
        """frame: None where no network was asked."""
        card, planes, scores = self.card, outcome.planes, outcome.scores
        read, fundus_seen = conclusions.find_gates(card, scores, planes, (*faults, *outcome.failures.values()))
        withheld = None
        if scores is None or not (read.gradable or override):
            withheld = conclusions.INCOMPLETE if outcome.failures else conclusions.UNGRADABLE
        given = None if withheld else scores
        disc = planes.get(labels.DISC_CUP.name)
        return Report(
            photograph=picture,
            eye=Eye(None, None) if withheld or disc is None else measures.find_side(disc[0]),
            quality=read,
            fundus=fundus_seen,
            findings=conclusions.find_findings(card, given, withheld),
            dr=conclusions.find_grade(card, given, withheld),
            dme=conclusions.find_oedema(card, given, withheld),
            disc_cup=conclusions.find_disc_cup(card, planes, frame, withheld),
            lesions=conclusions.find_lesions(card, planes, withheld),
            planes=conclusions.find_planes(card, planes, frame) if frame else {},
            contributions=conclusions.find_contributions(card, given) if given else {},
            provenance=self._provenance(began),
            maps=conclusions.find_maps(card, given) if given else {},
            grid=frame.grid if frame else None,
            features=given.features if given else None,
            failures=outcome.failures,
        )

    def _provenance(self, began: float) -> Provenance:
        return Provenance(
            package_version=__version__,
            weights_source=self.source,
            weights_sha256=self.card.sha256,
            card=self.card.digest,
            prep=self.card.prep.digest,
            runtime=self.runtime.name,
            created=datetime.now(timezone.utc).isoformat(timespec="seconds"),
            seconds=round(time.monotonic() - began, 3),
        )


def load(source: str | Path | None = None, device: str = "auto", runtime: str = runtimes.AUTO) -> Pipeline:
    """Pipeline with the embedded weights, those in a folder, or owner/repo@revision on the Hub.

    Where the Hub does not answer, the embedded weights are used; a StandInWarning, `Pipeline.banner` and the source in
    every report say so. runtime: "torch", "openvino", or "auto" (see `nets.runtime.choose`). Raises WeightsError for
    everything else that is wrong with the weights named, ValueError for a device or runtime that is not there.
    """
    chosen = runtimes.choose(runtime, device)
    folder, name, banner = weights.find_or_stand_in(source)
    if banner:
        warnings.warn(banner, weights.StandInWarning, stacklevel=2)
    if chosen == runtimes.TORCH:
        network, card = weights.load(folder)
        return Pipeline(network, card, name, device, banner, folder)
    from .nets.accelerated import Accelerated

    state, card = weights.load_arrays(folder)
    with weights.fitting(folder):
        reader = Pipeline(None, card, name, device, banner, folder, Accelerated(card.config, state))
    memory.release()  # what compiling took
    return reader


def _place(network: "Network", device: str) -> "Network":
    import torch

    if device == "cuda" and not torch.cuda.is_available():
        raise ValueError("there is no GPU that torch can use; choose --device cpu")
    wanted = ("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device
    return network.to(wanted).to(memory_format=torch.channels_last).eval()  # pyright: ignore[reportCallIssue]


def _eager(network: "Network") -> runtimes.Runtime:
    from .nets.eager import Eager

    return Eager(network)


def _photograph(source: Source) -> Photograph:
    if isinstance(source, Photograph):
        return source
    return photograph.read(source) if isinstance(source, str | Path) else photograph.from_pixels(source)


def _silent(done: int, total: int, stage: str) -> None:
    pass
