"""How fast qmmfl is, side by side with what it is measured against, in one run: ratios, since machines differ.

python -m training.benchmark [--repeats 5] [--threads 2] [--json FILE] [--readme README.md]

Takes some minutes, on a machine that is quiet; --readme puts the table where the README marks it.

Every round runs all contestants one after another, so that whatever else the machine does hits all of them; a ratio is
the median over the rounds. Weights do not matter for speed: those of the rivals are random.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

BEGIN, END = "<!-- benchmark -->", "<!-- end of benchmark -->"
USERS = 8
EYE = Path(__file__).parent.parent / "examples" / "eyes" / "simulated_right_severe_dr.jpg"
CAMERA = (4288, 2848)  # [px] of the photograph that is decoded
CHILD = """
import sys
from qmmfl import pipeline, ui
reader = pipeline.load(device="cpu", runtime=sys.argv[1])
ui.build(reader)
report = reader(sys.argv[2], override=True)
assert report.provenance.runtime.startswith(sys.argv[1])
status = dict(line.split(":") for line in open("/proc/self/status")) if sys.platform == "linux" else {}
print(*(int(status.get(name, "0 kB").split()[0]) * 1024 for name in ("VmRSS", "VmHWM")))
"""


@dataclass(frozen=True)
class Row:
    """One line of the table. value: in `unit` ("x", "s" or "MB"); target: what was asked for; most: at most that."""

    what: str
    value: float
    unit: str
    target: float | None = None
    most: bool = True

    @property
    def met(self) -> bool | None:
        """Whether the target is reached; None where there is none."""
        if self.target is None:
            return None
        return self.value <= self.target if self.most else self.value >= self.target

    def __str__(self) -> str:
        aim = "" if self.target is None else f"{'<=' if self.most else '>='} {self.target:g} {self.unit}"
        verdict = {None: "", True: "met", False: "missed"}[self.met]
        return f"{self.what:<74} {self.value:>9.3g} {self.unit:<2}  {aim:<11} {verdict}"


def with_table(readme: str, rows: list[Row], threads: int) -> str:
    """The README with these rows between its marks."""
    lines = ["| what | measured | target | |", "| --- | --- | --- | --- |"]
    for row in rows:
        aim = "" if row.target is None else f"{'<=' if row.most else '>='} {row.target:g} {row.unit}"
        verdict = {None: "", True: "met", False: "missed"}[row.met]
        lines.append(f"| {row.what} | {row.value:.3g} {row.unit} | {aim} | {verdict} |")
    before, rest = readme.split(BEGIN)
    what = f"{platform.machine()}, {threads} threads:"
    return f"{before}{BEGIN}\n\n{what}\n\n" + "\n".join(lines) + f"\n\n{END}{rest.split(END)[1]}"


def interleave(contestants: dict[str, Callable[[], Any]], rounds: int) -> dict[str, list[float]]:
    """Seconds of every contestant in each of `rounds`, after one round that does not count."""
    seconds: dict[str, list[float]] = {name: [] for name in contestants}
    for number in range(rounds + 1):
        for name, act in contestants.items():
            began = time.perf_counter()
            act()
            if number:
                seconds[name].append(time.perf_counter() - began)
    return seconds


def ratio(above: list[float], below: list[float]) -> float:
    """The median over the rounds."""
    return statistics.median(a / b for a, b in zip(above, below, strict=True))


def measure_reports(runtimes: list[str], rounds: int) -> list[Row]:
    """A whole report, its networks and all exact maps against a ResNet-18 and against the paper's architecture."""
    import torch
    from torchvision.models import resnet18

    from qmmfl import explain, fundus, photograph, pipeline, stages

    from .reference import Reference

    picture = photograph.read(EYE)
    readers = {name: pipeline.load(device="cpu", runtime=name) for name in runtimes}
    square, _ = fundus.canonical(picture.pixels, readers["torch"].card.prep)
    small = torch.rand(1, 3, 512, 512)
    base, reference = resnet18().eval(), Reference().eval()
    opened = explain.read(readers["torch"], picture)

    def forward(module: torch.nn.Module) -> None:
        with torch.inference_mode():
            module(small)

    silent: Any = lambda *_: None  # noqa: E731
    contestants: dict[str, Callable[[], Any]] = {"resnet": partial(forward, base)}
    for name, reader in readers.items():
        contestants[f"report {name}"] = partial(reader, picture, override=True)
        contestants[f"nets {name}"] = partial(stages.run, reader.runtime, square, silent)
    contestants["maps"] = partial(explain.open_heads, readers["torch"].network, opened)
    contestants["reference torch"] = partial(forward, reference)
    if "openvino" in runtimes:
        contestants["reference openvino"] = partial(_compile(reference, small), small.numpy())
    taken = interleave(contestants, rounds)
    rows = [Row("ResNet-18 forward, 512 px, eager torch", statistics.median(taken["resnet"]), "s")]
    for name, most in zip(("torch", "openvino"), (1.6, 1.0), strict=True):
        if name in runtimes:
            report, nets, rival = (taken[f"{what} {name}"] for what in ("report", "nets", "reference"))
            rows += [
                Row(f"report, {name}", statistics.median(report), "s"),
                Row(f"report, {name} / ResNet-18", ratio(report, taken["resnet"]), "x", most),
                Row(f"its networks alone, {name} / ResNet-18", ratio(nets, taken["resnet"]), "x"),
                Row(f"the paper's architecture / report, both {name}", ratio(rival, report), "x", 30, False),
                Row(f"all exact maps / the networks, {name}", ratio(taken["maps"], nets), "x", 0.1),
            ]
    return rows


def _compile(module: Any, example: Any) -> Callable[[Any], Any]:
    """The module in OpenVINO, as the report's networks are compiled there."""
    sys.modules.setdefault("openvino_telemetry", None)  # pyright: ignore[reportArgumentType]  # it would tell of it
    import openvino

    settings = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": os.environ["OMP_NUM_THREADS"]}
    settings["INFERENCE_PRECISION_HINT"] = "f32"
    graph = openvino.convert_model(module, example_input=example, input=[("x", list(example.shape))])
    request = openvino.Core().compile_model(graph, "CPU", settings).create_infer_request()
    return lambda given: request.infer([given], share_inputs=True, share_outputs=True)


def measure_decoding(rounds: int) -> list[Row]:
    """A camera's JPEG to the networks' tensor, with all checks, against decoding it and nothing else."""
    import cv2
    import numpy as np

    from qmmfl import fundus, photograph

    enlarged = cv2.resize(cv2.imread(str(EYE)), CAMERA, interpolation=cv2.INTER_CUBIC)  # pyright: ignore
    data = cv2.imencode(".jpg", enlarged, [cv2.IMWRITE_JPEG_QUALITY, 90])[1]
    file = data.tobytes()

    def prepare() -> None:
        square, _ = fundus.canonical(photograph.read(file).pixels, fundus.Prep())
        np.multiply(square.transpose(2, 0, 1), np.float32(1 / 255), order="C")

    plain = partial(cv2.imdecode, data, cv2.IMREAD_COLOR)
    taken = interleave({"plain": plain, "pixels": partial(photograph.read, file), "tensor": prepare}, rounds)
    what = f"plain decode, {CAMERA[0]} x {CAMERA[1]} JPEG"
    return [
        Row(f"file to checked pixels / {what}", ratio(taken["pixels"], taken["plain"]), "x"),
        Row(f"file to tensor / {what}", ratio(taken["tensor"], taken["plain"]), "x", 1.0),
    ]


def measure_starts(runtimes: list[str], rounds: int) -> list[Row]:
    """A fresh process with the page built: until its first report, and the memory it holds then (told on Linux)."""
    seconds: dict[str, list[float]] = {name: [] for name in runtimes}
    held: dict[str, list[tuple[float, float]]] = {name: [] for name in runtimes}
    for _ in range(rounds):
        for name in runtimes:
            began = time.perf_counter()
            told = subprocess.run([sys.executable, "-c", CHILD, name, str(EYE)], capture_output=True, text=True)
            seconds[name].append(time.perf_counter() - began)
            if told.returncode:
                raise RuntimeError(told.stderr)
            now, most = (int(word) / 1e6 for word in told.stdout.split()[-2:])
            held[name].append((now, most))
    bounds = {"torch": (15, 1200), "openvino": (8, 600)}
    rows = [Row(f"start to first report, {n}", statistics.median(s), "s", bounds[n][0]) for n, s in seconds.items()]
    for name, each in held.items():
        now, most = map(max, zip(*each, strict=True))
        if now:
            rows.append(Row(f"memory held after that report, {name}", now, "MB", bounds[name][1]))
            rows.append(Row(f"most held until then, {name}", most, "MB"))
    return rows


def measure_users(runtimes: list[str], rounds: int) -> list[Row]:
    """Eight requests at once, from file to report, until the last is served, against one alone."""
    from qmmfl import pipeline

    contestants: dict[str, Callable[[], Any]] = {}
    for name in runtimes:
        reader = pipeline.load(device="cpu", runtime=name)
        contestants[f"one {name}"] = partial(reader, EYE, override=True)
        contestants[f"all {name}"] = partial(_crowd, reader)
    taken = interleave(contestants, rounds)
    most = {"torch": 8, "openvino": 5}
    what = f"{USERS} users at once / one, "
    return [Row(f"{what}{n}", ratio(taken[f"all {n}"], taken[f"one {n}"]), "x", most[n]) for n in runtimes]


def _crowd(reader: Any) -> None:
    with ThreadPoolExecutor(USERS) as pool:
        list(pool.map(partial(reader, override=True), [EYE] * USERS))


def main() -> None:
    """Measure everything and print the table."""
    parser = argparse.ArgumentParser("python -m training.benchmark", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--repeats", type=int, default=5, help="rounds of each measurement (default: %(default)s)")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1, help="default: every core")
    parser.add_argument("--only", choices=("reports", "decoding", "starts", "users"), help="one part of it")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the rows there too")
    parser.add_argument("--readme", type=Path, metavar="FILE", help="put the table there, between its marks")
    options = parser.parse_args()
    os.environ.update(OMP_NUM_THREADS=str(options.threads), HF_HUB_OFFLINE="1", MPLCONFIGDIR=tempfile.gettempdir())
    import cv2
    import torch

    torch.set_num_threads(options.threads)
    cv2.setNumThreads(options.threads)
    runtimes = ["torch", *(["openvino"] if find_spec("openvino") else [])]
    parts: dict[str, Callable[[], list[Row]]] = {
        "reports": partial(measure_reports, runtimes, options.repeats),
        "decoding": partial(measure_decoding, options.repeats),
        "starts": partial(measure_starts, runtimes, min(options.repeats, 3)),
        "users": partial(measure_users, runtimes, min(options.repeats, 3)),
    }
    rows = []
    for name, part in parts.items():
        if options.only in (None, name):
            for row in part():
                print(row, flush=True)
                rows.append(row)
    if options.readme:
        text = options.readme.read_text(encoding="utf-8")
        options.readme.write_text(with_table(text, rows, options.threads), encoding="utf-8")
    if options.json:
        machine = {"machine": platform.machine(), "threads": options.threads, "repeats": options.repeats}
        told = [{**asdict(row), "met": row.met} for row in rows]
        options.json.write_text(json.dumps({**machine, "rows": told}, indent=1) + "\n")


if __name__ == "__main__":
    main()
