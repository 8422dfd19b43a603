"""The engine's cache: bounded in bytes, least recently used first out, one computation per key."""

import threading
import time

import pytest

from app.engine.cache import ByteCache


def test_least_recently_used_leaves_first():
    cache = ByteCache(30)
    for name in "abc":
        cache.put(name, name.upper(), 10)
    assert cache.peek("a") == "A"  # now "b" is the oldest
    cache.put("d", "D", 10)
    assert [cache.peek(name) for name in "abcd"] == ["A", None, "C", "D"]
    assert cache.nbytes == 30


def test_replacing_counts_bytes_once_and_giants_are_not_kept():
    cache = ByteCache(30)
    cache.put("a", 1, 20)
    cache.put("a", 2, 25)
    assert (cache.nbytes, len(cache)) == (25, 1)
    assert cache.get("huge", lambda: 3, lambda _: 31) == 3
    assert cache.peek("huge") is None
    assert cache.peek("a") == 2


def test_concurrent_callers_share_one_computation():
    cache, calls, results = ByteCache(100), [], []

    def slow():
        calls.append(1)
        time.sleep(0.05)
        return object()

    threads = [threading.Thread(target=lambda: results.append(cache.get("k", slow, lambda _: 1))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(calls) == 1
    assert len(set(map(id, results))) == 1


def test_failure_reaches_the_caller_and_is_forgotten():
    cache = ByteCache(100)

    def fail():
        raise RuntimeError("no")

    with pytest.raises(RuntimeError, match="no"):
        cache.get("k", fail, lambda _: 1)
    assert cache.get("k", lambda: "yes", lambda _: 1) == "yes"


def test_clear_and_bad_limit():
    cache = ByteCache(10)
    cache.put("a", 1, 5)
    cache.clear()
    assert (cache.nbytes, cache.peek("a")) == (0, None)
    with pytest.raises(ValueError, match="above 0"):
        ByteCache(0)
