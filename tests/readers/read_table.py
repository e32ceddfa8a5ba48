"""Reads Delta tables with DuckDB's own Delta extension, which is built on the Delta kernel and not on delta-rs.

Runs in an environment of its own (`make delta-reader`): one JSON request a line, {"table", "into"} and perhaps "version";
the rows go to a Parquet file, and the answer is {} or {"error"}. The extension shows no words and no properties of a table,
so {"table", "words": true} takes them from the log by what the protocol says: the last `metaData` action counts.
"""

import json
import sys
from importlib.metadata import files

import duckdb

found = next(file for file in files("duckdb-extension-delta") or () if str(file).endswith(".duckdb_extension"))
connection = duckdb.connect(config={"autoinstall_known_extensions": "false"})
connection.execute(f"LOAD '{found.locate()}'")
connection.execute("SET timezone = 'UTC'")


def read_words(table: str) -> dict[str, object]:
    options = "format = 'newline_delimited', columns = {metaData: 'JSON'}, filename = true"
    log = f"read_json('{table}/_delta_log/*.json', {options})"
    last = f"SELECT metaData FROM {log} WHERE metaData IS NOT NULL ORDER BY filename DESC LIMIT 1"
    metadata = json.loads(connection.execute(last).fetchall()[0][0])
    fields = json.loads(metadata["schemaString"])["fields"]
    comments = {field["name"]: field["metadata"].get("comment") for field in fields}
    return {"description": metadata.get("description"), "comments": comments, "properties": metadata["configuration"]}


for line in sys.stdin:
    request = json.loads(line)
    version = f", version = {request['version']}" if request.get("version") is not None else ""
    table, into = (request.get(key, "").replace("'", "''") for key in ("table", "into"))
    try:
        if request.get("words"):
            sys.stdout.write(json.dumps(read_words(table)) + "\n")
            sys.stdout.flush()
            continue
        connection.execute(f"COPY (SELECT * FROM delta_scan('{table}'{version}) ORDER BY ALL) TO '{into}' (FORMAT parquet)")
        answer = {}
    except duckdb.Error as error:
        answer = {"error": str(error)}
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()
