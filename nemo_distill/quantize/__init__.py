"""Post-training quantisation of a student through ModelOpt, to a checkpoint that vLLM loads.

`ptq` calibrates and quantises. What that makes of a shape, before anything runs, is in
`nemo_distill.plan.quantisation`.
"""
