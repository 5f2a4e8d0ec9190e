"""The steps of a run, each a module with `VERSION` and `main(spec)`."""
