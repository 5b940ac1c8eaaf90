"""The JSON of `verify`."""

from typing import Literal

from lineage.domain.base import Model
from lineage.domain.claim import Claim
from lineage.domain.derivation import Evidence
from lineage.report.documents import EdgeDocument


class CheckedClaim(Model):
    """A claim and what the weights say of it.

    `verdict` is `confirmed`, `contradicted`, `unchecked` (nothing was measured between the two;
    `why` says why) or `unresolved` (the claim names no repository; `why` is its reason).
    """

    child: str
    claim: Claim
    verdict: Literal["confirmed", "contradicted", "unchecked", "unresolved"]
    why: str = ""
    parent: str | None = None
    evidence: tuple[Evidence, ...] = ()


class ReplayDocument(Model):
    """`verify --replay`: a merge executed again on its parents' whole weights.

    `equal_hashes` of the child's `tensors` came out with its own hash, `reproduced` is the share
    of the values kept of it that came out exactly; with `proof` all hashes are equal. `recipe` is
    what was executed, as mergekit's YAML; `problem` says why it could not be.
    """

    child: str
    parents: tuple[str, ...]
    method: str | None
    tensors: int
    equal_hashes: int
    reproduced: float | None
    proof: bool
    recipe: str | None = None
    problem: str = ""


class VerifyDocument(Model):
    """`verify`: claims against weights. `undeclared` are parents found that nobody declared."""

    ref: str
    revisions: tuple[str, ...]
    claims: tuple[CheckedClaim, ...]
    contradicted: tuple[EdgeDocument, ...]
    undeclared: tuple[EdgeDocument, ...]
    replays: tuple[ReplayDocument, ...] = ()
    complete: bool = True
