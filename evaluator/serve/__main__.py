"""`python -m evaluator.serve CHECKPOINT --model-id NAME --port-file FILE` (`evaluator.serve.server`)."""

from evaluator.serve.server import main

if __name__ == "__main__":
    main()
