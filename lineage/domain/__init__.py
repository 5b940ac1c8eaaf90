"""The nouns of the project: revisions, artifacts, claims, derivations, advisories, exposures.

Known to every room, knows none of them.
"""
