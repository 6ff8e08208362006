"""The benchmark's table says what was missed, and goes where the README marks it."""

from conftest import ROOT

from training import benchmark


def test_rows_say_what_is_met_and_missed():
    assert benchmark.Row("a", 0.9, "x", 1.0).met
    assert not benchmark.Row("a", 1.1, "x", 1.0).met
    assert benchmark.Row("a", 31, "x", 30, most=False).met
    assert benchmark.Row("a", 1.0, "s").met is None
    assert benchmark.ratio([2.0, 9.0, 4.0], [1.0, 3.0, 1.0]) == 3.0


def test_the_table_replaces_the_one_in_the_readme():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    rows = [benchmark.Row("maps / networks", 0.23, "x", 0.1), benchmark.Row("report", 1.5, "s")]
    once = benchmark.with_table(readme, rows, 2)
    assert "| maps / networks | 0.23 x | <= 0.1 x | missed |" in once
    assert "| report | 1.5 s |  |  |" in once
    assert benchmark.with_table(once, rows, 2) == once
    assert once.startswith(readme.partition(benchmark.BEGIN)[0])
    assert once.endswith(readme.partition(benchmark.END)[2])
