"""What a program leaves out while it starts, and that it does so no longer than that."""

import gc

import pytest

from pruning.starting import undisturbed


def test_no_garbage_is_collected_inside_and_all_is_as_before_afterwards():
    def start():
        with undisturbed():
            assert not gc.isenabled()
            with undisturbed():
                pass
            assert not gc.isenabled()
            raise KeyError

    with pytest.raises(KeyError):
        start()
    assert gc.isenabled()
