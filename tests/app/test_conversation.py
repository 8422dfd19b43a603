"""Several turns about the same images: each column goes on from its own answers, and computes only what is new."""

import pytest

from app.answers.answering import Asked, answers
from app.answers.reports import reports
from app.engine.device import Task
from app.engine.engine import Engine
from app.engine.resources import Resources
from pruning.models import ConversationCache, Turn
from tests.helpers.visits import QUESTION, keep, look


@pytest.fixture
def engine(tiny_vlm):
    return Engine(tiny_vlm, Resources(64 << 20))


def test_later_turns_go_on_from_each_columns_own_answers(engine, saved):
    asked = ("what color is the star?", "is it large?", "how many rings?")
    session, setting = look(engine, saved(), questions=asked), keep("idpruner")
    *_, last = reports(engine, session, setting, Task())
    encoded, kept = engine.encoded(session), engine.selection(session, setting)
    told = {}
    for name, selection in (("full", None), ("kept", kept)):
        history = []
        for question in asked:
            answer = engine.vlm.answer(encoded, question, selection, history=history)
            history.append(Turn(question, answer.text))
        told[name] = [turn.answer for turn in history]
    assert [turn.question for turn in last.earlier] == list(asked[:-1])
    assert [turn.full for turn in last.earlier] + [last.full.text] == told["full"]
    assert [turn.kept for turn in last.earlier] + [last.kept.text] == told["kept"]
    assert last.question == asked[-1]
    assert 0 <= last.fidelity <= 1


def test_the_same_question_twice_is_two_turns(engine, saved):
    session = look(engine, saved(), questions=(QUESTION, QUESTION))
    *_, last = reports(engine, session, keep("idpruner"), Task())
    assert len(last.earlier) == 1
    encoded = engine.encoded(session)
    history = (Turn(QUESTION, last.earlier[0].full),)
    assert last.full.text == engine.vlm.answer(encoded, QUESTION, history=history).text


def test_another_setting_asks_the_conversation_again_and_the_full_column_from_the_cache(engine, saved, monkeypatch):
    session = look(engine, saved(), questions=(QUESTION, "is it large?"))
    *_, before = reports(engine, session, keep("idpruner", 0.25), Task())
    calls, generate = [], engine.vlm.generate
    monkeypatch.setattr(
        engine.vlm, "generate", lambda *v, **n: (n["max_new_tokens"] > 1 and calls.append(v[2])) or generate(*v, **n)
    )
    *_, after = reports(engine, session, keep("idpruner", 0.5), Task())
    assert [turn.full for turn in after.earlier] == [turn.full for turn in before.earlier]
    assert len(calls) == 2  # the kept column's two turns, and nothing else
    assert None not in calls


def test_the_second_turn_reuses_keys_and_values_of_image_and_first_turn(engine, saved, monkeypatch):
    session = look(engine, saved())
    for _ in answers(engine, Asked(session, QUESTION), Task()):
        pass
    (key,) = engine.resources.memories._held
    held = len(engine.resources.memories.peek(key))
    *_, first = answers(engine, Asked(session, QUESTION), Task())
    seen, reuse = [], ConversationCache.reuse
    monkeypatch.setattr(ConversationCache, "reuse", lambda *v: seen.append(reuse(*v)) or seen[-1])
    history = (Turn(QUESTION, first.text),)
    *_, second = answers(engine, Asked(session, "is it large?", None, history), Task())
    assert seen
    assert seen[0] > engine.encoded(session).tokens.n
    assert len(engine.resources.memories.peek(key)) > held
    assert engine.resources.memories.nbytes > 0
    engine.resources.clear()
    *_, fresh = answers(engine, Asked(session, "is it large?", None, history), Task())
    assert fresh.ids == second.ids


def test_a_memory_is_with_one_generation_at_a_time(engine, saved, monkeypatch):
    session, memories = look(engine, saved()), engine.resources.memories
    for _ in answers(engine, Asked(session, QUESTION), Task()):
        pass
    (key,) = memories._held
    memory, there, generate = memories.peek(key), [], engine.vlm.generate

    def watched(*values, **named):
        there.append((named["memory"], memories.peek(key)))
        return generate(*values, **named)

    monkeypatch.setattr(engine.vlm, "generate", watched)
    for _ in answers(engine, Asked(session, "is it large?"), Task()):
        pass
    assert there == [(memory, None)]  # taken out while it was in use, and put back
    assert memories.peek(key) is memory


def test_a_memory_that_a_failure_left_behind_is_not_used_again(engine, saved, monkeypatch):
    session = look(engine, saved())
    for _ in answers(engine, Asked(session, QUESTION), Task()):
        pass

    def broken(*values, **named):
        raise RuntimeError("kernel")
        yield

    monkeypatch.setattr(engine.vlm, "generate", broken)
    with pytest.raises(RuntimeError, match="kernel"):
        list(answers(engine, Asked(session, "is it large?"), Task()))
    assert len(engine.resources.memories) == 0
