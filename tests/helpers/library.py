"""What the model library itself does with pictures and text, and a loop by hand over its language model: the oracles.

Nothing here goes through our prompts, rows, positions or caches; only the loaded model and processor are shared.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from pruning.models import VLM, Turn


def inputs(vlm: VLM, images: Sequence[Image.Image], question: str, history: Sequence[Turn] = ()) -> Mapping[str, Any]:
    """The conversation as the library's processor takes it, by its documented call."""
    processing = vlm.family.processing
    said = [entry for turn in history for entry in (("user", turn.question), ("assistant", turn.answer))]
    messages: list[Any] = [
        {"role": role, "content": [{"type": "text", "text": text}]} for role, text in [*said, ("user", question)]
    ]
    messages[0]["content"] = [*({"type": "image", "image": image} for image in images), *messages[0]["content"]]
    return processing.processor.apply_chat_template(
        messages,
        chat_template=processing.template,
        add_generation_prompt=True,
        tokenize=True,
        return_dict=True,
        return_tensors="pt",
    )


def generate(
    vlm: VLM, images: Sequence[Image.Image], question: str, max_new_tokens: int, history: Sequence[Turn] = ()
) -> list[int]:
    """Pixels in, nothing precomputed, the library's own positions and loop."""
    given = inputs(vlm, images, question, history)
    out = vlm.model.generate(**given, do_sample=False, max_new_tokens=max_new_tokens)
    return out[0, given["input_ids"].shape[1] :].tolist()


def positions(vlm: VLM, given: Mapping[str, Any]) -> Tensor:
    """(axes, n) of the whole prompt."""
    ids = given["input_ids"]
    if not hasattr(vlm.model.model, "get_rope_index"):
        return torch.arange(ids.shape[1])[None]
    return vlm.model.model.get_rope_index(
        ids, mm_token_type_ids=given["mm_token_type_ids"], image_grid_thw=given["image_grid_thw"]
    )[0][:, 0]


def renumbered(vlm: VLM, given: Mapping[str, Any], stays: Tensor) -> Tensor:
    """(axes, n) positions of what is left, without gaps, by counting word after word, row after row."""
    where, ids = positions(vlm, given), given["input_ids"][0].tolist()
    if len(where) == 1:
        return torch.arange(int(stays.sum()) + sum(i != vlm.config.image_token_id for i in ids))[None]
    rest, image, columns, following = stays.tolist(), [], [], 0

    def close() -> None:
        nonlocal following
        for axis in zip(*image, strict=True) if image else ():
            known = sorted(set(axis))
            columns.append([following + known.index(value) for value in axis])
        if image:
            following = max(max(axis) for axis in columns[-3:]) + 1
            found.extend(zip(*columns[-3:], strict=True))
        image.clear()

    found: list[tuple[int, ...]] = []
    for place, token in enumerate(ids):
        if token == vlm.config.image_token_id:
            if rest.pop(0):
                image.append(tuple(where[:, place].tolist()))
            continue
        close()
        found.append((following,) * 3)
        following += 1
    return torch.tensor(found).T


def image_rows(vlm: VLM, given: Mapping[str, Any]) -> tuple[Tensor, list[Tensor]]:
    """All rows that the library puts at the placeholders (R, D), and the further levels of families that have them."""
    words = {"input_ids", "attention_mask", "token_type_ids", "mm_token_type_ids"}
    with torch.no_grad():
        output = vlm.model.model.get_image_features(
            **{name: value for name, value in given.items() if name not in words}, return_dict=True
        )

    def joined(value: Any) -> Tensor:
        return torch.cat([part.flatten(0, -2) for part in value])

    return joined(output.pooler_output), [joined(level) for level in getattr(output, "deepstack_features", None) or []]


def masks(vlm: VLM, visual: Tensor, stood: Tensor | None = None) -> Any:
    """Who sees whom, as the language model takes it, for a sequence with image rows where `visual` (n,) says.

    stood: (n,) what windows count by, where tokens are left out; without, the places in the sequence.
    """
    text = vlm.config.get_text_config()
    place = torch.arange(len(visual))
    sees = place[:, None] >= place

    def added(allowed: Tensor) -> Tensor:
        return torch.zeros(allowed.shape).masked_fill(~allowed, -torch.inf)[None, None]

    if vlm.config.model_type != "gemma3":
        return added(sees)
    image = (visual & ~visual.roll(1)).cumsum(0) * visual  # 0 outside, else which image
    sees = sees | ((image[:, None] == image) & visual[:, None])  # an image's tokens see each other both ways
    stood = place if stood is None else stood
    near = stood[:, None] - stood < text.sliding_window
    return {"full_attention": added(sees), "sliding_attention": added(sees & near)}


@torch.no_grad()
def cache_free(
    vlm: VLM,
    given: Mapping[str, Any],
    stays: Tensor,
    answer: Sequence[int],
    rows: Tensor | None = None,
    renumbered: Tensor | None = None,
) -> Tensor:
    """(T, V) log-probabilities at each step of `answer`; the whole sequence anew every step, embeddings by hand.

    stays: (R,) bool, the image rows that are left. rows: what stands there instead of the library's rows. renumbered:
    (axes, n) positions of what is left, in place of the library's.
    """
    ids, where = given["input_ids"][0], positions(vlm, given)
    library_rows, levels = image_rows(vlm, given)
    placeholders = (ids == vlm.config.image_token_id).nonzero()[:, 0]
    assert len(placeholders) == len(library_rows) == len(stays)
    visual = torch.zeros(len(ids), dtype=torch.bool)
    visual[placeholders] = True
    left = ~visual
    left[placeholders[stays]] = True
    embeddings = vlm.model.get_input_embeddings()(ids).clone()
    embeddings[placeholders] = library_rows
    embeddings, visual, at, following = embeddings[left], visual[left], where[:, left], where.max() + 1
    if rows is not None:
        embeddings[visual] = rows
    if renumbered is not None:
        at, following = renumbered, renumbered.max() + 1
    language = getattr(vlm.model.model, "language_model", None) or vlm.model.model.text_model
    steps = []
    for i, token in enumerate(answer):
        deep = {"deepstack_visual_embeds": [x[stays] for x in levels], "visual_pos_masks": visual[None]}
        output = language(
            inputs_embeds=embeddings[None],
            position_ids=at[:, None] if len(at) > 1 else at,
            attention_mask=masks(vlm, visual, at[0]),
            use_cache=False,
            **(deep if levels else {}),
        )
        steps.append(vlm.model.lm_head(output.last_hidden_state[0, -1]).log_softmax(-1))
        embeddings = torch.cat([embeddings, vlm.model.get_input_embeddings()(torch.tensor([token]))])
        at = torch.cat([at, (following + i).expand(len(at), 1)], dim=1)
        visual = torch.cat([visual, torch.tensor([False])])
    return torch.stack(steps)


def stays(places: Tensor | None, n: int, total: int, kept: Tensor) -> Tensor:
    """(R,) bool: rows left when the tokens `kept` are; rows that are no token stay. places: row of each of n tokens."""
    rows = torch.arange(n) if places is None else places
    left = torch.ones(total, dtype=torch.bool)
    left[rows] = False
    left[rows[kept]] = True
    return left


@torch.no_grad()
def staged(
    vlm: VLM,
    given: Mapping[str, Any],
    lives: Tensor,
    answer: Sequence[int],
    evicted: bool = False,
    renumbered: Sequence[Tensor] | None = None,
) -> Tensor:
    """`cache_free` where image row r (R,) is seen by the first lives[r] layers alone, and by none of the others.

    Nothing leaves: whoever is gone is masked, layer by layer, in a loop by hand over the layers. evicted: new tokens
    see in every layer what the last one sees. renumbered: of each layer, (axes, n) positions of the prompt; of what is
    gone, any.
    """
    ids, at = given["input_ids"][0], positions(vlm, given)
    library_rows, levels = image_rows(vlm, given)
    visual = ids == vlm.config.image_token_id
    language = getattr(vlm.model.model, "language_model", None) or vlm.model.model.text_model
    embeddings = vlm.model.get_input_embeddings()(ids).clone()
    embeddings[visual] = library_rows
    until = torch.full((len(ids),), len(language.layers)).masked_scatter(visual, lives)
    kinds = getattr(language.config, "layer_types", None) if vlm.config.model_type == "gemma3" else None
    places, steps = renumbered or [at] * len(language.layers), []
    for i, token in enumerate(answer):
        hidden, sees = embeddings[None], masks(vlm, visual)
        for depth, layer in enumerate(language.layers):
            kind = kinds[depth] if kinds else ""
            at = places[depth]
            following = torch.arange(i).expand(len(at), -1) + at[:, len(ids) - 1 :] + 1
            where = torch.cat([at, following], dim=1)
            where = where[:, None] if len(at) > 1 else where
            turn = language.rotary_emb(hidden, where, *([kind] if kinds else []))
            seen = (sees[kind] if kinds else sees).masked_fill(until <= depth, -torch.inf)
            if evicted:
                seen[..., len(ids) :, until < len(language.layers)] = -torch.inf
            hidden = layer(hidden, attention_mask=seen, position_embeddings=turn)
            if depth < len(levels):
                hidden[0, visual] += levels[depth]
        steps.append(vlm.model.lm_head(language.norm(hidden)[0, -1]).log_softmax(-1))
        embeddings = torch.cat([embeddings, vlm.model.get_input_embeddings()(torch.tensor([token]))])
        visual, until = torch.cat([visual, visual.new_zeros(1)]), torch.cat([until, until.new_tensor([99])])
    return torch.stack(steps)
