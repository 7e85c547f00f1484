"""Health, readiness, identity, metrics, draining, and the headers on every answer."""

import dataclasses
import re
from typing import Any

import httpx
import pytest

from rm_core.golden import SelfCheck
from rm_core.scorer import Scorer
from service.app import create_app
from service.selfcheck import check
from service.settings import Settings
from service.trace import STAGES
from tests.service.serving import Interrupted, Running, serving, until

BODY = {"prompt": "What is 2 + 2?", "responses": ["4", "five"]}


async def test_healthy_and_ready(server: Running) -> None:
    assert (await server.client.get("/health")).json() == {"status": "ok"}
    assert (await server.client.get("/ready")).json() == {"status": "ready"}


class Examined(Interrupted):
    """The real scorer with another outcome of its golden self check."""

    def __init__(self, scorer: Scorer, outcome: SelfCheck | Exception) -> None:
        super().__init__(scorer, lambda groups: None)
        self._outcome = outcome

    def self_check(self) -> SelfCheck:
        if isinstance(self._outcome, Exception):
            raise self._outcome
        return self._outcome


async def test_a_model_off_its_golden_scores_is_alive_but_never_ready(
    random_scorer: Scorer,
) -> None:
    wrong = Examined(random_scorer, SelfCheck(rows=3, max_difference=0.5, tolerance=1e-4))
    async with serving(wrong) as server:
        assert (await server.client.get("/health")).status_code == 200
        for answer in (await server.client.get("/ready"), await server.post("/score", BODY)):
            assert answer.status_code == 503
            assert answer.json()["error"]["code"] == "not_ready"
            assert "0.5" in answer.json()["error"]["message"]
            assert int(answer.headers["retry-after"]) >= 1
        model = (await server.client.get("/model")).json()
        assert model["self_check"] == {
            "rows": 3, "max_difference": 0.5, "tolerance": 1e-4, "passed": False,
        }  # fmt: skip


async def test_a_self_check_that_raises_leaves_the_server_not_ready(random_scorer: Scorer) -> None:
    app = create_app(Settings(), Examined(random_scorer, RuntimeError("device lost")))  # type: ignore[arg-type]
    await check(app.state.parts)
    assert not app.state.parts.admission.ready
    assert "raised" in app.state.parts.admission.not_ready


async def test_model_says_who_answers(server: Running, random_scorer: Scorer) -> None:
    model = (await server.client.get("/model")).json()
    info = dataclasses.asdict(random_scorer.info)
    assert {name: model[name] for name in info} == info
    assert model["calibration"] is None
    assert model["self_check"]["passed"] is True
    assert {"vlrm", "torch", "transformers"} <= model["versions"].keys()


async def test_draining_finishes_what_was_accepted_and_refuses_the_rest(server: Running) -> None:
    drained = await server.client.post("/admin/drain")
    assert drained.json() == {"draining": True, "in_flight": 0}
    for answer in (await server.client.get("/ready"), await server.post("/score", BODY)):
        assert (answer.status_code, answer.json()["error"]["code"]) == (503, "draining")
        assert int(answer.headers["retry-after"]) >= 1
    assert (await server.client.get("/health")).status_code == 200


async def test_a_web_page_cannot_drain_a_server_without_keys(server: Running) -> None:
    headers = {"origin": "http://elsewhere"}
    assert (await server.client.post("/admin/drain", headers=headers)).status_code == 403
    assert server.parts.admission.ready


EVERYWHERE: list[tuple[str, str, Any]] = [
    ("GET", "/health", None),
    ("GET", "/", None),
    ("GET", "/static/style.css", None),
    ("GET", "/nowhere", None),
    ("DELETE", "/score", None),
    ("POST", "/score", BODY),
    ("POST", "/score", {}),
]


@pytest.mark.parametrize(("method", "path", "body"), EVERYWHERE)
async def test_every_answer_carries_id_revision_and_timing(
    server: Running, method: str, path: str, body: Any
) -> None:
    answer = await server.client.request(method, path, json=body)
    assert re.fullmatch("[0-9a-f]{32}", answer.headers["x-request-id"])
    assert answer.headers["x-model-revision"] == server.parts.scorer.info.revision
    assert list(timings(answer)) == list(STAGES)


def timings(answer: httpx.Response) -> dict[str, float]:
    stages = answer.headers["server-timing"].split(", ")
    return {name: float(ms) for name, ms in (stage.split(";dur=") for stage in stages)}


async def test_server_timing_adds_up(server: Running) -> None:
    stages = timings(await server.post("/score", BODY))
    assert stages["forward"] > 0
    assert stages["prepare"] > 0
    assert all(0 <= ms < 5000 for ms in stages.values())


@pytest.mark.parametrize(
    ("offered", "is_kept"),
    [
        ("run-7.step_3", True),
        ("x" * 128, True),
        ("x" * 129, False),
        ("", False),
        ("a b", False),
        ("<script>", False),
        ("a\tb", False),
    ],
)
async def test_only_a_safe_request_id_is_repeated(
    server: Running, offered: str, is_kept: bool
) -> None:
    answer = await server.post("/score", {}, x_request_id=offered)
    assert (answer.headers["x-request-id"] == offered) is is_kept
    assert answer.json()["error"]["request_id"] == answer.headers["x-request-id"]


async def test_metrics_count_what_happened(server: Running) -> None:
    await server.post("/score", BODY)
    await server.post("/score", {})
    text = (await server.client.get("/metrics")).text
    for line in (
        'vlrm_requests_total{route="/score",status="200"} 1.0',
        'vlrm_requests_total{route="/score",status="422"} 1.0',
        'vlrm_rejected_total{reason="invalid_input"} 1.0',
        'vlrm_rejected_total{reason="overloaded"} 0.0',
        "vlrm_batch_groups_count 1.0",
        "vlrm_score_count 2.0",
        "vlrm_in_flight 0.0",
        "vlrm_ready 1.0",
    ):
        assert line in text.splitlines(), line
    group = (await server.post("/score", BODY)).json()["usage"]
    shared = re.search(r'vlrm_tokens_total\{kind="shared"\} (\S+)', text)
    assert shared is not None
    assert float(shared[1]) == group["prompt_tokens"]


async def test_names_lists_what_is_exported(server: Running) -> None:
    names = server.parts.metrics.names()
    assert {"vlrm_requests_total", "vlrm_stage_seconds_bucket", "vlrm_model_info"} <= names
    assert all(n.startswith(("vlrm_", "process_", "python_")) for n in names)


async def test_unknown_paths_do_not_become_labels(server: Running) -> None:
    for number in range(5):
        await server.client.get(f"/guess/{number}")
    text = (await server.client.get("/metrics")).text
    assert 'vlrm_requests_total{route="unmatched",status="404"} 5.0' in text
    assert "guess" not in text


async def test_an_unforeseen_error_is_one_clear_500_and_the_next_request_works(
    random_scorer: Scorer, caplog: pytest.LogCaptureFixture
) -> None:
    scorer = Interrupted(random_scorer, lambda groups: None)

    def broken(group: object) -> Any:
        raise KeyError("secret prompt text")

    encode, scorer.encode = scorer.encode, broken
    async with serving(scorer) as server:
        answer = await server.post("/score", BODY)
        assert answer.status_code == 500
        error = answer.json()["error"]
        assert (error["code"], error["request_id"]) == (
            "internal_error",
            answer.headers["x-request-id"],
        )
        assert "secret" not in answer.text
        assert error["request_id"] in caplog.text
        scorer.encode = encode
        server.parts.preparer._encode = encode
        assert (await server.post("/score", BODY)).status_code == 200


async def test_no_request_text_reaches_the_log(
    server: Running, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG", "vlrm")
    body = {"prompt": "canary-one", "responses": ["canary-two", "canary-three"]}
    assert (await server.post("/score", body)).status_code == 200
    await server.post("/score", body | {"canary-four": 1})
    await until(lambda: "POST /score 422" in caplog.text)
    assert "canary" not in caplog.text
