"""One call to a model or an agent: its settings, its connection, its place among others, another try."""
