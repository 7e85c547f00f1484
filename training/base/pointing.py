"""Dense labels for the decoder: at every word for a thing, whether and where the picture shows it.

Placing a thing takes two steps: from the word to its picture token, from there to "left" or "top".
Pairs alone never taught a model this small the first step; asked for directly, it comes in minutes.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from random import Random
from typing import Any

import torch
from tokenizers import Tokenizer
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy

from rm_core.encode import EncodedGroup, Encoder
from rm_core.model import RewardModel
from rm_core.packing import PackedBatch, pack
from rm_core.types import Conversation, Image, ScoreGroup
from training.base.labels import UNKNOWN, draw_things
from training.base.words import FAMILIES
from training.data.objects import OBJECTS, plural
from training.data.scenes import Things, render_things

READ_AFTER_LAYER = 1  # counted from 0: later layers must have a use for what is found
ANSWERS = (*FAMILIES["row"], *FAMILIES["column"], *FAMILIES["count"])
SHARES = {"present": slice(0, 1), "row": slice(1, 3), "column": slice(3, 5), "count": slice(5, 9)}


@dataclass(frozen=True)
class Pointed:
    """One picture with words about it, and for each thing what the picture says of it."""

    group: EncodedGroup
    facts: dict[str, tuple[int, int, int, int]]  # word -> present, row, column, count


class Pointer(nn.Module):
    """Reads presence, row, column and count off a token in the middle of the decoder.

    Place and count must show as the words for them, so that a later "left" can find them.
    """

    def __init__(self, tokenizer: Tokenizer, width: int) -> None:
        super().__init__()
        self.norm = nn.RMSNorm(width)
        self.present = nn.Linear(width, 1)
        self.answers = [tokenizer.token_to_id(f"Ġ{word}") for word in ANSWERS]
        assert None not in self.answers, "a place or number word is not one token"

    def forward(self, hidden_LD: Tensor, embedding_VD: Tensor) -> Tensor:
        """(L, 9), laid out as SHARES says."""
        normed_LD = self.norm(hidden_LD)
        words_L8 = normed_LD @ embedding_VD[self.answers].T
        return torch.cat([self.present(normed_LD), words_L8], dim=-1)


def draw_pointed(rng: Random, encoder: Encoder) -> Pointed:
    """Half of the words name something in the picture; some stand in the question, some after."""
    scene = draw_things(rng)
    words = [rng.choice(scene.kinds if rng.random() < 0.5 else OBJECTS) for _ in range(6)]
    spoken = [_mention(rng, word) for word in words]
    cut = rng.randint(1, len(spoken) - 1)
    conversation = Conversation.ask(" ".join(spoken[:cut]), Image(render_things(scene), str(scene)))
    group = ScoreGroup(conversation, (" ".join(spoken[cut:]),))
    return Pointed(encoder.encode(group), {word: _facts(scene, word) for word in words})


def _mention(rng: Random, word: str) -> str:
    many = rng.random() < 0.3
    before = (
        rng.choice(("two", "three", "many", "some")) if many else rng.choice(("the", "a", "is a"))
    )
    text = f"{before} {plural(word) if many else word}"
    return text if rng.random() < 0.8 else text.split()[-1].capitalize()


def _facts(scene: Things, word: str) -> tuple[int, int, int, int]:
    """A place only where there is one copy to place, a count only where there is any."""
    copies = scene.words.count(word)
    if not copies:
        return 0, UNKNOWN, UNKNOWN, UNKNOWN
    if copies > 1 or scene.large:
        return 1, UNKNOWN, UNKNOWN, copies - 1
    row, column = divmod(scene.quarters.index(word), 2)
    return 1, row, column, 0


def word_ids(tokenizer: Tokenizer) -> dict[int, str]:
    """Every token that is some spelling of a thing's word."""
    spellings = {form: word for word in OBJECTS for form in (word, plural(word))}
    found = (
        (token_id, spellings.get(token.removeprefix("Ġ").lower()))
        for token, token_id in tokenizer.get_vocab().items()
    )
    return {token_id: word for token_id, word in found if word}


def pointed_loss(
    model: RewardModel, pointer: Pointer, rows: list[Pointed], words: Mapping[int, str]
) -> tuple[Tensor, dict[str, float]]:
    """The summed losses of the four facts, and how often each was read right."""
    packed = pack([row.group for row in rows], model.image_pad_id, model.rules.merge_size)
    with _layer_output(model) as kept:
        model.hidden(packed)
    index_L, facts_L4 = _targets(packed, rows, words)
    embedding_VD = model.backbone.language_model.embed_tokens.weight
    read_L9 = pointer(kept[0].squeeze(0)[index_L], embedding_VD)
    losses, right = [], {}
    for number, (name, share) in enumerate(SHARES.items()):
        known_L = facts_L4[:, number] != UNKNOWN
        logits, facts = read_L9[known_L, share], facts_L4[known_L, number]
        if name == "present":
            losses.append(binary_cross_entropy_with_logits(logits[:, 0], facts.float()))
            right[name] = ((logits[:, 0] > 0) == (facts > 0)).float().mean().item()
        else:
            losses.append(cross_entropy(logits, facts))
            right[name] = (logits.argmax(-1) == facts).float().mean().item()
    return torch.stack(losses).sum(), right


def _targets(
    packed: PackedBatch, rows: list[Pointed], words: Mapping[int, str]
) -> tuple[Tensor, Tensor]:
    """Where in the packed row the things' words stand, and their facts."""
    ids = packed.input_ids_T.tolist()
    index, facts = [], []
    for span, row in zip(packed.spans, rows, strict=True):
        for place in range(span.start, span.start + span.length):
            word = words.get(ids[place])
            if word in row.facts:
                index.append(place)
                facts.append(row.facts[word])
    return torch.tensor(index), torch.tensor(facts)


@contextmanager
def _layer_output(model: RewardModel) -> Iterator[list[Tensor]]:
    kept: list[Tensor] = []

    def keep(_module: nn.Module, _inputs: Any, output: Any) -> None:
        kept.append(output[0] if isinstance(output, tuple) else output)

    layer = model.backbone.language_model.layers[READ_AFTER_LAYER]
    handle = layer.register_forward_hook(keep)
    try:
        yield kept
    finally:
        handle.remove()
