"""What one visitor's page remembers between two events: small, frozen, no pixels, no tensors.

Everything heavy lives in the shared caches under the pictures' keys; when it was evicted, `Picture.path` brings it
back.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from pruning.encoding import EncodingMethod
from pruning.text import checked_question
from pruning.video import Sampling

if TYPE_CHECKING:
    from pruning.choosing import Asked, Fixed
    from pruning.grids import Scope
    from pruning.models.values import Positions
    from pruning.runnable import Started

MAX_QUESTION = 1000  # characters
MAX_PLAN = 400


@dataclass(frozen=True, slots=True)
class Film:
    """What is taken of a clip: how it was asked for, when each of the frames is shown, seconds; and in words."""

    sampling: Sampling
    times: tuple[float, ...]
    summary: str


@dataclass(frozen=True, slots=True)
class Picture:
    """An image or a clip as the page knows it: content hash, the file it came from, its size in pixels.

    film: what is taken of a clip; None for an image.
    """

    key: str
    path: str
    width: int
    height: int
    film: Film | None = None


@dataclass(frozen=True, slots=True)
class Forced:
    """Tokens that a visitor forced in or out, for the images and the method that `key` stands for (canvas.key_of).

    news: where another part of the page than the canvas did so, what tells this from the time before: the canvas takes
    it over once.
    """

    key: str = ""
    ins: tuple[int, ...] = ()
    outs: tuple[int, ...] = ()
    news: str = ""

    def __bool__(self) -> bool:
        return bool(self.ins or self.outs)


@dataclass(frozen=True, slots=True)
class Session:
    """Whom the visitor asks, about what, and what was asked.

    model_name: the model's name in `Models`. pictures: at least one, clips last; all go into one prompt. questions: the
    conversation, the question in force last. Answers are no part of it: they follow from the questions and the setting.
    forced: what the canvas last said. It stays with other images and methods, and counts again where those that it was
    meant for come back.
    """

    model_name: str
    pictures: tuple[Picture, ...]
    questions: tuple[str, ...] = ()
    forced: Forced = Forced()

    @property
    def first(self) -> str:
        """The question that the images are pruned for: they are pruned once, and every later turn goes on from that."""
        return self.questions[0] if self.questions else ""

    def checked_questions(self) -> tuple[str, ...]:
        """The questions, at least one. Raises ValueError where one is no question that a model can be asked here."""
        return tuple(checked_question(question, MAX_QUESTION) for question in self.questions or ("",))

    @property
    def keys(self) -> tuple[str, ...]:
        return tuple(picture.key for picture in self.pictures)

    @property
    def films(self) -> tuple[Film, ...]:
        """What is taken of each clip."""
        return tuple(picture.film for picture in self.pictures if picture.film)


@dataclass(frozen=True)
class Setting:
    """Which tokens to keep: method with its knobs, share of the tokens in (0, 1], for what each budget is, and what the
    visitor forced; and at which positions the language model receives them.

    plan: where it is given, it runs in the method's place, and the retention says nothing; its entry is not made yet.
    Inside the language model the share is the mean over its layers, and nothing is forced. Before the tower the share
    is the number of tokens of another encoding, and nothing is forced either.
    """

    method: Started
    retention: float
    scope: Scope = "sample"
    forced: Forced = Forced()
    plan: Fixed | None = None
    positions: Positions = "original"

    @property
    def choice(self) -> Setting:
        """The setting for what its method alone chooses: nothing is forced, and positions choose nothing."""
        return replace(self, forced=Forced(), positions="original")

    @property
    def asked(self) -> Asked:
        """What runs, as `pruning.choosing` takes it."""
        return self.plan or self.method

    @property
    def encoding(self) -> EncodingMethod | None:
        """What asks for another encoding of the pictures, where it is such a method that runs."""
        return self.asked if isinstance(self.asked, EncodingMethod) else None

    @property
    def one_shot(self) -> bool:
        """Whether all tokens that leave do so before the language model."""
        return self.plan is None and self.method.stage == "pre_llm"

    @property
    def staged(self) -> bool:
        """Whether tokens leave between the layers of the language model."""
        return not self.one_shot and self.encoding is None
