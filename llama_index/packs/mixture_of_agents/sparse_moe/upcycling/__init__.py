"""From a dense model to a mixture: its source, what becomes of experts and router, what is written."""
