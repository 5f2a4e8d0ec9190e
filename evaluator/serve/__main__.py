"""`python -m evaluator.serve CHECKPOINT --model-id NAME --port-file FILE` (`evaluator.serve.server`)."""

import gc

if __name__ == "__main__":
    gc.disable()  # until all is imported, of which nothing is garbage
    from evaluator.serve.server import main

    main()
