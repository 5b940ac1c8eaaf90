"""Quantizers as their libraries write them, one code at a time, and what those dequantise to.

Independent of what reads them: plain loops after AutoGPTQ's `pack` and `dequantize`, AutoAWQ's
`from_linear` and `dequantize_gemm`, and so on.
"""

import json
from pathlib import Path

import torch
from safetensors.torch import load_file, save

from lineage.weights.reader import WeightReader
from tests.weights.support import open_one

SAMPLES = sorted((Path(__file__).parent / "samples").glob("*.safetensors"))
"""Packed tensors that the libraries themselves wrote."""

I32 = torch.int32
Tensors = dict[str, torch.Tensor]
AWQ_ORDER = [0, 2, 4, 6, 1, 3, 5, 7]


def bits_of(values: list[int], bits: int) -> list[int]:
    """Return 32-bit words (signed) of codes, lowest bits first, codes running over from word to
    word."""
    line = 0
    for place, value in enumerate(values):
        line |= value << (bits * place)
    words = [(line >> at) & 0xFFFFFFFF for at in range(0, len(values) * bits, 32)]
    return [w - (1 << 32) if w >> 31 else w for w in words]


def grid(
    weight: torch.Tensor, of: torch.Tensor, bits: int, *, sym: bool
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return codes (m, n), scales (m, groups) float16 and zeros (m, groups) of a weight (m, n)."""
    top, count = (1 << bits) - 1, int(of.max()) + 1
    codes = torch.zeros(weight.shape, dtype=torch.int64)
    scales = torch.zeros(len(weight), count, dtype=torch.float16)
    zeros = torch.zeros(len(weight), count, dtype=torch.int64)
    for group in range(count):
        part = weight[:, of == group].float()
        low, high = part.min(1).values.clamp(max=0), part.max(1).values.clamp(min=0)
        if sym:
            high = torch.maximum(low.abs(), high)
            low = -high
        scale = ((high - low) / top).clamp(min=1e-5).half()
        zero = torch.full_like(low, (top + 1) // 2) if sym else (-low / scale.float()).round()
        zero = zero.clamp(0, top)
        step = (part / scale.float()[:, None]).round() + zero[:, None]
        codes[:, of == group] = step.clamp(0, top).long()
        scales[:, group], zeros[:, group] = scale, zero.long()
    return codes, scales, zeros


def gptq(
    weight: torch.Tensor, *, bits: int = 4, group: int = 32, act_order: bool = False,
    sym: bool = True, version: int = 1, seed: int = 0,
) -> tuple[Tensors, torch.Tensor]:  # fmt: skip
    """Return the tensors of a packed linear layer, and its weight as the library decodes it."""
    inputs = weight.shape[1]
    of = torch.arange(inputs) // group
    if act_order:
        of = of[torch.randperm(inputs, generator=torch.Generator().manual_seed(seed))]
    codes, scales, zeros = grid(weight, of, bits, sym=sym)
    decoded = scales[:, of] * (codes - zeros[:, of]).to(torch.float16)
    less = 1 if version == 1 else 0
    stored = [bits_of([(z - less) % (1 << bits) for z in row], bits) for row in zeros.T.tolist()]
    tensors = {
        "qweight": torch.tensor([bits_of(row, bits) for row in codes.tolist()])
        .int()
        .T.contiguous(),
        "qzeros": torch.tensor(stored).int(),
        "scales": scales.T.contiguous(),
        "g_idx": of.int(),
    }
    return tensors, decoded


def awq(weight: torch.Tensor, *, group: int = 32) -> tuple[Tensors, torch.Tensor]:
    """Return the tensors of a packed linear layer, and its weight as the library decodes it."""
    of = torch.arange(weight.shape[1]) // group
    codes, scales, zeros = grid(weight, of, 4, sym=False)
    decoded = (codes - zeros[:, of]).to(torch.float16) * scales[:, of]

    def packed(rows: torch.Tensor) -> torch.Tensor:
        words = []
        for row in rows.tolist():
            eights = [row[at : at + 8] for at in range(0, len(row), 8)]
            words.append([bits_of([eight[i] for i in AWQ_ORDER], 4)[0] for eight in eights])
        return torch.tensor(words).int()

    tensors = {
        "qweight": packed(codes.T), "qzeros": packed(zeros.T), "scales": scales.T.contiguous()
    }  # fmt: skip
    return tensors, decoded


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)) * 0.02


def opened(tensors: Tensors, stem: str = "l.") -> WeightReader:
    named = {stem + name: tensor.contiguous() for name, tensor in tensors.items()}
    return open_one("m.safetensors", save(named))


def sample(name: str) -> Tensors:
    path = next(p for p in SAMPLES if p.stem == name)
    tensors: Tensors = load_file(path)
    return tensors


def bitsandbytes() -> Tensors:
    return sample("bitsandbytes")


def int8(weight: torch.Tensor) -> Tensors:
    """Return a linear layer as bitsandbytes' `Linear8bitLt` stores it."""
    top = weight.float().abs().max(1).values
    codes = (weight.float() * 127 / top[:, None]).round().to(torch.int8)
    return {"weight": codes, "SCB": top, "weight_format": torch.tensor(0, dtype=torch.uint8)}


def fp8(weight: torch.Tensor) -> Tensors:
    """Return a linear layer (extents of 128 or multiples) in float8 with scales of blocks."""
    rows, columns = weight.shape
    blocks = weight.float().reshape(rows // 128, 128, columns // 128, 128)
    scales = blocks.abs().amax((1, 3)) / 448
    codes = (blocks / scales[:, None, :, None]).reshape(rows, columns)
    return {"weight": codes.to(torch.float8_e4m3fn), "weight_scale_inv": scales}


def nf4(weight: torch.Tensor, *, nested: bool = False) -> Tensors:
    """Return a linear layer as bitsandbytes' `Linear4bit` stores it."""
    table = bitsandbytes()["plain.weight.quant_map"]
    blocks = weight.float().reshape(-1, 64)
    top = blocks.abs().amax(1)
    codes = (blocks / top[:, None]).unsqueeze(-1).sub(table).abs().argmin(-1).reshape(-1)
    state: dict[str, object] = {
        "quant_type": "nf4", "blocksize": 64, "dtype": "bfloat16", "shape": list(weight.shape)
    }  # fmt: skip
    tensors = {"weight": (codes[::2] << 4 | codes[1::2]).byte()[:, None], "weight.absmax": top}
    tensors["weight.quant_map"] = table
    if nested:
        offset = float(top.mean())
        coarse = torch.linspace(-1, 1, 256)
        whole = torch.nn.functional.pad(top - offset, (0, -len(top) % 256)).reshape(-1, 256)
        outer = whole.abs().amax(1)
        inner = (whole / outer[:, None]).unsqueeze(-1).sub(coarse).abs().argmin(-1)
        tensors["weight.absmax"] = inner.reshape(-1)[: len(top)].byte()
        tensors |= {"weight.nested_absmax": outer, "weight.nested_quant_map": coarse}
        state |= {"nested_blocksize": 256, "nested_dtype": "float32", "nested_offset": offset}
    key = "weight.quant_state.bitsandbytes__nf4"
    tensors[key] = torch.tensor(list(json.dumps(state).encode())).byte()
    return tensors
