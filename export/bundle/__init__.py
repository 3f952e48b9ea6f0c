"""The folder that ships: its files, its manifest, and how it is checked."""
