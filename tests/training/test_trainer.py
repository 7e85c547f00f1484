"""The loop: what it trains, what it refuses, and that stopping changes nothing."""

import io
import json
import multiprocessing
import os
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from rm_core.encode import Encoder
from rm_core.model import RewardModel
from rm_core.packing import pack
from tests.training.conftest import BATCH, STEPS, Numbered, preference, run
from training import state, trainer
from training.config import Stage
from training.data import folder as pairs
from training.data.dataset import Order
from training.data.prefetch import WorkerDied, batches
from training.data.records import Preference
from training.features import FrozenFeatures
from training.optim import Plan, make_optimizer, parts
from training.quarantine import Quarantine
from training.runlog import RunLog

Weights = dict[str, Tensor]


def same(left: Weights, right: Weights) -> bool:
    return all(torch.equal(left[name], right[name]) for name in left)


def test_a_stopped_and_resumed_run_is_bitwise_the_uninterrupted_one(
    make_job: Callable[..., trainer.Job], make_model: Callable[[int], RewardModel], tmp_path: Path
) -> None:
    straight = run(make_job(schedule="cosine"), make_model(1))
    job = replace(make_job(schedule="cosine"), folder=tmp_path / "stopped")

    def terminate(_: RewardModel) -> dict[str, float]:
        os.kill(os.getpid(), signal.SIGTERM)
        return {}

    with state.StopRequest() as stop, pytest.raises(trainer.Interrupted, match="after step 2"):
        run(replace(job, evaluate=terminate), make_model(1), stop)
    resumed = run(job, make_model(99))  # whatever the model held is replaced by the saved state
    assert same(straight, resumed)
    assert not list(job.folder.glob("*.pt"))


def test_a_state_cut_short_falls_back_to_the_one_before(
    make_model: Callable[[int], RewardModel], tmp_path: Path
) -> None:
    model = make_model(2)
    optimizer = torch.optim.AdamW(model.parameters())
    for step in (3, 4):
        state.save(tmp_path, state.Progress("recipe", "s", step), model, optimizer)
    newest = tmp_path / state.NEWEST
    newest.write_bytes(newest.read_bytes()[:1000])
    assert state.load(tmp_path, "recipe", "s", model, optimizer) == 3


def test_small_packs_add_up_to_the_whole_batch(
    make_job: Callable[..., trainer.Job], make_model: Callable[[int], RewardModel]
) -> None:
    whole = plain_step(make_job(learning_rate=1.0), make_model(1))
    packed = plain_step(make_job(learning_rate=1.0, pack_tokens=100), make_model(1))
    for name, value in whole.items():
        torch.testing.assert_close(packed[name], value, atol=1e-6, rtol=0, msg=name)


def plain_step(job: trainer.Job, model: RewardModel) -> Weights:
    """One step of plain descent at rate 1: weights then differ by exactly the clipped gradient."""
    plan = Plan(job.stage, job.steps)
    adam = make_optimizer(model, plan)
    groups = [{"params": g["params"], "part": g["part"]} for g in adam.param_groups]
    with RunLog(job.folder, io.StringIO()) as log:
        loop = trainer.Loop(
            job,
            model,
            torch.optim.SGD(groups, lr=1.0),
            plan,
            log,
            FrozenFeatures(0),
            Quarantine(job.folder),
        )
        trainer.step(loop, job.data.prepare(0))
    return dict(model.state_dict())


def test_a_worker_process_prepares_the_same_batches(make_job: Callable[..., trainer.Job]) -> None:
    data = make_job().data
    here, there = list(batches(data, 1, 4, 0)), list(batches(data, 1, 4, 1))
    assert [batch.step for batch in there] == [1, 2, 3]
    for ours, theirs in zip(here, there, strict=True):
        for a, b in zip(ours.rows, theirs.rows, strict=True):
            assert a.encoded.prefix_ids_P.tolist() == b.encoded.prefix_ids_P.tolist()
            assert [i.digest for i in a.encoded.images] == [i.digest for i in b.encoded.images]


def test_a_killed_worker_is_an_error_and_not_a_wait(make_job: Callable[..., trainer.Job]) -> None:
    data = replace(make_job().data, order=Order.draw([1.0], 1000 * BATCH, 0))
    prepared = batches(data, 0, 1000, 1)
    for _ in range(5):
        next(prepared)
    for worker in multiprocessing.active_children():  # busy: the queue has room again
        worker.kill()
    with pytest.raises(WorkerDied, match="was killed"):
        list(prepared)


def test_frozen_parts_keep_every_bit_and_thawed_ones_move(
    make_job: Callable[..., trainer.Job], make_model: Callable[[int], RewardModel]
) -> None:
    before = make_model(1).state_dict()
    job = make_job(frozen=["vision", "projector"], unfreeze_after={"projector": 0.5})
    model = make_model(1)
    run(job, model)
    moved = {
        part: any(not torch.equal(p, before[name]) for name, p in named)
        for part, named in parts(model).items()
    }
    assert moved == {"vision": False, "projector": True, "language": True, "head": True}


def test_kept_features_are_the_towers(
    encoder: Encoder, make_model: Callable[[int], RewardModel]
) -> None:
    model, cache = make_model(1).requires_grad_(False), FrozenFeatures(limit_bytes=2000)
    cache.follow(model)
    for numbers in ((1, 2), (2, 4), (5, 1)):
        groups = [encoder.encode(preference(n, images=2).as_group()) for n in numbers]
        batch = pack(groups, model.image_pad_id, model.rules.merge_size)
        assert batch.patches is not None
        expected_FD = model.image_features(batch.patches, batch.grid_thw)
        torch.testing.assert_close(cache.of(model, batch), expected_FD, atol=1e-6, rtol=0)
    model.requires_grad_(True)
    cache.follow(model)
    assert cache.of(model, batch) is None


def test_a_row_too_long_is_left_out_by_name_and_too_many_end_the_run(
    make_job: Callable[..., trainer.Job], make_model: Callable[[int], RewardModel], tmp_path: Path
) -> None:
    job = make_job(max_tokens=80)  # some rows have two pictures and are longer
    batch = job.data.prepare(0)
    assert len(batch.rows) + len(batch.refused) == BATCH
    assert batch.refused[0].id.startswith("row-")
    assert "limit is 80" in batch.refused[0].reason
    with pytest.raises(trainer.TrainingFailed, match="rows refused"):
        run(make_job(max_tokens=20), make_model(1))
    assert '"event": "refused"' in (tmp_path / "state" / "metrics.jsonl").read_text()


def test_checkpointing_computes_layers_twice_and_ends_in_the_same_weights(
    make_job: Callable[..., trainer.Job], make_model: Callable[[int], RewardModel]
) -> None:
    calls = {False: 0, True: 0}
    ended = {}
    for lean in calls:
        model = make_model(1)

        def count(*_: object, lean: bool = lean) -> None:
            calls[lean] += 1

        model.backbone.language_model.layers[1].mlp.register_forward_pre_hook(count)
        ended[lean] = run(make_job(checkpointing=lean), model)
    assert (calls[False], calls[True]) == (STEPS, 2 * STEPS)
    assert same(ended[False], ended[True])


def test_what_is_left_out_is_in_quarantine_once_with_its_place_and_reason(
    make_job: Callable[..., trainer.Job], make_model: Callable[[int], RewardModel], tmp_path: Path
) -> None:
    folder = tmp_path / "rows"
    pairs.write(folder, [preference(n, images=n % 2) for n in range(8)])
    broken = sorted((folder / "pictures").iterdir())[0]
    broken.write_bytes(broken.read_bytes()[:60])
    source = pairs.FolderSource.open(folder)
    (number,) = (
        n for n, line in enumerate(source.lines) if f"pictures/{broken.name}" in line.pictures
    )

    job = make_job(max_refused=0.2)
    job = replace(job, data=replace(job.data, sources=(source,)))  # 24 places: three epochs
    run(job, make_model(1))
    lines = (job.folder / "quarantine.jsonl").read_text().splitlines()
    (found,) = map(json.loads, lines)
    assert (found["id"], found["source"], found["data"]) == (f"row-{number}", "test", "-")
    assert found["stage"] == "s"
    assert "cut short" in found["reason"]
    run(job, make_model(1))
    assert (job.folder / "quarantine.jsonl").read_text().splitlines() == lines


class Tied(Numbered):
    """Every second row's answers have equal labels."""

    def row(self, index: int) -> Preference:
        return replace(preference(index), strengths=(float(index % 2),))


def test_equal_labels_are_refused_by_name_by_a_loss_that_cannot_use_them(
    make_job: Callable[..., trainer.Job], make_model: Callable[[int], RewardModel]
) -> None:
    job = make_job()
    batch = replace(job.data, sources=(Tied(),)).prepare(0)
    assert [row.id for row in batch.refused] == ["row-0", "row-2"]
    assert "only loss 'ties'" in batch.refused[0].reason


def test_equal_labels_train_under_ties_and_are_left_out_of_accuracy(
    make_job: Callable[..., trainer.Job], make_model: Callable[[int], RewardModel]
) -> None:
    job = make_job(loss="ties")
    job = replace(job, data=replace(job.data, sources=(Tied(),), takes_ties=True))
    model = make_model(1)
    run(job, model)
    lines = (job.folder / "metrics.jsonl").read_text().splitlines()
    trained = [json.loads(line) for line in lines if '"train"' in line]
    # Four ordered pairs a report, so quarters; the tied ones would make it eighths and halves.
    assert all((4 * entry["accuracy"]).is_integer() for entry in trained)
    assert not same(make_model(1).state_dict(), model.state_dict())


@pytest.mark.parametrize("kind", ["margin", "scaled", "label_smoothing", "ties", "listwise"])
def test_each_loss_trains_to_other_weights(
    make_job: Callable[..., trainer.Job], make_model: Callable[[int], RewardModel], kind: str
) -> None:
    class Strong(Numbered):
        def row(self, index: int) -> Preference:
            row = super().row(index)
            return replace(row, strengths=(2.0, 3.0)[: len(row.rejected)])

    job = make_job()
    job = replace(job, data=replace(job.data, sources=(Strong(),)))
    stage = Stage.model_validate({**job.stage.model_dump(), "loss": kind})
    plain, other = run(job, make_model(1)), run(replace(job, stage=stage), make_model(1))
    assert not same(plain, other)


def test_the_auxiliary_language_loss_reaches_the_embeddings(
    make_job: Callable[..., trainer.Job], make_model: Callable[[int], RewardModel]
) -> None:
    plain, helped = (
        run(make_job(), make_model(1)),
        run(make_job(language_weight=1.0), make_model(1)),
    )
    assert not same(plain, helped)


def test_a_gradient_that_is_no_number_ends_the_run(
    make_job: Callable[..., trainer.Job], make_model: Callable[[int], RewardModel]
) -> None:
    model = make_model(1)
    with torch.no_grad():
        next(model.head.parameters())[0, 0] = float("nan")
    with pytest.raises(trainer.TrainingFailed, match="step 0: gradient norm nan"):
        run(make_job(), model)
