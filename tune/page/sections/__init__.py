"""The sections of the report: words, tables, and places for the charts."""
