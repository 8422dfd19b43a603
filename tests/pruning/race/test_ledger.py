"""Published rows are what was published, and a comparison claims nothing that the row does not say."""

from pathlib import Path

import pytest

from pruning.cli.main import main
from pruning.race.ledger import MODEL, SETS, causes, lines, published
from pruning.race.metrics import METRICS
from pruning.race.settings import ALL
from pruning.race.table import table
from pruning.runnable import REGISTERED
from tests.helpers import documents
from tests.helpers.races import SAID, run


def test_the_published_averages_follow_from_the_published_scores() -> None:
    rows = published()
    whole = rows[ALL]
    assert len(rows) == 1 + 9 * 2
    for row in rows.values():
        shares = [100 * row.scores[name] / whole.scores[name] for name in SETS]
        assert row.average == pytest.approx(sum(shares) / len(shares), abs=0.005), row.name


def test_every_row_can_be_asked_for() -> None:
    assert {row.method for row in published().values()} <= {*REGISTERED, ALL}
    assert {facts.metric for facts in SETS.values()} <= {*METRICS, ""}


def test_the_page_has_the_rows_and_the_sets() -> None:
    page = documents.text("docs/ledger.md")
    for name, row in published().items():
        cells = [f"`{name}`", *(f"{row.scores[each]:g}" for each in SETS), f"{row.average:g}"]
        assert f"| {' | '.join(cells)} |" in page
    for name, facts in SETS.items():
        assert f"| `{name}` | {facts.title} | `{facts.task}` |" in page


def test_only_what_the_row_states_is_compared(tmp_path: Path) -> None:
    told = run(tmp_path, SAID)
    whole, *others = lines("none@0.25", "pope", table(told))
    assert (whole.published, whole.here) == (87.8, 100)
    assert whole.difference == pytest.approx(12.2)
    assert [(each.published, each.difference) for each in others] == [(None, None)] * 2
    verdicts = {each.what: each.verdict for each in causes("pope", told.manifest, {"yes_no"}, 6)}
    assert (verdicts["model"], verdicts["metric"], verdicts["questions"]) == ("other", "unknown", "unknown")
    assert {each.what: each.verdict for each in causes("pope", told.manifest, {"exact"}, 6)}["metric"] == "other"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nobody@0.25", "--set", "pope"], "is no published row: name one of fastv@0.25"),
        (["all tokens", "--set", "pope"], "is no published row"),
        (["scope@0.1"], "needs --set"),
        (["scope@0.1", "--set", "mme"], "is no mean over questions: run it with lmms-eval"),
        (["scope@0.1", "--set", "pope", "--methods", "random"], "--methods and --reproduce say the same thing"),
        (["scope@0.1", "--set", "pope", "--retention", "0.5"], "--retention and --reproduce say the same thing"),
    ],
)
def test_what_cannot_be_reproduced_says_why(arguments, said: str, tmp_path: Path, capsys) -> None:
    assert main(["race", "--data", "scenes", "--out", str(tmp_path), "--reproduce", *arguments]) == 2
    assert said in capsys.readouterr().err


def test_a_row_is_run_with_random_and_lower_resolution_beside_it(tmp_path: Path, capsys) -> None:
    asked = "race --data scenes --scenes 1 --reproduce divprune@0.25 --set pope --model scenes --max-new-tokens 4 --yes"
    assert main([*asked.split(), "--out", str(tmp_path)]) == 0
    out = capsys.readouterr().out
    assert "| All tokens | 87.80 |" in out
    assert "| DivPrune | 85.88 |" in out
    assert "| Random | – |" in out
    assert "| Lower resolution | – |" in out
    assert f"| model | {MODEL} | " in out
    assert "| other |" in out
