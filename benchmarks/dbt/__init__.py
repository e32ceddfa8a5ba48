"""What the Delta side of dbt costs: against plain DuckDB tables, under Dagster, and for a part of a table."""
