"""DOT, for Graphviz."""

from typing import TextIO

from lineage.graph.store import Store
from lineage.report.export.told import told
from lineage.report.text import clean

_STYLE = {
    "corroborated": "solid",
    "measured": "solid",
    "declared": "dashed",
    "contradicted": "dotted",
}


def export_dot(store: Store, out: TextIO) -> None:
    """Write one line for each revision and each edge."""
    out.write("digraph lineage {\n  node [shape=box];\n")
    for revision in store.all_revisions():
        out.write(f"  {quoted(revision.id)} [kind={quoted(revision.kind.value)}];\n")
    for edge in told(store.all_derivations()):
        status = edge.status.value
        out.write(
            f"  {quoted(edge.parent)} -> {quoted(edge.child)}"
            f" [label={quoted(edge.relation.value)}, style={_STYLE[status]}];\n"
        )
    out.write("}\n")


def quoted(text: str) -> str:
    r"""Return a DOT string. A backslash is doubled: labels know escapes such as `\N`."""
    return '"' + clean(text).replace("\\", "\\\\").replace('"', '\\"') + '"'
