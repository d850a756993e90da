"""The incident-response example: event logs with a known truth, tools that read them, and what they find."""
