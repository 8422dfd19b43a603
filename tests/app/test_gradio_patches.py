"""What the app changes in Gradio: nothing before it is told to, and no more when told twice."""

import asyncio
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import gradio as gr
import pytest
from gradio import processing_utils
from gradio.blocks import Block
from gradio.data_classes import FileData, ListFiles

from app.web import gradio_patches

SEEN = ("6.31",)  # versions that the patches were seen to work with, in a browser too
UNTOUCHED = """
import gradio as gr
from gradio import processing_utils
from gradio.blocks import Block
def now():
    return (gr.Slider.preprocess, gr.Image.preprocess, gr.File.preprocess,
            Block.async_move_resource_to_block_cache, processing_utils.async_move_files_to_cache)
before = now()
import app.ui
assert now() == before, "changed by an import"
app.ui.gradio_patches.apply()
assert not set(now()) & set(before), "left as it was"
"""


def run(work):
    """What a coroutine gives, in a thread without an event loop: the browser's driver keeps one in the main thread."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(lambda: asyncio.run(work())).result()


def test_the_installed_gradio_is_one_that_was_seen_to_work():
    version = ".".join(gr.__version__.split(".")[:2])
    assert version in SEEN, f"Gradio {gr.__version__}: run the browser tests with it, then name {version} here"


@pytest.mark.slow
def test_an_import_changes_nothing():
    subprocess.run([sys.executable, "-c", UNTOUCHED], check=True)


def test_components_hand_over_paths_and_numbers_in_range():
    gradio_patches.apply()
    gradio_patches.apply()
    assert gradio_patches.image_input().preprocess(FileData(path="a.png")) == "a.png"
    files = ListFiles(root=[FileData(path="a.png"), FileData(path="b.png")])
    assert gradio_patches.files_input().preprocess(files) == ["a.png", "b.png"]
    slider = gr.Slider(1, 5)
    assert [slider.preprocess(value) for value in (0, 2, 9)] == [1, 2, 5]


def test_a_second_call_wraps_nothing_twice(monkeypatch):
    calls = []

    async def move(*given, **options):
        calls.append(given)

    monkeypatch.setattr(gradio_patches, "_move_files", move)
    monkeypatch.setattr(gradio_patches, "_move_resource", move)
    with monkeypatch.context() as patch:
        patch.setattr(processing_utils, "async_move_files_to_cache", None)
        patch.setattr(Block, "async_move_resource_to_block_cache", None)
        gradio_patches.apply()
        gradio_patches.apply()
        run(lambda: processing_utils.async_move_files_to_cache({}, None))
        run(lambda: Block.async_move_resource_to_block_cache(gr.Image(), "a.png"))
    assert len(calls) == 2


@pytest.mark.parametrize("address", ["http://localhost:9/a.png", "https://example.invalid/a.png"])
def test_an_address_is_never_fetched(address):
    gradio_patches.apply()
    with pytest.raises(gr.Error):
        run(lambda: gr.Image().async_move_resource_to_block_cache(address))
