"""A year of the real flights, day by day: which alarms preceded a real loss of quality, ours against the usual rules."""
