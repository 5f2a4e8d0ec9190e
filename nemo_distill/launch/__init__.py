"""Starts a run and follows it, on this machine or on a cluster, through one NeMo-Run experiment."""
