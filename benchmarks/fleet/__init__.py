"""What the factory adds to the raw fits of a fleet: one model for each scheduled flight."""
