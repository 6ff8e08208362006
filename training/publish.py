"""weights/ -> a repository on the Hugging Face Hub that `qmmfl.load("owner/repo@revision")` reads.

`python -m training.publish owner/repo [--weights weights] [--folder DIR] [--tag v0.1.0] [--private]`; log in first
with `hf auth login`. Without a repository it only writes the folder.
"""

import argparse
import json
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

from huggingface_hub import HfApi, ModelCardData

from qmmfl import weights

from . import model_card

CONFIG, PAGE = "config.json", "README.md"
TAGS = (
    "medical",
    "ophthalmology",
    "fundus",
    "diabetic-retinopathy",
    "explainability",
    "multi-label",
    "not-for-clinical-use",
)


def write(source: Path, folder: Path, repository: str = "owner/repo") -> weights.Card:
    """A folder ready for the Hub: model page, config.json, card.json, model.safetensors and the licence.

    Returns the card of the weights in `source`, verified. Raises WeightsError, or OSError where `folder` cannot be
    written.
    """
    card = weights.verify(source)
    folder.mkdir(parents=True, exist_ok=True)
    for name in (*weights.FILES, *weights.EXTRAS):
        if (source / name).is_file():
            shutil.copyfile(source / name, folder / name)
    config = {"model_type": "qmmfl", "library_name": "qmmfl", "schema": weights.SCHEMA, **card.config.to_dict()}
    (folder / CONFIG).write_text(json.dumps(config, indent=1) + "\n")
    (folder / PAGE).write_text(page(card, repository), encoding="utf-8")
    return card


def page(card: weights.Card, repository: str) -> str:
    """The model card with the Hub's YAML metadata and how to load it; everything comes from the card."""
    metadata = ModelCardData(
        language="en",
        license="other",
        license_name="research-use",
        license_link=weights.LICENCE,
        library_name="qmmfl",
        pipeline_tag="image-classification",
        tags=list(TAGS),
        qmmfl={"version": card.version, "status": card.status, "sha256": card.sha256, "square": card.prep.size},
    )
    loading = (
        f'```python\nimport qmmfl\n\nreport = qmmfl.load("{repository}")("eye.jpg")  # or owner/repo@revision\n```'
    )
    return f"---\n{metadata.to_yaml()}\n---\n\n{model_card.page(card)}\n{loading}\n"


def publish(source: Path, folder: Path, repository: str, *, private: bool = False, tag: str | None = None) -> str:
    """Write `folder` and upload it to "owner/repo" (made where it is missing); returns the commit's hash.

    Raises WeightsError, ValueError where it should be private and is not, OSError, and huggingface_hub's own errors for
    the network and for missing rights.
    """
    card = write(source, folder, repository)
    api = HfApi()
    api.create_repo(repository, private=private, exist_ok=True)
    if private and not api.model_info(repository).private:  # one that was there before stays as it was
        raise ValueError(f"{repository} is public; make it private on the Hub first, or publish without --private")
    names = [*weights.FILES, *weights.EXTRAS, CONFIG, PAGE]
    message = f"{card.name} {card.version} ({card.status}), sha256 {card.sha256[:12]}"
    commit = api.upload_folder(repo_id=repository, folder_path=folder, allow_patterns=names, commit_message=message).oid
    if tag:
        api.create_tag(repository, tag=tag, revision=commit)
    return commit


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser("training.publish", description=__doc__)
    parser.add_argument("repository", nargs="?", metavar="owner/repo")
    parser.add_argument("--weights", type=Path, default=Path("weights"))
    parser.add_argument("--folder", type=Path, help="keep what is uploaded here (default: a temporary folder)")
    parser.add_argument("--tag", help="name this revision")
    parser.add_argument("--private", action="store_true")
    options = parser.parse_args(arguments)
    if options.repository is None and options.folder is None:
        parser.error("name owner/repo to upload to, or --folder to write to")
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.folder or Path(temporary)
        if options.repository is None:
            print(f"{folder}: sha256 {write(options.weights, folder).sha256}")
        else:
            commit = publish(options.weights, folder, options.repository, private=options.private, tag=options.tag)
            print(f"{options.repository}@{commit}")


if __name__ == "__main__":
    main()
