"""One training loop for every stage: AdamW, one cosine cycle, averaged weights, resumable, logged as CSV.

On several GPUs: `torchrun --nproc-per-node 4 -m -- training.synthesis lesions ...`; every process draws its own batches
(without the dashes torchrun takes --run for its own). Two processes of one thread also make the most of two CPU cores.
"""

import copy
import csv
import os
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import torch
from safetensors.torch import load_file
from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel
from tqdm import tqdm

from . import imagenet
from .recipe import RUNS, Recipe

Batch = dict[str, Tensor]


class Averaged:
    """Exponential moving average of a module's parameters and buffers; what is validated and exported."""

    def __init__(self, module: nn.Module, decay: float = 0.998) -> None:
        self.module = copy.deepcopy(module).eval().requires_grad_(False)
        self.decay = decay

    @torch.no_grad()
    def update(self, module: nn.Module, step: int) -> None:
        """Move towards `module`; the first steps count fully, so that the start is forgotten."""
        decay = min(self.decay, (1 + step) / (10 + step))
        for mine, theirs in zip(self.module.state_dict().values(), module.state_dict().values(), strict=True):
            if mine.dtype.is_floating_point:
                mine.lerp_(theirs, 1 - decay)
            else:
                mine.copy_(theirs)


class DivergedError(RuntimeError):
    """The loss or a gradient is not a finite number any more; the last checkpoint is kept."""


def device_of(recipe: Recipe) -> torch.device:
    """The device a recipe asks for; "auto" takes a GPU where there is one, this process's own under torchrun."""
    wanted = ("cuda" if torch.cuda.is_available() else "cpu") if recipe.device == "auto" else recipe.device
    return torch.device(wanted, int(os.environ.get("LOCAL_RANK", 0))) if wanted == "cuda" else torch.device(wanted)


def bare(module: nn.Module) -> nn.Module:
    """The module itself, where several processes share its gradients."""
    return module.module if isinstance(module, DistributedDataParallel) else module


def _join(module: nn.Module, device: torch.device) -> tuple[nn.Module, int]:
    """The module as this process trains it, and the process's rank; under torchrun gradients are shared."""
    if "WORLD_SIZE" not in os.environ:
        return module, 0
    if not distributed.is_initialized():
        distributed.init_process_group("nccl" if device.type == "cuda" else "gloo")
    return DistributedDataParallel(module), distributed.get_rank()


def _agreed(value: float, device: torch.device) -> float:
    """The first process's value, so that all of several stop at the same step."""
    if not distributed.is_initialized():
        return value
    shared = torch.tensor([value], device=device)
    distributed.broadcast(shared, 0)
    return float(shared)


def fit(
    name: str,
    module: nn.Module,
    draw: Callable[[torch.Generator], Batch],
    loss: Callable[[nn.Module, Batch], dict[str, Tensor]],
    recipe: Recipe,
    validate: Callable[[nn.Module], dict[str, float]],
) -> nn.Module:
    """Train `module` for `recipe.steps` and return its averaged copy.

    draw: a generator -> one batch on the device. loss: named terms that are summed. validate: the averaged module
    -> named figures. Checkpoints and log.csv go to runs/<recipe.run>/<name>; a run found there is resumed.
    Raises DivergedError where the loss is not finite.
    """
    folder = RUNS / recipe.run / name
    folder.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(recipe.threads)
    cv2.setNumThreads(recipe.threads)
    device = device_of(recipe)
    module.to(device, memory_format=torch.channels_last).train()
    averaged = Averaged(module)
    optimizer = torch.optim.AdamW(module.parameters(), recipe.rate, weight_decay=recipe.decay)
    start, best = 0, -float("inf")
    if (folder / "last.pt").exists():
        state = torch.load(folder / "last.pt", map_location=device, weights_only=True)
        module.load_state_dict(state["module"])
        averaged.module.load_state_dict(state["averaged"])
        optimizer.load_state_dict(state["optimizer"])
        start, best = state["step"], state["best"]
    half = device.type == "cuda"
    torch.backends.cudnn.benchmark = half  # all batches have one shape
    totals: dict[str, float] = {}
    counted = 0
    shared, rank = _join(module, device)
    steps = range(start, recipe.steps)
    progress = tqdm(total=recipe.steps, initial=start, desc=name, mininterval=10, disable=rank > 0)
    began = time.monotonic()
    for step, batch in zip(steps, _batches(draw, steps, recipe, rank), strict=True):
        progress.update()
        spent = _agreed((time.monotonic() - began) / recipe.seconds, device) if recipe.seconds else 0.0
        for group in optimizer.param_groups:
            group["lr"] = recipe.rate * _schedule(min(max(step / recipe.steps, spent), 1.0))
        with torch.autocast(device.type, torch.bfloat16, enabled=half):
            terms = loss(shared, batch)
        total = torch.stack(list(terms.values())).sum()
        if not total.isfinite():
            raise _diverged(name, folder, f"the loss is {float(total.detach())}", step)
        optimizer.zero_grad(set_to_none=True)
        total.backward()
        if not nn.utils.clip_grad_norm_(module.parameters(), 5.0).isfinite():
            raise _diverged(name, folder, "a gradient is no finite number", step)
        optimizer.step()
        averaged.update(module, step)
        for key, value in terms.items():
            totals[key] = totals.get(key, 0.0) + float(value.detach())
        counted += 1
        done = step + 1
        checked = done % recipe.validate == 0 or done == recipe.steps or spent >= 1
        if not rank and checked:
            with torch.no_grad():
                figures = validate(averaged.module)
            row = {"step": done, "seconds": round(time.monotonic() - began)}
            row |= {f"loss_{key}": round(value / counted, 5) for key, value in totals.items()}
            row |= {key: round(value, 5) for key, value in figures.items()}
            totals, counted = {}, 0
            _log(folder / "log.csv", row)
            tqdm.write(f"{name} {row}")
            if figures["score"] >= best:
                best = figures["score"]
                _save(folder / "best.pt", {"averaged": averaged.module.state_dict(), "step": done, "best": best})
        if not rank and (checked or done % recipe.save == 0):
            states = {"module": module.state_dict(), "averaged": averaged.module.state_dict()}
            _save(folder / "last.pt", {**states, "step": done, "best": best, "optimizer": optimizer.state_dict()})
        if spent >= 1:
            break
    return averaged.module


def _batches(draw: Callable[[torch.Generator], Batch], steps: range, recipe: Recipe, rank: int) -> Iterator[Batch]:
    """The batch of every step in order, some of them drawn ahead by threads."""

    def make(step: int) -> Batch:
        # A resumed run draws what an unbroken one would; no two processes draw the same.
        return draw(torch.Generator().manual_seed(recipe.seed * 1_000_003 + step + rank * 7_919_000_000))

    if not recipe.drawers:
        yield from map(make, steps)
        return
    with ThreadPoolExecutor(recipe.drawers) as pool:
        ahead: deque = deque()
        for step in steps:
            ahead.append(pool.submit(make, step))
            if len(ahead) > 2 * recipe.drawers:
                yield ahead.popleft().result()
        while ahead:
            yield ahead.popleft().result()


def best_state(recipe: Recipe, name: str) -> dict[str, Tensor]:
    """State dict of the averaged module with the best validation score of a run."""
    path = RUNS / recipe.run / name / "best.pt"
    return torch.load(path, map_location="cpu", weights_only=True)["averaged"]


def load_start(module: nn.Module, start: Path | None, prefix: str) -> None:
    """Fill `module` from a checkpoint (best.pt), from what exported weights hold below `prefix`, or its trunk from
    `training.imagenet` where `start` is that word.

    A checkpoint of a related net may lend what it has, where the module knows to `adopt` it. Raises RuntimeError
    where a tensor is missing or has another shape.
    """
    if start is None:
        return
    if start.name == imagenet.NAME:
        imagenet.lend(module)
        return
    if start.is_dir():
        tensors = load_file(start / "model.safetensors")
        state = {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
    else:
        state = torch.load(start, map_location="cpu", weights_only=True)["averaged"]
    adopt = getattr(module, "adopt", dict)
    module.load_state_dict(adopt(state))


def _diverged(name: str, folder: Path, what: str, step: int) -> DivergedError:
    kept = f"{folder.name}/last.pt holds the last good state, lower --rate and start again"
    return DivergedError(f"{name}: {what} at step {step}; {kept}")


def _schedule(progress: float, warm: float = 0.05) -> float:
    if progress < warm:
        return (progress + 1e-3) / warm
    return 0.5 * (1 + float(torch.cos(torch.tensor((progress - warm) / (1 - warm) * torch.pi))))


def _save(path: Path, state: dict) -> None:
    torch.save(state, path.with_suffix(".part"))
    path.with_suffix(".part").replace(path)  # a run killed while writing keeps the older checkpoint


def _log(path: Path, row: dict) -> None:
    new = not path.exists()
    with path.open("a", newline="") as file:
        writer = csv.DictWriter(file, row)
        if new:
            writer.writeheader()
        writer.writerow(row)
