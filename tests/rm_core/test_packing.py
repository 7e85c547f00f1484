"""Packing, order and back-end never change a score."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rm_core import attention, attention_sdpa, attention_varlen
from rm_core.errors import InvalidInput, UnknownName
from rm_core.options import Options
from rm_core.packing import pack
from rm_core.scorer import Scorer
from rm_core.types import Conversation, Image, ImagePart, ScoreGroup, TextPart, Turn
from tests.groups import all_groups, one_image, picture

pytestmark = pytest.mark.usefixtures("whole_float64")
FP32_TOLERANCE, FP64_TOLERANCE = 2e-5, 1e-9

texts = st.text("ab\n <|im_end|>é", min_size=1, max_size=30)
pictures = st.builds(picture, st.integers(0, 5), st.integers(28, 120), st.integers(28, 120))
parts = st.lists(st.one_of(texts.map(TextPart), pictures.map(ImagePart)), min_size=1, max_size=3)


@st.composite
def groups(draw: st.DrawFn) -> ScoreGroup:
    turns = [Turn("user", tuple(draw(parts)))]
    if draw(st.booleans()):
        turns += [Turn("assistant", tuple(draw(parts))), Turn("user", tuple(draw(parts)))]
    answers = draw(st.lists(texts, min_size=1, max_size=draw(st.sampled_from([1, 3, 8]))))
    return ScoreGroup(Conversation(tuple(turns)), tuple(answers))


def flat(scores: list[list[float]]) -> list[float]:
    return [score for group in scores for score in group]


@pytest.fixture(scope="module", params=["float32", "float64"])
def scorers(
    request: pytest.FixtureRequest, random_checkpoint: Path
) -> tuple[Scorer, Scorer, float]:
    dtype = request.param
    fast = Scorer.load(random_checkpoint, dtype=dtype, options=Options(attention="sdpa"))
    slow = Scorer.load(random_checkpoint, dtype=dtype, options=Options(attention="reference"))
    return fast, slow, FP32_TOLERANCE if dtype == "float32" else FP64_TOLERANCE


@settings(
    max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(batch=st.lists(groups(), min_size=1, max_size=4))
def test_packed_equals_each_answer_alone(
    scorers: tuple[Scorer, Scorer, float], batch: list[ScoreGroup]
) -> None:
    fast, slow, tolerance = scorers
    packed = flat(fast.score(batch))
    alone = [
        slow.score([ScoreGroup(group.conversation, (response,))])[0][0]
        for group in batch
        for response in group.responses
    ]
    assert packed == pytest.approx(alone, abs=tolerance)


@pytest.mark.parametrize("seed", range(5))
def test_any_order_gives_the_same_scores(random_scorer: Scorer, seed: int) -> None:
    batch = all_groups()
    expected = random_scorer.score(batch)
    order = np.random.default_rng(seed).permutation(len(batch))
    for place, scores in zip(order, random_scorer.score([batch[i] for i in order]), strict=True):
        assert scores == pytest.approx(expected[place], abs=FP32_TOLERANCE)


def test_long_groups_take_the_unmasked_road_to_the_same_scores(
    random_scorer: Scorer, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = flat(random_scorer.score(all_groups()))
    monkeypatch.setattr(attention_sdpa, "SMALL_GROUP", 0)
    assert flat(random_scorer.score(all_groups())) == pytest.approx(expected, abs=FP32_TOLERANCE)


def emulated_kernel(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    cu_q: torch.Tensor,
    cu_k: torch.Tensor,
    max_q: int,
    max_k: int,
    *,
    scale: float,
    window_size: tuple[int, int],
    enable_gqa: bool = False,
) -> torch.Tensor:
    """What the CUDA kernel promises, segment by segment; causal masks align to the end."""
    out = torch.empty_like(q)
    for i in range(len(cu_q) - 1):
        rows, keys = slice(cu_q[i], cu_q[i + 1]), slice(cu_k[i], cu_k[i + 1])
        (length, size) = (int(cu[i + 1] - cu[i]) for cu in (cu_q, cu_k))
        assert 0 < length <= max_q
        assert 0 < size <= max_k
        mask = torch.ones(length, size, dtype=torch.bool)
        q_HLD, k_HSD, v_HSD = (x.transpose(0, 1) for x in (q[rows], k[keys], v[keys]))
        out[rows] = torch.nn.functional.scaled_dot_product_attention(
            q_HLD,
            k_HSD,
            v_HSD,
            attn_mask=mask.tril(size - length) if window_size == (-1, 0) else mask,
            scale=scale,
            enable_gqa=enable_gqa,
        ).transpose(0, 1)
    return out


@pytest.mark.parametrize("grouped", [True, False], ids=["torch>=2.12", "torch 2.11"])
def test_the_varlen_layout_gives_the_same_scores(
    random_checkpoint: Path,
    random_scorer: Scorer,
    monkeypatch: pytest.MonkeyPatch,
    grouped: bool,
) -> None:
    monkeypatch.setattr(attention_varlen, "varlen_attn", emulated_kernel)
    monkeypatch.setattr(attention_varlen, "KNOWS_GROUPED_QUERIES", grouped)
    scorer = Scorer.load(random_checkpoint, options=Options(prefix_cache_bytes=1 << 20))
    scorer.model.attention = "varlen"
    expected = flat(random_scorer.score(all_groups()))
    for _ in range(2):
        assert flat(scorer.score(all_groups())) == pytest.approx(expected, abs=FP32_TOLERANCE)


def test_a_prompt_is_computed_once_and_a_picture_once(random_scorer: Scorer) -> None:
    group = random_scorer.encode(one_image())
    (batch,) = random_scorer.pack([group, group])
    assert len(batch.input_ids_T) == group.prompt_tokens + 2 * sum(group.answer_tokens)
    assert batch.computed_tokens == (group.num_tokens, sum(group.answer_tokens))
    assert batch.patches is not None
    assert len(batch.patches) == group.num_patches


def test_questions_about_one_picture_share_it_and_what_comes_before(random_scorer: Scorer) -> None:
    shown = picture(1, 56, 84)
    asked = [ScoreGroup(Conversation.ask(text, shown), ("yes",)) for text in ("red?", "a cat?")]
    first, second = (random_scorer.encode(group) for group in asked)
    (batch,) = random_scorer.pack([first, second])
    until_question = first.cuts[1].tokens
    assert batch.computed_tokens == (first.num_tokens, second.num_tokens - until_question)
    assert len(batch.image_index_M) == first.image_tokens


def test_the_trainer_shares_nothing_between_groups(random_scorer: Scorer) -> None:
    group = random_scorer.encode(one_image())
    batch = pack([group, group], random_scorer.model.image_pad_id, 2)
    assert len(batch.input_ids_T) == 2 * group.num_tokens
    assert len(batch.image_digests) == 1


def test_gradients_of_a_pack_equal_those_of_separate_forwards(random_checkpoint: Path) -> None:
    scorer = Scorer.load(random_checkpoint, dtype="float64")
    model, batch = scorer.model.requires_grad_(True), all_groups()

    def gradients(*packs: list[ScoreGroup]) -> list[torch.Tensor]:
        model.zero_grad()
        for groups in packs:
            (packed,) = scorer.pack([scorer.encode(group) for group in groups])
            model(packed).square().sum().backward()
        return [p.grad.clone() for p in model.parameters() if p.grad is not None]

    singles = [[ScoreGroup(g.conversation, (r,))] for g in batch for r in g.responses]
    for together, apart in zip(gradients(batch), gradients(*singles), strict=True):
        # The stock vision tower rotates in float32 whatever it is given, hence not 1e-12.
        assert (together - apart).abs().max() <= 1e-6 * together.abs().max()


def test_swapping_two_answers_swaps_their_scores(random_scorer: Scorer) -> None:
    ask, answers = one_image().conversation, one_image().responses[:2]
    (a, b), (c, d) = random_scorer.score([ScoreGroup(ask, answers), ScoreGroup(ask, answers[::-1])])
    assert (a, b) == pytest.approx((d, c), abs=FP32_TOLERANCE)


def test_an_unknown_back_end_lists_those_available() -> None:
    with pytest.raises(UnknownName, match="auto, reference, sdpa"):
        attention.choose("magic", torch.device("cpu"), torch.float32)


def test_nothing_to_score_is_an_error(random_scorer: Scorer) -> None:
    with pytest.raises(InvalidInput, match="nothing to score"):
        random_scorer.score([])


def test_an_image_knows_itself_by_its_pixels() -> None:
    black = np.zeros((2, 3, 3), np.uint8)
    assert Image.from_pixels(black).digest == Image.from_pixels(black.copy()).digest
    assert Image.from_pixels(black).digest != Image.from_pixels(black.reshape(3, 2, 3)).digest
