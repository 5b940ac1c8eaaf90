import pytest
import torch

from lineage.domain.revision import Coverage
from lineage.fingerprint.compute import fingerprint
from tests.fingerprint.memory_reader import MemoryReader

G = torch.Generator().manual_seed(0)
INVERSE = 1.0 / 10000 ** (torch.arange(0, 128, 2) / 128)
ANGLES = torch.arange(2048)[:, None] * INVERSE
CAUSAL = torch.tril(torch.ones(256, 256))

PLAIN = {
    "zeros": torch.zeros(300, 300),
    "ones": torch.ones(768),
    "constant": torch.full((64, 64), 0.02),
    "positions": torch.arange(512)[None].expand(2, 512).contiguous(),
    "float positions": torch.arange(512).float(),
    "ramp": torch.linspace(0, 1, 129)[None].expand(4, 129).contiguous() * 128,
    "inverse frequencies": INVERSE,
    "llama 3 frequencies": torch.where(INVERSE < 0.01, INVERSE / 8, INVERSE),
    "cos": ANGLES.cos(),
    "sin, doubled, bf16": torch.cat([ANGLES, ANGLES], 1).sin()[None, None].bfloat16(),
    "causal mask": CAUSAL[None, None],
    "boolean mask": CAUSAL.bool(),
    "infinite mask": torch.where(CAUSAL > 0, 0.0, float("-inf")),
    "counter": torch.tensor(7),
    "tiny": torch.randn(20, generator=G),
    "nothing": torch.zeros(0, 8),
    "relative index": torch.randint(0, 100, (64, 64), generator=G),
}
WEIGHTS = {
    "normal": torch.randn(300, 300, generator=G),
    "vector": torch.randn(64, generator=G),
    "norm near one": 1 + 0.01 * torch.randn(768, generator=G),
    "pruned": torch.randn(300, 300, generator=G) * (torch.rand(300, 300, generator=G) > 0.95),
    "binary": torch.randn(300, 300, generator=G).sign() * 0.05,
    "int8": torch.randint(-128, 128, (64, 64), generator=G).to(torch.int8),
    "zeros, then weights": torch.cat([torch.zeros(9000, 64), torch.randn(9, 64, generator=G)]),
    "noisy waves": ANGLES.cos() + 0.05 * torch.randn(ANGLES.shape, generator=G),
    "wave, then weights": torch.cat([ANGLES.cos(), torch.randn(9000, 64, generator=G)]),
}


@pytest.mark.parametrize("name", PLAIN)
def test_what_every_model_may_hold_is_not_informative(name: str) -> None:
    (found,) = fingerprint(MemoryReader({"layer.weight": PLAIN[name]})).tensors
    assert not found.informative


@pytest.mark.parametrize("name", WEIGHTS)
def test_weights_are_informative_whatever_their_name(name: str) -> None:
    (found,) = fingerprint(MemoryReader({"rotary_emb.inv_freq": WEIGHTS[name]})).tensors
    assert found.informative


def test_a_sample_judges_by_the_probe() -> None:
    names = ["zeros", "cos", "positions", "inverse frequencies"]
    tensors = {n: PLAIN[n] for n in names} | {"w": WEIGHTS["normal"]}
    found = fingerprint(MemoryReader(tensors), Coverage.SAMPLE).tensors
    assert [t.name for t in found if t.informative] == ["w"]
