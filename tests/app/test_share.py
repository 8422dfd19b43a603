"""Links: what is written comes back, and whatever a stranger writes gives valid values, words, and nothing else."""

from dataclasses import replace
from urllib.parse import urlencode

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app.engine.capabilities import Capabilities
from app.examples import EXAMPLES
from app.session import MAX_QUESTION, Forced, Picture, Session, Setting
from app.share import link as share_link
from app.share.link import LONGEST, NAMES, TURNS, UPLOAD, Link, knobs_of
from app.share.reading import MOST, Rules, read
from pruning.drawing.overlays import STYLES
from pruning.grids import SCOPES
from pruning.handover.ours import page
from pruning.handover.wanted import Wanted
from pruning.method import METHODS, make
from pruning.models.values import POSITIONS
from pruning.plan import parse_plan
from pruning.published import PUBLISHED
from pruning.runnable import REGISTERED

RULES = Rules(("scenes-vlm", "Qwen/Qwen2.5-VL-3B-Instruct"), (0, 1), (0.02, 1), (0.25, 10), (1, 64))
NASTY = [
    *(
        "../../etc/passwd",
        "/etc/passwd",
        "..%2f..%2fetc",
        "C:\\windows",
        "file:///etc/passwd",
        "http://127.0.0.1/x.png",
    ),
    *("crowd.png", "crowd/../tiny", "someone/else's-model", "idpruner;drop", "importance=1", "__import__('os')"),
    *("<script>alert(1)</script>", '"><img src=x onerror=alert(1)>', "${alert(1)}", "{{value}}", "`", "\x00", "\ud800"),
    *("nan", "NaN", "inf", "-inf", "1e999", "-1", "1_0", "٣", " 0.5 ", "0x1", "True", "null", "[]", ""),
    *("9" * 400, "a" * 3000),
]
PLANS = [None, "pre:idpruner:0.4,3:fastv:0.5", "1:dart:12,2:random_inner:4,evict", "fastv-published"]
patient = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])  # the first text takes seconds to draw


@st.composite
def links(draw):
    method = draw(st.sampled_from(sorted(METHODS)))
    knobs = {}
    for param in knobs_of(method):
        kinds = {"choice": st.sampled_from(param.choices or ("",)), "int": st.integers(int(param.lo), int(param.hi))}
        knobs[param.name] = draw(kinds.get(param.kind, st.floats(param.lo, param.hi)))
    questions = st.text(min_size=1, max_size=60).map(str.strip).filter(bool)
    weights = draw(st.tuples(st.floats(0, 1), st.floats(0, 1)).filter(any))
    return Link(
        draw(st.sampled_from(RULES.models)), draw(st.sampled_from([*(e.name for e in EXAMPLES), UPLOAD])),
        tuple(draw(st.lists(questions, max_size=TURNS))), method, *weights, draw(st.floats(0.02, 1)),
        draw(st.sampled_from(sorted(STYLES))), draw(st.sampled_from(SCOPES)),
        draw(st.sampled_from(PLANS)), draw(st.sampled_from((None, *POSITIONS))), knobs,
        draw(st.none() | st.floats(*RULES.fps)), draw(st.none() | st.integers(*RULES.frames)),
    )  # fmt: skip


@patient
@given(links())
def test_what_is_written_is_read_again(link):
    assert read(share_link.write(link), RULES) == (link, [])


def test_names_in_a_link_can_be_read():
    link = Link(
        "scenes-vlm", "crowd", ("what color is the star?",), "random", 0.5, 0.25, 0.1, "grid", "sample",
        "3:fastv:0.5", "compact", {"seed": 3},
    )  # fmt: skip
    assert share_link.write(link) == (
        "model=scenes-vlm&example=crowd&question=what+color+is+the+star%3F&method=random&importance=0.5&diversity=0.25"
        "&retention=0.1&overlay=grid&per=sample&plan=3%3Afastv%3A0.5&positions=compact&knob.seed=3"
    )


def check(link):
    """Every value that was taken keeps the rule of its control."""
    assert link.model in (None, *RULES.models)
    assert link.example in (None, UPLOAD, *(example.name for example in EXAMPLES))
    assert len(link.questions) <= TURNS
    assert link.fps is None or RULES.fps[0] <= link.fps <= RULES.fps[1]
    assert link.frames in (None, *range(1, 65))
    assert all(0 < len(question) <= MAX_QUESTION for question in link.questions)
    assert link.method is None or link.method in METHODS
    assert all(w is None or 0 <= w <= 1 for w in (link.importance, link.diversity))
    assert link.retention is None or 0.02 <= link.retention <= 1
    assert link.overlay is None or link.overlay in STYLES
    assert link.per in (None, *SCOPES)
    assert link.plan is None or link.plan in PUBLISHED or str(parse_plan(link.plan)) == link.plan
    assert not link.knobs or make(link.method, **link.knobs)


names = st.sampled_from([*NAMES, "knob.seed", "knob.importance", "knob.layer", "knob.", "path", "image"]) | st.text(
    max_size=12
)
values = (
    st.sampled_from([*NASTY, *PLANS[1:], "random", "idpruner", "crowd", "0.5", "7"])
    | st.text(max_size=30)
    | st.floats().map(str)
)


@patient
@given(st.lists(st.tuples(names, values), max_size=12))
def test_any_parameters_give_valid_values_and_words(pairs):
    link, refused = read(urlencode(pairs, errors="replace"), RULES)
    if link is not None:
        check(link)
    assert len(refused) <= len(pairs) + 2
    assert all(0 < len(words) < 2500 for words in refused)


@patient
@given(
    st.text(max_size=300)
    | st.binary(max_size=200).map(lambda raw: raw.decode("latin-1"))
    | st.from_regex(r"(%[0-9a-fA-F&=]{0,3}|[a-z.]+=)*")
)
def test_any_text_at_all_is_read_without_an_error(query):
    link, _ = read(query, RULES)
    check(link or Link())


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("retention=7", "retention = '7' (must be a number from 0.02 to 1)"),
        ("retention=nan", "retention = 'nan' (must be a number from 0.02 to 1)"),
        ("retention=0_0.3", "retention = '0_0.3'"),
        ("retention=%D9%A0.%D9%A3", "retention = '٠.٣'"),  # a digit, and no number here
        ("retention=0.3&retention=0.4", "given 2 times"),
        ("importance=-1", "importance = '-1' (must be a number from 0 to 1)"),
        ("importance=0&diversity=0", "both 0"),
        ("method=magic", "method = 'magic' (must be one of"),
        ("model=/etc/passwd", "model = '/etc/passwd' (must be one of scenes-vlm, Qwen/Qwen2.5-VL-3B-Instruct)"),
        ("example=../../crowd", "example = '../../crowd' (must be one of"),
        ("overlay=neon", "overlay = 'neon'"),
        ("per=pixel", "per = 'pixel'"),
        ("positions=dense", "positions = 'dense' (must be one of original, compact)"),
        ("positions=compact&positions=compact", "given 2 times"),
        ("plan=", "says nothing"),
        ("plan=fastv", "'fastv' is no part of a plan"),
        ("plan=3:magic:0.5", "plan = '3:magic:0.5' (unknown staged method 'magic'"),
        ("plan=3:fastv:0", "cannot keep 0"),
        ("plan=3:fastv:nan", "cannot keep nan"),
        ("plan=3:fastv:0.5,2:dart:0.5", "cuts must be in the order of the layers"),
        ("plan=../../etc/passwd", "is no part of a plan"),
        ("plan=3:fastv:0.5&plan=2:fastv:0.5", "given 2 times"),
        ("plan=" + "1:fastv:0.5," * 40, "at most 400 characters"),
        ("question=", "question (The question is empty"),
        ("question=" + "x" * 1001, "1,001 characters"),
        ("question=a\ud83db", "question (The question holds half a character"),
        ("method=a\ud83db", "method = 'a\\ud83db' (must be one of"),
        ("&".join(["question=why"] * 9), "9 questions, at most 8"),
        ("method=random&knob.seed=1.5", "'knob.seed' = '1.5' (seed = 1.5 is not allowed: it must be a whole number"),
        ("method=random&knob.colour=1", "'knob.colour' = '1' (Random has no such knob)"),
        ("knob.seed=1", "a link that names no method has no such knob"),
        ("colour=red", "'colour' (no such setting)"),
        ("retention=0.5" + "&a=1" * MOST, f"more than {MOST} values"),
        ("question=" + "x" * LONGEST, "the whole link, which has"),
    ],
)  # fmt: skip
def test_what_is_not_taken_is_named(query, words):
    link, refused = read(query, RULES)
    (told,) = refused
    assert words in told
    assert replace(link, method=None) == Link()


def test_one_bad_value_leaves_the_others_alone():
    link, refused = read("method=random&retention=9&overlay=heat&knob.seed=4", RULES)
    assert (link.method, link.retention, link.overlay, link.knobs) == ("random", None, "heat", {"seed": 4})
    assert len(refused) == 1


@pytest.mark.parametrize("query", ["", "__theme=dark", "utm_source=mail&fbclid=1", "view=api", "deep_link=../../x"])
def test_an_address_without_a_setting_is_no_link(query):
    assert read(query, RULES) == (None, [])


def test_a_link_is_about_what_the_page_shows():
    example = EXAMPLES[1]
    picture = Picture("key", example.path, 448, 448)
    session = Session("scenes-vlm", (picture,), ("how many crosses are there?", "and stars?"))
    setting = Setting(make("random", seed=7), 0.3, "image", Forced("key", (1,)), positions="compact")
    link = share_link.of(session, setting, (0.25, 0.75), "heat")
    assert (link.example, link.questions) == ("crowd", session.questions)
    assert (link.importance, link.diversity, link.retention, link.overlay) == (0.25, 0.75, 0.3, "heat")
    assert (link.method, link.per, link.positions, link.knobs) == ("random", "image", "compact", {"seed": 7})
    own = share_link.of(replace(session, pictures=(replace(picture, path="/tmp/x.png"),)), setting, (1, 1), "heat")
    two = share_link.of(replace(session, pictures=(picture, picture)), setting, (1, 1), "heat")
    assert own.example == two.example == UPLOAD
    assert "/tmp" not in share_link.write(own)


def test_a_plan_is_read_as_it_is_written():
    assert read("plan=pre:idpruner:0.40,%203:fastv:.5", RULES)[0].plan == "pre:idpruner:0.4,3:fastv:0.5"
    setting = Setting(make("random"), 0.3, plan=parse_plan("1:fastv:8"))
    assert share_link.of(Session("tiny", ()), setting, (1, 1), "heat").plan == "1:fastv:8"


def test_questions_too_long_for_a_link_are_said_to_be():
    with pytest.raises(ValueError, match="shorten the question"):
        share_link.write(Link(questions=("星" * 1000,) * 2))


def test_methods_and_sources_that_the_model_lacks_are_named(tiny_vlm):
    capabilities = Capabilities(tiny_vlm)
    capabilities.refused, capabilities.methods = (
        {"random": "Random needs luck"},
        tuple(m for m in capabilities.methods if m != "random"),
    )
    link, refused = share_link.settle(Link(method="random", knobs={"seed": 1}), capabilities, "idpruner")
    assert (link.method, link.knobs) == ("idpruner", {})
    assert "Random needs luck" in refused[0]
    link, refused = share_link.settle(Link(plan="pre:random:0.5,1:fastv:0.5"), capabilities, "idpruner")
    assert link.plan is None
    assert "Random needs luck" in refused[0]
    assert share_link.settle(Link(plan="1:fastv:0.5"), capabilities, "idpruner")[0].plan == "1:fastv:0.5"
    capabilities.sources = lambda: ["feature_norm"]
    link, refused = share_link.settle(Link(knobs={"importance": "scorer"}, method="idpruner"), capabilities, "random")
    assert link.knobs == {}
    assert refused == [f"knob.importance = 'scorer' ({capabilities.title} has feature_norm)"]
    assert share_link.settle(Link(), capabilities, "random")[0].method == "idpruner"  # a default that cannot run here


@pytest.mark.parametrize("asked", ["idpruner", "divprune", "fastv", "lower_resolution", *PLANS[1:]])
def test_the_library_writes_links_that_the_page_reads(asked):
    """What `best` found opens in the app: the same method, knobs, weights, retention or plan."""
    made = parse_plan(asked) if ":" in asked else PUBLISHED.get(asked) or REGISTERED[asked]()
    made = replace(made, mmr_lambda=0.35) if asked == "idpruner" else made
    url = page(Wanted(made, 0.1, "Qwen/Qwen2.5-VL-3B-Instruct", "qwen2_5_vl", SCOPES[-1], POSITIONS[-1]))
    link, refused = read(url.partition("?")[2], RULES)
    assert (refused, link.model, link.per, link.positions) == ([], RULES.models[1], SCOPES[-1], POSITIONS[-1])
    if asked in PLANS:
        assert (link.plan, link.method, link.retention) == (asked, None, None)
        return
    assert (link.plan, link.method, link.retention) == (None, asked, 0.1)
    assert (link.importance, link.diversity) == ((0.35, 0.65) if asked == "idpruner" else (None, None))
    assert link.knobs == ({"importance": "scorer"} if asked == "idpruner" else {})
