"""Weights carried in one file: whole, ours, and nothing unpacked before that is known."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
import zipfile

import pytest
from conftest import ROOT, tiny_card, tiny_network
from test_atlas import invented

from qmmfl import archive, atlas, cli, weights
from qmmfl.records import WeightsError


@pytest.fixture
def exported(tiny_folder, tmp_path):
    return archive.write(tiny_folder, tmp_path / "eyes.zip")


def rewrite(source, target, change, compression=zipfile.ZIP_STORED):
    """The archive with `change` applied to its {name: bytes}."""
    with zipfile.ZipFile(source) as opened:
        members = {name: opened.read(name) for name in opened.namelist()}
    change(members)
    with zipfile.ZipFile(target, "w", compression) as opened:
        for name, data in members.items():
            opened.writestr(name, data)
    return target


def refused(path, folder, match):
    with pytest.raises(WeightsError, match=match):
        archive.read(path, folder)
    assert not folder.exists(), "nothing is unpacked"
    assert not list(folder.parent.glob(".weights-*"))


def test_round_trip(tiny_folder, exported, tmp_path):
    card = archive.read(exported, tmp_path / "new" / "weights")
    assert card == weights.read_card(tiny_folder)
    for name in weights.FILES:
        assert (tmp_path / "new" / "weights" / name).read_bytes() == (tiny_folder / name).read_bytes()
    assert weights.load(tmp_path / "new" / "weights")[1] == card


def test_licence_and_atlas_travel_with_the_weights(tmp_path):
    source = tmp_path / "source"
    weights.save(source, tiny_network(), tiny_card())
    (source / "LICENSE").write_text("terms")
    atlas.save(source / weights.ATLAS, invented(weights=weights.read_card(source).sha256, n=30)[0])
    archive.read(archive.write(source, tmp_path), tmp_path / "out")
    assert (tmp_path / "out" / "LICENSE").read_text() == "terms"
    assert (tmp_path / "out" / weights.ATLAS).read_bytes() == (source / weights.ATLAS).read_bytes()
    assert [path.name for path in tmp_path.glob("*.zip")] == [
        f"tiny-0-{weights.read_card(source).sha256[:8]}.qmmfl.zip"
    ]


def test_a_file_with_a_date_that_a_zip_does_not_know_is_exported(tiny_folder, tmp_path):
    source = tmp_path / "source"
    shutil.copytree(tiny_folder, source)
    os.utime(source / weights.CARD, (0, 0))
    assert cli.main(["weights", "export", str(tmp_path / "eyes.zip"), "--weights", str(source)]) == cli.OK
    assert archive.read(tmp_path / "eyes.zip", tmp_path / "out") == weights.read_card(tiny_folder)


def test_a_damaged_atlas_is_noticed_by_verify_and_not_exported(tmp_path, capsys):
    source = tmp_path / "source"
    weights.save(source, tiny_network(), tiny_card())
    atlas.save(source / weights.ATLAS, invented(weights=weights.read_card(source).sha256, n=30)[0])
    data = bytearray((source / weights.ATLAS).read_bytes())
    data[-1] ^= 1
    (source / weights.ATLAS).write_bytes(data)
    for arguments in (["verify"], ["export", str(tmp_path)]):
        assert cli.main(["weights", *arguments, "--weights", str(source)]) == cli.USAGE
        assert "fetch the weights again" in capsys.readouterr().err
    assert not list(tmp_path.glob("*.zip*"))


def test_damaged_weights_are_not_exported(tiny_folder, tmp_path):
    source = tmp_path / "source"
    source.mkdir()
    for name in weights.FILES:
        (source / name).write_bytes((tiny_folder / name).read_bytes()[:-1])
    with pytest.raises(WeightsError):
        archive.write(source, tmp_path / "out.zip")
    assert not (tmp_path / "out.zip").exists()


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda m: m.update({"model.safetensors": m["model.safetensors"][:-1] + b"!"}), "not the file that was exp"),
        (lambda m: m.update({"card.json": m["card.json"] + b" "}), "not the file that was exported"),
        (lambda m: m.pop("model.safetensors"), "not an archive of weights"),
        (lambda m: m.pop("SHA256SUMS"), "not an archive of weights"),
        (lambda m: m.update({"SHA256SUMS": b""}), "not the file that was exported"),
        (lambda m: m.update({"SHA256SUMS": b"\xff\n"}), "not the file that was exported"),
        (lambda m: m.update({"../evil": b"x"}), "not an archive of weights"),
        (lambda m: m.update({"/evil": b"x"}), "not an archive of weights"),
        (lambda m: m.update({"sub/card.json": b"x"}), "not an archive of weights"),
        (lambda m: m.update({"more.pkl": b"x"}), "not an archive of weights"),
        (lambda m: m.update({"LICENSE": b"x" * (2**22 + 1)}), "not an archive of weights"),
    ],
    ids=["tensors", "card", "no tensors", "no sums", "empty sums", "odd sums", "up", "root", "sub", "more", "large"],
)
def test_what_was_changed_is_refused(exported, tmp_path, change, match):
    refused(rewrite(exported, tmp_path / "bad.zip", change), tmp_path / "out", match)


def test_a_card_that_names_other_tensors_is_refused_also_with_its_own_sums(exported, tmp_path):
    def change(members):
        import hashlib

        card = json.loads(members["card.json"])
        members["card.json"] = json.dumps({**card, "sha256": "0" * 64}).encode()
        names = ("card.json", "model.safetensors")
        sums = [f"{hashlib.sha256(members[name]).hexdigest()}  {name}" for name in names]
        members["SHA256SUMS"] = "\n".join(sums).encode()

    refused(rewrite(exported, tmp_path / "bad.zip", change), tmp_path / "out", "not the file its card describes")


def test_a_compressed_member_is_refused(exported, tmp_path):
    bomb = rewrite(exported, tmp_path / "bad.zip", lambda members: None, zipfile.ZIP_DEFLATED)
    refused(bomb, tmp_path / "out", "not an archive of weights")


def test_a_member_twice_is_refused(exported, tmp_path):
    with zipfile.ZipFile(exported, "a") as opened, pytest.warns(UserWarning, match="Duplicate"):
        opened.writestr("card.json", "{}")
    refused(exported, tmp_path / "out", "not an archive of weights")


@pytest.mark.parametrize("part", [0.0, 0.3, 0.999])
def test_a_cut_archive_is_refused(exported, tmp_path, part):
    data = exported.read_bytes()
    exported.write_bytes(data[: int(len(data) * part)])
    refused(exported, tmp_path / "out", "damaged")


def test_every_flipped_byte_of_the_first_and_last_kilobyte_is_noticed_or_harmless(exported, tiny_folder, tmp_path):
    data = exported.read_bytes()
    bad, whole = tmp_path / "bad.zip", weights.read_card(tiny_folder)
    for place in [*range(0, 1000, 41), *range(len(data) - 1000, len(data), 37)]:
        bad.write_bytes(data[:place] + bytes([data[place] ^ 0x10]) + data[place + 1 :])
        try:
            assert archive.read(bad, tmp_path / f"out{place}") == whole  # a date, for example
        except WeightsError:
            assert not (tmp_path / f"out{place}").exists()


def test_what_is_no_archive_is_refused_in_a_sentence(exported, tmp_path):
    refused(tmp_path, tmp_path / "out", "cannot be read: Is a directory; check the name")
    odd = tmp_path / "odd.zip"
    with zipfile.ZipFile(odd, "w") as made:
        made.writestr("é.json", "x")
    odd.write_bytes(odd.read_bytes().replace("é".encode(), b"\xff\xfe"))
    refused(odd, tmp_path / "out", "is damaged or not an archive of weights")
    card, tensors = b"[" * 200_000, b"x"
    sums = "".join(
        f"{hashlib.sha256(each).hexdigest()}  {name}\n"
        for name, each in ((weights.CARD, card), (weights.MODEL, tensors))
    )
    with zipfile.ZipFile(odd, "w") as made:
        for name, each in ((archive.SUMS, sums), (weights.CARD, card), (weights.MODEL, tensors)):
            made.writestr(name, each)
    refused(odd, tmp_path / "out", f"{weights.CARD} in odd.zip cannot be read")


def test_a_pipe_that_has_seen_enough_is_no_fault(tiny_folder):
    command = [sys.executable, "-m", "qmmfl", "weights", "show", "--weights", str(tiny_folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=ROOT) as child:
        child.stdout.close()  # as head does
        assert child.stderr.read() == b""
    assert child.returncode == cli.OK


def test_a_folder_in_use_is_kept(exported, tmp_path):
    (tmp_path / "used").mkdir()
    (tmp_path / "used" / "file").write_text("mine")
    with pytest.raises(WeightsError, match="in use"):
        archive.read(exported, tmp_path / "used")
    assert [path.name for path in (tmp_path / "used").iterdir()] == ["file"]


def test_command_line(tiny_folder, tmp_path, capsys):
    file, folder = tmp_path / "eyes.zip", tmp_path / "out"
    assert cli.main(["weights", "export", str(file), "--weights", str(tiny_folder)]) == cli.OK
    assert cli.main(["weights", "import", str(file), "--out", str(folder)]) == cli.OK
    assert capsys.readouterr().out.count("matches its card") == 2
    assert cli.main(["weights", "verify", "--weights", str(folder)]) == cli.OK
    capsys.readouterr()
    assert cli.main(["weights", "import", str(tmp_path / "none.zip"), "--out", str(folder / "b")]) == cli.USAGE
    assert "check the name" in capsys.readouterr().err
    missing = str(tmp_path / "no" / "such" / "eyes.zip")
    assert cli.main(["weights", "export", missing, "--weights", str(tiny_folder)]) == cli.USAGE
    assert "No such file or directory; name another place" in capsys.readouterr().err
