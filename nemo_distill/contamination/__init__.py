"""Decontamination: searches the sources for benchmark questions by 13-gram overlap."""
