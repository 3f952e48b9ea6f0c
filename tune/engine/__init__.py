"""The Ray side of a search."""
