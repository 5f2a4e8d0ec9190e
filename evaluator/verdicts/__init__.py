"""Judges what differs between checkpoints, and how sure that is."""
