"""Label tables are checked before anything is read or learnt: what is wrong is named with its rows."""

from collections.abc import Iterable, Mapping, Sequence

from qmmfl import labels

SPLITS = ("train", "val", "test", "exclude")
SHOWN = 5  # rows named in one sentence
_TERNARY = ("-1", "0", "1")
ALLOWED: Mapping[str, tuple[str, ...]] = {
    "split": SPLITS,
    "dr_grade": tuple(str(grade) for grade in range(-1, len(labels.GRADES))),
    "dme_risk": (*_TERNARY, "2"),
    "eyeq_quality": (*_TERNARY, "2"),
    "quality": ("good", "bad", "outlier"),
    **dict.fromkeys(("maculopathy", "pathological_myopia", "white_frame", "dup_conflict", "uncertain"), _TERNARY),
}  # column -> what may stand in it; -1 is "not annotated"


class TableError(ValueError):
    """A label table that cannot be used. The text is one sentence that names the table and the rows."""


def check(name: str, rows: Sequence[Mapping[str, str]]) -> None:
    """Refuse a label table (rows as `csv.DictReader` gives them) with a TableError.

    Lines of more or fewer cells than the head, a table without photographs, groups or splits, a column m_CODE whose
    code is not in the vocabulary, m_ and eye_ values outside -1, 0, 1, a grade outside -1..4 or another value that
    `ALLOWED` does not know, and a photograph listed twice.
    """
    torn = [f"line {n}" for n, row in enumerate(rows, start=2) if None in row or None in row.values()]
    if torn:
        raise TableError(f"{name} has lines of more or fewer cells than its head: {_listed(torn)}")
    columns = list(rows[0]) if rows else []
    missing = [c for c in ("split", "group") if c not in columns]
    missing += [] if {"image", "stem"} & set(columns) else ["image or stem"]
    if rows and missing:
        raise TableError(f"{name} has no column {', '.join(missing)}")
    unknown = [c for c in columns if c.startswith("m_") and c[2:] not in labels.FINDINGS]
    if unknown:
        raise TableError(f"{name} has columns for codes outside the vocabulary: {', '.join(unknown)}")
    labelled = {c: _TERNARY for c in columns if c.startswith(("m_", "eye_"))}
    for column, values in {**labelled, **{c: v for c, v in ALLOWED.items() if c in columns}}.items():
        wrong = [f"line {n} ({_title(r)}: {r[column]})" for n, r in enumerate(rows, start=2) if r[column] not in values]
        if wrong:
            raise TableError(f"{name} holds values of {column} that are none of {', '.join(values)}: {_listed(wrong)}")
    _refuse_twice(name, [_title(row) for row in rows])


def check_splits(eyes: Iterable[tuple[str, str, str]]) -> None:
    """Refuse (path, group, split) of all eyes of all tables where a group crosses splits or a path stands twice."""
    eyes = list(eyes)
    _refuse_twice("the list of photographs", [path for path, _, _ in eyes])
    members: dict[str, list[tuple[str, str]]] = {}
    for path, group, split in eyes:
        members.setdefault(group, []).append((path, split))
    crossing = [
        f"group {group} ({', '.join(f'{path} in {split}' for path, split in each[:SHOWN])})"
        for group, each in members.items()
        if len({split for _, split in each}) > 1
    ]
    if crossing:
        raise TableError(f"a patient's eyes or near-duplicates stand in more than one split: {_listed(crossing)}")


def _refuse_twice(name: str, titles: Sequence[str]) -> None:
    lines: dict[str, list[int]] = {}
    for number, title in enumerate(titles, start=2):  # line 1 of a table is its head
        lines.setdefault(title, []).append(number)
    twice = [f"{title} (lines {', '.join(map(str, at))})" for title, at in lines.items() if len(at) > 1]
    if twice:
        raise TableError(f"{name} lists a photograph twice: {_listed(twice)}")


def _title(row: Mapping[str, str]) -> str:
    return row.get("image") or row["stem"]


def _listed(faults: Sequence[str]) -> str:
    more = f" and {len(faults) - SHOWN} more" if len(faults) > SHOWN else ""
    return "; ".join(faults[:SHOWN]) + more
