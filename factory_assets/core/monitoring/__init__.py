"""What is looked at beside drift: quality, freshness, when a source is read again, and when people are told."""
