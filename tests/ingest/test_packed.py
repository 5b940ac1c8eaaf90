"""Packed copies of a fine-tune are found from weights to be its copies, however they are packed."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import save

from lineage.domain.derivation import SHOWN, Relation
from lineage.domain.ids import split_revision_id
from lineage.domain.revision import Coverage
from lineage.graph.open import open_store
from lineage.graph.store import Store
from lineage.hub.source import Selection
from lineage.ingest.add import add
from lineage.ingest.crawl import crawl
from lineage.ingest.inferring import infer
from lineage.ingest.reading import HubSpec
from lineage.ingest.vault import Vault
from tests.hub.server import Commit, HubServer, Repo
from tests.weights.packing import Tensors, awq, fp8, gptq, int8, nf4

WIDTH, LAYERS, VOCABULARY = 128, 2, 256
LINEAR = [
    f"model.layers.{layer}.{name}.weight"
    for layer in range(LAYERS)
    for name in (
        "self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj",
        "mlp.gate_proj", "mlp.up_proj", "mlp.down_proj",
    )
]  # fmt: skip

PACKERS: dict[str, Callable[[torch.Tensor], Tensors]] = {
    "gptq": lambda w: gptq(w)[0],
    "gptq-act-order": lambda w: gptq(w, act_order=True, sym=False)[0],
    "gptq-8": lambda w: gptq(w, bits=8)[0],
    "awq": lambda w: awq(w)[0],
    "nf4": nf4,
    "nf4-nested": lambda w: nf4(w, nested=True),
    "int8": int8,
    "fp8": fp8,
}
METHODS = {
    "gptq": "gptq-4", "gptq-act-order": "gptq-4", "gptq-8": "gptq-8", "awq": "awq-4",
    "nf4": "bnb-nf4", "nf4-nested": "bnb-nf4", "int8": "bnb-int8", "fp8": "fp8-scaled",
}  # fmt: skip


def origin() -> Tensors:
    random = torch.Generator().manual_seed(0)
    shapes = dict.fromkeys(LINEAR, (WIDTH, WIDTH))
    shapes |= {"model.embed_tokens.weight": (VOCABULARY, WIDTH)}
    weights = {n: torch.randn(s, generator=random) * 0.05 for n, s in shapes.items()}
    for layer in range(LAYERS):
        for norm in ("input_layernorm", "post_attention_layernorm"):
            gain = 1 + 0.1 * torch.randn(WIDTH, generator=random)
            weights[f"model.layers.{layer}.{norm}.weight"] = gain
    return {name: weight.bfloat16() for name, weight in weights.items()}


def tuned(weights: Tensors, seed: int) -> Tensors:
    """Train a little: changes of 3 % of each matrix, a third of what four bits take from it.

    Embeddings and norms stay as they are, so that only packed weights can tell.
    """
    random = torch.Generator().manual_seed(seed)
    changed = dict(weights)
    for name in LINEAR:
        weight = weights[name]
        change = torch.randn(weight.shape, generator=random) * weight.float().std()
        changed[name] = (weight.float() + 0.03 * change).bfloat16()
    return changed


def packed(weights: Tensors, kind: str) -> Tensors:
    out: Tensors = {}
    for name, weight in weights.items():
        if name in LINEAR:
            parts = PACKERS[kind](weight.float())
            out |= {name.removesuffix("weight") + n: t.contiguous() for n, t in parts.items()}
        else:
            out[name] = weight
    return out


@pytest.fixture(scope="module")
def family() -> dict[str, Tensors]:
    base = origin()
    one, other = tuned(base, 1), tuned(base, 2)
    copies = {f"acme/one-{kind}": packed(one, kind) for kind in PACKERS}
    return {"acme/base": base, "acme/one": one, "acme/other": other, **copies}


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened = open_store(f"sqlite:///{tmp_path / 'lineage.db'}")
    yield opened
    opened.close()


Edges = dict[str, tuple[str, Relation, str | None]]


def edges(store: Store) -> Edges:
    """Return parent, relation and method by child; every child has one parent."""
    found: Edges = {}
    for edge in store.all_derivations():
        if edge.status in SHOWN:
            child, parent = (split_revision_id(i)[0] for i in (edge.child, edge.parent))
            assert child not in found
            found[child] = (parent, edge.relation, edge.method)
    return found


WANTED: Edges = {
    "acme/one": ("acme/base", Relation.FINETUNE, "training"),
    "acme/other": ("acme/base", Relation.FINETUNE, "training"),
    **{
        f"acme/one-{kind}": ("acme/one", Relation.QUANTIZED, method)
        for kind, method in METHODS.items()
    },
}


def test_packed_copies_come_from_the_model_that_was_packed(
    family: dict[str, Tensors], store: Store, tmp_path: Path
) -> None:
    for name, weights in family.items():
        (tmp_path / "models" / name).mkdir(parents=True)
        (tmp_path / "models" / name / "model.safetensors").write_bytes(save(weights))
    vault = Vault(str(tmp_path / "prints"))
    assert add(store, vault, [tmp_path / "models"]).complete
    infer(store, vault)
    assert edges(store) == WANTED
    plain = {r.repo: r.artifacts[0] for r in store.all_revisions()}
    assert {a.parameters for a in plain.values()} == {plain["acme/base"].parameters}
    assert {a.tensors for a in plain.values()} == {plain["acme/base"].tensors}


def served(hub: HubServer, family: dict[str, Tensors], names: list[str]) -> HubSpec:
    for name in names:
        hub.add(Repo(name, [Commit({"model.safetensors": save(family[name])})]))
    return HubSpec(hub.endpoint)


def test_samples_decode_some_and_name_the_others_to_be_read_whole(
    family: dict[str, Tensors], store: Store, tmp_path: Path, hub_server: HubServer
) -> None:
    source = served(hub_server, family, list(family))
    vault = Vault(str(tmp_path / "prints"))
    crawl(store, vault, source, Selection(authors=("acme",)), weights="sample")
    infer(store, vault)
    across = {f"acme/one-{kind}" for kind in ("gptq", "gptq-act-order", "gptq-8", "awq")}
    found = edges(store)
    assert {k: v for k, v in found.items() if k not in across} == {
        k: v for k, v in WANTED.items() if k not in across
    }
    done = crawl(store, vault, source, Selection(), weights="deepen")
    assert {split_revision_id(i)[0] for i in done.revisions} == across
    infer(store, vault)
    assert edges(store) == WANTED
    again = crawl(store, vault, source, Selection(), weights="deepen")
    assert again.revisions == ()


def test_what_was_read_before_weights_were_decoded_is_read_again_when_asked(
    family: dict[str, Tensors],
    store: Store,
    tmp_path: Path,
    hub_server: HubServer,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    source = served(hub_server, family, ["acme/one", "acme/one-gptq"])
    vault, everything = Vault(str(tmp_path / "prints")), Selection(authors=("acme",))
    with monkeypatch.context() as before:
        before.setattr("lineage.weights.packed._SCHEMES", {})
        before.setattr("lineage.ingest.reading._DECODED", {})
        crawl(store, vault, source, everything)
    artifacts = {r.repo: r.artifacts[0] for r in store.all_revisions()}
    assert set(artifacts["acme/one-gptq"].dtypes) == {"BF16", "F16", "I32", "gptq-4"}

    hub_server.log.clear()
    crawl(store, vault, source, everything, force=True)
    artifacts = {r.repo: r.artifacts[0] for r in store.all_revisions()}
    assert set(artifacts["acme/one-gptq"].dtypes) == {"BF16", "gptq-4"}
    assert artifacts["acme/one-gptq"].coverage is Coverage.FULL
    assert hub_server.log.sent("acme/one-gptq", "model.safetensors") > 0
    assert hub_server.log.sent("acme/one", "model.safetensors") == 0

    hub_server.log.clear()
    crawl(store, vault, source, everything, force=True)
    assert hub_server.log.sent(file="model.safetensors") == 0
