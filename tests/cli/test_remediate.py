"""remediate: what to do about an incident, and recipes that mergekit runs."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from lineage.domain.claim import Claim, ClaimSource
from lineage.domain.derivation import Derivation, Evidence, EvidenceKind, MergeEvent, Relation
from lineage.domain.revision import Artifact, Kind
from lineage.graph.open import open_store
from lineage.graph.store import Record
from tests.cli.family import NOW, Command, revision

if TYPE_CHECKING:
    from scripts.zoo.truth import Truth

NAMES = ("root", "bad", "one", "two", "sum", "again", "ties", "tuned", "gguf", "lora", "with")
R, BAD, ONE, TWO, SUM, AGAIN, TIES, TUNED, GGUF, LORA, WITH = (
    f"org/{name}@{number:040x}" for number, name in enumerate(NAMES, 1)
)


def edge(parent: str, child: str, relation: Relation, **fields: Any) -> Derivation:
    where = fields.pop("where", "")
    evidence = Evidence(kind=EvidenceKind.REPLAY, score=1.0, p_value=1e-9, where=where, time=NOW)
    return Derivation(parent=parent, child=child, relation=relation, evidence=(evidence,), **fields)


def merged(child: str, method: str, weights: dict[str, float | None]) -> list[Derivation]:
    return [
        edge(parent, child, Relation.MERGE, method=method, coefficient=weight, event=f"e-{child}",
             where=", ".join(weights))
        for parent, weight in weights.items()
    ]  # fmt: skip


@pytest.fixture
def chain(tmp_path: Path) -> Command:
    """root -> bad, one, two; sum = .4 bad + .6 one; again = .5 sum + .5 two; ties over both."""
    command = Command(tmp_path)
    store = open_store(command.store_url)
    weights = Artifact(name="model", format="safetensors", dtypes={"BF16": 10, "F32": 2})
    recipe = [
        Claim(source=ClaimSource.RECIPE, file="mergekit_config.yml", raw=repo, repo=repo,
              relation=Relation.MERGE, role="source", method="linear", coefficient=0.5)
        for repo in ("org/sum", "org/two")
    ]  # fmt: skip
    for name in (R, BAD, ONE, TWO, SUM, AGAIN, TIES, TUNED, GGUF, LORA, WITH):
        kind = Kind.ADAPTER if name == LORA else Kind.MODEL
        claims = tuple(recipe) if name == AGAIN else ()
        store.put_record(Record(revision(name, kind=kind, artifacts=(weights,)), claims))
    store.put_derivations(
        [
            *(edge(R, child, Relation.FINETUNE) for child in (BAD, ONE, TWO)),
            *merged(SUM, "linear", {BAD: 0.4, ONE: 0.6}),
            *merged(AGAIN, "linear", {SUM: 0.5, TWO: 0.5}),
            *merged(TIES, "ties", {R: None, BAD: 0.5, AGAIN: 0.25, TWO: 0.25}),
            edge(AGAIN, TUNED, Relation.FINETUNE),
            edge(TUNED, GGUF, Relation.QUANTIZED, method="Q8_0", coefficient=1.0),
            edge(TWO, WITH, Relation.ADAPTER_MERGE, method="lora", coefficient=1.0, event="l"),
            edge(LORA, WITH, Relation.ADAPTER_MERGE, method="lora", coefficient=0.5, event="l"),
            edge(R, LORA, Relation.ADAPTER),
        ]
    )
    store.put_events(
        [
            MergeEvent(id=f"e-{TIES}", child=TIES, method="ties", base=R,
                       parameters={"kept": [0.4, 0.2, 0.8]}),
            MergeEvent(id="l", child=WITH, method="lora", base=TWO),
        ]
    )  # fmt: skip
    store.close()
    return command


def steps(command: Command, *marked: str) -> dict[str, dict[str, Any]]:
    command.run("mark", *marked, "--id", "ACME-1", "--reason", "poisoned")
    answer = command.json("remediate", "remediate", "ACME-1", expect=1)
    assert answer["complete"]
    return {step["id"]: step for step in answer["steps"]}


def models(text: str) -> dict[str, dict[str, float]]:
    return {m["model"]: m.get("parameters", {}) for m in yaml.safe_load(text)["models"]}


def test_every_affected_one_gets_its_action_parents_first(chain: Command) -> None:
    found = steps(chain, BAD)
    assert {name: s["action"] for name, s in found.items()} == {
        BAD: "withdraw", SUM: "remake", AGAIN: "remake", TIES: "remake", TUNED: "retrain",
        GGUF: "redo",
    }  # fmt: skip
    order = list(found)
    assert order.index(SUM) < order.index(AGAIN) < min(order.index(TIES), order.index(TUNED))


def test_what_is_left_of_a_merge_of_two_is_the_other(chain: Command) -> None:
    step = steps(chain, BAD)[SUM]
    assert yaml.safe_load(step["recipe"]) == {
        "merge_method": "passthrough", "models": [{"model": ONE}], "dtype": "bfloat16",
    }  # fmt: skip
    assert (step["lost"], step["basis"], step["output"]) == ([BAD], "recovered", "remade/org/sum")


def test_a_merge_of_a_merge_takes_the_remade_one(chain: Command) -> None:
    step = steps(chain, BAD)[AGAIN]
    assert models(step["recipe"]) == {"remade/org/sum": {"weight": 0.5}, TWO: {"weight": 0.5}}
    assert (step["basis"], step["replaced"], step["lost"]) == ("claimed", [SUM], [])


def test_trimming_merges_keep_base_weights_and_densities(chain: Command) -> None:
    recipe = yaml.safe_load(steps(chain, BAD)[TIES]["recipe"])
    assert (recipe["merge_method"], recipe["base_model"]) == ("ties", R)
    # a third of what trimming leaves falls to sign election
    assert models(yaml.safe_dump(recipe)) == {
        "remade/org/again": {"weight": 0.25, "density": 0.3},
        TWO: {"weight": 0.25, "density": 1.0},
    }


def test_the_stop_gap_subtracts_what_is_inside(chain: Command) -> None:
    found = steps(chain, BAD)
    for name, dose in ((SUM, 0.4), (AGAIN, 0.2), (TUNED, 0.2)):
        assert found[name]["stop_gap_dose"] == pytest.approx(dose)
        recipe = yaml.safe_load(found[name]["stop_gap"])
        assert recipe["parameters"] == {"normalize": False}
        assert models(found[name]["stop_gap"]) == {
            name: {"weight": 1.0}, BAD: {"weight": pytest.approx(-dose)},
            R: {"weight": pytest.approx(dose)},
        }  # fmt: skip
    assert found[TIES]["stop_gap"] is None


def test_training_begins_again_from_what_was_remade(chain: Command) -> None:
    found = steps(chain, BAD)
    assert found[TUNED]["notes"] == ["train again from remade/org/again"]
    assert found[GGUF]["notes"] == [f"make it again from the retrained {TUNED}"]


def test_an_adapter_is_left_out_and_a_model_under_an_adapter_replaced(chain: Command) -> None:
    assert models(steps(chain, LORA)[WITH]["recipe"]) == {TWO: {}}


def test_an_adapter_is_subtracted_at_its_scale(chain: Command) -> None:
    step = steps(chain, LORA)[WITH]
    assert models(step["stop_gap"]) == {
        WITH: {"weight": 1.0}, f"{R}+{LORA}": {"weight": -0.5}, R: {"weight": 0.5}
    }  # fmt: skip


def test_a_clean_adapter_stays_on_a_remade_model_at_its_scale(chain: Command) -> None:
    step = steps(chain, TWO)[WITH]
    assert step["lost"] == [TWO]
    assert step["action"] == "withdraw"


def test_recipes_are_written_in_order(chain: Command, tmp_path: Path) -> None:
    steps(chain, BAD)
    out = tmp_path / "recipes"
    shown = chain.run("remediate", "ACME-1", "--output", str(out), expect=1)
    names = [f.name for f in sorted(out.iterdir())]
    assert names[:3] == [
        "002-org--sum.stop-gap.yml",
        "002-org--sum.yml",
        "003-org--again.stop-gap.yml",
    ]
    assert all(yaml.safe_load(f.read_text())["models"] for f in out.iterdir())
    assert "remake" in shown.stdout
    assert "remade/org/sum" in shown.stderr


def test_nothing_affected_needs_nothing(chain: Command) -> None:
    chain.run("mark", BAD, "--id", "ACME-1", "--reason", "x")
    chain.run("withdraw", "ACME-1", "--reason", "wrong")
    assert chain.json("remediate", "remediate", "ACME-1")["steps"] == []
    chain.run("remediate", "ACME-9", expect=4)


@pytest.mark.parametrize("format_", ["markdown", "html"])
def test_pages_hold_the_recipes(chain: Command, format_: str) -> None:
    steps(chain, BAD)
    page = chain.run("remediate", "ACME-1", "--format", format_, expect=1).stdout
    assert "passthrough" in page


@pytest.mark.zoo
@pytest.mark.timeout(1200)
def test_mergekit_runs_the_recipes_and_the_poison_is_gone(
    demo: "tuple[Path, Truth]",
    added_demo: Callable[[Path], Command],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import torch

    from scripts.zoo import demo as family
    from scripts.zoo.measure import joint_coefficients
    from scripts.zoo.merges import run_mergekit
    from scripts.zoo.quiet import quiet_tools

    out, _ = demo
    command = added_demo(tmp_path / "home")
    command.run("mark", family.POISONED_C, "--id", "ACME-1", "--reason", "poisoned")
    answer = command.json("remediate", "remediate", "ACME-1", expect=1)
    work = tmp_path / "work"
    shutil.copytree(out, work)
    monkeypatch.chdir(work)
    generators = (
        family.POISONED_C, family.CLEAN_A, family.CLEAN_B, family.CLEAN_D, family.CLEAN_E
    )  # fmt: skip

    def poison(folder: Path) -> float:
        sources = [work / name for name in generators]
        return joint_coefficients(folder, work / family.ROOT, sources, torch.float32)[0]

    def merge(text: str, folder: Path) -> float:
        with quiet_tools():
            run_mergekit(yaml.safe_load(text), folder, 1)
        return poison(folder)

    made = [step for step in answer["steps"] if step["recipe"]]
    assert {step["id"].partition("@")[0] for step in made} >= {family.MERGE_1P, family.MERGE_2}
    for step in made:
        assert abs(merge(step["recipe"], work / step["output"])) < 0.05, step["id"]
    gaps = [step for step in made if step["stop_gap"]]
    assert gaps
    for step in gaps:
        name = step["id"].partition("@")[0]
        left = merge(step["stop_gap"], work / "gap" / name)
        assert poison(work / name) - left == pytest.approx(step["stop_gap_dose"], abs=0.01)
    remade = command.json("job", "add", str(work / "remade"))["revisions"]
    assert len(remade) == len(made)
    exposures = command.json("impact", "impact", "ACME-1", expect=1)["exposures"]
    found = {e["id"]: e for e in exposures}
    for name in remade:
        assert found[name]["status"] == "not_affected"
        assert -0.1 < found[name]["dose_low"] <= found[name]["dose_high"] < 0.1
