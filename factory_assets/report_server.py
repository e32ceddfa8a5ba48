"""The drift reports over http on this machine: a browser follows no link from the Dagster UI to a file."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

from factory_assets.settings import FactorySettings

_LOOPBACK = ("127.0.0.1", "localhost")


class _Reports(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 (the name in the base class)
        """Says nothing: the terminal is Dagster's."""


@contextmanager
def serve_reports(settings: FactorySettings) -> Iterator[str]:
    """Serves the folder of reports at `reports_url`, where that is a port of this machine; elsewhere somebody else does.

    Yields:
        What the reader should know: empty, or why the reports are not served.
    """
    address = urlsplit(settings.reports_url)
    if address.scheme != "http" or address.hostname not in _LOOPBACK:
        yield ""
        return
    settings.reports.mkdir(parents=True, exist_ok=True)
    handler = partial(_Reports, directory=str(settings.reports))
    try:
        server = ThreadingHTTPServer((address.hostname, address.port or 80), handler)
    except OSError as error:
        yield f"no drift reports at {settings.reports_url}: {error.strerror}; name another port in FACTORY_REPORTS_URL"
        return
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield ""
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
