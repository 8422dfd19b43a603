"""The presenter: its slides by themselves, then the view in a real browser against the engine's own results."""

from __future__ import annotations

import pytest

from app.answers.reports import Report, reports
from app.engine.capabilities import Capabilities
from app.engine.device import Task
from app.engine.engine import Engine
from app.engine.resources import Resources
from app.examples import EXAMPLES
from app.presenter import slides as presenter_slides
from app.presenter import views as presenter_views
from app.presenter.slides import Slide, Wish
from app.session import Session, Setting
from pruning.evaluation.answered import Side
from pruning.evaluation.verdict import Verdict
from pruning.method import make
from tests.helpers.visits import keep, look

DONE = ".presenter[data-stage=done][data-waits=no]"


@pytest.fixture
def engine(tiny_vlm):
    return Engine(tiny_vlm, Resources(64 << 20))


@pytest.mark.parametrize(
    "told",
    [None, {}, {"turn": True}, {"turn": 1, "place": "0"}, {"turn": 1, "retention": "all"}, {"turn": 1, "held": "key"},
     {"turn": 1, "held": [1]}],
)  # fmt: skip
def test_a_wish_of_the_wrong_kind_is_refused(told):
    with pytest.raises(ValueError, match="whole numbers"):
        presenter_slides.wish(told)


def test_a_wish_is_what_the_view_said():
    told = {"turn": 3, "place": 2, "retention": 0.1, "curves": True, "held": ["a"]}
    assert presenter_slides.wish(told) == Wish(3, 2, 0.1, True, ("a",))
    assert presenter_slides.wish({"turn": 1, "place": None, "retention": None, "curves": False}) == Wish(1)


def test_slides_go_round_the_examples_and_keep_what_was_asked(engine):
    pictures = engine.resources.pictures
    session = look(engine, EXAMPLES[2].path, questions=("is there a ring?", "which one?"))
    slides = [presenter_slides.slide(pictures, session, place) for place in range(-1, 9)]
    assert [slide.place for slide in slides] == [7, 0, 1, 2, 3, 4, 5, 6, 7, 0]
    assert [slide.title for slide in slides[1:9]] == [example.title for example in EXAMPLES]
    assert presenter_slides.slide(pictures, session, None) == slides[3]
    assert slides[3].session is session
    others = [slide.session for slide in (*slides[1:3], *slides[4:9])]
    wanted = [example for i, example in enumerate(EXAMPLES) if i != 2]
    assert [s.questions for s in others] == [example.questions[:1] for example in wanted]
    assert [s.pictures[0].path for s in others] == [example.path for example in wanted]
    assert {s.model_name for s in others} == {session.model_name}


def test_an_image_of_her_own_is_a_slide_before_the_examples(engine, saved):
    session = look(engine, saved(1), EXAMPLES[0].path)
    first = presenter_slides.slide(engine.resources.pictures, session, None)
    assert first == Slide(presenter_slides.OWN, 0, len(EXAMPLES) + 1, session)
    assert presenter_slides.slide(engine.resources.pictures, session, 1).title == EXAMPLES[0].title
    assert presenter_slides.slide(engine.resources.pictures, session, len(EXAMPLES)).title == EXAMPLES[-1].title
    assert presenter_slides.slide(engine.resources.pictures, session, len(EXAMPLES) + 1) == first


def told_of(engine: Engine, session: Session, setting: Setting, wish: Wish, task: Task) -> list[dict]:
    slide = presenter_slides.slide(engine.resources.pictures, session, wish.place)
    return list(
        presenter_slides.news(engine, Capabilities(engine.vlm), slide, setting, wish, ("idpruner", "random"), task)
    )


def test_news_are_the_pages_own_results(engine, saved):
    session, setting = look(engine, saved(2)), keep("idpruner", 0.25)
    first, drawn, *rest = told_of(engine, session, setting, Wish(7), Task())
    *_, last = reports(engine, session, setting, Task())
    assert (first["value"]["n"], first["exact"]["retention"], first["told"]["status"]) == (48, 0.25, "Computing …")
    assert first["told"]["key"] == first["value"]["key"] == first["exact"]["key"]
    assert drawn["chart"]["turn"] == 7
    assert drawn["chart"]["svg"].startswith("<svg")
    told = rest[-1]["told"]
    assert (told["full"], told["kept"]) == (last.full.text, last.kept.text)
    assert (told["stage"], told["status"], told["turn"], told["question"]) == ("done", "", 7, session.first)
    assert dict(told["facts"])["Fidelity"] == f"{last.fidelity:.3f}"
    assert len({tuple(name for name, _ in piece["told"]["facts"]) for piece in rest}) == 1
    held = Wish(8, held=(first["value"]["key"],))
    assert "value" not in told_of(engine, session, setting, held, Task())[0]


def test_news_with_curves_end_with_them(engine, saved):
    session, setting = look(engine, saved(2)), keep("idpruner", 0.25)
    news = told_of(engine, session, setting, Wish(1, curves=True), Task())
    charts = [piece["chart"] for piece in news if "chart" in piece]
    assert news.index({"chart": charts[0]}) > max(i for i, piece in enumerate(news) if "told" in piece)
    assert charts[0]["status"] == "Measuring the curves: 1 of 18 points"
    assert (charts[-1]["status"], "Random" in charts[-1]["svg"]) == ("", True)


def test_a_stopped_slide_ends_at_once(engine, saved):
    session, task = look(engine, saved(3)), Task()
    slide = presenter_slides.slide(engine.resources.pictures, session, None)
    news = presenter_slides.news(
        engine, Capabilities(engine.vlm), slide, keep("random"), Wish(1, curves=True), ("random",), task
    )
    next(news)
    task.set()
    left = list(news)
    assert left[-1]["told"]["status"] == "Stopped"
    assert not any("chart" in piece for piece in left)


def test_few_words_for_every_case():
    side = Side("a star", True, 90, 4000, 2000, 0.02)
    saves = Report(64, 16, "IDPruner", "done", full=side, kept=Side("a star", True, 40, 1000, 1000, 0.01),
                   verdict=Verdict.SAME, fidelity=0.9876, select_s=0.001)  # fmt: skip
    told = presenter_views.told(saves)
    assert told["facts"] == [
        ("Fidelity", "0.988"), ("Prefill FLOPs", "75% less"), ("KV cache", "50% less"),
        ("Time to first token", "1.82× faster"),
    ]  # fmt: skip
    assert (told["verdict"], told["long"]) == ("same", False)
    none = presenter_views.told(
        Report(64, 64, "x", "done", full=side, kept=side, verdict=Verdict.DIFFERENT, select_s=0.1)
    )
    assert [value for _, value in none["facts"]] == ["–", "no less", "no less", "no gain at this size"]
    assert none["verdict"] == "other"
    assert {value for _, value in presenter_views.told(None)["facts"]} == {"–"}
    assert presenter_views.told(Report(4, 1, "x", "kept", full=Side("", True), kept=Side()))["full"] == "no words"
    assert presenter_views.method(keep("idpruner", mmr_lambda=0.25)) == "IDPruner, λ = 0.25"
    assert presenter_views.method(keep("random")) == "Random"


# In the browser


@pytest.fixture
def opened(shipped_page, chromium):
    """A visitor of the page with the shipped model, at 1440 x 900. Fails the test on a script error."""
    yield from visitor(shipped_page.url, chromium)


@pytest.fixture
def slow(served, chromium, slow_model):
    """The same with a model that takes its time."""
    yield from visitor(served.url, chromium)


def visitor(url, chromium):
    context = chromium.new_context(viewport={"width": 1440, "height": 900})
    tab, errors = context.new_page(), []
    tab.set_default_timeout(30_000)
    tab.on("pageerror", lambda error: errors.append(str(error)))
    tab.goto(url + ("" if "?" in url else "?") + "__theme=light")
    tab.wait_for_selector("#canvas [data-kept]", state="attached")
    yield tab
    context.close()
    assert errors == []


def piece(tab, name: str) -> str:
    return tab.text_content(f'.presenter [data-part="{name}"]')


def at(tab, place: int) -> None:
    tab.wait_for_function("p => document.querySelector('.presenter [data-part=place]').textContent.startsWith(p)",
                          arg=f"{place} of ")  # fmt: skip
    tab.wait_for_selector(DONE)


def expected(engine: Engine, place: int, retention: float) -> tuple:
    example = EXAMPLES[place - 1]
    session = Session("", (engine.resources.pictures.open(example.path)[0],), example.questions[:1])
    setting = Setting(make("idpruner"), retention)
    *_, last = reports(engine, session, setting, Task())
    return example.questions[0], last.full.text, last.kept.text, engine.selection(session, setting).order.tolist()


def shown(tab) -> tuple:
    tab.wait_for_selector(".presenter[data-kept]")  # the pictures are drawn once they are loaded
    kept = [int(token) for token in tab.get_attribute(".presenter", "data-kept").split()]
    return piece(tab, "question"), piece(tab, "full"), piece(tab, "kept"), kept


def test_another_encoding_stands_beside_all_tokens_in_a_style_that_shows_it(shipped_page, chromium):
    for tab in visitor(shipped_page.url + "?method=lower_resolution&retention=0.5&overlay=heat&", chromium):
        tab.locator("#readout", has_text="121 tokens of another encoding in place of 256").wait_for()
        tab.wait_for_selector("#style input[value=heat]:checked", state="attached")
        tab.keyboard.press("p")
        at(tab, 1)
        tab.wait_for_selector(".presenter [data-legend=grid]:not([hidden])")
        assert (piece(tab, "all-count"), piece(tab, "kept-count")) == ("256", "121 · 47 %")


def test_it_walks_through_the_examples_with_real_results(opened, shipped_page):
    tab, engine = opened, shipped_page.engine
    question = tab.input_value("#question textarea")
    tab.keyboard.press("p")
    at(tab, 1)
    assert shown(tab) == expected(engine, 1, 0.25)
    assert piece(tab, "kept-count") == "64 · 25 %"
    assert tab.locator(".presenter-chart svg").count() == 1
    tab.keyboard.press("ArrowRight")
    at(tab, 2)
    assert shown(tab) == expected(engine, 2, 0.25)
    tab.keyboard.press("ArrowDown")
    tab.keyboard.press("ArrowDown")
    tab.wait_for_function("document.querySelector('.presenter [data-part=kept-count]').textContent === '38 · 15 %'")
    tab.wait_for_selector(DONE)
    assert shown(tab) == expected(engine, 2, 0.15)
    for _ in range(2):
        tab.click(".presenter [data-move='-1']")
    at(tab, 8)  # a clip
    assert shown(tab) == expected(engine, 8, 0.15)
    tab.keyboard.press("ArrowRight")
    at(tab, 1)
    tab.keyboard.press("c")
    tab.wait_for_function("document.querySelector('.presenter-chart').ariaLabel.includes('idelity')")
    tab.wait_for_selector(DONE)
    tab.keyboard.press("Escape")
    assert tab.locator(".presenter[open]").count() == 0
    assert tab.input_value("#question textarea") == question  # the page stays as it was
    assert tab.input_value("#retention input[type=number]") == "0.25"


def test_focus_goes_in_stays_and_comes_back(opened):
    tab = opened
    inside = "document.querySelector('.presenter').contains(document.activeElement)"
    tab.fill("#question textarea", "")
    tab.type("#question textarea", "pp")
    assert tab.locator(".presenter[open]").count() == 0  # a letter of the question
    tab.focus("#retention input[type=range]")
    tab.keyboard.press("p")
    assert tab.evaluate(inside)
    for _ in range(9):
        tab.keyboard.press("Tab")
        assert tab.evaluate(f"{inside} || document.activeElement === document.body")  # or the browser's own bar
    tab.keyboard.press("Escape")
    assert tab.evaluate("document.activeElement === document.querySelector('#retention input[type=range]')")
    tab.click("#presenter [data-part=open]")
    tab.keyboard.press("p")
    assert tab.evaluate("document.activeElement.dataset.part") == "open"
    assert tab.locator(".presenter[open]").count() == 0


def test_it_fits_one_screen_and_works_on_a_phone(opened, fits):
    tab = opened
    tab.keyboard.press("p")
    at(tab, 1)
    cut = """() => [...document.querySelectorAll('.presenter, .presenter *')]
      .filter((e) => !(e instanceof SVGElement) && e.clientHeight && (e.scrollHeight > e.clientHeight + 1 ||
        e.getBoundingClientRect().right > innerWidth || e.getBoundingClientRect().bottom > innerHeight))
      .map((e) => e.className || e.dataset.part)"""
    for width, height in ((1440, 900), (1920, 1080), (1280, 720)):
        tab.set_viewport_size({"width": width, "height": height})
        tab.evaluate("() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
        assert tab.evaluate(cut) == [], (width, height)
        boxes = [tab.locator(".presenter canvas").nth(i).bounding_box() for i in range(2)]
        assert boxes[0]["width"] == pytest.approx(boxes[1]["width"], abs=1)
        assert min(boxes[0]["width"], boxes[0]["height"]) > width * 0.2
    fits(tab, "presenter", full_page=False, within=".presenter")
    tab.click(".presenter [data-move='1']")
    at(tab, 2)
    tab.click(".presenter [data-part=leave]")
    assert tab.locator(".presenter[open]").count() == 0


MOVE_ON = """() => {
  document.activeElement.dispatchEvent(new KeyboardEvent("keydown", { key: "ArrowRight", bubbles: true }));
  const names = ["status", "full", "kept", "verdict", "question"];
  return names.map((name) => document.querySelector(`.presenter [data-part=${name}]`).innerText.trim());
}"""


def test_what_is_on_its_way_says_so_and_the_last_wish_wins(slow, served, slow_model):
    tab = slow
    tab.keyboard.press("p")
    at(tab, 1)  # was there when the page opened
    served.engine.resources.clear()  # other tests may have asked the same
    # Pressed and read in one go: between two calls the server's first news may have come.
    assert tab.evaluate(MOVE_ON) == ["Computing …", "", "", "", ""]
    tab.wait_for_selector(".presenter[data-stage=all]")
    assert piece(tab, "question") == EXAMPLES[1].questions[0]
    for _ in range(3):
        tab.keyboard.press("ArrowRight")
    slow_model.clear()
    at(tab, 5)
    assert piece(tab, "question") == EXAMPLES[4].questions[0]
    assert piece(tab, "full")


def test_leaving_ends_its_work_within_a_second(slow, served):
    tab = slow
    tab.keyboard.press("p")
    at(tab, 1)
    served.engine.resources.clear()
    tab.keyboard.press("ArrowLeft")
    tab.wait_for_selector(".presenter[data-stage=all]")
    tab.keyboard.press("Escape")
    assert served.models.resources.device.idle_within(1)
    assert tab.locator("#report .badge.same, #report .badge.other").count() == 1  # the page's own result stands


def test_a_setting_that_cannot_be_is_told_in_the_view(opened):
    tab = opened
    for name in ("importance", "diversity"):
        tab.focus(f"#{name}-weight input[type=range]")
        for _ in range(10):
            tab.keyboard.press("ArrowLeft")
    tab.keyboard.press("p")
    tab.wait_for_function("document.querySelector('.presenter [data-part=status]').textContent.includes('both 0')")
    assert tab.get_attribute(".presenter", "data-waits") == "no"
