"""A step and a run on disk: folders, marks, locks, ranks, provenance, and how far each step is."""
