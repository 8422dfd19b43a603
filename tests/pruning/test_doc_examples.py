"""Every public function of the library's front modules has an example, and every example is right."""

import doctest
import inspect

import pytest

from pruning import budget, grids, images, method, ops, plan, tokens

MODULES = (budget, grids, images, method, ops, plan)
CLASSES = [(method, "Method.select"), (tokens, "VisualTokens"), (tokens, "Selection")]
WITHOUT = {"register", "warm_up"}  # a decorator of files under pruning/methods; a function that says nothing
PUBLIC = [
    (module, name)
    for module in MODULES
    for name, found in vars(module).items()
    if inspect.isfunction(found) and found.__module__ == module.__name__ and name[0] != "_" and name not in WITHOUT
]


@pytest.mark.parametrize(("module", "name"), [*PUBLIC, *CLASSES], ids=lambda given: str(given))
def test_the_example_is_right(module, name):
    (found,) = [
        test
        for test in doctest.DocTestFinder().find(module, module.__name__)
        if test.name == f"{module.__name__}.{name}"
    ]
    assert found.examples, "no example"
    assert any(example.want for example in found.examples), "an example that shows no result"
    told = []
    result = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS).run(found, out=told.append)
    assert not result.failed, "".join(told)
