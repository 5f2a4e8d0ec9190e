"""Scores and answers as they are kept, by question and repeat, and how two checkpoints' answers pair."""
