"""What the README and the Space's requirements say is what the project does."""

import re
import sys

import pytest
from conftest import ROOT

README = (ROOT / "README.md").read_text()


def dependencies():
    if sys.version_info < (3, 11):
        pytest.skip("tomllib needs Python 3.11")
    import tomllib

    return tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]


def test_requirements_of_a_space_are_the_package_s():
    lines = (ROOT / "requirements.txt").read_text().splitlines()
    assert [line for line in lines if line and not line.startswith("#")] == dependencies()


def test_one_opencv():
    assert [d.split(">")[0] for d in dependencies() if "opencv" in d] == ["opencv-python-headless"]


def test_python_of_the_readme_runs(monkeypatch, capsys):
    monkeypatch.chdir(ROOT)
    code = re.search(r"```python\n(.*?)```", README, re.DOTALL)[1]
    names = {}
    exec(compile(code, "README.md", "exec"), names)
    assert names["vein"].shape == names["report"].photograph.pixels.shape[:2]
    assert "bias" in capsys.readouterr().out


def test_files_the_readme_names_exist():
    for target in re.findall(r"\]\(([^)#:]+)\)", README):
        assert (ROOT / target).exists(), target


def test_figures_come_from_the_shipped_weights():
    """Every row of the README's table says what the card says."""
    from qmmfl import weights
    from training import model_card

    card = weights.read_card(ROOT / "weights")
    assert model_card.with_figures(README, card) == README, "python -m training.model_card writes it"
    assert (ROOT / "weights" / model_card.PAGE).read_text() == model_card.page(card)
