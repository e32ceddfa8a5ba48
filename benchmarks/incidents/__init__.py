"""Broken and genuinely changed days, planted into real flights and weather."""
