"""Reads Delta tables with DuckDB's own Delta extension, which is built on the Delta kernel and not on delta-rs.

Runs in an environment of its own (`make delta-reader`): one JSON request a line, {"table", "into"} and perhaps "version";
the rows go to a Parquet file, and the answer is {} or {"error"}.
"""

import json
import sys
from importlib.metadata import files

import duckdb

found = next(file for file in files("duckdb-extension-delta") or () if str(file).endswith(".duckdb_extension"))
connection = duckdb.connect(config={"autoinstall_known_extensions": "false"})
connection.execute(f"LOAD '{found.locate()}'")
connection.execute("SET timezone = 'UTC'")
for line in sys.stdin:
    request = json.loads(line)
    version = f", version = {request['version']}" if request.get("version") is not None else ""
    table, into = (request[key].replace("'", "''") for key in ("table", "into"))
    try:
        connection.execute(f"COPY (SELECT * FROM delta_scan('{table}'{version}) ORDER BY ALL) TO '{into}' (FORMAT parquet)")
        answer = {}
    except duckdb.Error as error:
        answer = {"error": str(error)}
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()
