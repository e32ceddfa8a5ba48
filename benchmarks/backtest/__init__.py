"""Retrain policies on the flights of 2013: what each gives and costs, and what a backtest costs beside its bare fits."""
