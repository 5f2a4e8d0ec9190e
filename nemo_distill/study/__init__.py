"""The published study: its tables, what can be concluded from them, and which of its claims they bear out."""
