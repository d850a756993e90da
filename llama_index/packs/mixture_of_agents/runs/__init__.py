"""A run from its question to its response: the mixture it runs, what its steps do, what it has come to."""
