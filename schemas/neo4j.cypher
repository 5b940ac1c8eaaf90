// Constraints and indexes that lineage makes on a Neo4j server when it opens one.
// For reading, and for setting a server up by hand; a test compares it with the code.

CREATE CONSTRAINT lineage_meta IF NOT EXISTS FOR (n:LineageMeta) REQUIRE n.name IS UNIQUE;
CREATE CONSTRAINT revision_id IF NOT EXISTS FOR (n:Revision) REQUIRE n.id IS UNIQUE;
CREATE CONSTRAINT digest_value IF NOT EXISTS FOR (n:Digest) REQUIRE n.value IS UNIQUE;
CREATE CONSTRAINT shared_digest IF NOT EXISTS FOR (n:SharedBody) REQUIRE n.digest IS UNIQUE;
CREATE CONSTRAINT shared_id IF NOT EXISTS FOR (n:SharedBody) REQUIRE n.id IS UNIQUE;
CREATE CONSTRAINT alias_old IF NOT EXISTS FOR (n:Alias) REQUIRE n.old IS UNIQUE;
CREATE CONSTRAINT repo_state IF NOT EXISTS FOR (n:RepoState) REQUIRE n.repo IS UNIQUE;
CREATE CONSTRAINT merge_event IF NOT EXISTS FOR (n:MergeEvent) REQUIRE n.id IS UNIQUE;
CREATE CONSTRAINT advisory IF NOT EXISTS FOR (a:Advisory) REQUIRE (a.id,a.modified) IS UNIQUE;
CREATE INDEX claim_target IF NOT EXISTS FOR (n:Claim) ON (n.target);
CREATE INDEX alias_present IF NOT EXISTS FOR (n:Alias) ON (n.present);
CREATE INDEX event_child IF NOT EXISTS FOR (n:MergeEvent) ON (n.child);
CREATE CONSTRAINT tensor_value IF NOT EXISTS FOR (n:Tensor) REQUIRE n.value IS UNIQUE;
