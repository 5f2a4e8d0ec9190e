"""The Nemotron-H model: its shape, its layers on CPU and GPU, and the way between Hugging Face and Megatron.

`shape` and `mapping` know the architecture and its tensor names, `specs`, `activation` and `kernels` what Megatron
builds its layers from; `model` says how it runs and names its tensors, `checkpoint` reads and writes Hugging Face
folders.
"""
