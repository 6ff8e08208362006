"""Imports go downwards only, and nothing heavy comes along with the light parts."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "qmmfl"
FLOORS = {
    "labels": 0,
    "records": 1,
    "cells": 0,
    "outputs": 1,
    "dicom": 1,
    "photograph": 2,
    "compression": 2,
    "field": 1,
    "fundus": 2,
    "quality": 2,
    "phantom": 2,
    "nets": 2,
    "hub": 2,
    "measures": 3,
    "laterality": 2,
    "review": 2,
    "weights": 3,
    "stages": 3,
    "conclusions": 4,
    "pipeline": 5,
    "draw": 4,
    "explain": 6,
    "evidence": 5,
    "atlas": 5,
    "charts": 6,
    "prose": 7,
    "results": 8,
    "dossier": 8,
    "leaflet": 8,
    "guard": 0,
    "memory": 0,
    "ui": 9,
    "archive": 8,
    "runs": 9,
    "screening": 10,
    "cluster": 11,
    "cli": 12,
}


def imported(path: Path) -> set[str]:
    """Top modules of qmmfl that a file imports, and "training" where it does."""
    inside = path.relative_to(PACKAGE).parts
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names = [alias.name.split(".") for alias in node.names]
            found |= {name[1] for name in names if name[0] == "qmmfl" and len(name) > 1}
            found |= {name[0] for name in names if name[0] == "training"}
        elif isinstance(node, ast.ImportFrom):
            module = (node.module or "").split(".") if node.module else []
            if node.level == len(inside):  # from . or .. at the package's own level
                found |= {module[0]} if module else {alias.name for alias in node.names}
            elif not node.level and module and module[0] in ("qmmfl", "training"):
                found |= {module[1]} if len(module) > 1 else {alias.name for alias in node.names} | {module[0]}
    return {name for name in found if name in FLOORS or name == "training"}


def files() -> list[Path]:
    return [
        p for p in sorted(PACKAGE.rglob("*.py")) if p.name not in ("__init__.py", "__main__.py") or p.parent != PACKAGE
    ]


@pytest.mark.parametrize("path", files(), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_go_downwards(path):
    name = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    for other in imported(path) - {name}:
        assert other != "training", f"{path.name} imports training"
        assert FLOORS[other] < FLOORS[name], f"{name} must not import {other}"


def test_rule_bites(tmp_path):
    upward = ast.parse("from .pipeline import Pipeline")
    assert isinstance(upward.body[0], ast.ImportFrom)
    probe = PACKAGE / "labels.py"
    assert imported(probe) == set()
    assert "pipeline" in imported(PACKAGE / "cli/reading.py") & imported(PACKAGE / "cli/serving.py")


def test_every_module_has_a_floor():
    modules = {p.relative_to(PACKAGE).parts[0].removesuffix(".py") for p in files()}
    assert modules == set(FLOORS)


@pytest.mark.parametrize(
    ("code", "forbidden"),
    [
        ("import qmmfl", {"torch", "gradio", "captum", "matplotlib", "cv2", "huggingface_hub"}),
        ("from qmmfl.cli import main\ntry:\n    main(['--help'])\nexcept SystemExit: pass", {"torch", "gradio", "cv2"}),
        (
            "import qmmfl; qmmfl.load; qmmfl.explain.explain",
            {"gradio", "captum", "matplotlib", "pytorch_grad_cam", "torchvision", "sklearn"},
        ),
    ],
    ids=["import", "help", "load and explain"],
)
def test_light_imports(code, forbidden):
    command = f"{code}\nimport sys; print(sorted({forbidden!r} & set(sys.modules)))"
    run = subprocess.run([sys.executable, "-c", command], capture_output=True, text=True, check=True, cwd=ROOT)
    assert run.stdout.splitlines()[-1] == "[]"
