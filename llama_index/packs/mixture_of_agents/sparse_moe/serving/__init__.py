"""From requests to tokens: what is computed next, for whom, from which cache. `engine` is the door."""
