"""How DuckDB best reads an object store: four ways over the same table, side by side."""
