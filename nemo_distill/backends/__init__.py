"""Training frameworks, one package each. Nothing outside of `backends` and `compat` imports `nemo` or `lightning`."""
