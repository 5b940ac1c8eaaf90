"""The whole graph in one file, item by item: memory does not grow with it."""

from typing import Protocol, TextIO

from lineage.domain.errors import UsageError
from lineage.graph.store import Store


class Exporter(Protocol):
    """Writes all that a store holds, in one format."""

    def __call__(self, store: Store, out: TextIO) -> None:
        """Write the graph to `out`, item by item."""
        ...


def exporter(name: str) -> Exporter:
    """Return the exporter of a format: `json`, `graphml`, `dot`, `csv` or `cyclonedx`."""
    match name:
        case "json":
            from lineage.report.export.json_graph import export_json

            return export_json
        case "graphml":
            from lineage.report.export.graphml import export_graphml

            return export_graphml
        case "dot":
            from lineage.report.export.dot import export_dot

            return export_dot
        case "csv":
            from lineage.report.export.csv_graph import export_csv

            return export_csv
        case "cyclonedx":
            from lineage.report.export.bom import export_cyclonedx

            return export_cyclonedx
        case _:
            raise UsageError(
                f"'{name}' is no format", hint="Give json, graphml, dot, csv or cyclonedx."
            )
