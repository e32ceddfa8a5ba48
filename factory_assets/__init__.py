"""An AI factory as Dagster assets. Imports nothing: dbt loads its plugin from here, and workers start here."""
