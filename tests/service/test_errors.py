"""Every error has a status, an example and a stable code of its own."""

from collections.abc import Iterator

import pytest

import service.errors  # noqa: F401  (its classes must exist before the tree is walked)
from rm_core.errors import CheckpointError, OutOfMemory, RewardError, UnknownName
from service import examples
from service.errors import STATUS, Unavailable, error_response, status_of

# Raised while a model is loaded, or told as another error before anybody is answered.
INTERNAL = (CheckpointError, UnknownName, OutOfMemory)


def tree(root: type[RewardError]) -> Iterator[type[RewardError]]:
    yield root
    for child in root.__subclasses__():
        yield from tree(child)


# Training's errors end a command and the client's are told by servers; whether they are imported
# here depends on which tests run.
OTHERS = ("training.", "service.client.")
EVERY = sorted(
    (kind for kind in set(tree(RewardError)) if not kind.__module__.startswith(OTHERS)),
    key=lambda kind: kind.__name__,
)
ANSWERED = [k for k in EVERY if not issubclass(k, INTERNAL) and k is not Unavailable]


@pytest.mark.parametrize("kind", EVERY)
def test_each_error_has_a_status_of_its_own_or_of_a_parent(kind: type[RewardError]) -> None:
    assert status_of(kind) in {400, 401, 403, 404, 405, 408, 413, 415, 422, 500, 503, 504}
    rows = [ancestor for ancestor in kind.__mro__ if ancestor in STATUS]
    assert rows[0] is not RewardError or status_of(kind) == 500


def test_codes_are_unique() -> None:
    codes = [kind.code for kind in EVERY]
    assert len(codes) == len(set(codes))


@pytest.mark.parametrize("kind", ANSWERED)
def test_each_error_a_caller_can_meet_has_an_example(kind: type[RewardError]) -> None:
    assert kind in {type(error) for error in examples.ERRORS}


@pytest.mark.parametrize("error", examples.ERRORS, ids=lambda error: error.code)
def test_unavailable_answers_say_when_to_retry_and_no_other_does(error: RewardError) -> None:
    answer = error_response(error, "id")
    assert ("retry-after" in answer.headers) == (answer.status_code == 503)
