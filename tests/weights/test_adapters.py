"""Adapters: real ones, and what PEFT itself says of those it makes."""

import json
import logging
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save

from lineage.domain.revision import FileInfo
from lineage.hub.local import LocalBlob
from lineage.weights.layout import group
from lineage.weights.naming import parse_name
from lineage.weights.open import open_reader
from lineage.weights.reader import LowRank, WeightReader
from tests.weights.support import Repo, by_name, open_one, stored


def open_folder(folder: Path) -> dict[str, WeightReader]:
    paths = [p for p in folder.rglob("*") if p.is_file()]
    infos = [FileInfo(path=str(p.relative_to(folder)), size=p.stat().st_size) for p in paths]

    def text(path: str) -> bytes | None:
        return (folder / path).read_bytes() if (folder / path).is_file() else None

    return {
        spec.name: open_reader(spec, lambda f: LocalBlob(folder / f.path, f.path), text)
        for spec in group(infos)
    }


def delta(reader: WeightReader, change: LowRank) -> np.ndarray[Any, Any]:
    infos = by_name(reader)
    factors = [
        np.frombuffer(stored(reader, infos[name]), "<f4").reshape(infos[name].shape[0], -1)
        for name in (change.up, change.down)
    ]
    product: np.ndarray[Any, Any] = change.scale * factors[0] @ factors[1]
    assert product.shape == change.shape
    return product


@pytest.mark.parametrize(
    ("folder", "file", "form", "count", "first", "rank", "scale"),
    [
        ("distilbert_imdb_Tashu014", "adapter_model.safetensors", "safetensors+peft-adapter", 12,
         "distilbert.transformer.layer.0.attention.q_lin", 8, 2.0),
        ("gemma3-270m_ao-wei", "adapter_seed123/adapter_model.safetensors",
         "safetensors+peft-adapter", 72, "model.layers.0.self_attn.k_proj", 4, 4.0),
        ("gpt2_tigrinya", "adapter_model.safetensors", "safetensors+peft-adapter", 36,
         "transformer.h.0.attn.c_attn", 8, 4.0),
        ("opt125m_guilhermmeabreu", "adapter_model.safetensors", "safetensors+peft-adapter", 24,
         "model.decoder.layers.0.self_attn.q_proj", 16, 2.0),
        ("roberta_ckpts_subro608", "checkpoint-500/adapter_model.safetensors",
         "safetensors+peft-adapter", 12, "roberta.encoder.layer.0.attention.self.query", 2, 2.0),
        ("sd15_catundchat", "pytorch_lora_weights.bin", "torch+diffusers-adapter", 128,
         "unet.down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_k", 4, 1.0),
        ("sd15_timohavdk", "new.safetensors", "safetensors+kohya-adapter", 128,
         "unet.down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_k", 4, 1.0),
    ],
)  # fmt: skip
def test_real_adapters(
    shared: Path, folder: str, file: str, form: str, count: int, first: str, rank: int, scale: float
) -> None:
    reader = open_folder(shared / "data" / "adapters" / folder)[file]
    changes = reader.low_rank()
    assert (reader.format, len(changes)) == (form, count)
    assert (changes[0].target, changes[0].rank, changes[0].scale) == (first, rank, scale)
    assert [c.target for c in changes] == sorted({c.target for c in changes})


def test_one_adapter_under_kohya_and_diffusers_names_is_the_same(shared: Path) -> None:
    readers = open_folder(shared / "data" / "adapters" / "sd15_timohavdk")
    kohya, diffusers = readers["new.safetensors"], readers["2100-lora.safetensors"]
    pairs = list(zip(kohya.low_rank(), diffusers.low_rank(), strict=True))
    assert [a.target for a, _ in pairs] == [b.target for _, b in pairs]
    for a, b in pairs[::17]:
        np.testing.assert_array_equal(delta(kohya, a), delta(diffusers, b))


def test_a_real_bin_reads_as_torch_reads_it(shared: Path) -> None:
    folder = shared / "data" / "adapters" / "sd15_catundchat"
    reader = open_folder(folder)["pytorch_lora_weights.bin"]
    want = torch.load(folder / "pytorch_lora_weights.bin", weights_only=True, map_location="cpu")
    assert sorted(by_name(reader)) == sorted(want)
    for info in reader.tensors():
        assert stored(reader, info) == want[info.name].numpy().tobytes()


class Small(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed = torch.nn.Embedding(50, 16)
        self.q_proj = torch.nn.Linear(16, 24)
        self.v_proj = torch.nn.Linear(24, 8)
        self.conv = torch.nn.Conv2d(3, 6, 3)
        self.score = torch.nn.Linear(8, 2)


def made_by_peft(folder: Path, **options: Any) -> tuple[WeightReader, dict[str, Any]]:
    """Let PEFT make and save an adapter; return its reader and PEFT's own layers by target."""
    logging.disable(logging.WARNING)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import peft
        from peft.tuners.lora import LoraLayer

        torch.manual_seed(0)
        config = peft.LoraConfig(init_lora_weights=False, **options)
        model = peft.get_peft_model(Small(), config)
        model.save_pretrained(folder)
    logging.disable(logging.NOTSET)
    layers = {
        name.removeprefix("base_model.model."): module
        for name, module in model.named_modules()
        if isinstance(module, LoraLayer)
    }
    return open_folder(folder)["adapter_model.safetensors"], layers


@pytest.mark.parametrize(
    "options",
    [
        {"r": 4, "lora_alpha": 10},
        {"r": 4, "lora_alpha": 10, "use_rslora": True},
        {"r": 4, "rank_pattern": {"q_proj": 2}, "alpha_pattern": {"^v_proj$": 3, "conv": 5}},
        {"r": 2, "alpha_pattern": {"(q|v)_proj": 7}, "use_rslora": True},
    ],
)
def test_changes_equal_those_of_peft(tmp_path: Path, options: dict[str, Any]) -> None:
    targets = ["q_proj", "v_proj", "conv", "embed"]
    reader, layers = made_by_peft(tmp_path, target_modules=targets, **options)
    changes = {c.target: c for c in reader.low_rank()}
    assert sorted(changes) == sorted(layers) == sorted(targets)
    for target, layer in layers.items():
        want = layer.get_delta_weight("default").detach().numpy()
        got = delta(reader, changes[target])
        stored_as = got.T if changes[target].role.transposed else got
        np.testing.assert_allclose(stored_as, want.reshape(stored_as.shape), rtol=1e-5, atol=1e-6)
    assert changes["embed"].role.transposed


def test_dora_is_marked_and_saved_modules_are_tensors(tmp_path: Path) -> None:
    reader, _ = made_by_peft(
        tmp_path, r=2, target_modules=["q_proj"], use_dora=True, modules_to_save=["score"]
    )
    [change] = reader.low_rank()
    assert change.role.detail == "dora"
    assert "base_model.model.score.weight" in by_name(reader)
    assert {t.name for t in reader.tensors()} == set(
        load_file(tmp_path / "adapter_model.safetensors")
    )


def lora(rank: int = 2, alpha: float | None = None, module: str = "lora_unet_x") -> dict[str, Any]:
    tensors = {
        f"{module}.lora_down.weight": torch.ones(rank, 6),
        f"{module}.lora_up.weight": torch.ones(4, rank),
    }
    return tensors if alpha is None else {**tensors, f"{module}.alpha": torch.tensor(alpha)}


def test_kohya_scales_by_alpha_then_by_metadata_then_by_one() -> None:
    def scale(tensors: dict[str, Any], metadata: dict[str, str] | None = None) -> float:
        [change] = open_one("l.safetensors", save(tensors, metadata)).low_rank()
        return change.scale

    assert scale(lora(alpha=1.0)) == 0.5
    assert scale(lora(alpha=1.0), {"ss_network_alpha": "8"}) == 0.5
    assert scale(lora(), {"ss_network_alpha": "8.0"}) == 4.0
    assert scale(lora(), {"ss_network_alpha": "None"}) == 1.0
    assert scale(lora(alpha=float("nan"))) == 1.0
    assert scale(lora()) == 1.0


def test_diffusers_reads_the_configuration_in_the_metadata() -> None:
    tensors = {
        f"unet.mid_block.attentions.0.to_q.lora_{k}.weight": torch.ones(*s)
        for k, s in {"A": (2, 6), "B": (4, 2)}.items()
    }
    config = {"unet.r": 2, "unet.lora_alpha": 6, "text_encoder.lora_alpha": 9}
    metadata = {"lora_adapter_metadata": json.dumps(config)}
    [change] = open_one("l.safetensors", save(tensors, metadata)).low_rank()
    assert (change.target, change.scale) == ("unet.mid_block.attentions.0.to_q", 3.0)


@pytest.mark.parametrize(
    ("name", "target"),
    [
        ("base_model.model.model.layers.0.self_attn.q_proj.lora_A.default.weight",
         "model.layers.0.self_attn.q_proj"),
        ("base_model.model.lm_head.lora_B.weight", "lm_head"),
        ("base_model.model.embed_tokens.lora_embedding_A", "embed_tokens"),
        ("base_model.model.embed_tokens.lora_embedding_B.default", "embed_tokens"),
        ("unet.up_blocks.1.attentions.0.proj_in.lora.down.weight",
         "unet.up_blocks.1.attentions.0.proj_in"),
        ("mid_block.attentions.0.transformer_blocks.0.attn2.processor.to_out_lora.up.weight",
         "unet.mid_block.attentions.0.transformer_blocks.0.attn2.to_out.0"),
        ("text_encoder.text_model.encoder.layers.3.self_attn.k_proj.lora_linear_layer.up.weight",
         "text_encoder.text_model.encoder.layers.3.self_attn.k_proj"),
        ("transformer.single_transformer_blocks.3.attn.to_q.lora_A.weight",
         "transformer.single_transformer_blocks.3.attn.to_q"),
        ("lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_out_0.lora_up.weight",
         "unet.down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_out.0"),
        ("lora_unet_down_blocks_0_resnets_1_time_emb_proj.lora_down.weight",
         "unet.down_blocks.0.resnets.1.time_emb_proj"),
        ("lora_unet_mid_block_attentions_0_transformer_blocks_0_ff_net_0_proj.lora_down.weight",
         "unet.mid_block.attentions.0.transformer_blocks.0.ff.net.0.proj"),
        ("lora_te_text_model_encoder_layers_11_mlp_fc1.lora_down.weight",
         "text_encoder.text_model.encoder.layers.11.mlp.fc1"),
        ("lora_te2_text_model_encoder_layers_0_self_attn_out_proj.alpha",
         "text_encoder_2.text_model.encoder.layers.0.self_attn.out_proj"),
    ],
)  # fmt: skip
def test_targets_are_named_alike_in_every_dialect(name: str, target: str) -> None:
    named = parse_name(name)
    assert named is not None
    assert named.target == target


@pytest.mark.parametrize(
    "names",
    [
        ["lora_unet_x.hada_w1_a", "lora_unet_x.hada_w1_b", "lora_unet_x.alpha"],
        ["lora_unet_x.lokr_w1", "lora_unet_x.lokr_t2", "lora_unet_x.lokr_w2"],
        ["base_model.model.layers.0.k_proj.ia3_l"],
        ["base_model.model.layers.0.k_proj.oft_R.weight"],
        ["prompt_embeddings"],
    ],
)
def test_other_kinds_are_adapters_without_low_rank_changes(names: list[str]) -> None:
    reader = open_one("l.safetensors", save({n: torch.ones(2, 2) for n in names}))
    assert "adapter" in reader.format
    assert reader.low_rank() == ()
    assert len(reader.tensors()) == len(names)


def test_what_is_not_one_product_is_not_called_low_rank() -> None:
    mid = {**lora(), "lora_unet_x.lora_mid.weight": torch.ones(2, 2, 3, 3)}
    adalora = {
        "base_model.model.q.lora_A": torch.ones(2, 6),
        "base_model.model.q.lora_B": torch.ones(4, 2),
        "base_model.model.q.lora_E": torch.ones(2, 1),
    }
    uneven = {**lora(), "lora_unet_x.lora_up.weight": torch.ones(4, 3)}
    half = {"lora_unet_x.lora_down.weight": torch.ones(2, 6)}
    vector = {**lora(), "lora_unet_x.lora_down.weight": torch.ones(2)}
    for tensors in (mid, adalora, uneven, half, vector):
        assert open_one("l.safetensors", save(tensors)).low_rank() == ()


def test_models_are_no_adapters() -> None:
    plain = {
        "model.layers.0.self_attn.q_proj.weight": torch.ones(2, 2),
        "snake.alpha": torch.ones(2),
    }
    inside = {
        "m.q_proj.base_layer.weight": torch.ones(4, 6),
        "m.q_proj.lora_A.d.weight": torch.ones(2, 6),
    }
    for tensors in (plain, inside):
        reader = open_one("m.safetensors", save(tensors))
        assert reader.format == "safetensors"
        assert reader.low_rank() == ()


@pytest.mark.parametrize(
    "config",
    [
        b"not json", b"[]", b"\xff\xfe", b"{}", b"[" * 100_000,
        json.dumps({"peft_type": "LORA", "lora_alpha": "a lot", "r": None}).encode(),
        json.dumps({"peft_type": "LORA", "lora_alpha": 1e300}).encode(),
        json.dumps({"peft_type": "LORA", "lora_alpha": [], "alpha_pattern": [1]}).encode(),
        json.dumps({"peft_type": "LORA", "alpha_pattern": {"(a+)+$": 9, "(": 1}}).encode(),
        json.dumps({"peft_type": 3, "use_rslora": "yes"}).encode(),
    ],
    ids=range(10),
)  # fmt: skip
def test_configurations_are_claims_and_never_stop_the_reading(config: bytes) -> None:
    module = "base_model.model." + "a" * 400 + "!"
    tensors = {
        f"{module}.lora_A.weight": torch.ones(2, 6),
        f"{module}.lora_B.weight": torch.ones(4, 2),
    }
    files = {"adapter_model.safetensors": save(tensors), "adapter_config.json": config}
    [change] = Repo(files).open().low_rank()
    assert change.scale == 1.0


@given(st.text(max_size=80))
def test_any_name_parses_or_does_not(name: str) -> None:
    for ending in ("", ".lora_A.weight", "_lora_down.weight", ".alpha"):
        parse_name(name + ending)
