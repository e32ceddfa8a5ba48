"""A model as bytes and as a pipeline: what it takes, how it predicts, and what each feature is worth to it."""
