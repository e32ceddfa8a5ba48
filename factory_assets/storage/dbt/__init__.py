"""dbt on Delta: what its plugin shows, stages and publishes; its runs, definitions and sandboxes."""
