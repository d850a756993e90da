"""What is kept of runs, and what is reckoned of them: prices, budgets, traces, answers, replays.

These listen to the mixture and answer for it; the mixture never imports them.
"""
