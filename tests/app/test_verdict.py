"""An answer without words is never "the same answer": in the library, and in every view that tells of answers."""

from __future__ import annotations

import io
import json
import zipfile
from dataclasses import asdict, dataclass, replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from gradio_client import Client, handle_file
from PIL import Image

from app.answers import views as answers_views
from app.answers.answering import Asked, answers, closeness
from app.answers.reports import Exchange, Report, reports
from app.answers.verdicts import BADGES, SHORT
from app.api import results as api_results
from app.batch import run as batch_run
from app.batch import views as batch_views
from app.compare import run as compare_run
from app.compare import views as compare_views
from app.engine.capabilities import Capabilities
from app.engine.device import Task
from app.engine.engine import Engine
from app.engine.resources import Resources
from app.examples import EXAMPLES
from app.export import archive as export_archive
from app.presenter import slides as presenter_slides
from app.presenter import views as presenter_views
from app.smallest_budget import search as smallest_budget_search
from app.tradeoff import measure as tradeoff_measure
from pruning.cli import answer as command
from pruning.cli.main import main
from pruning.cli.sweep import sweep as sweep_command
from pruning.evaluation.verdict import NO_MEANING, NO_REFERENCE, Verdict, check_words, is_empty, verdict
from pruning.method import make
from tests.helpers.visits import keep, look, visit

SETTING = keep("idpruner", 0.25)
NOTHING = ["", " ", "\n\t ", "\u00a0\u3000", "\u200b", "\ufeff\u200d", "\x00"]


@dataclass(frozen=True)
class Said:
    text: str
    ids: tuple[int, ...]


WORDS, OTHERS, STOP = Said("a cat", (5, 6, 2)), Said("a dog", (5, 7, 2)), Said("", (2,))


@pytest.fixture
def engine(tiny_vlm):
    return Engine(tiny_vlm, Resources(64 << 20), "tiny")


@pytest.fixture
def mute(tiny_vlm, monkeypatch):
    """mute(full, kept, shown): from now on answers with all tokens, and those with fewer, show nothing but `shown`."""
    stream, together, alone = tiny_vlm.generate, tiny_vlm.answer_batch, tiny_vlm.answer

    def switch(full: bool = True, kept: bool = True, shown: str = "") -> None:
        def quiet(selection):
            return full if selection is None or selection.k == selection.n else kept

        def generate(encoded, question, selection=None, **named):
            for chunk in stream(encoded, question, selection, **named):
                yield replace(chunk, text_so_far=shown) if quiet(selection) else chunk

        def answer(encoded, question, selection=None, **named):
            given = alone(encoded, question, selection, **named)
            return replace(given, text=shown) if quiet(selection) else given

        def batched(samples, **named):
            found = together(samples, **named)
            return [replace(a, text=shown) if quiet(s.kept) else a for s, a in zip(samples, found, strict=True)]

        monkeypatch.setattr(tiny_vlm, "generate", generate)
        monkeypatch.setattr(tiny_vlm, "answer", answer)
        monkeypatch.setattr(tiny_vlm, "answer_batch", batched)

    return switch


# In the library


@pytest.mark.parametrize("text", NOTHING)
def test_what_cannot_be_seen_is_no_answer(text):
    assert is_empty(text)
    nothing = Said(text, (9, 2))
    assert verdict(nothing, nothing) is Verdict.BOTH_EMPTY
    assert verdict(nothing, WORDS) is Verdict.FULL_EMPTY
    assert verdict(WORDS, nothing) is Verdict.KEPT_EMPTY
    with pytest.raises(ValueError, match=r"nothing to compare with: ask another question, or choose another"):
        check_words(nothing)


@pytest.mark.parametrize("text", ["a", "0", ".", " no ", "\u200bja", "\N{GRINNING FACE}", "猫"])
def test_whatever_shows_is_an_answer(text):
    assert not is_empty(text)
    assert verdict(Said(text, (1,)), Said(text, (1,))) is Verdict.SAME
    check_words(Said(text, (1,)))


@pytest.mark.parametrize(
    ("full", "kept", "found", "agree", "comparable"),
    [
        (WORDS, WORDS, Verdict.SAME, True, True),
        (WORDS, OTHERS, Verdict.DIFFERENT, False, True),
        (WORDS, replace(WORDS, ids=(5, 6)), Verdict.DIFFERENT, False, True),
        (WORDS, STOP, Verdict.KEPT_EMPTY, False, True),
        (STOP, WORDS, Verdict.FULL_EMPTY, None, False),
        (STOP, STOP, Verdict.BOTH_EMPTY, None, False),
        (STOP, Said("", (3, 2)), Verdict.BOTH_EMPTY, None, False),
    ],
)
def test_the_verdict(full, kept, found, agree, comparable):
    told = verdict(full, kept)
    assert told is found
    assert (told.agree, told.comparable) == (agree, comparable)
    assert bool(told.why) == (full is STOP or kept is STOP)


# Commands


@pytest.mark.parametrize("quiet", [(True, True), (True, False)])
def test_the_command_gives_no_agreement_and_no_fidelity(tiny_vlm, saved, mute, quiet):
    mute(*quiet)
    result = command.answer(tiny_vlm, saved(), "what animal is this?", make("idpruner"), 0.25)
    assert (result["agree"], result["fidelity"]) == (None, None)
    assert result["verdict"] == ("both_empty" if quiet[1] else "full_empty")
    assert '"agree": null' in json.dumps(result)
    told = command.text(result)
    assert "(no words)" in told
    assert "nothing to compare" in told
    assert "fidelity" not in told


def test_the_command_measures_what_pruning_silenced(tiny_vlm, saved, mute):
    mute(full=False)
    result = command.answer(tiny_vlm, saved(), "what animal is this?", make("idpruner"), 0.25)
    assert (result["verdict"], result["agree"]) == ("kept_empty", False)
    assert 0 < result["fidelity"] <= 1
    assert "keep more tokens" in command.text(result)


def test_the_command_draws_no_curves_of_nothing(tiny_vlm, saved, mute, tmp_path):
    mute(shown=" ")
    picture = tmp_path / "curves.png"
    given = (tiny_vlm, saved(), "what?", [make("random")], [0.5], 0.5, "sample", "original", picture)
    with pytest.raises(ValueError, match="ask another question"):
        sweep_command(*given, print, print)
    assert not picture.exists()


# The app


@pytest.mark.parametrize("shown", ["", "\u200b"])
def test_a_report_of_two_empty_answers(engine, saved, mute, shown):
    mute(shown=shown)
    session = look(engine, saved())
    *_, last = reports(engine, session, SETTING, Task())
    assert (last.stage, last.verdict, last.agree, last.fidelity, last.pieces) == (
        "done", Verdict.BOTH_EMPTY, None, None, (),
    )  # fmt: skip
    assert last.speedup is not None, "what it costs is measured all the same"
    html = answers_views.report(last)
    assert "Same answer" not in html
    assert '<span class="fidelity"' not in html
    assert html.count("no words") == 2
    assert "nothing to compare: ask another question" in html
    told = asdict(api_results.answered(engine, session, SETTING, last))
    assert (told["verdict"], told["agree"], told["fidelity"], told["pieces"]) == ("both_empty", None, None, [])


def test_only_the_answer_with_all_tokens_is_empty(engine, saved, mute):
    mute(kept=False)
    *_, last = reports(engine, look(engine, saved()), SETTING, Task())
    assert (last.verdict, last.agree, last.fidelity) == (Verdict.FULL_EMPTY, None, None)
    assert NO_REFERENCE in answers_views.report(last)


def test_only_the_answer_with_the_kept_tokens_is_empty(engine, saved, mute):
    session = look(engine, saved())
    *_, spoken = reports(engine, session, SETTING, Task())
    engine.cache.clear()
    mute(full=False)
    *_, last = reports(engine, session, SETTING, Task())
    assert (last.verdict, last.agree) == (Verdict.KEPT_EMPTY, False)
    assert last.fidelity == pytest.approx(spoken.fidelity), "measured on the words of the answer with all tokens"
    assert last.pieces
    html = answers_views.report(last)
    assert "≠ No words with the kept tokens" in html
    assert "keep more tokens" in html


def test_an_end_token_alone_is_no_answer(engine, tiny_vlm, saved, monkeypatch):
    """As the shipped model answers what it does not know: the same end token on both sides, with all its confidence."""
    session = look(engine, saved())
    *_, first = answers(engine, Asked(session, session.first), Task())
    engine.cache.clear()
    monkeypatch.setattr(tiny_vlm.model.generation_config, "eos_token_id", list(first.ids))
    monkeypatch.setattr(tiny_vlm, "_decode", lambda ids: "")
    everything = keep("idpruner", 1.0)
    *_, last = reports(engine, session, everything, Task())
    assert (last.verdict, last.agree, last.fidelity) == (Verdict.BOTH_EMPTY, None, None)


def test_the_last_turn_counts_and_earlier_ones_show_that_they_are_empty(engine, saved, mute):
    mute()
    *_, last = reports(engine, look(engine, saved(), questions=("one?", "two?")), SETTING, Task())
    assert (last.verdict, last.earlier) == (Verdict.BOTH_EMPTY, (Exchange("one?", "", ""),))
    assert answers_views.report(last).count("no words") == 4


def test_closeness_itself_refuses(engine, saved, mute):
    mute()
    asked = Asked(look(engine, saved()), "what?")
    *_, answer = answers(engine, asked, Task())
    with pytest.raises(ValueError, match="nothing to compare with"):
        closeness(engine, asked, answer, asked)


def test_compared_settings_have_no_verdict(engine, saved, mute):
    mute()
    session, others = look(engine, saved()), [SETTING, keep("random", 0.25)]
    *_, last = compare_run.compare(engine, Capabilities(engine.vlm), session, others, compare_run.Results(), Task())
    assert last.stage == "done"
    rows = [last.results.of(setting) for setting in others]
    html = "".join(map(compare_views.body, rows)) + compare_views.table(rows)
    assert html.count("∅ No words in either answer") == 2
    assert html.count("∅ no words") == 2
    assert "ame answer<" not in html.replace('<button type="button">Same answer<', "")
    assert '<span class="fidelity"' not in html
    told = compare_views.status(last, (*others, None, None))
    assert "tokens: <b>no words</b>" in told
    assert NO_REFERENCE in told


def test_a_batch_counts_only_what_can_be_compared(engine, saved, mute):
    paths = [saved(seed) for seed in range(3)]
    items, _ = batch_run.opened(engine.resources.pictures, paths, look(engine, paths[0]))
    *_, spoken = batch_run.run(engine, items[:1], SETTING, Task())
    mute()
    *_, last = batch_run.run(engine, items, SETTING, Task())
    assert (last.stage, last.done) == ("done", 3)
    assert [item.empty for item in last.items] == [False, True, True]
    assert batch_run.summary(last.items) == batch_run.summary(spoken.items)
    told = batch_views.totals(last.items)
    assert "of 1 <small>" in told
    assert f"Not counted: 2 of 3 images. {NO_REFERENCE}" in told
    assert "∅ No words" in batch_views.card(last.items[1], None)
    assert "fidelity" not in batch_views.card(last.items[1], None)
    assert batch_run.summary(last.items[1:]) is None
    assert "<dl" not in batch_views.totals(last.items[1:])
    assert "Not counted: 2 of 2 images" in batch_views.totals(last.items[1:])


def test_a_batch_counts_what_pruning_silenced(engine, saved, mute):
    mute(full=False)
    items, _ = batch_run.opened(engine.resources.pictures, [saved()], look(engine, saved()))
    *_, last = batch_run.run(engine, items, SETTING, Task())
    found = batch_run.summary(last.items)
    assert (found.images, found.agree) == (1, 0)
    assert "≠ No words" in batch_views.card(last.items[0], None)


@pytest.mark.parametrize("search", [smallest_budget_search.find_budget, smallest_budget_search.find_lambda])
def test_no_number_of_tokens_keeps_an_answer_that_is_none(engine, saved, mute, search):
    mute()
    with pytest.raises(ValueError, match=f"^{NO_REFERENCE}$"):
        list(search(engine, look(engine, saved()), SETTING, Task()))
    with pytest.raises(ValueError, match=r"^Turn 1: With all tokens"):
        list(search(engine, look(engine, saved(), questions=("one?", "two?")), SETTING, Task()))


def test_an_empty_answer_does_not_keep_one_with_words(engine, saved, mute):
    mute(full=False)
    *_, last = smallest_budget_search.find_budget(engine, look(engine, saved()), SETTING, Task())
    assert last.tokens == last.n


def test_there_is_no_curve_of_nothing(engine, saved, mute):
    mute()
    session = look(engine, saved())
    *_, last = tradeoff_measure.sweep(engine, session, [make("random")], Task())
    assert (last.stage, last.points) == ("empty", ())
    points = tradeoff_measure.plane(engine, session, SETTING)
    assert api_results.tradeoff(points, None, [NO_REFERENCE]).fidelity is None
    assert api_results.tradeoff(points, (), []).fidelity == []
    stopped = Task()
    stopped.set()
    engine.cache.clear()
    *_, last = tradeoff_measure.sweep(engine, session, [make("random")], stopped)
    assert last.stage == "stopped", "nothing is known of the answer"


def test_the_presenter_says_it_and_why_there_is_no_curve(engine, saved, mute):
    mute()
    session = look(engine, saved())
    slide = presenter_slides.slide(engine.resources.pictures, session, None)
    capabilities, wish = Capabilities(engine.vlm), presenter_slides.Wish(1, curves=True)
    news = list(presenter_slides.news(engine, capabilities, slide, SETTING, wish, ("random",), Task()))
    told = [piece["told"] for piece in news if "told" in piece][-1]
    assert (told["verdict"], told["verdict_words"]) == BADGES[Verdict.BOTH_EMPTY]
    assert told["verdict_why"] == Verdict.BOTH_EMPTY.why
    assert (told["full"], told["kept"], dict(told["facts"])["Fidelity"]) == ("no words", "no words", "–")
    assert news[-1] == {"chart": {"turn": 1, "svg": "", "summary": NO_REFERENCE, "status": ""}}
    assert presenter_views.told(None)["verdict_why"] == ""


@pytest.mark.parametrize("questions", [("what?",), ("what?", "and then?")])
def test_the_export_says_why_figures_are_missing(engine, saved, mute, questions):
    mute()
    wanted = export_archive.Wanted(look(engine, saved(), questions=questions), SETTING, (0.5, 0.5), "dimmed")
    *_, archive = export_archive.export(engine, wanted, Task())
    with zipfile.ZipFile(io.BytesIO(archive.data)) as packed:
        told = json.loads(packed.read("answers.json"))
        readme = packed.read("README.txt").decode()
    assert (told["verdict"], told["agree"], told["fidelity"]) == ("both_empty", None, None)
    assert Verdict.BOTH_EMPTY.why in readme
    assert "There can be no fidelity curves" in readme
    assert "export again" not in readme


def test_every_verdict_has_words_and_none_says_same_but_the_one():
    assert set(BADGES) == set(SHORT) == set(Verdict)
    for found in Verdict:
        assert ("ame" in BADGES[found][1], "Same" in SHORT[found]) == (found is Verdict.SAME,) * 2
        assert (BADGES[found][0] == "same") == (found is Verdict.SAME)
    stopped = Report(4, 1, "x", "stopped", verdict=Verdict.BOTH_EMPTY)
    assert "Stopped" in answers_views.report(stopped)


@pytest.fixture
def outside(tiny_vlm, monkeypatch):
    """From now on the tiny model knows a world of its own, and no picture lies in it."""
    from pruning.models.world import World

    none = torch.zeros(0)
    monkeypatch.setattr(tiny_vlm, "world", World("circles", none, none, none, 1.0))
    monkeypatch.setattr(World, "strangeness", lambda self, pictures: 2.0)


def test_outside_of_its_world_a_model_is_compared_with_nothing(tiny_vlm, outside, saved):
    engine = Engine(tiny_vlm, Resources(64 << 20), "tiny")
    *_, last = reports(engine, look(engine, saved(), questions=("what color?",)), SETTING, Task())
    assert (last.verdict, last.agree, last.fidelity, last.pieces) == (Verdict.OUTSIDE, None, None, ())
    assert (last.in_world, last.outside) == (False, "the model knows circles alone, and this picture is none of them")
    assert last.select_s > 0
    assert last.full.ttft_s > 0
    assert last.full.flops > last.kept.flops
    shown = answers_views.report(last)
    assert "Real here: patches, importance, diversity, cost and selection time" in shown
    assert "Show it anyway" in shown
    assert "Same answer" not in shown
    session = look(engine, saved(), questions=("what color?",))
    (*_, swept) = tradeoff_measure.sweep(engine, session, [make("random")], Task())
    assert (swept.stage, swept.points) == ("outside", ())
    for search in (smallest_budget_search.find_budget, smallest_budget_search.find_lambda):
        with pytest.raises(ValueError, match=r"outside what this model knows.*circles"):
            list(search(engine, session, SETTING, Task()))


def test_what_was_asked_before_counts_for_the_last_answer(tiny_vlm, saved, monkeypatch):
    """A conversation with unknown words in it lies outside, whatever is asked in the end; its pictures do not."""
    from pruning.models import world

    monkeypatch.setattr(tiny_vlm, "world", SimpleNamespace(name="circles", strangeness=lambda pictures: 0.0))
    monkeypatch.setattr(world, "unknown_words", lambda vlm, question: ("gnu",) if "gnu" in question else ())
    engine = Engine(tiny_vlm, Resources(64 << 20), "tiny")
    said = ("what color?", "where is the gnu?", "how many?")
    *_, last = reports(engine, look(engine, saved(), questions=said), SETTING, Task())
    assert (last.verdict, last.fidelity, last.in_world) == (Verdict.OUTSIDE, None, False)
    assert last.outside.startswith("the model does not know the words gnu, which an earlier question")
    assert last.outside.endswith("begin a new one")
    assert [turn.in_world for turn in last.earlier] == [True, False]
    shown = answers_views.report(last)
    assert shown.index("where is the gnu?") < shown.index("Outside what the model knows. Show it anyway")
    assert shown.count("<details>") == 2, "of the turn before it, and of this one"
    assert engine.in_world(look(engine, saved(), questions=said[:1])).inside
    assert engine.in_world(look(engine, saved(), questions=said[:2])).reason == "the model does not know the words gnu"
    # Curves, fewest tokens and exports are about the first question alone.
    assert engine.in_world(look(engine, saved(), questions=said), said[0]).inside


def test_a_batch_does_not_count_what_lies_outside(tiny_vlm, outside, saved):
    engine = Engine(tiny_vlm, Resources(64 << 20), "tiny")
    items, _ = batch_run.opened(engine.resources.pictures, [saved()], look(engine, saved(), questions=("what color?",)))
    *_, last = batch_run.run(engine, items, SETTING, Task())
    assert [item.verdict for item in last.items] == [Verdict.OUTSIDE]
    assert batch_run.summary(last.items) is None
    told = batch_views.totals(last.items)
    assert f"Not counted: 1 of 1 images. {NO_MEANING}" in told
    assert NO_REFERENCE not in told


# The shipped model, asked what it does not know, of a picture that it does not know


UNKNOWN = "what animal is this?"


@pytest.fixture(scope="module")
def photograph(tmp_path_factory):
    """Soft colours as in a photograph out of focus."""
    path = tmp_path_factory.mktemp("pictures") / "photograph.png"
    pixels = np.random.default_rng(0).integers(0, 256, (9, 12, 3), dtype=np.uint8)
    Image.fromarray(pixels).resize((480, 360), Image.Resampling.BICUBIC).save(path)
    return str(path)


def test_programs_are_given_null(shipped_page, photograph, tmp_path):
    client = Client(shipped_page.url, verbose=False, download_files=str(tmp_path))
    given = {"image": handle_file(photograph), "question": UNKNOWN}
    told = client.predict(**given, api_name="/answer")
    assert (told["full"]["text"], told["kept"]["text"]) == ("", "")
    assert (told["verdict"], told["agree"], told["fidelity"], told["pieces"]) == ("outside", None, None, [])
    assert told["in_world"] is False
    assert told["outside"].endswith("this picture is none of them and the model does not know the words animal, this")
    assert told["select_s"] > 0
    known = client.predict(image=handle_file(EXAMPLES[0].path), question=EXAMPLES[0].questions[0], api_name="/answer")
    assert (known["in_world"], known["outside"]) == (True, "")
    assert known["agree"] is not None
    for each in client.predict(**given, api_name="/compare")["settings"]:
        assert (each["verdict"], each["agree"], each["fidelity"]) == ("outside", None, None)
    told = client.predict(**given, methods=["random"], api_name="/pareto")
    assert told["fidelity"] is None
    assert told["left_out"] == [NO_MEANING]
    assert told["plane"]


def strange(photograph):
    """Pictures and questions that mean nothing to the shipped model, and what is said of each."""
    scene, question = Image.open(EXAMPLES[0].path).convert("RGB"), EXAMPLES[0].questions[0]
    half = scene.copy()
    half.paste(Image.open(photograph).resize((scene.width // 2, scene.height)))
    paper = np.random.default_rng(0).normal(246, 2, (300, 210, 1)).repeat(3, 2).clip(0, 255).astype(np.uint8)
    pictures = {"half": half, "empty": Image.new("RGB", (64, 48), "white"), "scan": Image.fromarray(paper)}
    told = [(picture, question, "this picture is none of them") for picture in pictures.values()]
    return [
        *told,
        (scene, "星は何色ですか？", "does not know the words 星は何色ですか"),
        (scene, "цвет?", "the words цвет"),
    ]


def test_half_a_picture_none_a_bare_page_and_another_script_are_outside(shipped_page, photograph, tmp_path, capsys):
    client = Client(shipped_page.url, verbose=False, download_files=str(tmp_path))
    for picture, question, said in strange(photograph):
        picture.save(tmp_path / "picture.png")
        given = {"image": handle_file(tmp_path / "picture.png"), "question": question}
        told = client.predict(**given, api_name="/answer")
        assert (told["verdict"], told["in_world"], told["agree"]) == ("outside", False, None)
        assert said in told["outside"]
    assert main(["answer", str(tmp_path / "picture.png"), question, "--json", "--max-new-tokens", "1"]) == 0
    assert json.loads(capsys.readouterr().out)["outside"] == told["outside"]


def test_the_command_line_says_it(photograph, capsys, monkeypatch):
    assert main(["answer", photograph, UNKNOWN, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["verdict"], told["agree"], told["fidelity"]) == ("outside", None, None)
    assert told["in_world"] is False
    assert main(["answer", photograph, UNKNOWN]) == 0
    lines, told = capsys.readouterr()
    assert f"{NO_MEANING} (the model knows drawn scenes alone, and" in lines
    assert "agreement" not in lines
    assert (
        "SmolVLM2-256M-Video-Instruct reads photographs: --model HuggingFaceTB/SmolVLM2-256M-Video-Instruct (" in told
    )
    monkeypatch.setattr(command, "free_bytes", lambda device: 1000)
    assert command.elsewhere(SimpleNamespace(device=torch.device("cpu"))) == ""
    assert main(["sweep", photograph, UNKNOWN, "--methods", "random", "--retention", "0.5"]) != 0
    assert NO_MEANING in capsys.readouterr().err


def test_every_view_says_so(shipped_page, chromium, photograph, fits):
    with visit(chromium, shipped_page.url) as tab:
        tab.fill("#question textarea", UNKNOWN)
        tab.click("#ask")
        tab.wait_for_selector("#report .badge.none >> text=Outside what the model knows")
        tab.wait_for_selector("#report .outside >> text=the model does not know the words animal, this")
        assert tab.locator("#report .badge.same, #report .fidelity, #report .token").count() == 0
        assert not tab.locator("#report .answer").first.is_visible()
        assert tab.is_visible("#report .elsewhere")
        assert not tab.is_visible("#report .to-photographs")  # this page offers no other model
        fits(tab, "outside")
        tab.click("#report .outside summary")
        assert tab.locator("#report .answer").first.is_visible()
        tab.get_by_role("tab", name="Fidelity curves").click()
        tab.wait_for_selector(f"#curves .chart.empty >> text={NO_MEANING}")
        tab.click("#fewest-tokens")
        tab.wait_for_selector(f"[data-testid=toast-body] >> text={NO_MEANING}")
        tab.get_by_role("tab", name="Compare").click()
        tab.click("#add-present")
        tab.wait_for_selector("#slot-body-A .badge.none")
        tab.wait_for_selector(f".notice:visible >> text={NO_MEANING}")
        tab.get_by_role("tab", name="Many images").click()
        tab.set_input_files("#batch-files input[type=file]", photograph)
        tab.wait_for_selector("#batch-files .file")
        tab.click("#batch-run")
        tab.wait_for_selector("#batch-totals >> text=Not counted: 1 of 1 images")
        assert tab.locator(".batch-card .badge.same").count() == 0
        tab.get_by_role("tab", name="Explore").click()
        tab.keyboard.press("p")
        tab.wait_for_selector(".presenter[data-stage=done] .badge.none")
        tab.keyboard.press("c")
        tab.wait_for_selector(f".presenter-chart >> text={NO_MEANING}")
        tab.wait_for_selector(".presenter[data-stage=done][data-waits=no]")
