"""The Nemotron-H model: its shape, its layers on CPU and GPU, and the way between Hugging Face and NeMo.

`shape` and `mapping` know the architecture and its tensor names; `backend`, `scan` and `specs` let Megatron's own model
run with or without CUDA; `model` and `checkpoint` build, save and load it through NeMo.
"""
