"""Pairs folders: written and read back whole, and refused by line and reason."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from rm_core.types import ImagePart
from tests.training.conftest import preference
from training.data.folder import DataError, FolderSource, write


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    rows = [preference(n, "no", "nein", images=n) for n in range(3)]
    assert write(tmp_path, rows) == 3
    source = FolderSource.open(tmp_path)
    back = [source.row(i) for i in range(source.size)]
    for row, again in zip(rows, back, strict=True):
        assert (again.id, again.chosen, again.rejected) == (row.id, row.chosen, row.rejected)
        assert (again.task, again.group, again.source) == (row.task, row.group, row.source)
        for part, copy in zip(
            row.conversation.turns[0].parts, again.conversation.turns[0].parts, strict=True
        ):
            if isinstance(part, ImagePart):
                assert isinstance(copy, ImagePart)
                assert np.array_equal(part.image.pixels, copy.image.pixels)
            else:
                assert part == copy


def test_strengths_are_kept_and_one_stands_for_all(tmp_path: Path) -> None:
    rows = [
        replace(preference(1, "no", "nein"), strengths=(2.0, 0.0)),
        preference(2, "no", "nein"),
    ]
    write(tmp_path, rows)
    with (tmp_path / "pairs.jsonl").open("a") as index:
        index.write(GOOD.replace('["b"]', '["b", "c"], "strength": 3'))
    source = FolderSource.open(tmp_path)
    found = [source.row(i) for i in range(3)]
    assert [row.strengths for row in found] == [(2.0, 0.0), (), (3.0, 3.0)]
    assert [row.tied for row in found] == [True, False, False]


GOOD = (
    '{"id": "1", "messages": [{"role": "user", "content": "?"}], "chosen": "a", "rejected": ["b"]}'
)


@pytest.mark.parametrize(
    ("lines", "complaint"),
    [
        pytest.param(None, "pairs.jsonl is missing", id="no_index"),
        pytest.param("", "holds no pairs", id="empty"),
        pytest.param(GOOD + "\n{", "line 2", id="not_json"),
        pytest.param(GOOD.replace('"chosen"', '"choosen"'), "line 1: .*choosen", id="unknown_key"),
        pytest.param(
            GOOD.replace('"?"', '[{"type": "image", "image": "gone.png"}]'),
            "1 missing pictures, first gone.png",
            id="picture_gone",
        ),
        pytest.param(GOOD.replace('["b"]', '["a"]'), "line 1.*rejected", id="same_answers"),
        pytest.param(GOOD.replace('["b"]', "[]"), "line 1.*rejected", id="nothing_rejected"),
        pytest.param(GOOD.replace('["b"]', '["b"], "strength": -1'), "strength", id="negative"),
        pytest.param(
            GOOD.replace('["b"]', '["b"], "strength": [1, 2]'),
            "one for each rejected",
            id="a_strength_too_many",
        ),
    ],
)
def test_a_broken_folder_is_refused_when_opened(
    tmp_path: Path, lines: str | None, complaint: str
) -> None:
    if lines is not None:
        (tmp_path / "pairs.jsonl").write_text(lines)
    with pytest.raises(DataError, match=complaint):
        FolderSource.open(tmp_path)
