"""Packed weights whose parts are missing, broken or made to mislead keep codes and a label."""

import json

import pytest
import torch

from lineage.weights.dtype import DType
from tests.weights.packing import I32, Tensors, bitsandbytes, gptq, normal, opened
from tests.weights.support import by_name

STATE = "nested.weight.quant_state.bitsandbytes__nf4"


def state_with(**fields: object) -> torch.Tensor:
    told = json.loads(bytes(bitsandbytes()[STATE].tolist())) | fields
    return torch.tensor(list(json.dumps(told).encode()), dtype=torch.uint8)


BROKEN: dict[str, dict[str, torch.Tensor | None]] = {
    "no state": {STATE: None},
    "a state that is no JSON": {STATE: torch.zeros(100, dtype=torch.uint8)},
    "a state that is a list": {STATE: torch.tensor(list(b"[1, 2]"), dtype=torch.uint8)},
    "a state of endless nesting": {STATE: torch.full((4096,), ord("["), dtype=torch.uint8)},
    "a state of a megabyte": {STATE: torch.full((1 << 20,), 32, dtype=torch.uint8)},
    "another shape": {STATE: state_with(shape=[128, 193])},
    "a huge shape": {STATE: state_with(shape=[1 << 39, 1 << 39])},
    "a negative shape": {STATE: state_with(shape=[-128, -192])},
    "a shape of text": {STATE: state_with(shape="ab")},
    "another block": {STATE: state_with(blocksize=128)},
    "a block of none": {STATE: state_with(blocksize=0)},
    "an unknown type": {STATE: state_with(dtype="int8")},
    "an endless offset": {STATE: state_with(nested_offset=float("inf"))},
    "an offset of text": {STATE: state_with(nested_offset="1")},
    "no scales": {"nested.weight.absmax": None},
    "too few scales": {"nested.weight.absmax": torch.zeros(383, dtype=torch.uint8)},
    "scales of another type": {"nested.weight.absmax": torch.zeros(384)},
    "no table": {"nested.weight.quant_map": None},
    "a short table": {"nested.weight.nested_quant_map": torch.zeros(255)},
}


@pytest.mark.parametrize("case", BROKEN)
def test_broken_bitsandbytes_keeps_its_codes_and_a_label(case: str) -> None:
    tensors = {k: v for k, v in bitsandbytes().items() if k.startswith("nested.")}
    kept = {k: v for k, v in (tensors | BROKEN[case]).items() if v is not None}
    infos = by_name(opened(kept, ""))
    assert set(infos) == set(kept)
    info = infos["nested.weight"]
    assert (info.dtype, info.shape) == (DType.U8, (12288, 1))
    assert info.quant == ("bnb-4" if STATE not in kept else "bnb-nf4")


def test_int8_of_other_layouts_keeps_its_codes() -> None:
    tensors = {k: v for k, v in bitsandbytes().items() if k.startswith("int8.")}
    for change in (
        {"int8.weight_format": torch.tensor(2, dtype=torch.uint8)},
        {"int8.SCB": torch.ones(40)},
        {"int8.SCB": torch.ones(24).half()},
    ):
        infos = by_name(opened(tensors | change, ""))
        assert infos["int8.weight"].dtype is DType.I8
        assert infos["int8.weight"].quant == "bnb-int8"


UNFIT: dict[str, Tensors] = {
    "more rows of scales than rows": {"weight_scale": torch.ones(17, 1)},
    "scales of no size that fits": {"weight_scale": torch.ones(5, 7)},
    "a vector of scales of another length": {"weight_scale": torch.ones(15)},
    "no scale": {"weight_scale": torch.ones(0)},
    "scales of whole numbers": {"weight_scale": torch.ones(16, 1, dtype=torch.int32)},
    "zero points of another shape": {
        "weight_scale": torch.ones(16, 1), "weight_zero_point": torch.ones(1, 1).to(torch.int8)
    },
}  # fmt: skip


@pytest.mark.parametrize("case", UNFIT)
@pytest.mark.parametrize("kind", [torch.float8_e4m3fn, torch.int8])
def test_scales_that_do_not_fit_leave_codes_and_a_label(case: str, kind: torch.dtype) -> None:
    tensors = {"weight": torch.ones(16, 48).to(kind)} | UNFIT[case]
    infos = by_name(opened(tensors))
    assert set(infos) == {f"l.{name}" for name in tensors}
    label = "int8-scaled" if kind is torch.int8 else "fp8-scaled"
    assert (infos["l.weight"].quant, infos["l.weight"].dtype.itemsize) == (label, 1)


def gptq_with(**changes: torch.Tensor | None) -> Tensors:
    tensors, _ = gptq(normal(64, 96))
    return {k: v for k, v in (tensors | changes).items() if v is not None}


WRONG: dict[str, Tensors] = {
    "no zeros": gptq_with(qzeros=None),
    "no scales": gptq_with(scales=None),
    "a group too many": gptq_with(g_idx=torch.full((96,), 3, dtype=I32)),
    "a group far below": gptq_with(g_idx=torch.full((96,), -4, dtype=I32)),
    "groups of other inputs": gptq_with(g_idx=torch.zeros(95, dtype=I32)),
    "groups as long integers": gptq_with(g_idx=torch.zeros(96, dtype=torch.int64)),
    "more groups than can be": gptq_with(
        scales=torch.ones(97, 64), qzeros=torch.zeros(97, 8, dtype=I32), g_idx=None
    ),
    "zeros of fewer groups": gptq_with(qzeros=torch.zeros(2, 8, dtype=I32)),
    "zeros of five bits": gptq_with(qzeros=torch.zeros(3, 10, dtype=I32)),
    "scales of other outputs": gptq_with(scales=torch.ones(3, 63)),
    "scales of whole numbers": gptq_with(scales=torch.ones(3, 64, dtype=I32)),
    "no groups": gptq_with(scales=torch.ones(0, 64), qzeros=torch.zeros(0, 8, dtype=I32)),
    "the plain weight as well": gptq_with(weight=torch.ones(64, 96)),
}


@pytest.mark.parametrize("case", WRONG)
def test_gptq_that_does_not_agree_keeps_its_words(case: str) -> None:
    infos = by_name(opened(WRONG[case]))
    assert set(infos) == {f"l.{name}" for name in WRONG[case]}
    assert infos["l.qweight"].dtype is DType.I32


def test_two_packed_tensors_of_one_name_are_not_mixed_up() -> None:
    blocks = {
        "l.weight_blocks": torch.zeros(1, 2, 1, 16, dtype=torch.uint8),
        "l.weight_scales": torch.zeros(1, 2, 1, dtype=torch.uint8),
    }
    infos = by_name(opened({f"l.{k}": v for k, v in gptq_with().items()} | blocks, ""))
    assert ("l.qweight" in infos) + ("l.weight_blocks" in infos) == 1
    assert "l.weight" in infos
