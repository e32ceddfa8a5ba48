"""What dbt's models mean, what an edit of them changes, what lies upstream, and what may be published."""
