"""What is known of a zoo, because we made it: the format of `truth.json`.

`truth.json` lies beside the repositories (`OUT/org/name/…`) and is one `Truth`:

- `repos`: every repository, with the family it belongs to (`family` is the id of the family's
  root), how it was made (`made_by`, finer than a relation), whether it has a change of its own
  (`generator`) and what its claims are worth (`claims`).
- `edges`: one per pair of parent and child, with three coefficients. `coefficient` is what the
  recipe says (normalised where the method normalises). `effective` is the dose: for linear methods
  the recipe's, for methods that trim, drop or elect elements the share of the parent's change that
  came through (`scripts/zoo/doses.py`), for other sums the mean of its weights in each tensor by
  the energies of its change, for the rest `regressed`. That is the joint least-squares coefficient
  of the parents' changes in the child's, over all weights; it misleads where one source outweighs
  another or weights differ from tensor to tensor. The base of a merge holds what is left of 1.
- `contents`: for each model its generators with the coefficient of each one's own change
  (`W_generator - W_its_parent`; for a root its weights, for an adapter its scaled product),
  composed along the edges from the effective coefficients. Where parents gave whole layers or
  experts it is the largest in any of them.
- `lies`: claims that are false. Dirty claims that name nobody are no lies.
"""

from datetime import datetime
from enum import StrEnum
from pathlib import Path

from pydantic import Field, JsonValue

from lineage.domain.base import Model
from lineage.domain.derivation import Relation

TRUTH_FILE = "truth.json"


class Claims(StrEnum):
    """What a repository's declarations of parentage are worth."""

    TRUE = "true"  # complete and right
    PARTIAL = "partial"  # right, some parents left out
    MISSING = "missing"  # none
    FALSE = "false"  # names a parent it does not have
    DIRTY = "dirty"  # unresolvable or malformed, right where it means anything


class RepoTruth(Model):
    """One repository.

    `made_by` is the tool's operation: `pretrain`, `finetune`, `continued`, `checkpoint`, `lora`,
    `merge`, `permuted_neurons`, … `time_is_true` is False where `created_at` was falsified;
    `made_at` is then the real time. `laundered` lists the disguises of a laundered copy.
    """

    id: str
    kind: str
    family: str
    architecture: str
    dtype: str
    made_by: str
    generator: bool
    created_at: datetime
    made_at: datetime
    time_is_true: bool = True
    claims: Claims = Claims.TRUE
    marked: bool = False  # what the demo calls poisoned
    laundered: tuple[str, ...] = ()


class EdgeTruth(Model):
    """One parent of one child.

    `role` is `source`, `base` or `adapter` in a merge, else empty. `parameters` are this parent's
    in the recipe joined with the recipe's own; `layers` maps parts of the child to parts of the
    parent where only parts were taken. `inside` is False for a base whose weight cancels: only
    the recipe says that it took part.
    """

    parent: str
    child: str
    relation: Relation
    method: str | None = None
    role: str = ""
    coefficient: float | None = None
    effective: float | None = None
    regressed: float | None = None
    layers: str | None = None
    parameters: dict[str, JsonValue] = Field(default_factory=dict)
    inside: bool = True


class Lie(Model):
    """One false claim: what `repo` says in `where`, and what its parents are."""

    repo: str
    claimed: str
    parents: tuple[str, ...]
    where: str = "card"


class Truth(Model):
    """Everything known of one zoo. `tools` maps each tool to its version."""

    name: str
    seed: int
    tools: dict[str, str]
    repos: tuple[RepoTruth, ...]
    edges: tuple[EdgeTruth, ...]
    contents: dict[str, dict[str, float]]
    lies: tuple[Lie, ...] = ()

    def parents(self, child: str) -> tuple[EdgeTruth, ...]:
        """Return the edges into `child`."""
        return tuple(e for e in self.edges if e.child == child)

    def repo(self, repo_id: str) -> RepoTruth:
        """Return one repository; KeyError where the zoo has none of that id."""
        for repo in self.repos:
            if repo.id == repo_id:
                return repo
        raise KeyError(repo_id)


def write_truth(truth: Truth, out: Path) -> None:
    """Write `truth` as `out/truth.json`."""
    (out / TRUTH_FILE).write_text(truth.model_dump_json(indent=1) + "\n", encoding="utf-8")


def read_truth(out: Path) -> Truth:
    """Read `out/truth.json`."""
    return Truth.model_validate_json((out / TRUTH_FILE).read_text(encoding="utf-8"))
