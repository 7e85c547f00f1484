"""Trainers' reward functions against a real server: pictures arrive, and failures raise."""

import asyncio
import importlib
import io
import json
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import pytest_asyncio
from PIL import Image as Pillow

from rm_core.scorer import Scorer
from service.adapters import _http, openrlhf, trl, verl
from service.adapters._http import RewardFailed
from service.adapters._messages import completion_text, messages, picture_url
from tests.service.foreign import expected, templated
from tests.service.listening import listening
from tests.service.serving import ANSWERS, QUESTION, TOLERANCE, Interrupted, Running, data_url, png

RED, BLUE = png(colour="red"), png(100, 60, "blue", "JPEG")
PLAIN = [{"role": "user", "content": QUESTION}]
PLACED = [
    {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": QUESTION}]},
]


@pytest_asyncio.fixture
async def address(
    random_scorer: Scorer, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[tuple[Running, str]]:
    async with listening(random_scorer) as found:
        monkeypatch.setenv("REWARD_URL", f"http://{found[1]}")
        yield found


async def in_thread(call: Callable[..., Any], *args: Any, **named: Any) -> Any:
    """A blocking reward function beside the server, as a trainer calls it."""
    return await asyncio.to_thread(call, *args, **named)


@pytest.fixture
def files(tmp_path: Path) -> list[str]:
    (tmp_path / "red.png").write_bytes(RED)
    (tmp_path / "blue.jpg").write_bytes(BLUE)
    return [str(tmp_path / "red.png"), str(tmp_path / "blue.jpg")]


@pytest.fixture
def wanted(random_scorer: Scorer) -> list[float]:
    return expected(random_scorer, QUESTION, ANSWERS, RED)


@pytest.mark.usefixtures("address")
async def test_trl_conversational_with_a_column_of_pictures(wanted: list[float]) -> None:
    opened = Pillow.open(io.BytesIO(RED))
    completions = [[{"role": "assistant", "content": answer}] for answer in ANSWERS]
    for columns in ({"images": [[opened]] * 3}, {"image": [opened] * 3}):
        rewards = await trl.areward(
            [PLAIN] * 3, completions, completion_ids=[], log_extra=None, **columns
        )
        assert rewards == pytest.approx(wanted, abs=TOLERANCE)


@pytest.mark.usefixtures("address")
async def test_trl_prompts_that_are_filled_already(wanted: list[float]) -> None:
    """TRL puts the pictures into the prompts and hands over the column too."""
    opened = Pillow.open(io.BytesIO(RED))
    filled = [
        {"role": "user", "content": [{"type": "image", "image": opened}, PLACED[0]["content"][1]]}
    ]
    rewards = await in_thread(trl.reward, [filled] * 3, list(ANSWERS), images=[[opened]] * 3)
    assert rewards == pytest.approx(wanted, abs=TOLERANCE)


@pytest.mark.usefixtures("address")
async def test_trl_plain_text(random_scorer: Scorer) -> None:
    rewards = await in_thread(trl.reward, prompts=[QUESTION] * 3, completions=list(ANSWERS))
    wanted = expected(random_scorer, QUESTION, ANSWERS)
    assert rewards == pytest.approx(wanted, abs=TOLERANCE)


@pytest.mark.usefixtures("address")
async def test_verl_with_a_data_sets_pictures(wanted: list[float], files: list[str]) -> None:
    for picture in (files[0], {"bytes": RED, "path": None}, {"bytes": None, "path": files[0]}):
        info = {"prompt": [{"role": "user", "content": f"<image>{QUESTION}"}], "images": [picture]}
        found = await verl.compute_score(
            data_source="x", solution_str=ANSWERS[0], ground_truth="", extra_info=info
        )
        assert found == {"score": pytest.approx(wanted[0], abs=TOLERANCE)}


async def test_verl_without_a_prompt_says_what_the_data_set_needs() -> None:
    with pytest.raises(KeyError, match="`prompt`"):
        await verl.compute_score("x", "answer", "", {"num_turns": None})


@pytest.mark.usefixtures("address")
async def test_openrlhf_reads_local_files(random_scorer: Scorer, files: list[str]) -> None:
    queries = [templated(QUESTION, answer, RED, BLUE, pads=5) for answer in ANSWERS]
    label = json.dumps({"images": files})
    found = await in_thread(openrlhf.reward_func, queries, [""] * 3, [label] * 3)
    wanted = expected(random_scorer, QUESTION, ANSWERS, RED, BLUE)
    assert found["rewards"] == pytest.approx(wanted, abs=TOLERANCE)
    assert found.keys() == {"rewards", "scores", "extra_logs"}


@pytest.mark.usefixtures("address")
async def test_openrlhf_labels_without_pictures_are_kept_at_home(random_scorer: Scorer) -> None:
    queries = [templated(QUESTION, ANSWERS[0])] * 4
    labels = ["42", r"{\frac 1 2}", {"answer": 42}, None]
    found = await in_thread(openrlhf.reward_func, queries, [""] * 4, labels)
    assert found["rewards"] == pytest.approx(
        expected(random_scorer, QUESTION, ANSWERS[:1]) * 4, abs=TOLERANCE
    )


@pytest.mark.usefixtures("address")
async def test_ms_swift_registers_a_reward(
    monkeypatch: pytest.MonkeyPatch, wanted: list[float], files: list[str]
) -> None:
    """ms-swift itself pulls in a trainer; its `orms` table and empty base class stand in for it."""
    swift = SimpleNamespace(ORM=object, orms={})
    monkeypatch.setitem(sys.modules, "swift", SimpleNamespace(rewards=swift))
    monkeypatch.setitem(sys.modules, "swift.rewards", swift)
    monkeypatch.delitem(sys.modules, "service.adapters.ms_swift", raising=False)
    importlib.import_module("service.adapters.ms_swift")
    asked = {"role": "user", "content": f"<image>{QUESTION}"}
    rows = [[asked, {"role": "assistant", "content": answer}] for answer in ANSWERS]
    columns = {"messages": rows, "images": [[{"path": files[0]}]] * 3, "trainer_state": None}
    rewards = await in_thread(swift.orms["vlrm"](), list(ANSWERS), **columns)
    assert rewards == pytest.approx(wanted, abs=TOLERANCE)


async def test_equal_prompts_are_one_request_and_rewards_keep_their_order(
    random_scorer: Scorer, monkeypatch: pytest.MonkeyPatch
) -> None:
    watched = Interrupted(random_scorer, lambda groups: None)
    async with listening(watched) as (_, where):
        monkeypatch.setenv("REWARD_URL", f"http://{where}/")
        prompts = ["What?", "Why?", "What?", "Why?"]
        rewards = await _http.areward(prompts, ["a", "a", "b", "b"])
    assert sum(watched.batches) == 2
    what, why = (expected(random_scorer, prompt, ["a", "b"]) for prompt in ("What?", "Why?"))
    assert rewards == pytest.approx([what[0], why[0], what[1], why[1]], abs=TOLERANCE)


async def test_more_completions_than_one_forward_takes_all_come_back(
    random_scorer: Scorer, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with listening(random_scorer, max_batch_tokens=400) as (_, where):
        monkeypatch.setenv("REWARD_URL", f"http://{where}")
        answers = [f"word {n} " * 12 for n in range(6)]
        rewards = await _http.areward([QUESTION] * 6, answers)
        with pytest.raises(RewardFailed, match="too_much_work"):
            await _http.areward([QUESTION], ["word " * 200])
    assert rewards == pytest.approx(expected(random_scorer, QUESTION, answers), abs=TOLERANCE)


async def test_a_busy_server_is_waited_for(address: tuple[Running, str]) -> None:
    running, _ = address
    running.parts.admission.limit = 1
    with running.parts.admission.permit():
        asking = asyncio.create_task(_http.areward([QUESTION], ["a"]))
        await asyncio.sleep(0.5)
        assert not asking.done()
    assert len(await asking) == 1


async def test_waiting_ends_with_an_error_that_says_why(
    address: tuple[Running, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_http, "GIVE_UP_S", 0.5)
    running, _ = address
    running.parts.admission.drain()
    with pytest.raises(RewardFailed, match=r"503.*draining"):
        await _http.areward([QUESTION], ["a"])


async def test_no_server_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("REWARD_URL", raising=False)
    with pytest.raises(RewardFailed, match="REWARD_URL"):
        await _http.areward([QUESTION], ["a"])
    monkeypatch.setenv("REWARD_URL", "http://127.0.0.1:1")
    monkeypatch.setattr(_http, "GIVE_UP_S", 0.5)
    with pytest.raises(RewardFailed, match="ConnectError"):
        await _http.areward([QUESTION], ["a"])


@pytest.mark.usefixtures("address")
async def test_a_refusal_raises_at_once_for_all() -> None:
    with pytest.raises(RewardFailed, match=r"422.*image_not_found"):
        await _http.areward([QUESTION] * 2, ["a", "b"], [[], ["sha256:" + "0" * 64]])
    with pytest.raises(RewardFailed, match="422"):
        await _http.areward([QUESTION], [""])


PICTURE = {"type": "image_url", "image_url": {"url": data_url(RED)}}
TEXT = {"type": "text", "text": QUESTION}


@pytest.mark.parametrize(
    ("prompt", "images", "content"),
    [
        pytest.param(QUESTION, [], [TEXT], id="question"),
        pytest.param(QUESTION, [RED], [PICTURE, TEXT], id="question_and_picture"),
        pytest.param(PLACED, [RED], [PICTURE, TEXT], id="empty_place"),
        pytest.param(f"{QUESTION}<image>", [RED], [TEXT, PICTURE], id="tag"),
        pytest.param("<image>", [], [{"type": "text", "text": "<image>"}], id="typed_tag"),
        pytest.param(
            [{"role": "user", "content": [PICTURE, TEXT]}], [], [PICTURE, TEXT], id="wire"
        ),
    ],
)
def test_pictures_go_where_the_prompt_has_room(
    prompt: Any, images: list[bytes], content: list[Any]
) -> None:
    assert messages(prompt, images) == [{"role": "user", "content": content}]


@pytest.mark.parametrize(
    ("prompt", "images"),
    [
        pytest.param(PLACED, [], id="no_picture"),
        pytest.param(PLACED, [RED, BLUE], id="too_many"),
        pytest.param("<image><image>", [RED], id="too_few"),
        pytest.param([{"role": "user", "content": [PICTURE]}], [RED, BLUE], id="filled_by_others"),
        pytest.param(
            [{"role": "user", "content": [{"type": "video", "video": "x"}]}], [], id="video"
        ),
    ],
)
def test_what_does_not_fit_is_refused(prompt: Any, images: list[bytes]) -> None:
    with pytest.raises(ValueError, match=r"places for pictures|knows text and image"):
        messages(prompt, images)


@pytest.mark.parametrize("completion", [None, 7, [], [{"role": "user", "content": "x"}]])
def test_a_completion_that_is_no_answer_is_refused(completion: Any) -> None:
    with pytest.raises(ValueError, match="one text of the assistant"):
        completion_text(completion)


def test_a_missing_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        picture_url(str(tmp_path / "none.png"))
    with pytest.raises(ValueError, match="no PNG"):
        picture_url(b"text")


async def test_samples_that_do_not_line_up_are_refused() -> None:
    with pytest.raises(ValueError, match="2 prompts, 1 completions"):
        await _http.areward([QUESTION] * 2, ["a"])
