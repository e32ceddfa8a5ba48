"""The demo factory: a year of real flights, landed day by day as they would have arrived."""
