"""CSV of the edges, which `lineage import` reads as declared ones."""

import csv
from typing import TextIO

from lineage.graph.store import Store
from lineage.report.csv_format import csv_cell
from lineage.report.export.told import told
from lineage.report.graph_views import EDGE_COLUMNS, edge_row


def export_csv(store: Store, out: TextIO) -> None:
    """Write one line for each edge."""
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(EDGE_COLUMNS)
    for edge in told(store.all_derivations()):
        writer.writerow([csv_cell(cell) for cell in edge_row(edge)])
