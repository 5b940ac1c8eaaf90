"""Claims of the `base_model:` tags that the Hub derives from cards."""

from collections.abc import Sequence

from lineage.domain.claim import Claim, ClaimSource
from lineage.hub.claims.card import explicit_relation
from lineage.hub.claims.common import Place

FILE = "tags"
_PREFIX = "base_model:"


def claims_of(repo: str, file: str, tags: Sequence[str]) -> list[Claim]:
    """Return the claims of `base_model:org/name` and `base_model:<relation>:org/name` tags.

    The Hub writes both for one parent: the one without relation says nothing more and is left out.
    """
    place = Place(ClaimSource.TAG, repo, file)
    with_relation = []
    plain = []
    for tag in tags:
        if not tag.startswith(_PREFIX):
            continue
        first, colon, rest = tag.removeprefix(_PREFIX).partition(":")
        relation = explicit_relation(first) if colon else None
        if relation is None:
            plain.append(tag.removeprefix(_PREFIX))
        else:
            with_relation.append((rest, relation))
    said = {name for name, _ in with_relation}
    claims = [place.claim(n, relation=r) for n, r in with_relation]
    return claims + [place.claim(n) for n in plain if n not in said]
