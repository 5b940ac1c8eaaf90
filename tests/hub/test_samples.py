"""All 96 real samples say what a person reads in them; the truth was written from their text."""

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

from lineage.domain.claim import Claim
from lineage.domain.revision import Kind, Revision, State, TimeSource
from lineage.hub.claims import is_claim_file, read_claims
from lineage.hub.lfs import LfsPointer, parse_pointer
from lineage.hub.modeljson import revision_and_claims
from lineage.hub.text import load_json

TRUTH = Path(__file__).parent / "truth"
Row = tuple[str, str, str, str, str, str, str]


def load_truth() -> dict[str, list[Row]]:
    """Read the tables: for each sample its claims, see `truth/adapter_config.txt`."""
    truth: dict[str, list[Row]] = {}
    for table in sorted(TRUTH.glob("*.txt")):
        names: dict[str, str] = {}
        rows: list[Row] = []
        for line in table.read_text(encoding="utf-8").splitlines():
            if line.startswith("let "):
                name, _, value = line[4:].partition(" = ")
                names[f"${name}"] = value
            elif not line or line.lstrip().startswith("#"):
                continue
            elif line.startswith("  "):
                rows.extend(parse_row(line.strip(), names))
            else:
                rows = truth[line] = []
    return truth


def parse_row(line: str, names: dict[str, str]) -> list[Row]:
    for name in sorted(names, key=len, reverse=True):
        line = line.replace(name, names[name])
    times = 1
    if " x " in line[:5]:
        count, _, line = line.partition(" x ")
        times = int(count)
    words, _, raw = line.partition(" | ")
    source, target, relation, role, method, weight = words.split()
    return [(source, target, relation, role, method, weight, raw or target)] * times


def row(claim: Claim) -> Row:
    target = f"!{claim.reason}"
    if claim.resolved:
        target = f"{claim.repo}@{claim.commit}" if claim.commit else str(claim.repo)
    return (
        claim.source.value,
        target,
        claim.relation.value if claim.relation else "-",
        claim.role or "-",
        claim.method or "-",
        "-" if claim.coefficient is None else str(claim.coefficient),
        claim.raw,
    )


EXPECTED = load_truth()
FILES = sorted(name for name in EXPECTED if not name.startswith("api_json/"))

POINTERS = {
    "lfs_pointer/2PRYMMAL-Yi1.5-6B-SLERP__model-00001-of-00003.safetensors": LfsPointer(
        "d0f242ac56de698d85f656580dd5a3c9d50d210293b9db5898e755cf5afec270", 4945284816
    ),
    "lfs_pointer/3PRYMMAL-PHI3-3B-SLERP__model-00001-of-00002.safetensors": LfsPointer(
        "ba8dd5bf537f3da5ee5500d3d1c4f3a5ab2c8355b8c6d870023e8ac20f789872", 4974448808
    ),
}

# repo, commit, created, modified, downloads, likes, library, architecture, kind
MODELS: dict[str, tuple[str, str, str, str, int, int, str | None, str | None, Kind]] = {
    "BramVanroy__fietje-2-chat": (
        "BramVanroy/fietje-2-chat", "82f55b9e364f080dada0b7c8441b37098e909455",
        "2024-04-29 06:43:38", "2024-12-23 20:19:49", 96, 5,
        "transformers", "PhiForCausalLM", Kind.MODEL,
    ),
    "MatteoKhan__MistralGemma-7B-Merged": (
        "MatteoKhan/MistralGemma-7B-Merged", "e8f61f3939cf4b99d8dbc27373fb3cb2e4e535b4",
        "2025-03-04 14:55:35", "2025-03-04 15:13:46", 5, 0,
        "transformers", "MistralForCausalLM", Kind.MODEL,
    ),
    "R87__cenario": (
        "R87/cenario", "a3888b9adafc6ba0305e1be76255d0132fb149aa",
        "2025-01-16 16:24:21", "2025-01-16 16:27:54", 0, 0, "fastai", None, Kind.UNKNOWN,
    ),
    "TristanBehrens__HeilbronnGPTAlpha-10_merged_model": (
        "TristanBehrens/HeilbronnGPTAlpha-10_merged_model",
        "c32375da9f0d4a2e87ed24fc0ba56c2b23435311",
        "2024-02-19 14:30:23", "2024-02-19 14:39:43", 4, 0,
        "transformers", "PhiForCausalLM", Kind.MODEL,
    ),
    "google__gemma-7b-it": (
        "google/gemma-7b-it", "9c5798d27f588501ce1e108079d2a19e4c3a2353",
        "2024-02-13 01:07:30", "2024-08-14 08:36:20", 71937, 1163,
        "transformers", "GemmaForCausalLM", Kind.MODEL,
    ),
    "mayanklohani19__mergekit-slerp-ujysgyd": (
        "mayanklohani19/mergekit-slerp-ujysgyd", "ccd5e89a411e01be47396f06da32d37eed433e7e",
        "2025-02-24 14:21:50", "2025-02-24 14:24:08", 7, 0,
        "transformers", "LlamaForCausalLM", Kind.MODEL,
    ),
    "mlx-community__EXAONE-Deep-32B-6bit": (
        "mlx-community/EXAONE-Deep-32B-6bit", "59e942a5a5d14bfb57c5bdca961f4cc325a047fd",
        "2025-03-18 22:47:32", "2025-03-18 22:56:39", 20, 0,
        "transformers", "ExaoneForCausalLM", Kind.MODEL,
    ),
    "nguyenthanhdo__phi-half": (
        "nguyenthanhdo/phi-half", "93bd4d7c56b0950da72e5a54b63bdb207e5a9107",
        "2024-08-20 06:49:18", "2024-08-20 06:50:05", 4, 0,
        None, "PhiForCausalLM", Kind.MODEL,
    ),
    "shidowake__test-240114-phi2-mergekit": (
        "shidowake/test-240114-phi2-mergekit", "9e51bbf99d7db1817f0d65a17213bc0dba0c8862",
        "2024-01-14 04:39:46", "2024-01-14 04:41:34", 4, 0,
        "transformers", "PhiForCausalLM", Kind.MODEL,
    ),
    "somosnlp__gemma-7b-it-legal-refugiados-es": (
        "somosnlp/gemma-7b-it-legal-refugiados-es", "28246a46b8deef21750fddf8141115d5dc228a2c",
        "2024-03-18 22:59:55", "2024-04-24 11:36:00", 3, 0,
        "transformers, pe", "GemmaForCausalLM", Kind.MODEL,
    ),
    "vedalken__phi2-2B-slerp": (
        "vedalken/phi2-2B-slerp", "f3d9a54dbedd7500052b595c18b732add24ac2b6",
        "2024-01-16 16:25:22", "2024-01-30 11:03:54", 20, 0,
        "transformers", "PhiForCausalLM", Kind.MODEL,
    ),
    "wsxdyzx2025__weigb": (
        "wsxdyzx2025/weigb", "15491eefd5390b86d0026ea67bb973ef20dd6a75",
        "2025-02-04 12:24:49", "2025-02-04 15:04:27", 0, 0, "espnet", None, Kind.UNKNOWN,
    ),
}  # fmt: skip


@pytest.fixture
def samples(shared: Path) -> Path:
    return shared / "data" / "samples"


def read(samples: Path, sample: str) -> tuple[Claim, ...]:
    """Read one sample as the file it was in its repository."""
    kind, name = sample.split("/")
    path = name.rsplit("__", 1)[-1]
    if kind == "cards":
        path = "README.md"
    elif kind == "adapter_config":
        path = "adapter_config.json"
    return read_claims("someone/child", {path: (samples / sample).read_bytes()})


def test_the_tables_cover_every_sample(samples: Path) -> None:
    there = {f"{p.parent.name}/{p.name}" for p in samples.glob("*/*") if p.is_file()}
    assert len(there) == 96
    assert set(EXPECTED) | set(POINTERS) == there
    assert {f"api_json/{name}.json" for name in MODELS} <= there


@pytest.mark.parametrize("sample", FILES)
def test_a_file_claims_what_it_says(samples: Path, sample: str) -> None:
    assert [row(c) for c in read(samples, sample)] == EXPECTED[sample]


@pytest.mark.parametrize("name", sorted(MODELS))
def test_model_json_says_what_it_says(samples: Path, name: str) -> None:
    sample = f"api_json/{name}.json"
    revision, claims = revision_and_claims(json.loads((samples / sample).read_text("utf-8")))
    assert [row(c) for c in claims] == EXPECTED[sample]
    repo, commit, created, modified, downloads, likes, library, architecture, kind = MODELS[name]
    assert revision == Revision(
        repo=repo,
        commit=commit,
        kind=kind,
        state=State.READ,
        created_at=datetime.fromisoformat(created).replace(tzinfo=UTC),
        modified_at=datetime.fromisoformat(modified).replace(tzinfo=UTC),
        time_source=TimeSource.HUB,
        author=repo.split("/")[0],
        downloads=downloads,
        likes=likes,
        library=library,
        architecture=architecture,
        tags=revision.tags,
    )
    assert "region:us" in revision.tags


@pytest.mark.parametrize("sample", sorted(POINTERS))
def test_a_pointer_names_hash_and_size(samples: Path, sample: str) -> None:
    assert parse_pointer((samples / sample).read_bytes()) == POINTERS[sample]


def test_a_shard_index_is_no_claim_but_reads(samples: Path) -> None:
    sample = samples / "config/2PRYMMAL-Yi1.5-6B-SLERP__model.safetensors.index.json"
    assert not is_claim_file("model.safetensors.index.json")
    index = load_json(sample.read_bytes())
    assert index["metadata"] == {"mergekit_version": "0.0.4.4", "total_size": 12122071040}
    assert set(index["weight_map"].values()) == {
        f"model-0000{i}-of-00003.safetensors" for i in (1, 2, 3)
    }


@pytest.mark.parametrize(
    ("sample", "relation"),
    [
        ("Orpheus_3B_Quantized__config.json", "quantized"),
        ("Wizard-Vicuna-30B-GPTQ__config.json", "quantized"),
        ("Wizard-Vicuna-30B-GPTQ__quantize_config.json", "quantized"),
        ("3PRYMMAL-PHI3-3B-SLERP__config.json", "finetune"),
    ],
)
def test_a_config_tells_how_the_card_is_meant(samples: Path, sample: str, relation: str) -> None:
    files = {
        "README.md": b"---\nbase_model: org/base\n---\n",
        sample.rsplit("__", 1)[-1]: (samples / "config" / sample).read_bytes(),
    }
    card = next(c for c in read_claims("someone/child", files) if c.source.value == "card")
    assert card.relation is not None
    assert card.relation.value == relation


def test_notes_say_what_the_fields_cannot(samples: Path) -> None:
    adapter = read(samples, "adapter_config/SkkJodhpur__adapter_config.json")[0]
    assert (adapter.commit, adapter.note) == (None, "revision unsloth")
    card = read(samples, "cards/Casual-Autopsy_L3-Umbral-Mind-RP-v3.0-8B.md")
    assert card[21].note == "recipe 1 of 13"
    assert card[-1].note == "recipe 13 of 13"
