"""What people see of verdicts: small pictures for run pages, and the report as one page."""
