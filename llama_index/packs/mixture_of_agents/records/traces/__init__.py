"""A trace's lines: their schema, how they are written, cleaned of secrets, and read back."""
