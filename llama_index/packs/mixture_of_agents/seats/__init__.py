"""Who sits in each layer, under which role, and the placing of a seat's call."""
