"""ScoreGroups of every shape the tests compare on."""

import numpy as np

from rm_core.types import Conversation, Image, ImagePart, ScoreGroup, TextPart, Turn


def picture(seed: int, height: int, width: int) -> Image:
    """A smooth random picture: resizing it is a real computation, not a copy."""
    generator = np.random.default_rng(seed)
    coarse = generator.integers(0, 256, (height // 8 + 1, width // 8 + 1, 3), dtype=np.uint8)
    pixels = coarse.repeat(8, 0).repeat(8, 1)[:height, :width]
    return Image.from_pixels(np.ascontiguousarray(pixels))


def text_only() -> ScoreGroup:
    return ScoreGroup(Conversation.ask("What is 2 + 3?"), ("5", "It is 6, I think.\n"))


def one_image() -> ScoreGroup:
    question = Conversation.ask("What is shown?", picture(1, 84, 112))
    return ScoreGroup(question, ("A red apple.", "A bicycle.", "\nA leading newline"))


def several_images() -> ScoreGroup:
    pictures = (picture(2, 100, 61), picture(3, 56, 56), picture(4, 300, 200))
    return ScoreGroup(Conversation.ask("Which differ?", *pictures), ("the first", "none"))


def multi_turn() -> ScoreGroup:
    turns = (
        Turn("system", (TextPart("Be brief."),)),
        Turn("user", (ImagePart(picture(5, 70, 90)), TextPart("What is it?"))),
        Turn("assistant", (TextPart("A tree."),)),
        Turn("user", (TextPart("And"), ImagePart(picture(6, 40, 40)), TextPart(" this?"))),
    )
    return ScoreGroup(Conversation(turns), ("A bush.", "I cannot say.", "A tree", "Röd ☀"))


def eight_answers() -> ScoreGroup:
    answers = tuple(f"It shows {n} thing{'s' * (n != 1)}." for n in range(8))
    return ScoreGroup(Conversation.ask("How many?", picture(7, 60, 60)), answers)


def long_text() -> ScoreGroup:
    return ScoreGroup(Conversation.ask("word " * 120), ("yes", "no", "perhaps " * 40))


GROUPS = {
    make.__name__: make
    for make in (text_only, one_image, several_images, multi_turn, eight_answers, long_text)
}


def all_groups() -> list[ScoreGroup]:
    return [make() for make in GROUPS.values()]
