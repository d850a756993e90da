"""Between words and token ids: prompts, pieces of answers, answers of a given shape."""
