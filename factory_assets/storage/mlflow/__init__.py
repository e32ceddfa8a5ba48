"""MLflow as the window on models: registry, fleets, and the model that it serves."""
