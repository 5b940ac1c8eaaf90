"""How answers are shown: tables, JSON, CSV and the rest; one file per format."""
