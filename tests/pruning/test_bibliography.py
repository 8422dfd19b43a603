"""BibTeX of the methods."""

import re

import pytest

from pruning import METHODS
from pruning.assets import text
from pruning.bibliography import ENTRY, bibtex
from pruning.staged import STAGED

EVERY = {**METHODS, **STAGED}


@pytest.mark.parametrize("name", sorted(name for name, method in EVERY.items() if method.paper))
def test_every_published_method_has_one_entry(name: str) -> None:
    entry = bibtex([EVERY[name]])
    assert entry.startswith("@")
    assert len(re.findall(r"^  title = ", entry, re.MULTILINE)) == 1
    assert EVERY[name].paper.rsplit("/", 1)[-1] in entry


def test_methods_of_one_paper_share_their_entry() -> None:
    both = bibtex([METHODS["idpruner"], METHODS["naive_hybrid"]])
    assert both.count("@") == 1
    assert bibtex([EVERY["aim"], EVERY["aim_inner"]]).count("@") == 1
    assert both.endswith("}\n")


def test_baselines_have_none() -> None:
    assert bibtex([METHODS["random"], STAGED["random_inner"]]) == ""


def test_the_file_holds_nothing_else() -> None:
    entries = ENTRY.findall(text("references.bib"))
    used = bibtex(EVERY.values())
    assert len(entries) == used.count("@")
    assert len({entry.split("{")[1].split(",")[0] for entry in entries}) == len(entries)
