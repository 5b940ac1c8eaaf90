"""Files of a repository become artifacts."""

import pytest

from lineage.domain.errors import WeightFormatError
from lineage.domain.revision import FileInfo
from lineage.weights.layout import ArtifactSpec, group
from tests.weights.support import Repo


def specs(*paths: str) -> dict[str, ArtifactSpec]:
    found = group([FileInfo(path=p, size=1) for p in paths])
    assert len({s.name for s in found}) == len(found)
    return {s.name: s for s in found}


def shards(stem: str, count: int, suffix: str = ".safetensors") -> list[str]:
    return [f"{stem}-{i:05}-of-{count:05}{suffix}" for i in range(1, count + 1)]


def test_shard_sets_of_different_counts_are_different_artifacts() -> None:
    found = specs(*shards("model", 2), *shards("model", 3), "model.safetensors",
                  "model.safetensors.index.json")  # fmt: skip
    assert sorted(found) == [
        "model-*-of-00002.safetensors", "model-*-of-00003.safetensors", "model.safetensors",
    ]  # fmt: skip
    assert len(found["model-*-of-00003.safetensors"].files) == 3
    assert found["model-*-of-00002.safetensors"].index == "model.safetensors.index.json"
    assert all(s.problem is None for s in found.values())


def test_shards_come_in_order_of_their_numbers() -> None:
    [found] = specs(*shards("m", 12)[::-1]).values()
    assert [f.path for f in found.files] == shards("m", 12)


def test_missing_shards_are_noticed_and_refused() -> None:
    [found] = specs(*shards("model", 4)[1:3]).values()
    assert found.problem == "2 of 4 shards of model-*-of-00004.safetensors are missing: 1, 4"
    with pytest.raises(WeightFormatError, match="missing: 2"):
        Repo({"model-00001-of-00002.safetensors": b"x"}).open()


def test_absurd_shard_counts_are_cheap() -> None:
    [found] = specs("m-000001-of-999999.gguf").values()
    assert found.problem is not None


def test_variants_and_components_stand_apart() -> None:
    found = specs(
        "unet/diffusion_pytorch_model.safetensors",
        "unet/diffusion_pytorch_model.fp16.safetensors",
        "vae/diffusion_pytorch_model.bin",
        "text_encoder/model.safetensors",
        *shards("transformer/diffusion_pytorch_model", 2, ".fp16.safetensors"),
        "transformer/diffusion_pytorch_model.safetensors.index.fp16.json",
    )
    assert len(found) == 5
    sharded = found["transformer/diffusion_pytorch_model-*-of-00002.fp16.safetensors"]
    assert sharded.index == "transformer/diffusion_pytorch_model.safetensors.index.fp16.json"


def test_each_gguf_is_an_artifact_and_split_ones_are_joined() -> None:
    found = specs("m.Q4_0.gguf", "m.Q8_0.gguf", *shards("m.F16", 2, ".gguf"))
    assert sorted(found) == ["m.F16-*-of-00002.gguf", "m.Q4_0.gguf", "m.Q8_0.gguf"]
    assert {s.format for s in found.values()} == {"gguf"}


def test_adapters_know_their_configuration() -> None:
    found = specs(
        "a/adapter_model.safetensors", "a/adapter_config.json", "adapter_model.bin",
        "a/other.safetensors",
    )  # fmt: skip
    assert found["a/adapter_model.safetensors"].config == "a/adapter_config.json"
    assert found["a/adapter_model.safetensors"].texts == ("a/adapter_config.json",)
    assert found["adapter_model.bin"].config is None
    assert found["a/other.safetensors"].config is None


@pytest.mark.parametrize(
    "path",
    [
        "optimizer.pt", "checkpoint-500/optimizer.bin", "scheduler.pt", "rng_state.pth",
        "rng_state_0.pth", "training_args.bin", "random_states_0.pt", "scaler.pt",
        "global_step1/bf16_zero_pp_rank_0_mp_rank_00_optim_states.pt", "README.md", "config.json",
        ".cache/model.safetensors", "model.onnx", "tf_model.h5", "tokenizer.model",
    ],
)  # fmt: skip
def test_what_is_not_weights_is_left_out(path: str) -> None:
    assert specs(path) == {}


def test_training_states_do_not_hide_models_with_like_names() -> None:
    assert len(specs("pytorch_model.bin", "consolidated.00.pth", "model.ckpt", "v1-5.pt")) == 4
