"""What models said, read: the answer inside a text, a vote, a choice, an answer in a shape."""
