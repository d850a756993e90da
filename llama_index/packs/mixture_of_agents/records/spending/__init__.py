"""A run's money, tokens and time: what calls can cost, what they did, what is left out for a budget."""
