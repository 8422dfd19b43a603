"""Several models: only what the operator allows, one load at a time, room made without taking a model from anybody."""

import gc
import threading
import time
import weakref
from dataclasses import replace

import pytest

from app.engine import remote
from app.engine.device import Task
from app.engine.resources import Resources
from app.model_pool import eviction
from app.model_pool.load_job import LoadJob, StoppedError
from app.model_pool.loader import Listed, Loader, listed
from app.model_pool.pool import Models
from app.session import Session
from app.settings import Settings
from tests.helpers.serving import Shelf, models_of

GB = 10**9


class Fake:
    """As much of a VLM as is asked for where nothing is computed."""

    signals, notes, device, tokenizer, no_stages = frozenset({"vision_attention@-1"}), {}, "cpu", None, ""
    encodings = frozenset()

    def __init__(self, model_id, size=4 * GB):
        self.model_id, self.title, self.memory = model_id, model_id, size


class Machine(Shelf):
    """A shelf whose room is what the loaded models leave of `total` bytes."""

    def __init__(self, total, **sizes):
        super().__init__({name: Fake(name, size) for name, size in sizes.items()}, sizes)
        self.total = total

    def free(self):
        return self.total - sum(vlm.memory for vlm in remote._held.values())


@pytest.fixture(autouse=True)
def no_models():
    """What earlier tests hold is set aside."""
    before = dict(remote._held)
    remote._held.clear()
    yield
    remote._held.clear()
    remote._held.update(before)


def load(models, name, owner="ann"):
    return list(models.open(name, owner))


def loaded(models):
    return {entry.listed.name for entry in models.entries() if entry.loaded}


def test_only_allowed_models_are_taken():
    models = models_of(Machine(10 * GB, a=GB, b=GB))
    assert models.checked("") == models.checked(None) == models.checked("a") == "a"
    for name in ("c", "/etc", "../a", 3, ["a"]):
        with pytest.raises(ValueError, match="not offered here: choose one of a, b"):
            models.checked(name)
        with pytest.raises(ValueError, match="not offered here"):
            load(models, name)
        with pytest.raises(ValueError, match="not offered here"), models.use(name, "ann"):
            pass


def test_a_model_is_loaded_once_and_used_by_name():
    shelf = Machine(10 * GB, a=GB, b=GB)
    models = models_of(shelf)
    load(models, "a")
    load(models, "b")
    load(models, "b", "bob")
    assert shelf.loads == ["b"]
    for name in "ab":
        with models.use(name, "ann") as (engine, capabilities):
            assert engine.vlm is shelf.vlms[name]
            assert capabilities.title == name


class Slow(Machine):
    """Loads when it is told to go on."""

    def __init__(self, total, **sizes):
        super().__init__(total, **sizes)
        self.begun, self.go_on = threading.Event(), threading.Event()

    def load(self, model_id, tell=None):
        self.begun.set()
        tell("downloading", 0.25)
        assert self.go_on.wait(20)
        return super().load(model_id, tell)


def test_those_who_want_the_same_model_watch_one_load():
    shelf = Slow(10 * GB, a=GB, b=GB)
    models = models_of(shelf)
    seen, threads = {}, []
    for owner in ("ann", "bob", "eve"):
        threads.append(threading.Thread(target=lambda o=owner: seen.update({o: load(models, "b", o)})))
        threads[-1].start()
    assert shelf.begun.wait(20)
    watching = models.open("b", "dan")
    progress = next(watching)
    assert (progress.title, progress.stage, progress.share) == ("b", "downloading", 0.25)
    assert progress.seconds > 0
    assert models.state("b") == "loading"
    shelf.go_on.set()
    assert all(p.stage for p in watching)
    for thread in threads:
        thread.join(20)
    assert set(seen) == {"ann", "bob", "eve"}
    assert shelf.loads == ["b"]
    assert models.state("b") == "loaded"


@pytest.mark.alone
def test_who_stops_leaves_and_the_last_one_calls_the_load_off():
    shelf = Slow(10 * GB, a=GB, b=GB)
    models, stops = models_of(shelf), {owner: Task() for owner in ("ann", "bob")}
    loads = {owner: models.open("b", owner, task) for owner, task in stops.items()}
    for load in loads.values():
        next(load)
    for owner, other in (("ann", "bob"), ("bob", "ann")):
        stops[owner].set()
        start = time.perf_counter()
        with pytest.raises(StoppedError, match="b was stopped"):
            next(loads[owner])
        assert time.perf_counter() - start < 1
        assert models.state("b", owner) == "absent"
        assert models.state("b", other) == ("loading" if owner == "ann" else "absent")
    job = models._jobs["b"]
    with pytest.raises(StoppedError):
        job.tell("loading weights", 0.9)
    shelf.go_on.set()
    assert job.done.wait(20)
    assert loaded(models) == {"a"}
    list(models.open("b", "ann"))  # and it may be chosen again
    assert loaded(models) == {"a", "b"}


def test_remaining_time_follows_from_what_came_since_it_began(monkeypatch):
    now = [100.0]
    monkeypatch.setattr("app.model_pool.load_job.time.monotonic", lambda: now[0])
    job = LoadJob("b", "ann")
    job.tell("downloading", 0.5)  # it goes on where it was
    assert job.progress().pace.remaining_s is None
    now[0] += 10
    job.tell("downloading", 0.6)
    assert job.progress().pace.remaining_s == pytest.approx(40)
    job.tell("loading weights", None)
    assert job.progress().pace is None


def test_two_models_are_loaded_one_after_the_other():
    shelf = Slow(10 * GB, a=GB, b=GB, c=GB)
    models = models_of(shelf)
    first, second = models.open("b", "ann"), models.open("c", "bob")
    assert next(first).stage == "downloading"
    assert "waiting" in next(second).stage
    shelf.go_on.set()
    assert list(first) is not None
    assert list(second) is not None
    assert shelf.loads == ["b", "c"]


def test_a_failing_load_leaves_everything_as_it_was():
    shelf = Machine(10 * GB, a=GB, b=GB)
    models = models_of(shelf)
    shelf.vlms["b"] = ValueError("b has no weights: download them")
    with pytest.raises(ValueError, match="download them"):
        load(models, "b")
    assert loaded(models) == {"a"}
    assert models.state("b") == "absent"
    with models.use("a", "ann") as (engine, _):
        assert engine.vlm is shelf.vlms["a"]
    shelf.vlms["b"] = Fake("b")  # and it may be tried again
    load(models, "b")
    assert loaded(models) == {"a", "b"}


def use(models, name, owner):
    with models.use(name, owner):
        pass


def test_the_least_recently_used_model_makes_room_and_the_first_goes_last():
    models = models_of(Machine(9 * GB, a=2 * GB, b=3 * GB, c=4 * GB, d=3 * GB))
    for name in "bc":
        load(models, name)
        use(models, name, "ann")
    use(models, "b", "ann")  # now c is the oldest
    load(models, "d")
    assert loaded(models) == {"a", "b", "d"}
    models.leave("ann")
    load(models, "c", "bob")
    assert "a" in loaded(models)


def test_the_first_model_goes_where_there_is_no_other_way():
    models = models_of(Machine(9 * GB, a=2 * GB, b=8 * GB))
    load(models, "b")
    assert loaded(models) == {"b"}
    with pytest.raises(ValueError, match=r"a was unloaded to make room.*choose it again"), models.use("a", "ann"):
        pass
    load(models, "a")
    assert loaded(models) == {"a"}


def test_what_another_visitor_uses_stays_and_both_are_told_apart():
    models = models_of(Machine(9 * GB, a=GB, b=6 * GB, c=5 * GB))
    load(models, "b", "bob")
    use(models, "b", "bob")
    with pytest.raises(ValueError, match=r"c needs about 5.0 GB.*b \(6.0 GB\) is in use by another.*do not fit"):
        load(models, "c", "ann")
    assert loaded(models) == {"a", "b"}
    problems = {entry.listed.name: entry.problem for entry in models.entries("ann")}
    assert problems == {"a": "", "b": "", "c": "no room while others use theirs"}
    assert {entry.listed.name: entry.problem for entry in models.entries("bob")}["c"] == ""
    load(models, "c", "bob")  # their own they may give up
    assert loaded(models) == {"a", "c"}


@pytest.mark.parametrize("how", ["leaves", "turns to another model", "has not been there for long"])
def test_a_model_that_nobody_uses_any_more_makes_room(how, monkeypatch):
    models = models_of(Machine(9 * GB, a=GB, b=6 * GB, c=5 * GB))
    load(models, "b", "bob")
    use(models, "b", "bob")
    if how == "leaves":
        models.leave("bob")
    elif how == "turns to another model":
        use(models, "a", "bob")
    else:
        monkeypatch.setattr("app.model_pool.leases.LATELY", 0.0)
    load(models, "c", "ann")
    assert "c" in loaded(models)


def test_a_model_at_work_is_not_unloaded(monkeypatch):
    monkeypatch.setattr("app.model_pool.leases.WIND_UP", 0.05)
    shelf = Machine(9 * GB, a=GB, b=6 * GB, c=5 * GB)
    models = models_of(shelf)
    load(models, "b")
    with models.use("b", "ann"):
        shelf.vlms["c"] = ValueError("c does not fit")  # what the real loader says when there is no room
        with pytest.raises(ValueError, match="does not fit"):
            load(models, "c", "ann")
        assert "b" in loaded(models)


def test_work_that_ends_soon_is_waited_for():
    models = models_of(Machine(9 * GB, a=GB, b=6 * GB, c=5 * GB))
    load(models, "b")
    lease = models.use("b", "ann")
    lease.__enter__()
    loading = models.open("c", "ann")
    next(loading)
    lease.__exit__(None, None, None)
    assert list(loading) is not None
    assert loaded(models) == {"a", "c"}


def test_a_model_too_large_for_the_device_is_refused_before_it_is_read():
    shelf = Machine(9 * GB, a=GB, b=30 * GB)
    models = models_of(shelf)
    with pytest.raises(
        eviction.DoesNotFitError, match=r"b needs about 30.0 GB, and 9.0 GB can be had.*smaller model.*4bit"
    ):
        load(models, "b")
    assert shelf.loads == []
    assert loaded(models) == {"a"}


def test_a_model_of_unknown_size_is_left_to_the_loader():
    shelf = Machine(9 * GB, a=GB, b=GB)
    del shelf.needs["b"]
    models = models_of(shelf)
    assert {e.listed.name: e.need for e in models.entries()} == {"a": GB, "b": None}
    load(models, "b")
    assert loaded(models) == {"a", "b"}


def test_what_left_for_a_model_that_fails_comes_back():
    shelf = Machine(9 * GB, a=GB, b=6 * GB, c=5 * GB)
    models = models_of(shelf)
    load(models, "b")
    shelf.vlms["c"] = ValueError("c is damaged")
    with pytest.raises(ValueError, match="damaged"):
        load(models, "c")
    assert loaded(models) == {"a", "b"}


def test_nothing_keeps_an_unloaded_model_alive():
    shelf = Machine(9 * GB, a=GB, b=6 * GB, c=5 * GB)
    models = models_of(shelf)
    gone = weakref.ref(shelf.vlms["b"])
    load(models, "b")
    with models.use("b", "ann") as (engine, _):
        asked = Session("b", ())
        engine.remember(asked, ("kept",), engine.vlm, 10)  # as a signal that is a function of the model would be
        models.resources.memories.put(engine.key("memory", asked, None), engine.vlm, 10)
        models.resources.cache.put(("image", "x"), "pixels", 10)
    del engine, shelf.vlms["b"]
    load(models, "c")
    gc.collect()
    assert gone() is None
    assert models.resources.cache.peek(("image", "x")) == "pixels"


def test_a_space_loads_all_at_once_and_says_what_failed():
    shelf = Machine(9 * GB, a=GB, b=GB, c=GB)
    shelf.vlms["b"] = ValueError("b is gated: accept its terms")
    models = models_of(shelf)
    models.open_all()
    assert loaded(models) == {"a", "c"}
    assert {e.listed.name: e.problem for e in models.entries()}["b"] == "did not load"
    with pytest.raises(ValueError, match="gated"):
        load(models, "b")
    assert shelf.loads == ["b", "c"]


def every(preset):
    return True


def none(preset):
    return False


def test_on_ones_own_machine_what_fits_is_offered_smallest_first():
    from pruning.models import SHIPPED
    from pruning.models.checkpoint.presets import PRESETS

    offered = listed(["", "auto"], every)
    assert {m.model_id for m in offered} == {preset.model_id for preset in PRESETS}
    assert [m.parameters for m in offered] == sorted(m.parameters for m in offered)
    assert all(m.licence for m in offered)
    small = listed(["somebody/else", "auto"], lambda preset: preset.parameters < 10**9)
    assert [m.name for m in small][:2] == ["somebody/else", "scenes-vlm"]
    assert max(m.parameters or 0 for m in small) < 10**9
    assert [m.model_id for m in listed(["", "auto"], none)] == [str(SHIPPED)]


def test_what_fits_is_memory_and_disk(monkeypatch):
    from pruning.models.checkpoint.presets import PRESETS

    loader, preset = Loader(Settings(device="cpu")), PRESETS[-3]
    need = preset.need("auto", "none", "cpu").total
    room = {"free": need, "disk": preset.download}
    for name in room:
        monkeypatch.setattr(loader, name, lambda name=name: room[name])
    monkeypatch.setattr("pruning.models.checkpoint.hub.present", lambda model_id: False)
    assert loader.fits(preset)
    for name in room:
        room[name] -= 1
        assert not loader.fits(preset)
        room[name] += 1
    room["disk"] = 0
    monkeypatch.setattr("pruning.models.checkpoint.hub.present", lambda model_id: True)
    assert loader.fits(preset)  # it is on the disk already
    assert loader.download(preset.model_id) == 0


class Shop(Machine):
    """Presets of the hub that are still to be downloaded."""

    def __init__(self, total, disk, *presets):
        super().__init__(total, **{"scenes": GB // 10, **{p.model_id: p.need(device="cpu").total for p in presets}})
        self.downloads, self.room_on_disk = {p.model_id: p.download for p in presets}, disk

    def download(self, model_id):
        return self.downloads.get(model_id, 0)

    def disk(self):
        return self.room_on_disk


def shop(total, disk):
    from pruning.models.checkpoint.presets import PRESETS

    offered = [p for p in PRESETS if p.family in ("smolvlm", "gemma3")]
    shelf = Shop(total, disk, *offered)
    allowed = [Listed("scenes", "scenes", "scenes"), *(Listed(p.model_id, p.model_id, p.title) for p in offered)]
    return shelf, Models(allowed, shelf.vlms["scenes"], shelf, Resources(64 << 20))


def test_the_best_model_for_photographs_is_one_that_can_be_had_and_answers_soon():
    shelf, models = shop(100 * GB, 100 * GB)
    best = models.best("ann")
    assert best.listed.title == "SmolVLM2-256M-Video-Instruct"
    assert best.download == pytest.approx(1.0e9, rel=0.05)
    shelf.device = "cuda:0"
    assert models.best("ann").listed.title == "SmolVLM2-2.2B-Instruct"
    shelf.device = "cpu"
    shelf.room_on_disk = GB // 2
    assert models.best("ann") is None
    problems = {entry.listed.title: entry.problem for entry in models.entries("ann")}
    assert problems["SmolVLM2-256M-Video-Instruct"] == "500 MB of disk free"
    assert problems["scenes"] == ""
    shelf, models = shop(GB, 100 * GB)
    assert models.best("ann") is None


def test_a_hosted_app_offers_its_operators_models_alone():
    shelf = Machine(100 * GB, a=GB, b=GB)
    assert models_of(shelf).best("ann") is None


def test_lists_of_models(tiny_folder, tmp_path):
    from pruning.models import SHIPPED
    from pruning.models.checkpoint.presets import PRESETS

    (own,) = listed([""], every)
    assert (own.name, own.model_id, own.parameters) == ("scenes-vlm", str(SHIPPED), 2_960_000)
    everything = listed(["", "presets"], none)
    assert [m.model_id for m in everything] == [preset.model_id for preset in PRESETS]
    mixed = listed(["", str(tiny_folder), "Qwen/Qwen2.5-VL-3B-Instruct", "somebody/else"], none)
    assert [m.name for m in mixed] == ["scenes-vlm", tiny_folder.name, "Qwen/Qwen2.5-VL-3B-Instruct", "somebody/else"]
    assert all(str(tiny_folder.parent) not in f"{m.name} {m.title} {m.note}" for m in mixed)  # no visitor sees paths
    twin = tmp_path / tiny_folder.name
    twin.symlink_to(tiny_folder)
    assert len(listed([str(tiny_folder), str(tiny_folder)], none)) == 1
    with pytest.raises(ValueError, match=f"two checkpoints called '{tiny_folder.name}'"):
        listed([str(tiny_folder), str(twin)], none)


@pytest.mark.parametrize("wrong", ["nonsense", "/no/such/folder", "one two/three"])
def test_what_can_be_no_model_is_refused_at_the_start(wrong):
    with pytest.raises(ValueError, match=r"neither a folder here nor a hub id"):
        listed(["", wrong], none)


def test_the_loader_knows_sizes_without_loading(tiny_folder):
    loader = Loader(Settings(model=str(tiny_folder), device="cpu"))
    assert 0 < loader.need(str(tiny_folder)) < 100_000_000
    assert loader.need("Qwen/Qwen2.5-VL-7B-Instruct") > 30 * GB  # float32 on the CPU
    assert loader.need(str(tiny_folder / "nothing")) is None
    assert loader.free() > 0


def test_only_a_load_asks_the_hub_for_a_size(monkeypatch):
    from pruning.models.checkpoint.footprint import Need

    asked, answers = [], [None, Need(5, 2)]
    monkeypatch.setattr(
        "pruning.models.checkpoint.memory.estimate", lambda *v, **n: asked.append(v) or answers[len(asked) - 1]
    )
    loader = Loader(Settings(device="cpu"))
    assert loader.need("somebody/else") is None
    assert asked == []  # the menu never waits for the network
    assert loader.need("somebody/else", ask_hub=True) is None
    assert loader.need("somebody/else", ask_hub=True) == 7
    assert loader.need("somebody/else") == 7
    assert len(asked) == 2


def test_the_loader_hands_on_the_operators_options(tiny_folder, tiny_vlm, monkeypatch):
    asked = []
    monkeypatch.setattr("pruning.models.load", lambda model_id, **options: asked.append(options) or tiny_vlm)
    settings = Settings(
        model="own",
        models="other",
        device="cpu",
        dtype="float32",
        quantization="none",
        attention="eager",
        scorer="s",
        pruner="p",
    )
    loader = Loader(settings)
    loader.load("own")
    loader.load("other", print)
    common = {"device": "cpu", "dtype": "float32", "quantization": "none", "attention": "eager", "device_map": ""}
    mine, others = {"scorer": "s", "pruner": "p"}, {"scorer": "", "pruner": ""}
    assert asked == [{**common, **mine, "progress": None}, {**common, **others, "progress": print}]


def test_real_checkpoints_are_loaded_and_asked_side_by_side(tiny_folder, tmp_path, noise):
    from tests.checkpoints import tiny_qwen2_vl

    folder = tiny_qwen2_vl(tmp_path / "second")
    settings = Settings(model=str(tiny_folder), models=str(folder), device="cpu")
    loader = Loader(settings)
    allowed = listed(settings.model_ids, loader.fits)
    models = Models(allowed, loader.load(allowed[0].model_id), loader, Resources(64 << 20))
    load(models, "second")
    noise(168, 168).save(tmp_path / "image.png")
    session = Session(models.first, (models.resources.pictures.open(str(tmp_path / "image.png"))[0],), ("is it red?",))
    features = []
    for name in (models.first, "second"):
        with models.use(name, "ann") as (engine, _):
            features.append(engine.encoded(replace(session, model_name=name)).tokens.features)
    assert features[0].shape != features[1].shape or not (features[0] == features[1]).all()


@pytest.mark.parametrize(
    ("need", "free", "expected"),
    [(5, 5, []), (6, 5, ["old"]), (9, 5, ["old", "new"]), (11, 5, ["old", "new", "first"])],
)
def test_evictions_take_no_more_than_they_must(need, free, expected):
    loaded = [
        eviction.Candidate("new", "new", 2, used=9.0, busy=False),
        eviction.Candidate("first", "first", 4, used=0.0, busy=False, first=True),
        eviction.Candidate("busy", "busy", 100, used=1.0, busy=True),
        eviction.Candidate("old", "old", 2, used=1.0, busy=False),
    ]
    assert eviction.evictions("x", need, free, loaded, "cpu") == expected
