"""LoHa, LoKr and VeRA: what PEFT itself says of the changes of those that it makes."""

import logging
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from lineage.fingerprint.compute import fingerprint
from lineage.fingerprint.probe import probe_runs
from lineage.fingerprint.sketch import sketch_matrix
from tests.weights.test_adapters import open_folder


class Small(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.q_proj = torch.nn.Linear(96, 80)
        self.v_proj = torch.nn.Linear(96, 200)
        self.odd = torch.nn.Linear(96, 37)


KINDS: dict[str, tuple[str, dict[str, Any]]] = {
    "loha": ("LoHaConfig", {"r": 4, "alpha": 6}),
    "loha patterns": (
        "LoHaConfig",
        {"r": 4, "alpha": 6, "rank_pattern": {"q_proj": 2}, "alpha_pattern": {"v_proj": 3}},
    ),
    "lokr": ("LoKrConfig", {"r": 2, "alpha": 6}),
    "lokr of whole matrices": ("LoKrConfig", {"r": 64, "alpha": 6}),
    "lokr decomposed": ("LoKrConfig", {"r": 2, "alpha": 5, "decompose_both": True}),
    "lokr of a large block": ("LoKrConfig", {"r": 3, "alpha": 5, "decompose_factor": 4}),
    "vera": ("VeraConfig", {"r": 8}),
}


def adapted(kind: str) -> tuple[Any, dict[str, Any]]:
    """Return a model with a fresh adapter of which no factor is zero, and its adapted layers."""
    import peft
    from peft.tuners.tuners_utils import BaseTunerLayer

    name, options = KINDS[kind]
    torch.manual_seed(0)
    config = getattr(peft, name)(target_modules=["q_proj", "v_proj", "odd"], **options)
    model = peft.get_peft_model(Small(), config)
    for parameter in model.parameters():
        parameter.data = torch.randn(parameter.shape)
    layers = {
        n.removeprefix("base_model.model."): m
        for n, m in model.named_modules()
        if isinstance(m, BaseTunerLayer) and hasattr(m, "get_delta_weight")
    }
    return model, layers


@pytest.mark.parametrize("kind", KINDS)
def test_changes_equal_those_of_peft(kind: str, tmp_path: Path) -> None:
    logging.disable(logging.WARNING)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model, layers = adapted(kind)
        model.save_pretrained(tmp_path)
    logging.disable(logging.NOTSET)
    found = fingerprint(open_folder(tmp_path)["adapter_model.safetensors"]).deltas
    assert {d.target for d in found} == set(layers) == {"q_proj", "v_proj", "odd"}
    for delta in found:
        want = layers[delta.target].get_delta_weight("default").detach().double()
        assert delta.shape == tuple(want.shape)
        sketch = sketch_matrix(want)
        assert np.linalg.norm(delta.sketch - sketch) <= 1e-5 * np.linalg.norm(sketch)
        flat = want.reshape(-1).numpy()
        kept = np.concatenate([flat[s : s + c] for s, c in probe_runs(delta.shape)])
        np.testing.assert_allclose(delta.probe, kept, rtol=1e-4, atol=1e-4 * np.abs(kept).max())
        assert delta.norm == pytest.approx(float(want.norm()), rel=1e-5)
        spectrum = torch.linalg.svdvals(want).numpy()[: len(delta.singular)]
        np.testing.assert_allclose(
            delta.singular[: len(spectrum)], spectrum, rtol=1e-4, atol=1e-4 * spectrum[0]
        )


def test_lycoris_scales_by_its_own_alpha(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    def stored(name: str, tensors: dict[str, torch.Tensor]) -> float:
        folder = tmp_path / name
        folder.mkdir()
        save_file(
            {f"lycoris_layers_0_q_proj.{n}": t for n, t in tensors.items()},
            folder / "l.safetensors",
        )
        (found,) = fingerprint(open_folder(folder)["l.safetensors"]).deltas
        return found.scale

    alpha = {"alpha": torch.tensor(2.0)}
    pair = {"lokr_w2_a": torch.ones(6, 4), "lokr_w2_b": torch.ones(4, 5)}
    assert stored("pair", {"lokr_w1": torch.ones(2, 3), **pair, **alpha}) == 0.5
    whole = {"lokr_w1": torch.ones(2, 3), "lokr_w2": torch.ones(6, 5)}
    assert stored("whole", {**whole, **alpha}) == 1.0


def test_a_change_of_a_transposed_matrix_is_kept_as_that_is_stored(tmp_path: Path) -> None:
    import peft
    from transformers.pytorch_utils import Conv1D

    class Turned(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.c_attn = Conv1D(150, 60)
            self.embed = torch.nn.Embedding(90, 40)

    torch.manual_seed(0)
    options = {"target_modules": ["c_attn", "embed"], "fan_in_fan_out": True}
    model = peft.get_peft_model(Turned(), peft.LoraConfig(init_lora_weights=False, **options))
    model.save_pretrained(tmp_path)
    for delta in fingerprint(open_folder(tmp_path)["adapter_model.safetensors"]).deltas:
        layer = getattr(model.base_model.model, delta.target)
        want = layer.get_delta_weight("default").detach().reshape(layer.weight.shape)
        assert delta.shape == tuple(layer.weight.shape)
        sketch = sketch_matrix(want)
        assert np.linalg.norm(delta.sketch - sketch) <= 1e-5 * np.linalg.norm(sketch)
