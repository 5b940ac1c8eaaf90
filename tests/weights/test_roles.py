"""Names tell what a tensor does, family by family."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lineage.weights.roles import UNKNOWN, Part, role_of

CASES = {
    # llama, mistral, qwen, gemma
    "model.embed_tokens.weight": (Part.EMBED, None),
    "model.layers.3.self_attn.q_proj.weight": (Part.Q, 3),
    "model.layers.3.self_attn.k_proj.bias": (Part.K, 3),
    "model.layers.3.self_attn.o_proj.weight": (Part.O, 3),
    "model.layers.3.mlp.gate_proj.weight": (Part.GATE, 3),
    "model.layers.3.mlp.up_proj.weight": (Part.UP, 3),
    "model.layers.3.mlp.down_proj.weight": (Part.DOWN, 3),
    "model.layers.3.input_layernorm.weight": (Part.NORM, 3),
    "model.layers.3.self_attn.q_norm.weight": (Part.NORM, 3),
    "model.layers.3.self_attn.rotary_emb.inv_freq": (Part.BUFFER, 3),
    "model.norm.weight": (Part.NORM, None),
    "lm_head.weight": (Part.HEAD, None),
    # phi
    "model.layers.0.self_attn.qkv_proj.weight": (Part.QKV, 0),
    "model.layers.0.mlp.gate_up_proj.weight": (Part.GATE_UP, 0),
    "model.layers.0.mlp.fc2.weight": (Part.DOWN, 0),
    # gpt2
    "transformer.wte.weight": (Part.EMBED, None),
    "wpe.weight": (Part.POSITION, None),
    "h.11.attn.bias": (Part.BUFFER, 11),
    "h.11.attn.c_attn.weight": (Part.QKV, 11),
    "h.11.attn.c_proj.weight": (Part.O, 11),
    "transformer.h.2.mlp.c_fc.weight": (Part.UP, 2),
    "transformer.h.2.mlp.c_proj.weight": (Part.DOWN, 2),
    "h.0.ln_1.weight": (Part.NORM, 0),
    # opt
    "model.decoder.layers.1.fc1.weight": (Part.UP, 1),
    "model.decoder.layers.1.self_attn.out_proj.weight": (Part.O, 1),
    "model.decoder.embed_positions.weight": (Part.POSITION, None),
    # bert, roberta, distilbert
    "bert.embeddings.word_embeddings.weight": (Part.EMBED, None),
    "embeddings.token_type_embeddings.weight": (Part.POSITION, None),
    "embeddings.position_ids": (Part.BUFFER, None),
    "encoder.layer.2.attention.self.value.weight": (Part.V, 2),
    "encoder.layer.2.attention.output.dense.weight": (Part.O, 2),
    "encoder.layer.2.attention.output.LayerNorm.weight": (Part.NORM, 2),
    "encoder.layer.2.intermediate.dense.bias": (Part.UP, 2),
    "encoder.layer.2.output.dense.weight": (Part.DOWN, 2),
    "distilbert.transformer.layer.0.attention.q_lin.weight": (Part.Q, 0),
    "distilbert.transformer.layer.0.ffn.lin2.weight": (Part.DOWN, 0),
    "cls.predictions.decoder.weight": (Part.HEAD, None),
    "classifier.out_proj.weight": (Part.HEAD, None),
    # t5
    "shared.weight": (Part.EMBED, None),
    "encoder.block.0.layer.0.SelfAttention.q.weight": (Part.Q, 0),
    "decoder.block.1.layer.1.EncDecAttention.o.weight": (Part.O, 1),
    "decoder.block.1.layer.2.DenseReluDense.wi_0.weight": (Part.GATE, 1),
    "decoder.block.1.layer.2.DenseReluDense.wo.weight": (Part.DOWN, 1),
    "encoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight": (Part.POSITION, 0),
    # experts
    "model.layers.0.block_sparse_moe.experts.5.w2.weight": (Part.DOWN, 0),
    "model.layers.0.block_sparse_moe.gate.weight": (Part.ROUTER, 0),
    "model.layers.0.mlp.experts.7.gate_proj.weight": (Part.GATE, 0),
    "model.layers.0.mlp.gate.weight": (Part.ROUTER, 0),
    # vit, stable diffusion
    "vit.embeddings.patch_embeddings.projection.weight": (Part.CONV, None),
    "vit.encoder.layer.1.attention.attention.query.weight": (Part.Q, 1),
    "vit.embeddings.cls_token": (Part.POSITION, None),
    "down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_out.0.weight": (Part.O, 0),
    "down_blocks.0.attentions.0.transformer_blocks.0.ff.net.0.proj.weight": (Part.GATE_UP, 0),
    "down_blocks.0.attentions.0.transformer_blocks.0.ff.net.2.weight": (Part.DOWN, 0),
    "up_blocks.2.resnets.0.conv1.weight": (Part.CONV, 2),
    "text_model.encoder.layers.0.mlp.fc1.weight": (Part.UP, 0),
    # GGUF
    "token_embd.weight": (Part.EMBED, None),
    "blk.4.attn_q.weight": (Part.Q, 4),
    "blk.4.attn_output.weight": (Part.O, 4),
    "blk.4.ffn_gate_exps.weight": (Part.GATE, 4),
    "blk.4.ffn_gate_inp.weight": (Part.ROUTER, 4),
    "blk.4.ffn_norm.weight": (Part.NORM, 4),
    "output.weight": (Part.HEAD, None),
    "rope_freqs.weight": (Part.BUFFER, None),
}


@pytest.mark.parametrize("name", CASES)
def test_parts_and_layers(name: str) -> None:
    role = role_of(name)
    assert (role.part, role.layer) == CASES[name]


@pytest.mark.parametrize("prefix", ["module.", "base_model.model.", "_orig_mod.", "module.model."])
def test_prefixes_change_nothing(prefix: str) -> None:
    name = "layers.3.self_attn.q_proj.weight"
    assert role_of(prefix + name) == role_of(name)


def test_conv1d_is_transposed_and_nothing_else() -> None:
    assert role_of("h.0.attn.c_attn.weight").transposed
    assert role_of("transformer.h.0.mlp.c_fc.weight").transposed
    assert not role_of("h.0.attn.c_attn.bias").transposed
    assert not role_of("model.layers.0.self_attn.q_proj.weight").transposed


def test_stacks_experts_and_kinds_of_attention() -> None:
    assert role_of("model.layers.0.mlp.experts.7.up_proj.weight").expert == 7
    assert role_of("decoder.block.1.layer.1.EncDecAttention.q.weight").detail == "cross"
    assert role_of("decoder.block.1.layer.1.EncDecAttention.q.weight").stack == "decoder"
    assert role_of("encoder.block.1.layer.0.SelfAttention.q.weight").stack == "encoder"
    assert role_of("vision_model.encoder.layers.0.self_attn.q_proj.weight").stack == "vision"
    assert role_of("model.layers.0.mlp.shared_expert.up_proj.weight").detail == "shared"
    assert role_of("model.layers.0.input_layernorm.weight").detail == "input_layernorm"
    assert role_of("model.layers.0.self_attn.q_proj.bias").bias


@given(st.text(max_size=200))
def test_any_name_has_a_role(name: str) -> None:
    assert isinstance(role_of(name).part, Part)


def test_unknown_names_stay_unknown() -> None:
    assert role_of("something.entirely.else") == UNKNOWN
    assert role_of("") == UNKNOWN
