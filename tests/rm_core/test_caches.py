"""What is kept between forward passes never changes a score, and stays within its bound."""

import threading
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rm_core.lru import ByteLru
from rm_core.options import Options
from rm_core.scorer import Scorer
from rm_core.types import Conversation, Image, ScoreGroup, TextPart, Turn
from tests.groups import all_groups, one_image, picture

pytestmark = pytest.mark.usefixtures("whole_float64")
TOLERANCE = {"float32": 2e-5, "float64": 1e-9}
MIB = 1 << 20


def flat(scores: Sequence[Sequence[float]]) -> list[float]:
    return [score for group in scores for score in group]


def cached(checkpoint: Path, dtype: str, features: int, prefixes: int) -> Scorer:
    options = Options(feature_cache_bytes=features, prefix_cache_bytes=prefixes)
    return Scorer.load(checkpoint, dtype=dtype, options=options)


@pytest.fixture(scope="module", params=["float32", "float64"])
def plain(request: pytest.FixtureRequest, random_checkpoint: Path) -> Scorer:
    return Scorer.load(random_checkpoint, dtype=request.param)


# A few of each, so that batches meet again.
questions = st.sampled_from(["a?", "b?", "what is it, <|im_end|>?"])
pictures = st.sampled_from([picture(1, 56, 84), picture(2, 28, 28), picture(3, 84, 56)])


@st.composite
def conversations(draw: st.DrawFn) -> Conversation:
    first = Conversation.ask(draw(questions), *draw(st.lists(pictures, max_size=2)))
    if draw(st.booleans()):
        return first
    said = Turn("assistant", (TextPart("yes"),))
    return Conversation((*first.turns, said, *Conversation.ask(draw(questions)).turns))


groups = st.builds(
    ScoreGroup, conversations(), st.lists(st.sampled_from("abc"), min_size=1).map(tuple)
)
batches = st.lists(st.lists(groups, min_size=1, max_size=4), min_size=2, max_size=4)


@settings(
    max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(batches=batches, limit=st.sampled_from([5_000, 40_000, MIB]))
def test_cached_equals_uncached_whatever_is_evicted(
    plain: Scorer, random_checkpoint: Path, batches: list[list[ScoreGroup]], limit: int
) -> None:
    scorer = cached(random_checkpoint, plain.info.dtype, limit, limit)
    for batch in (*batches, *batches):
        expected = flat(plain.score(batch))
        assert flat(scorer.score(batch)) == pytest.approx(expected, abs=TOLERANCE[plain.info.dtype])
        assert scorer.prefixes.kept.size_bytes <= limit
        assert scorer.features.kept.size_bytes <= limit


def test_a_prompt_seen_before_costs_only_its_answers(random_checkpoint: Path) -> None:
    scorer = cached(random_checkpoint, "float32", 0, MIB)
    group = scorer.encode(one_image())
    scorer.score_encoded([group])
    (again,) = scorer.pack([group])
    assert again.computed_tokens == (sum(group.answer_tokens),)
    assert again.cached_rows == group.prompt_tokens
    assert again.patches is None


def test_another_picture_under_the_same_tokens_is_another_prompt(random_checkpoint: Path) -> None:
    scorer = cached(random_checkpoint, "float32", MIB, MIB)

    def ask(image: Image) -> list[float]:
        return scorer.score([ScoreGroup(Conversation.ask("?", image), ("a",))])[0]

    first, second = ask(picture(1, 56, 56)), ask(picture(2, 56, 56))
    assert first != second
    again = [ask(picture(n, 56, 56))[0] for n in (1, 2)]
    assert again == pytest.approx([*first, *second], abs=2e-5)


def test_a_picture_seen_before_skips_the_tower(
    random_checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scorer = cached(random_checkpoint, "float32", MIB, 0)
    looked: list[int] = []
    tower = scorer.model.image_features

    def watched(patches, grid_thw):  # type: ignore[no-untyped-def]
        looked.append(len(grid_thw))
        return tower(patches, grid_thw)

    monkeypatch.setattr(scorer.model, "image_features", watched)
    shown = [picture(n, 56, 56) for n in (1, 2, 3)]
    for images in (shown[:2], shown[1:], shown):
        scorer.score([ScoreGroup(Conversation.ask("?", *images), ("a",))])
    assert looked == [2, 1]


def test_caches_of_no_bytes_are_off(random_checkpoint: Path) -> None:
    scorer = cached(random_checkpoint, "float32", 0, 0)
    expected = scorer.score(all_groups())
    assert scorer.score(all_groups()) == expected
    assert len(scorer.prefixes.kept) == len(scorer.features.kept) == 0


def test_the_least_recently_used_value_leaves_first() -> None:
    kept: ByteLru[str, bytes] = ByteLru(10, lambda _, value: len(value))
    kept.put("a", b"1234")
    kept.put("b", b"1234")
    assert kept.get("a") == b"1234"
    kept.put("c", b"1234")
    assert (kept.get("a"), kept.get("b"), kept.size_bytes) == (b"1234", None, 8)
    kept.put("large", bytes(11))
    assert kept.get("large") is None
    assert (len(kept), kept.counts.evictions) == (2, 1)


def test_many_threads_keep_the_bound() -> None:
    kept: ByteLru[int, bytes] = ByteLru(100, lambda _, value: len(value))

    def use(seed: int) -> None:
        for number in range(2000):
            key = (number * seed) % 50
            if kept.get(key) is None:
                kept.put(key, bytes(key))

    threads = [threading.Thread(target=use, args=(seed,)) for seed in (3, 7, 11, 13)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert kept.size_bytes == sum(len(kept.get(key) or b"") for key in range(50)) <= 100


def test_a_piece_without_its_beginning_is_not_kept(random_checkpoint: Path) -> None:
    group = one_image()
    whole = cached(random_checkpoint, "float32", 0, MIB)
    whole.score([group])
    kept = whole.prefixes.kept
    sizes = [len(key[0]) + value.nbytes for key, value in kept._kept.items()]
    small = cached(random_checkpoint, "float32", 0, max(sizes) - 1)  # one piece is too large
    small.score([group])
    lengths = {len(key[0]) for key in small.prefixes.kept._kept}
    assert len(lengths) < len(sizes)
    too_large = min(len(key[0]) for key in kept._kept if len(key[0]) not in lengths)
    assert all(length < too_large for length in lengths), "a piece was kept without its beginning"


def test_many_short_answers_count_for_the_keys_they_read(random_scorer: Scorer) -> None:
    few = random_scorer.encode(ScoreGroup(Conversation.ask("word " * 300), ("a",)))
    many = replace(few, answer_ids=few.answer_ids * 1000)
    keys = 1000 * (few.prompt_tokens + few.answer_tokens[0])
    assert random_scorer.cost(many) >= keys / 32


def test_a_prompt_of_many_turns_has_few_cuts(random_scorer: Scorer) -> None:
    turns = [Turn(role, (TextPart("x"),)) for _ in range(40) for role in ("user", "assistant")]
    group = random_scorer.encode(ScoreGroup(Conversation((*turns, turns[0])), ("a",)))
    assert len(group.cuts) == 16
    assert group.cuts[-1].tokens == group.prompt_tokens
    assert [cut.tokens for cut in group.cuts] == sorted({cut.tokens for cut in group.cuts})
