"""Claims, aliases, crawl states, merges and advisories in Cypher."""

from collections.abc import Collection, Mapping, Sequence
from typing import LiteralString

from lineage.domain.advisory import Advisory
from lineage.domain.claim import Claim
from lineage.domain.derivation import MergeEvent
from lineage.graph import codec
from lineage.graph.neo4j.summaries import Summaries
from lineage.graph.store import RepoState
from lineage.graph.tables import Claimant

_STATE: LiteralString = "s.repo, s.commit, s.mode, s.seen_at, s.problem, coalesce(s.message, '')"


class Records(Summaries):
    """The part of `tables.Transaction` that is about what was said and done."""

    # --- claims, names ---------------------------------------------------------------------

    def claims(self, children: Collection[str]) -> dict[str, list[Claim]]:
        """Return the claims of those `children` that have any, as written."""
        rows = self.many(
            "UNWIND $rows AS id MATCH (:Revision {id: id})-[:SAYS]->(c:Claim)"
            " RETURN id, c.body ORDER BY id, c.position",
            sorted(children),
        )
        found: dict[str, list[Claim]] = {}
        for child, body in rows:
            found.setdefault(child, []).append(codec.load_claim(body))
        return found

    def save_claims(self, said: Mapping[str, Sequence[Claim]]) -> None:
        """Replace the claims of existing nodes, by child."""
        self.forget_claims(sorted(said))
        rows = [
            {
                "child": child,
                "fields": {
                    "position": position,
                    "target": claim.repo if claim.resolved else None,
                    "pin": claim.commit,
                    "body": codec.dump(claim),
                },
            }
            for child, claims in sorted(said.items())
            for position, claim in enumerate(claims)
        ]
        self.many(
            "UNWIND $rows AS r MATCH (n:Revision {id: r.child})"
            " CREATE (n)-[:SAYS]->(c:Claim) SET c = r.fields",
            rows,
        )

    def forget_claims(self, children: Sequence[str]) -> None:
        """Remove all claims of nodes."""
        self.many(
            "UNWIND $rows AS id MATCH (:Revision {id: id})-[:SAYS]->(c:Claim) DETACH DELETE c",
            children,
        )

    def claimants(self, names: Collection[str]) -> list[Claimant]:
        """Return the resolved claims that name one of these repos."""
        rows = self.many(
            "UNWIND $rows AS name MATCH (c:Claim {target: name})<-[:SAYS]-(n:Revision)"
            " RETURN n.id, n.made, name, c.pin",
            sorted(names),
        )
        return [Claimant(*row) for row in rows]

    def aliases(self, names: Collection[str] | None = None) -> dict[str, str]:
        """Return old -> present id of those of `names`, or of all, that have one."""
        if names is None:
            rows = self.all("MATCH (a:Alias) RETURN a.old, a.present")
        elif not names or not self.all("MATCH (a:Alias) RETURN 1 LIMIT 1"):
            return {}
        else:
            rows = self.many(
                "UNWIND $rows AS name MATCH (a:Alias {old: name}) RETURN name, a.present",
                sorted(names),
            )
        return dict(rows)

    def names_of(self, repos: Collection[str]) -> dict[str, list[str]]:
        """Return the old ids of those of `repos` that have any, sorted."""
        rows = self.many(
            "UNWIND $rows AS repo MATCH (a:Alias {present: repo}) RETURN repo, a.old",
            sorted(repos),
        )
        found: dict[str, list[str]] = {}
        for repo, old in sorted(rows):
            found.setdefault(repo, []).append(old)
        return found

    def save_alias(self, old: str, new: str) -> None:
        """Write one alias."""
        self.all("MERGE (a:Alias {old: $old}) SET a.present = $new", old=old, new=new)

    def drop_alias(self, old: str) -> None:
        """Forget one alias."""
        self.all("MATCH (a:Alias {old: $old}) DELETE a", old=old)

    # --- states, merges, advisories --------------------------------------------------------

    def states(self, repos: Collection[str] | None) -> dict[str, RepoState]:
        """Return the states of `repos`, or all, by repo."""
        if repos is None:
            rows = self.all("MATCH (s:RepoState) RETURN " + _STATE)
        else:
            rows = self.many(
                "UNWIND $rows AS repo MATCH (s:RepoState {repo: repo}) RETURN " + _STATE,
                sorted(repos),
            )
        return {row[0]: codec.load_state(*row) for row in rows}

    def save_states(self, states: Sequence[RepoState]) -> None:
        """Write states, the last of each repo."""
        names = ("repo", "commit", "mode", "seen_at", "problem", "message")
        rows = [dict(zip(names, codec.state_row(state), strict=True)) for state in states]
        self.many("UNWIND $rows AS r MERGE (s:RepoState {repo: r.repo}) SET s = r", rows)

    def events(self, child: str) -> list[MergeEvent]:
        """Return the merges that made `child`, by id."""
        rows = self.all(
            "MATCH (e:MergeEvent {child: $child}) RETURN e.body ORDER BY e.id", child=child
        )
        return [codec.load_event(child, body) for (body,) in rows]

    def save_events(self, events: Sequence[MergeEvent]) -> None:
        """Write merges, replacing those of the same id."""
        rows = [
            {"id": event.id, "child": event.child, "body": codec.dump_event(event)}
            for event in events
        ]
        self.many("UNWIND $rows AS r MERGE (e:MergeEvent {id: r.id}) SET e = r", rows)

    def move_events(self, old: str, new: str) -> None:
        """Hand the merges of one child to another."""
        self.all("MATCH (e:MergeEvent {child: $old}) SET e.child = $new", old=old, new=new)

    def advisories(self, advisory_id: str | None) -> list[Advisory]:
        """Return all versions, by (id, modified)."""
        if advisory_id is None:
            rows = self.all("MATCH (a:Advisory) RETURN a.body ORDER BY a.id, a.modified")
        else:
            rows = self.all(
                "MATCH (a:Advisory {id: $id}) RETURN a.body ORDER BY a.modified", id=advisory_id
            )
        return [codec.load_advisory(body) for (body,) in rows]

    def save_advisory(self, advisory: Advisory) -> None:
        """Write a version that is not there yet."""
        self.all(
            "CREATE (a:Advisory {id: $id, modified: $modified, body: $body})",
            id=advisory.id,
            modified=codec.micros(advisory.modified),
            body=codec.dump(advisory),
        )
