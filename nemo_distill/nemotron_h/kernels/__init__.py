"""Triton kernels of Nemotron-H's layers, and what launches them."""
