"""GraphML, for networkx, Gephi, yEd and Neo4j's APOC."""

from collections.abc import Mapping
from typing import TextIO
from xml.sax.saxutils import escape, quoteattr

from lineage.graph.store import Store
from lineage.report.export.told import told
from lineage.report.text import clean

_NODE_KEYS = {
    "kind": "string",
    "state": "string",
    "created_at": "string",
    "architecture": "string",
    "downloads": "long",
}
_EDGE_KEYS = {
    "relation": "string",
    "method": "string",
    "coefficient": "double",
    "status": "string",
    "confidence": "double",
    "p_value": "double",
}


def export_graphml(store: Store, out: TextIO) -> None:
    """Write one element for each revision and each edge."""
    out.write('<?xml version="1.0" encoding="UTF-8"?>\n')
    out.write('<graphml xmlns="http://graphml.graphdrawing.org/xmlns">\n')
    for kind, keys in (("node", _NODE_KEYS), ("edge", _EDGE_KEYS)):
        for name, type_ in keys.items():
            out.write(
                f'<key id="{kind}-{name}" for="{kind}" attr.name="{name}" attr.type="{type_}"/>\n'
            )
    out.write('<graph edgedefault="directed">\n')
    for revision in store.all_revisions():
        values = {
            "kind": revision.kind.value,
            "state": revision.state.value,
            "created_at": revision.created_at.isoformat() if revision.created_at else None,
            "architecture": revision.architecture,
            "downloads": revision.downloads,
        }
        out.write(f"<node id={_attribute(revision.id)}>{_data('node', values)}</node>\n")
    for edge in told(store.all_derivations()):
        found = {
            "relation": edge.relation.value,
            "method": edge.method,
            "coefficient": edge.coefficient,
            "status": edge.status.value,
            "confidence": edge.confidence,
            "p_value": edge.p_value,
        }
        ends = f"source={_attribute(edge.parent)} target={_attribute(edge.child)}"
        out.write(f"<edge {ends}>{_data('edge', found)}</edge>\n")
    out.write("</graph>\n</graphml>\n")


def _attribute(text: str) -> str:
    return quoteattr(clean(text))


def _data(kind: str, values: Mapping[str, str | float | None]) -> str:
    return "".join(
        f'<data key="{kind}-{name}">{escape(clean(str(value)))}</data>'
        for name, value in values.items()
        if value is not None
    )
