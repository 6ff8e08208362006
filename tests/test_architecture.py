"""Imports go downwards only, and nothing heavy comes along with the light parts."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "qmmfl"
LISTED = re.search(r"## Where to look\n\n```\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)[1]
ORDER = [line.split()[0].rstrip("/") for line in LISTED.splitlines()]  # from the bottom upwards


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
    return {name for name in found if name in ORDER or name == "training"}


def files() -> list[Path]:
    return [
        p for p in sorted(PACKAGE.rglob("*.py")) if p.name not in ("__init__.py", "__main__.py") or p.parent != PACKAGE
    ]


def upward(path: Path) -> set[str]:
    """What a file imports that it must not: "training", and modules listed below its own."""
    name = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    return imported(path) - {name} - set(ORDER[: ORDER.index(name)])


@pytest.mark.parametrize("path", files(), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_go_downwards(path):
    assert not upward(path)


def test_rule_bites(tmp_path, monkeypatch):
    monkeypatch.setitem(globals(), "PACKAGE", tmp_path)
    (tmp_path / "ui").mkdir()
    for name, code, refused in (
        ("labels.py", "from .pipeline import Pipeline", {"pipeline"}),
        ("draw.py", "from qmmfl import labels, prose\nimport qmmfl.records", {"prose"}),
        ("weights.py", "from training import export", {"training"}),
        ("ui/page.py", "from ..cli import main\nfrom .. import draw\nfrom .layout import cli", {"cli"}),
    ):
        (tmp_path / name).write_text(code)
        assert upward(tmp_path / name) == refused


def test_every_module_is_listed_once():
    modules = {p.relative_to(PACKAGE).parts[0].removesuffix(".py") for p in files()}
    assert sorted(ORDER) == sorted(modules)


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
