"""A checkpoint loads completely or not at all, and a refusal names the culprit."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from rm_core.checkpoints import load, save
from rm_core.errors import CheckpointError, CheckpointMismatch
from rm_core.scorer import Scorer
from tests.checkpoints import (
    new_names,
    old_names,
    random_head,
    small_config,
    stock_model,
    write_random_checkpoint,
    write_shards,
)
from tests.groups import all_groups, one_image

HEAD, CPU, F32 = "value_head.safetensors", torch.device("cpu"), torch.float32
SHARD, PATCH_EMBED = "model-00002-of-00002.safetensors", "visual.patch_embed.proj.weight"


@pytest.fixture
def folder(random_checkpoint: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(random_checkpoint, tmp_path / "copy"))


def shard_with(folder: Path, tensor: str) -> Path:
    index = json.loads((folder / "model.safetensors.index.json").read_text())
    return folder / str(index["weight_map"][tensor])


def edit(file: Path, change: Callable[[dict[str, Tensor]], object]) -> None:
    tensors = load_file(file)
    change(tensors)
    save_file(tensors, file, metadata={"format": "pt"})


def rename_head(folder: Path) -> None:
    edit(folder / HEAD, lambda t: t.update({"v_head.weight": t.pop("v_head.summary.weight")}))


def drop_head_weight(folder: Path) -> None:
    edit(folder / HEAD, lambda t: t.pop("v_head.summary.weight"))


def reshape_head(folder: Path) -> None:
    edit(folder / HEAD, lambda t: t.update({"v_head.summary.weight": torch.zeros(1, 65)}))


def drop_head_file(folder: Path) -> None:
    (folder / HEAD).unlink()


def drop_shard(folder: Path) -> None:
    (folder / SHARD).unlink()


def cut_shard(folder: Path) -> None:
    (folder / SHARD).write_bytes((folder / SHARD).read_bytes()[:-1000])


def add_tensor(folder: Path) -> None:
    edit(folder / SHARD, lambda t: t.update({"model.layers.9.extra.weight": torch.zeros(1)}))


def add_foreign_tensor(folder: Path) -> None:
    edit(folder / SHARD, lambda t: t.update({"adapter.weight": torch.zeros(1)}))


def drop_tensor(folder: Path) -> None:
    edit(shard_with(folder, PATCH_EMBED), lambda t: t.pop(PATCH_EMBED))


def both_spellings(folder: Path) -> None:
    def double(t: dict[str, Tensor]) -> None:
        t[f"model.{PATCH_EMBED}"] = t[PATCH_EMBED].clone()

    edit(shard_with(folder, PATCH_EMBED), double)


def foreign_template(folder: Path) -> None:
    (folder / "chat_template.jinja").write_text("{% for m in messages %}{{ m.role }}{% endfor %}")


def no_config(folder: Path) -> None:
    (folder / "config.json").unlink()


def no_tokenizer(folder: Path) -> None:
    (folder / "tokenizer.json").unlink()


def no_pixel_budget(folder: Path) -> None:
    (folder / "preprocessor_config.json").unlink()


@pytest.mark.parametrize(
    ("damage", "named"),
    [
        (rename_head, "v_head.weight"),
        (drop_head_weight, "v_head.summary.weight"),
        (reshape_head, "v_head.summary.weight has shape (1, 65)"),
        (drop_head_file, "no reward head"),
        (drop_shard, SHARD),
        (cut_shard, SHARD),
        (add_tensor, "backbone.language_model.layers.9.extra.weight"),
        (add_foreign_tensor, "adapter.weight"),
        (drop_tensor, "backbone.visual.patch_embed.proj.weight"),
        (both_spellings, "model.visual.patch_embed.proj.weight"),
        (foreign_template, "chat template"),
        (no_config, "config.json"),
        (no_tokenizer, "tokenizer.json"),
        (no_pixel_budget, "preprocessor_config.json"),
    ],
    ids=lambda value: value.__name__ if callable(value) else "",
)
def test_a_damaged_checkpoint_is_refused_by_name(
    folder: Path, damage: Callable[[Path], None], named: str
) -> None:
    damage(folder)
    with pytest.raises(CheckpointError) as refusal:
        load(folder, device=CPU, dtype=F32)
    assert named in str(refusal.value)


def test_every_weight_equals_the_file(random_checkpoint: Path) -> None:
    model = load(random_checkpoint, device=CPU, dtype=F32).model
    files = [load_file(file) for file in random_checkpoint.glob("*.safetensors")]
    stored = {name: tensor for file in files for name, tensor in file.items()}
    visual = {n.removeprefix("visual."): t for n, t in stored.items() if n.startswith("visual.")}
    loaded = model.backbone.visual.state_dict()
    assert visual.keys() == loaded.keys()
    assert all(torch.equal(visual[name], loaded[name]) for name in loaded)
    assert torch.equal(model.head.get_parameter("weight"), stored["v_head.summary.weight"])


@pytest.mark.parametrize("names", [old_names, new_names])
@pytest.mark.parametrize("shards", [1, 3])
def test_both_spellings_and_any_sharding_score_alike(
    tmp_path: Path,
    random_scorer: Scorer,
    names: Callable[[dict[str, Tensor]], dict[str, Tensor]],
    shards: int,
) -> None:
    other = Scorer.load(write_random_checkpoint(tmp_path / "m", names=names, shards=shards))
    assert other.score(all_groups()) == random_scorer.score(all_groups())


def test_a_score_head_among_the_shards_is_the_same_head(
    folder: Path, random_scorer: Scorer
) -> None:
    (folder / HEAD).unlink()
    config = small_config(random_scorer.encoder.tokenizer)
    head = random_head(config.get_text_config().hidden_size)
    tensors = old_names(dict(stock_model(config).state_dict()))
    tensors["score.weight"] = head["v_head.summary.weight"]
    tensors["score.bias"] = head["v_head.summary.bias"]
    write_shards(folder, tensors, 2)
    scorer = Scorer.load(folder)
    assert scorer.info.layout == "huggingface"
    assert scorer.score(all_groups()) == random_scorer.score(all_groups())


def test_the_flat_config_of_2025_still_opens(folder: Path, random_scorer: Scorer) -> None:
    config = json.loads((folder / "config.json").read_text())
    text = config.pop("text_config")
    rope = text.pop("rope_parameters")
    text["rope_theta"] = rope["rope_theta"]
    text["rope_scaling"] = {"type": "mrope", "mrope_section": rope["mrope_section"]}
    (folder / "config.json").write_text(json.dumps({**text, **config, "model_type": "qwen2_5_vl"}))
    assert Scorer.load(folder).score([one_image()]) == random_scorer.score([one_image()])


def test_saved_and_loaded_again_scores_the_same(
    tmp_path: Path, random_checkpoint: Path, random_scorer: Scorer
) -> None:
    opened = load(random_checkpoint, device=CPU, dtype=F32)
    save(tmp_path / "own", opened.model, opened.encoder, name="copy", dtype=F32)
    assert Scorer.load(tmp_path / "own").score(all_groups()) == random_scorer.score(all_groups())


def test_a_changed_file_of_ours_is_refused_by_name(tmp_path: Path, random_checkpoint: Path) -> None:
    opened = load(random_checkpoint, device=CPU, dtype=F32)
    save(tmp_path / "own", opened.model, opened.encoder, name="copy", dtype=F32)
    edit(tmp_path / "own" / HEAD, lambda t: t["v_head.summary.bias"].add_(1))
    with pytest.raises(CheckpointError, match=HEAD):
        load(tmp_path / "own", device=CPU, dtype=F32)


def test_a_hub_id_opens_from_the_hub_cache(
    tmp_path: Path,
    random_checkpoint: Path,
    random_scorer: Scorer,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    repository = tmp_path / "models--acme--reward"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text("0" * 40)
    shutil.copytree(random_checkpoint, repository / "snapshots" / ("0" * 40))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert Scorer.load("acme/reward").score([one_image()]) == random_scorer.score([one_image()])
    with pytest.raises(CheckpointError, match="acme/absent"):
        Scorer.load("acme/absent")


@pytest.mark.parametrize("source", ["./nowhere", "nowhere", "/no/such/folder"])
def test_a_source_that_is_neither_folder_nor_hub_id_says_so(source: str) -> None:
    with pytest.raises(CheckpointError, match="no such folder"):
        Scorer.load(source)


def test_a_mismatch_lists_what_is_missing_and_what_is_extra(folder: Path) -> None:
    rename_head(folder)
    with pytest.raises(CheckpointMismatch) as refusal:
        load(folder, device=CPU, dtype=F32)
    assert refusal.value.extra == ["v_head.weight"]
