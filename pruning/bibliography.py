"""The papers of methods as BibTeX, from assets/references.bib."""

from __future__ import annotations

import re
from collections.abc import Iterable

from pruning import assets
from pruning.method import Described

ENTRY = re.compile(r"^@.*?^}$", re.MULTILINE | re.DOTALL)


def bibtex(methods: Iterable[type[Described]]) -> str:
    """The entries of these methods' papers, each once, in the order of the file; "" where none has a paper."""
    wanted = {method.paper.rsplit("/", 1)[-1] for method in methods if method.paper}
    entries = [
        entry for entry in ENTRY.findall(assets.text("references.bib")) if any(arxiv in entry for arxiv in wanted)
    ]
    return "".join(f"{entry}\n\n" for entry in entries).rstrip("\n") + ("\n" if entries else "")
