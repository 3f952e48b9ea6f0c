"""What a search will take: speeds are measured, then the search is played through."""
