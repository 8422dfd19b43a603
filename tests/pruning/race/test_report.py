"""What readers get of a run: words from outside stay text, nothing is fetched, the numbers are those of the table."""

import csv
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from pruning.race.chart import NOTE, as_good, pareto
from pruning.race.folder import MANIFEST, Result, append
from pruning.race.reading import latex, markdown
from pruning.race.report import REPORT, html, write
from pruning.race.settings import ALL
from pruning.race.table import table
from tests.helpers.markup import NASTY
from tests.helpers.races import SAID, run


class Page(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags, self.words, self.addresses = list[str](), list[str](), list[str]()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        wants = ("src", "href", "xlink:href", "action", "srcset")
        self.addresses += [value or "" for name, value in attrs if name in wants]

    def handle_data(self, data: str) -> None:
        self.words.append(data)


def test_the_report_asks_for_nothing_and_takes_no_word_for_markup(tmp_path: Path) -> None:
    told = run(tmp_path, SAID)
    append(tmp_path / "results.jsonl", Result("x", 7, "seven", NASTY).line())
    rows = table(told)
    plain = Page(html(told, rows))
    path = tmp_path / MANIFEST
    path.write_text(path.read_text("utf-8").replace('"Tiny"', '"&<script>Tiny</script>"'), "utf-8")
    page = Page(html(told, [row | {"method": f"{row['method']}<b>$x$"} for row in rows]))
    assert page.tags.count("script") == page.tags.count("b") == 0
    assert set(page.tags) == set(plain.tags)
    assert all(address.startswith("#") for address in page.addresses), "parts of the drawing itself alone"
    assert not re.search(r"url\((?!#)|@import", html(told, rows))
    assert any(NASTY in word for word in page.words)
    assert any("<b>$x$" in word for word in page.words)


def test_a_run_without_results_has_a_report(tmp_path: Path) -> None:
    told = run(tmp_path, SAID)
    (tmp_path / "results.jsonl").unlink()
    assert write(told) == []
    assert "No question has been answered yet" in (tmp_path / REPORT).read_text("utf-8")


def test_the_files_have_the_table(tmp_path: Path) -> None:
    rows = write(run(tmp_path, SAID))
    with (tmp_path / "table.csv").open(newline="") as file:
        read = list(csv.DictReader(file))
    assert [float(row["accuracy"]) for row in read] == [row["accuracy"] for row in rows]
    lines = (tmp_path / "table.md").read_text("utf-8").splitlines()
    assert lines[3].startswith("| **Random, 25 %** | 25 | 6 | 66.7 (")
    assert {line.count("|") for line in lines} == {lines[0].count("|")}
    text = (tmp_path / "table.tex").read_text("utf-8")
    assert r"\textbf{Random, 25 \%} & 25 & 6 & 66.7 (" in text
    body = text.split("\\midrule")[1].split("\\bottomrule")[0].strip().splitlines()
    assert {line.count("&") for line in body} == {text.splitlines()[0].removeprefix("\\begin{tabular}").count("r")}


@pytest.mark.parametrize(
    ("write", "shown"),
    [(markdown, r"a\|b\_c\\d e, 25 %"), (latex, r"a|b\_c\textbackslash{}d e, 25 \%")],
)
def test_signs_of_the_language_are_text(tmp_path: Path, write, shown: str) -> None:
    _, row, _ = table(run(tmp_path, SAID))
    assert shown in write([row | {"method": "a|b_c\\d\ne"}])


def test_the_chart_draws_groups_and_names_every_point(tmp_path: Path) -> None:
    clear = {ALL: ["yes", "no"] * 30, "random@0.25": ["yes", "no"] * 30, "lower_resolution@0.25": ["no", "yes"] * 30}
    rows = table(run(tmp_path, clear, true=["yes", "no"] * 30))
    chart = pareto(rows)
    assert [mark.method for mark in chart.marks] == ["random@0.25", "lower_resolution@0.25"]
    assert "Best at each retention: Random, 25 %: accuracy 100.0 %" in chart.summary
    assert [as_good(row) for row in rows] == [True, True, False]
    (axes,) = chart.figure.axes
    filled = [line.get_markerfacecolor() == line.get_color() for line in axes.lines if line.get_markersize() == 6
              and line.get_marker() not in (None, "None", "")]  # fmt: skip
    assert filled == [True, False]
    assert all(word in NOTE for word in ("Ringed", "filled", "hollow"))
    with pytest.raises(ValueError, match="nothing to draw"):
        pareto(rows[1:])
