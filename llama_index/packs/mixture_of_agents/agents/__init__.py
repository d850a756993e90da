"""Agents: a planner, specialists with tools and memory, and what they may touch."""
