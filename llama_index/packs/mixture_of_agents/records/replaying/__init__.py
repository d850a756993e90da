"""A recorded run, rebuilt without its models, and the answers it is answered from."""
