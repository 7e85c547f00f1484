"""The words the tower is taught to show, and the rows of the embedding they start from.

A merged picture token should be worth the sum of the words that are true of it. So the words' rows
are made orthonormal first, the tower learns to hit them, and the decoder starts from the same rows.
"""

import torch
from tokenizers import Tokenizer
from torch import Tensor

from training.data.colours import RANGES
from training.data.objects import OBJECTS, plural
from training.data.tasks import signs
from training.data.tasks.shapes import COLOURS, SHAPES

NOTHING = "nothing"
COLOUR_WORDS = tuple(dict.fromkeys((*RANGES, *COLOURS)))
COUNTS = ("one", "two", "three", "four")
FAMILIES: dict[str, tuple[str, ...]] = {
    "thing": (NOTHING, *OBJECTS),
    "colour": COLOUR_WORDS,
    "row": ("top", "bottom"),
    "column": ("left", "right"),
    "count": COUNTS,
    "shape": SHAPES,
    "written": signs.WORDS,
    "shortest": COLOUR_WORDS,  # through a turn of its own: a chart has a tallest colour as well
}
WORDS = tuple(dict.fromkeys(word for words in FAMILIES.values() for word in words))
NUMBER_WAVES = (2.3, 4.1, 7.3, 13.0, 23.0, 47.0)  # in units of one; numbers start as points on them
OTHER_TOKENS = 0.1  # weight of a token that carries no content, against 1
OTHER_SPELLING = 0.15  # how far "Frog" and " frogs" start from " frog", in units of a row's length


def word_rows(width: int, generator: torch.Generator) -> Tensor:
    """One row for each of WORDS, (words, width), orthonormal."""
    assert width >= len(WORDS), (width, len(WORDS))
    basis: Tensor = torch.linalg.qr(torch.randn(width, len(WORDS), generator=generator)).Q
    return basis.T.contiguous()


def picture_mark(rows_WD: Tensor, generator: torch.Generator) -> Tensor:
    """A direction (D,) that no word uses: it says "this token is part of a picture"."""
    mark_D = torch.randn(rows_WD.shape[1], generator=generator)
    mark_D -= rows_WD.T @ (rows_WD @ mark_D)
    unit_D: Tensor = mark_D / mark_D.norm()
    return unit_D


def spread_to(embedding_VD: Tensor, tokenizer: Tokenizer, rows_WD: Tensor, mark_D: Tensor) -> None:
    """Start every spelling of a word near the word's row, all other tokens at random, unmarked."""
    numbers = _number_rows(embedding_VD.shape[1])
    forms = {word: index for index, word in enumerate(WORDS)}
    forms |= {plural(word): forms[word] for word in OBJECTS}
    with torch.no_grad():
        embedding_VD.normal_(0.0, embedding_VD.shape[1] ** -0.5)
        for token, token_id in tokenizer.get_vocab().items():
            if (digits := token.removeprefix("Ġ")).isdecimal() and int(digits) < len(numbers):
                embedding_VD[token_id] = (
                    numbers[int(digits)] + OTHER_SPELLING * embedding_VD[token_id]
                )
            if (index := forms.get(token.removeprefix("Ġ").lower())) is not None:
                embedding_VD[token_id] = rows_WD[index] + OTHER_SPELLING * embedding_VD[token_id]
        embedding_VD -= torch.outer(embedding_VD @ mark_D, mark_D)


def content_weights(tokenizer: Tokenizer) -> Tensor:
    """(vocabulary,): 1 for tokens that say something about a picture, little for the others."""
    said = {*WORDS, *(plural(word) for word in OBJECTS), "yes", "no"}
    weights_V = torch.full((tokenizer.get_vocab_size(),), OTHER_TOKENS)
    for token, token_id in tokenizer.get_vocab().items():
        if token.removeprefix("Ġ").lower() in said:
            weights_V[token_id] = 1.0
    return weights_V


def _number_rows(width: int, count: int = 100) -> Tensor:
    """Neighbours start close together, so that sums can be learned from some and hold for all."""
    angles = torch.arange(count)[:, None] * (2 * torch.pi / torch.tensor(NUMBER_WAVES))
    points = torch.cat([angles.cos(), angles.sin()], dim=1) / len(NUMBER_WAVES) ** 0.5
    basis: Tensor = torch.linalg.qr(torch.randn(width, points.shape[1])).Q
    rows: Tensor = points @ basis.T
    return rows
