"""Names inside adapter files, in the dialects of PEFT, diffusers and kohya, brought to one form.

The canonical target of a change is the dotted name of the module in its own library, so that
`base_model.model.model.layers.0.self_attn.q_proj.lora_A.default.weight` changes
`model.layers.0.self_attn.q_proj`, and `lora_unet_mid_block_attentions_0_proj_in.lora_down.weight`
changes `unet.mid_block.attentions.0.proj_in`.
"""

import re
from dataclasses import dataclass
from enum import StrEnum


class Dialect(StrEnum):
    """Whose names an adapter file uses."""

    PEFT = "peft"
    DIFFUSERS = "diffusers"
    KOHYA = "kohya"
    GGUF = "gguf"


class Half(StrEnum):
    """What one tensor of an adapter is to its module."""

    DOWN = "down"
    UP = "up"
    ALPHA = "alpha"
    MAGNITUDE = "magnitude"  # DoRA
    BLOCKER = "blocker"  # makes the change something else than up @ down
    OTHER = "other"  # recognised kinds that are not pairs of factors: LoHa, LoKr, IA3, OFT, …


@dataclass(frozen=True, slots=True)
class Named:
    """What the name of one adapter tensor says; `part` is the parameter's own name of others."""

    target: str
    half: Half
    dialect: Dialect
    embedding: bool = False
    part: str = ""


_W = r"(?:\.weight)?$"
_ADAPTER = r"(?:\.(?!weight$|down$|up$)[\w-]+)?"  # PEFT's adapter name, mostly `default`
_FORMS: tuple[tuple[re.Pattern[str], Half, bool], ...] = tuple(
    (re.compile(pattern), half, embedding)
    for pattern, half, embedding in (
        (rf"[._]lora_embedding_A{_ADAPTER}{_W}", Half.DOWN, True),
        (rf"[._]lora_embedding_B{_ADAPTER}{_W}", Half.UP, True),
        (rf"\.lora_A{_ADAPTER}{_W}", Half.DOWN, False),
        (rf"\.lora_B{_ADAPTER}{_W}", Half.UP, False),
        (rf"\.lora_magnitude_vector{_ADAPTER}{_W}", Half.MAGNITUDE, False),
        (rf"\.(?:lora_E|ranknum){_ADAPTER}{_W}", Half.BLOCKER, False),
        (r"\.weight\.lora_a$", Half.DOWN, False),
        (r"\.weight\.lora_b$", Half.UP, False),
        (r"\.lora_mid\.weight$", Half.BLOCKER, False),
        (r"\.dora_scale$", Half.MAGNITUDE, False),
        (r"(?:\.lora_down|[._]lora\.down|\.lora_linear_layer\.down)\.weight$", Half.DOWN, False),
        (r"(?:\.lora_up|[._]lora\.up|\.lora_linear_layer\.up)\.weight$", Half.UP, False),
        # one real exporter flattened these dots as well
        (r"_lora_down\.weight$", Half.DOWN, False),
        (r"_lora_up\.weight$", Half.UP, False),
        (r"\.alpha$", Half.ALPHA, False),
        (r"\.(?:hada_w[12](?:_[ab])?|hada_t[12]|lokr_w[12](?:_[ab])?|lokr_t2)(?:\..*)?$",
         Half.OTHER, False),
        ((r"\.(?:ia3_l|oft_\w+|boft_\w+|vera_lambda_\w+|fourierft_spectrum|hra_u|vblora_\w+|"
         r"randlora_\w+|shira_weight|bone_block|miss_block|waveft_spectrum|c3a_kernel|"
         r"road_\w+|ln_tuning)(?:\..*)?$"), Half.OTHER, False),
        ((r"(?:^|\.)(?:prompt_embeddings|prompt_encoder|adaption_prompt\w*|adaption_gate|vera_[AB]|"
         r"internal_xlora_classifier|prefix_tuning)(?:\..*)?$"), Half.OTHER, False),
    )
)  # fmt: skip

_KOHYA = re.compile(r"(lora_(?:unet|te|te1|te2|te3|transformer|prior_unet|prior_te)|lycoris)_")
_KOHYA_ROOTS = {
    "lora_unet": "unet", "lora_te": "text_encoder", "lora_te1": "text_encoder",
    "lora_te2": "text_encoder_2", "lora_te3": "text_encoder_3", "lora_transformer": "transformer",
    "lora_prior_unet": "prior", "lora_prior_te": "prior_text_encoder", "lycoris": "",
}  # fmt: skip
_GGUF_MODULES = {
    "attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj", "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj", "ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}  # fmt: skip
_DIFFUSERS = re.compile(
    r"(?:unet|text_encoder(?:_\d)?|transformer|prior|text_model|down_blocks|up_blocks|mid_block|"
    r"transformer_blocks|single_transformer_blocks)\."
)

# Words of module names that hold an underscore of their own.
_COMPOUND = """
    down_blocks up_blocks mid_block transformer_blocks single_transformer_blocks input_blocks
    output_blocks middle_block to_q to_k to_v to_out to_qkv add_q_proj add_k_proj add_v_proj
    to_add_out proj_in proj_out proj_mlp time_emb_proj conv_shortcut conv_in conv_out
    time_embedding add_embedding linear_1 linear_2 self_attn q_proj k_proj v_proj o_proj out_proj
    gate_proj up_proj down_proj text_model text_projection token_embedding position_embedding
    in_layers emb_layers out_layers skip_connection double_blocks single_blocks img_attn txt_attn
    img_mlp txt_mlp img_mod txt_mod time_embed label_emb context_embedder x_embedder ff_context
    norm1_context norm_out layer_norm1 layer_norm2 joint_blocks context_block x_block
    adaLN_modulation
"""
_WORD = re.compile(
    "(?:" + "|".join(sorted(_COMPOUND.split(), key=len, reverse=True)) + r"|[^_]+)(?=_|$)"
)


def parse_name(name: str) -> Named | None:
    """Return what the name of a tensor says, None where it is no part of an adapter."""
    for pattern, half, embedding in _FORMS:
        match = pattern.search(name)
        if match is not None:
            module = name[: match.start()]
            dialect = _dialect(module, name)
            part = match.group(0).strip(".").partition(".")[0] if half is Half.OTHER else ""
            return Named(_target(module, dialect), half, dialect, embedding, part)
    return None


def _dialect(module: str, name: str) -> Dialect:
    if _KOHYA.match(module):
        return Dialect.KOHYA
    if name.endswith((".lora_a", ".lora_b")):
        return Dialect.GGUF
    if module.startswith("base_model.model."):
        return Dialect.PEFT
    if _DIFFUSERS.match(module) or ".processor." in module:
        return Dialect.DIFFUSERS
    return Dialect.PEFT if "lora_A" in name or "lora_B" in name else Dialect.DIFFUSERS


def _target(module: str, dialect: Dialect) -> str:
    if dialect is Dialect.KOHYA:
        return _unflatten(module)
    if dialect is Dialect.GGUF:
        head, _, last = module.rpartition(".")
        known = _GGUF_MODULES.get(last)
        return f"model.{head.replace('blk.', 'layers.')}.{known}" if head and known else module
    module = module.removeprefix("base_model.model.").removeprefix("diffusion_model.")
    if dialect is Dialect.DIFFUSERS:
        module = re.sub(r"\.processor\.", ".", module)
        module = re.sub(r"\.to_out$", ".to_out.0", module)
        if module.startswith(("down_blocks.", "up_blocks.", "mid_block.")):
            module = "unet." + module
    return module.replace(".base_layer", "")


def _unflatten(module: str) -> str:
    """Return kohya's flattened module name with its dots."""
    match = _KOHYA.match(module)
    root, rest = (_KOHYA_ROOTS[match[1]], module[match.end() :]) if match else ("", module)
    rest = rest.removeprefix(f"{root}_") if root else rest
    return ".".join(([root] if root else []) + _WORD.findall(rest))
