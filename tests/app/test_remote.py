"""The model's calls as a ZeroGPU Space makes them: in a forked process, everything pickled there and back."""

import copy
import inspect
import multiprocessing
import pickle
import sys
import types

import pytest
import torch

from app.answers.answering import Asked, answers
from app.answers.reports import reports
from app.engine import remote
from app.engine.capabilities import Capabilities
from app.engine.device import Task
from app.engine.engine import Engine
from app.engine.resources import Resources
from app.session import Session, Setting
from pruning.evaluation import timing
from pruning.method import METHODS, make
from pruning.models import Sample, Turn
from tests.helpers.serving import Shelf, models_of

QUESTION = "what color is the star?"
PATIENCE = 60  # seconds without a result after which the other process is given up
FORK = multiprocessing.get_context("fork")


def grant(duration):
    """`spaces.GPU`: the decorated function runs in a process of its own."""
    assert duration > 0

    def decorate(function):
        def serve(channel):
            arguments = pickle.loads(channel.recv_bytes())
            found = function(*arguments)
            for item in found if inspect.isgeneratorfunction(function) else [found]:
                channel.send_bytes(pickle.dumps(item))
            channel.close()

        def ask(*arguments):
            here, there = FORK.Pipe()
            process = FORK.Process(target=serve, args=(there,), daemon=True)
            process.start()
            there.close()
            try:
                here.send_bytes(pickle.dumps(arguments))
                while True:
                    assert here.poll(PATIENCE)
                    yield pickle.loads(here.recv_bytes())
            except EOFError:
                return
            finally:
                here.close()
                process.kill()
                process.join()

        def once(*arguments):
            (found,) = ask(*arguments)
            return found

        return ask if inspect.isgeneratorfunction(function) else once

    return decorate


@pytest.fixture
def space(monkeypatch):
    """A process that finds the package `spaces`."""
    monkeypatch.setitem(sys.modules, "spaces", types.SimpleNamespace(GPU=grant))
    monkeypatch.setattr(remote, "_once", remote.on_gpu(remote.once))
    monkeypatch.setattr(remote, "_stream", remote.on_gpu(remote.stream))
    assert remote.is_remote()


@pytest.fixture
def key(tiny_vlm):
    return remote.hold(tiny_vlm)


def same(first, second):
    return torch.equal(first.features, second.features) and first.grids == second.grids


def test_without_the_package_functions_stay_as_they_are(monkeypatch):
    monkeypatch.setitem(sys.modules, "spaces", None)
    assert remote.on_gpu(remote.once) is remote.once
    assert not remote.is_remote()


def test_every_call_gives_what_the_model_gives(space, key, tiny_vlm, noise):
    images = [noise(224, 168), noise(112, 112, 1)]
    needs = frozenset({"vision_attention@-1"})
    encoded, own = remote.encode(key, images, needs), tiny_vlm.encode(images, needs)
    assert same(encoded.tokens, own.tokens)
    assert torch.equal(encoded.tokens.signal("vision_attention@-1"), own.tokens.signal("vision_attention@-1"))
    wanted = needs | {"scorer", "question"} & tiny_vlm.signals
    tokens = remote.tokens(key, encoded, QUESTION, wanted)
    assert torch.equal(tokens.signal("question"), tiny_vlm.tokens(own, QUESTION, wanted).signal("question"))
    kept = make("divprune").select(tokens, 20)
    history = (Turn("is there a ring?", "yes"),)
    answer = tiny_vlm.answer(own, QUESTION, kept, history=history, max_new_tokens=5)
    chunks = list(remote.generate(key, Sample(encoded, QUESTION, kept, history), None, 5))
    assert tuple(chunk.token_id for chunk in chunks) == answer.ids
    together = remote.answer_batch(key, [Sample(encoded, QUESTION, kept, history), Sample(encoded, "why?")], 5, Task())
    assert [a.ids for a in together] == [answer.ids, tiny_vlm.answer(own, "why?", max_new_tokens=5).ids]
    (there,) = remote.logprobs(key, encoded, QUESTION, answer.ids, [kept], history, "original")
    assert torch.allclose(there, tiny_vlm.logprobs(own, QUESTION, answer.ids, [kept], history)[0], atol=1e-5)
    assert (
        1 <= len(remote.first_token_seconds(key, Sample(encoded, QUESTION, kept, history), timing.MOST)) <= timing.MOST
    )


def test_merged_rows_cross_too(space, key, tiny_vlm, noise):
    (name, *_) = [name for name, cls in METHODS.items() if cls.merges]
    method = make(name)
    encoded = remote.encode(key, [noise(224, 168)], method.needs - {"question", "scorer"})
    kept = method.select(remote.tokens(key, encoded, QUESTION, method.needs), 12)
    chunks = list(remote.generate(key, Sample(encoded, QUESTION, kept), None, 4))
    assert tuple(c.token_id for c in chunks) == tiny_vlm.answer(encoded, QUESTION, kept, max_new_tokens=4).ids


def test_errors_keep_their_words(space, key, noise):
    encoded = remote.encode(key, [noise(112, 112)], frozenset())
    with pytest.raises(ValueError, match="The question is empty"):
        next(remote.generate(key, Sample(encoded, " "), None, 4))
    with pytest.raises(ValueError, match="cannot provide the signal 'nonsense'"):
        remote.tokens(key, encoded, QUESTION, frozenset({"nonsense"}))
    with pytest.raises(ValueError, match="choose it again"):
        remote.encode("never loaded", [noise(112, 112)], frozenset())


class StrangeError(RuntimeError):
    """Cannot be pickled: its arguments are not those of its constructor."""

    def __init__(self, first, second):
        super().__init__(f"{first} {second}")


def test_errors_that_cannot_be_pickled_are_named(space, key, tiny_vlm, noise, monkeypatch):
    def broken(*values):
        raise StrangeError("kernel", "failed")

    monkeypatch.setattr(tiny_vlm, "encode", broken)
    with pytest.raises(RuntimeError, match="StrangeError: kernel failed"):
        remote.encode(key, [noise(112, 112)], frozenset())


@pytest.fixture
def session(tiny_vlm, noise, tmp_path):
    engine = Engine(tiny_vlm, Resources(64 << 20))
    noise(224, 168).save(tmp_path / "noise.png")
    picture, _ = engine.resources.pictures.open(str(tmp_path / "noise.png"))
    return engine, Session("tiny", (picture,), (QUESTION, "and the ring?"))


def test_a_conversation_is_answered_and_measured_as_elsewhere(session, space, tiny_vlm):
    engine, asked = session
    *_, last = reports(engine, asked, Setting(make("idpruner"), 0.25), Task())
    assert last.stage == "done"
    assert len(last.earlier) == 1
    assert len(engine.resources.memories) == 0  # keys and values stay where the GPU is
    own = tiny_vlm.answer(engine.encoded(asked), QUESTION, max_new_tokens=64)
    assert last.earlier[0].full == own.text


def test_stop_reaches_the_other_process(session, space):
    engine, asked = session
    task = Task()
    stream = answers(engine, Asked(asked, QUESTION), task)
    next(stream)
    task.set()
    *_, last = stream
    assert last.cancelled
    assert engine.resources.device.idle_within(5)


def test_methods_that_need_a_function_of_the_model_are_refused_there(tiny_vlm, space):
    needing = {name for name in METHODS if "projector" in Capabilities(tiny_vlm).default(name).needs}
    refused = Capabilities(tiny_vlm).refused
    assert needing
    assert needing <= refused.keys()
    assert all("ZeroGPU" in refused[name] for name in needing)


def test_they_run_where_the_model_is_at_hand(tiny_vlm):
    assert not any("ZeroGPU" in reason for reason in Capabilities(tiny_vlm).refused.values())


def test_the_page_is_built_without_a_gpu(tiny_vlm, monkeypatch, uploads):
    """Only visitors get one: what the page opens with is computed when it is opened."""
    from app.ui import build_demo

    def nobody(*values):
        raise AssertionError("there is no visitor yet")

    monkeypatch.setattr(remote, "_once", nobody)
    monkeypatch.setattr(remote, "_stream", nobody)
    demo = build_demo(models_of(Shelf({tiny_vlm.model_id: tiny_vlm})))
    loads = [event for event in demo.fns.values() if ("load" in {name for _, name in event.targets})]
    assert len(loads) >= 2


def test_two_models_of_one_name_do_not_answer_for_each_other(tiny_vlm, noise):
    other = copy.copy(tiny_vlm)
    other.encode = lambda images, needs, asked: "the other one"
    one, two = remote.hold(tiny_vlm), remote.hold(other)
    assert remote.encode(two, [noise(112, 112)], frozenset()) == "the other one"
    remote.release(two)
    assert remote.encode(one, [noise(112, 112)], frozenset()).tokens.n == 16
    with pytest.raises(ValueError, match="unloaded"):
        remote.encode(two, [noise(112, 112)], frozenset())
