"""What is pure about trying retrain policies on the past: the policies by name, and what tells one from another."""
