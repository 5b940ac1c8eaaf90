"""What a tensor does in a model, told from its name; unknown names keep an unknown role."""

import re
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache


class Part(StrEnum):
    """The part of a transformer that a tensor is."""

    EMBED = "embed"
    POSITION = "position"
    HEAD = "head"
    Q = "q"
    K = "k"
    V = "v"
    QKV = "qkv"
    O = "o"  # noqa: E741 - the field's own name
    GATE = "gate"
    UP = "up"
    DOWN = "down"
    GATE_UP = "gate_up"
    ROUTER = "router"
    NORM = "norm"
    CONV = "conv"
    BUFFER = "buffer"  # rotary tables, position ids, attention masks
    OTHER = "other"


@dataclass(frozen=True, slots=True)
class Role:
    """A tensor's place: the part, the layer (None outside layers), the expert, weight or bias.

    `transposed` tells that the matrix is stored (in, out), as GPT-2's Conv1D does. `stack` tells
    encoders from decoders and text from vision towers. `norm` says which norm of the layer.
    """

    part: Part
    layer: int | None = None
    expert: int | None = None
    bias: bool = False
    transposed: bool = False
    stack: str = ""
    detail: str = ""


UNKNOWN = Role(Part.OTHER)


# The last dotted parts of a module's name, per family, and what they are. The first match wins.
_MODULES: tuple[tuple[str, Part, str], ...] = (
    # buffers
    (
        (r"rotary_emb.*|inv_freq|position_ids|.*causal_mask|masked_bias|attn_bias|"
         r"rope_freqs"),
        Part.BUFFER, "",
    ),
    (r"relative_attention_bias|relative_position_bias_table|attn_rel_b", Part.POSITION, "relative"),
    # attention, split and fused
    (r"q_proj|q_lin|query|to_q|wq|attn_q|q|q_a_proj|q_b_proj|query_proj", Part.Q, ""),
    (r"k_proj|k_lin|key|to_k|wk|attn_k|k|key_proj", Part.K, ""),
    (r"v_proj|v_lin|value|to_v|wv|attn_v|v|value_proj", Part.V, ""),
    (r"qkv_proj|query_key_value|c_attn|attn_qkv|Wqkv|in_proj|qkv|W_pack|to_qkv|wqkv", Part.QKV, ""),
    (r"o_proj|out_lin|to_out|wo|attn_output|proj_attn|out_proj|to_add_out", Part.O, ""),
    # experts and gated MLPs
    (r"gate_up_proj|gate_up|gate_up_proj_blocks|wi", Part.GATE_UP, ""),
    (r"gate_proj|w1|wi_0|ffn_gate|ffn_gate_exps|ffn_gate_shexp", Part.GATE, ""),
    (r"up_proj|w3|wi_1|ffn_up|ffn_up_exps|ffn_up_shexp|fc1|c_fc|lin1|dense_h_to_4h", Part.UP, ""),
    (
        (r"down_proj|w2|wo|ffn_down|ffn_down_exps|ffn_down_shexp|fc2|lin2|"
         r"dense_4h_to_h"),
        Part.DOWN, "",
    ),
    (r"router|ffn_gate_inp|shared_expert_gate|gate", Part.ROUTER, ""),
    # embeddings and heads
    (
        (r"embed_tokens|word_embeddings|wte|shared|token_embedding|token_embd|"
         r"tok_embeddings|embed_in"),
        Part.EMBED, "",
    ),
    (
        (r"embed_positions|position_embeddings?|wpe|position_embd|pos_embed|"
         r"position_embedding"),
        Part.POSITION, "",
    ),
    (r"token_type_embeddings|token_types", Part.POSITION, "type"),
    (r"cls_token|mask_token|class_embedding", Part.POSITION, "token"),
    (r"lm_head|embed_out|vocab_projector|cls_head", Part.HEAD, ""),
    (
        (r"classifier|score|pre_classifier|qa_outputs|pooler|pooler_dense|"
         r"vocab_transform"),
        Part.HEAD, "",
    ),
    # norms
    (r".*norm.*|ln_?\w*|.*_ln|.*layernorm.*|LayerNorm|group_norm", Part.NORM, ""),
    # images
    (
        (r"conv\d*|conv_in|conv_out|conv_shortcut|patch_embeddings?|patch_embed|"
         r"downsample|upsample|projection|quant_conv|post_quant_conv"),
        Part.CONV, "",
    ),
)  # fmt: skip

_COMPILED = tuple((re.compile(pattern), part, detail) for pattern, part, detail in _MODULES)

_PREFIXES = re.compile(r"(?:(?:base_model\.model|module|_orig_mod|_fsdp_wrapped_module)\.)+")
_LAYER = re.compile(
    r"(?:^|\.)(?:layers?|h|blk|blocks?|resblocks|down_blocks|up_blocks|encoder_layers?)\.(\d+)(?:\.|$)"
)
_EXPERT = re.compile(r"(?:^|\.)experts\.(\d+)\.")

# In these modules the parent decides: BERT's `dense` and T5's `wo` are several things.
_DENSE: tuple[tuple[str, Part], ...] = (
    ("attention.output.dense", Part.O),
    ("self_attention.dense", Part.O),
    ("intermediate.dense", Part.UP),
    ("output.dense", Part.DOWN),
    ("classifier.dense", Part.HEAD),
    ("classifier.out_proj", Part.HEAD),
    ("pooler.dense", Part.HEAD),
    ("lm_head.dense", Part.HEAD),
    ("transform.dense", Part.HEAD),
    ("DenseReluDense.wo", Part.DOWN),
    ("DenseReluDense.wi", Part.UP),
    ("mlp.c_proj", Part.DOWN),
    ("attn.c_proj", Part.O),
    ("mlp.fc1", Part.UP),
    ("mlp.fc2", Part.DOWN),
    ("mlp.dense", Part.DOWN),
    ("SelfAttention.o", Part.O),
    ("EncDecAttention.o", Part.O),
    ("self_attn.dense", Part.O),
    ("decoder.bias", Part.HEAD),
    ("predictions.decoder", Part.HEAD),
    ("predictions.bias", Part.HEAD),
    ("ff.net.0.proj", Part.GATE_UP),
    ("ff.net", Part.DOWN),
    ("layer_norm", Part.NORM),
)

_CONV1D = re.compile(r"(?:^|\.)h\.\d+\.(?:attn|mlp|crossattention)\.(?:c_attn|c_proj|c_fc|q_attn)$")
_MASK = re.compile(r"(?:^|\.)(?:h\.\d+\.attn|layers\.\d+\.attention)\.(?:bias|masked_bias)$")
_TOWERS = (
    ("vision", re.compile(r"vision_model|vision_tower|visual\.|^vit\.|^v\.blk|image_encoder")),
    ("unet", re.compile(r"^unet\.|down_blocks\.|up_blocks\.|mid_block\.|model\.diffusion_model")),
    ("vae", re.compile(r"^vae\.|first_stage_model|quant_conv")),
    ("text", re.compile(r"text_model|text_encoder|cond_stage_model")),
    ("decoder", re.compile(r"(?:^|\.)decoder\.|^dec\.blk")),
    ("encoder", re.compile(r"(?:^|\.)encoder\.|^enc\.blk")),
)


@lru_cache(maxsize=65_536)
def role_of(name: str) -> Role:
    """Return the role of the tensor `name`, told from its words alone.

    Knows llama, mistral, qwen, gemma, phi, gpt2, opt, bert, roberta, distilbert, t5, vit, stable
    diffusion, mixtures of experts and GGUF's own names, behind any wrapper's prefix. A name that
    no pattern knows has `Part.OTHER`, with its layer and stack if these can be told.
    """
    plain = _PREFIXES.sub("", name, count=1) if _PREFIXES.match(name) else name
    bias = plain.endswith((".bias", "_bias", ".beta"))
    module = re.sub(r"\.(weight|bias|gamma|beta|base_layer|\d+)$", "", plain)
    module = re.sub(r"\.(base_layer|linear|\d+)$", "", module)
    layer, expert = _LAYER.findall(module + "."), _EXPERT.search(module)
    part, detail = (Part.BUFFER, "mask") if _MASK.search(plain) else _part(module)
    stack = next((tower for tower, pattern in _TOWERS if pattern.search(plain)), "")
    if part is Part.NORM:
        detail = module.rpartition(".")[2]
    elif "cross" in module or "EncDecAttention" in module or "encoder_attn" in module:
        detail = "cross"
    elif "shared_expert" in module or module.endswith("_shexp"):
        detail = "shared"
    return Role(
        part,
        int(layer[0][:9]) if layer else None,
        int(expert[1][:9]) if expert else None,
        bias,
        _CONV1D.search(module) is not None and not bias,
        stack,
        detail,
    )


def _part(module: str) -> tuple[Part, str]:
    """Return the part that a module's dotted name tells, and a detail."""
    for suffix, part in _DENSE:
        if module == suffix or module.endswith("." + suffix):
            return part, ""
    words = module.split(".")
    # to_out.0, wrapped linears and processors put the telling word further left.
    for word in reversed(words[-3:]):
        if word.isdigit():
            continue
        for pattern, part, detail in _COMPILED:
            if pattern.fullmatch(word):
                return part, detail
        if word == "output" and len(words) == 1:
            return Part.HEAD, ""  # GGUF's name for the head
        break
    return Part.OTHER, ""
