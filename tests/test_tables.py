"""Faults in the training folder: every one is named with its place before the first step."""

import cv2
import numpy as np
import pytest

pytest.importorskip("tqdm", reason="training needs the train extra")

from training import pixels, tables


def rows(**changes):
    good = {"image": "a.webp", "split": "train", "group": "1", "m_DR": "1", "m_MH": "-1", "dr_grade": "2"}
    return [good, {**good, "image": "b.webp", **changes}]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"m_FOO": "1"}, None),
        ({"m_DR": "2"}, r"m_DR .*line 3 \(b.webp: 2\)"),
        ({"m_MH": ""}, r"m_MH .*line 3"),
        ({"dr_grade": "5"}, r"dr_grade .*-1, 0, 1, 2, 3, 4: line 3 \(b.webp: 5\)"),
        ({"split": "tset"}, r"split .*line 3 \(b.webp: tset\)"),
        ({"image": "a.webp"}, r"twice: a.webp \(lines 2, 3\)"),
    ],
)
def test_bad_tables_are_refused_with_their_rows(changes, said):
    tables.check("t.csv", rows())
    if said is None:
        wrong = [{**row, **changes} for row in rows()]
        said = "t.csv has columns for codes outside the vocabulary: m_FOO"
    else:
        wrong = rows(**changes)
    with pytest.raises(tables.TableError, match=said):
        tables.check("t.csv", wrong)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ([*rows()[:1], {**rows()[1], None: ["more"]}], "more or fewer cells than its head: line 3"),
        ([*rows()[:1], {**rows()[1], "group": None}], "more or fewer cells than its head: line 3"),
        ([{"image": "a", "split": "val"}], "no column group"),
        ([{"split": "val", "group": "1"}], "no column image or stem"),
    ],
)
def test_torn_tables_and_lost_columns_are_named(wrong, said):
    with pytest.raises(tables.TableError, match=said):
        tables.check("t.csv", wrong)


def test_a_lesion_mask_that_the_table_counts_must_be_there(tmp_path):
    row = {"stem": "IDRiD_01", "n_MA": "666", "n_HE": "", "n_EX": "0"}
    with pytest.raises(pixels.DataError, match=r"masks_MA.*missing, of which the table counts 666 px"):
        pixels.lesion_masks(row, tmp_path)
    (tmp_path / "masks_MA").mkdir()
    (tmp_path / "masks_MA" / "IDRiD_01.png").touch()
    assert pixels.lesion_masks(row, tmp_path) == [tmp_path / "masks_MA" / "IDRiD_01.png", None, None, None]


def test_groups_that_cross_splits_are_refused():
    eyes = [("a", "g1", "train"), ("b", "g1", "train"), ("c", "g2", "test")]
    tables.check_splits(eyes)
    with pytest.raises(tables.TableError, match=r"group g2 \(c in test, d in train\)"):
        tables.check_splits([*eyes, ("d", "g2", "train")])
    with pytest.raises(tables.TableError, match="twice: a"):
        tables.check_splits([*eyes, ("a", "g1", "train")])


def test_a_fault_in_the_training_folder_is_named_before_the_first_step(tmp_path, eye):
    folder = tmp_path / "seg/drishti_disc_cup"
    for kind in ("images", "masks_OD", "masks_OC"):
        (folder / kind).mkdir(parents=True)
    (folder / "index.csv").write_text("stem,split,group\none,train,1\n")

    def read():
        return list(pixels.disc_cup(tmp_path, "train", 64))

    def write(kind: str, picture: np.ndarray) -> None:
        cv2.imwrite(str(folder / kind / "one.png"), picture)

    disc, cup = ((eye.planes[name] > 0.5).astype(np.uint8) * 255 for name in ("disc", "cup"))
    write("masks_OD", disc)
    write("masks_OC", cup)
    with pytest.raises(pixels.DataError, match="no picture named one"):
        read()
    write("images", eye.photograph[..., ::-1])
    (sample,) = read()
    assert sample.truth.shape == (2, 64, 64)
    write("masks_OC", cup[:-4])
    with pytest.raises(pixels.DataError, match="same size"):
        read()
    write("masks_OC", np.where(cup > 0, 7, 0).astype(np.uint8))
    with pytest.raises(pixels.DataError, match="holds the value 7, which is none of 0, 255"):
        read()
    (folder / "masks_OC/one.png").unlink()
    with pytest.raises(pixels.DataError, match="masks_OC.*missing"):
        read()
