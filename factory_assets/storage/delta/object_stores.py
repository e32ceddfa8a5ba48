"""Where a lake may lie, and how delta-rs, Arrow and DuckDB each reach it: a local folder, S3, Azure or Google storage.

Credentials stay in the variables that the stores' own clients read (`AWS_…`, `AZURE_…`, `GOOGLE_…`). They are looked up
where a store is opened, so that no setting, resource, profile or record ever holds one.

DuckDB reads an object store through Arrow's own file systems, wrapped for it: as quick as Arrow's datasets, views of it are
shared by all cursors, and there is no extension to download (docs/decisions/0015).
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any
from urllib.parse import urlsplit

import duckdb
from pyarrow import fs

from factory_assets.storage.delta.positioned_file import PositionedFile

_S3_SCHEMES, _AZURE_SCHEMES, _GOOGLE_SCHEMES = ("s3", "s3a"), ("az", "abfs", "abfss", "azure"), ("gs",)
SCHEMES = (*_S3_SCHEMES, *_AZURE_SCHEMES, *_GOOGLE_SCHEMES)
_VARIABLES: Mapping[str, tuple[str, ...]] = {
    **dict.fromkeys(_S3_SCHEMES, ("AWS_",)),
    **dict.fromkeys(_AZURE_SCHEMES, ("AZURE_", "AZURITE_")),
    **dict.fromkeys(_GOOGLE_SCHEMES, ("GOOGLE_",)),
}
# What DuckDB calls our file systems. With the stores' own schemes it would look for an extension first.
_DUCKDB_SCHEME = "lake"
_TRUE = ("1", "true", "yes")


@dataclass(frozen=True)
class Place:
    """A folder in a store: the scheme of its address ('' on a local disk), and its path as Arrow's file systems spell it."""

    scheme: str
    path: str

    @property
    def is_local(self) -> bool:
        """Whether it is on a local disk."""
        return not self.scheme

    @property
    def duckdb_path(self) -> str:
        """The folder as DuckDB reads it, once `register_store` was called."""
        return self.path if self.is_local else f"{_DUCKDB_SCHEME}{self.scheme}://{self.path}"


def parse_place(uri: str) -> Place:
    """Reads an address: an absolute path, file://, s3://bucket/…, az://container/…, abfss://container@account…/…, gs://….

    Raises:
        ValueError: for any other scheme, naming those that are known.
    """
    if "://" not in uri:
        return Place("", uri)
    parts = urlsplit(uri)
    if parts.scheme == "file":
        return Place("", uri.removeprefix("file://"))
    if parts.scheme not in SCHEMES or not parts.netloc:
        raise ValueError(f"{uri!r} is no place for a lake: give a folder, or one of {', '.join(f'{s}://' for s in SCHEMES)}")
    bucket = parts.netloc.partition("@")[0]
    # Not `parts.path`: a question mark or a hash may be part of a key.
    rest = uri.partition("://")[2].partition("/")[2]
    return Place(parts.scheme, f"{bucket}/{rest}".rstrip("/"))


def storage_options(uri: str, environment: Mapping[str, str] = os.environ) -> dict[str, str]:
    """What delta-rs needs to reach `uri`: the variables of its store, and nothing for a local folder.

    >>> storage_options("s3://bucket/lake", {"AWS_REGION": "eu-central-1", "HOME": "/root"})
    {'AWS_REGION': 'eu-central-1'}
    """
    scheme = parse_place(uri).scheme
    prefixes = _VARIABLES.get(scheme, ())
    return {name: value for name, value in environment.items() if value and name.startswith(prefixes)}


def open_filesystem(uri: str) -> fs.FileSystem:
    """Arrow's file system for `uri`, with the credentials of this process's environment."""
    scheme = parse_place(uri).scheme
    if not scheme:
        return fs.LocalFileSystem()
    return _open_store(scheme, tuple(sorted(storage_options(uri).items())))


def register_store(connection: duckdb.DuckDBPyConnection, uri: str) -> None:
    """Lets DuckDB read the paths of `Place.duckdb_path`; nothing to do for a local folder, or a second time."""
    scheme = parse_place(uri).scheme
    if not scheme:
        return
    name = f"{_DUCKDB_SCHEME}{scheme}"
    if not connection.filesystem_is_registered(name):
        connection.register_filesystem(_wrap_for_duckdb(open_filesystem(uri), name))


@cache
def _open_store(scheme: str, options: tuple[tuple[str, str], ...]) -> fs.FileSystem:
    found = dict(options)
    if scheme in _S3_SCHEMES:
        return fs.S3FileSystem(**_s3_arguments(found))
    if scheme in _AZURE_SCHEMES:
        return fs.AzureFileSystem(**_azure_arguments(found))
    return fs.GcsFileSystem()


def _s3_arguments(options: Mapping[str, str]) -> dict[str, Any]:
    endpoint = options.get("AWS_ENDPOINT_URL_S3") or options.get("AWS_ENDPOINT_URL") or ""
    wanted = {
        "access_key": options.get("AWS_ACCESS_KEY_ID"),
        "secret_key": options.get("AWS_SECRET_ACCESS_KEY"),
        "session_token": options.get("AWS_SESSION_TOKEN"),
        "region": options.get("AWS_REGION") or options.get("AWS_DEFAULT_REGION"),
        "endpoint_override": urlsplit(endpoint).netloc or None,
        "scheme": urlsplit(endpoint).scheme or None,
        "force_virtual_addressing": options.get("AWS_VIRTUAL_HOSTED_STYLE_REQUEST", "").lower() in _TRUE or None,
    }
    return {name: value for name, value in wanted.items() if value is not None}


def _azure_arguments(options: Mapping[str, str]) -> dict[str, Any]:
    is_emulated = options.get("AZURE_STORAGE_USE_EMULATOR", "").lower() in _TRUE
    emulator = options.get("AZURITE_BLOB_STORAGE_URL", "http://127.0.0.1:10000") if is_emulated else ""
    endpoint = urlsplit(options.get("AZURE_STORAGE_ENDPOINT") or options.get("AZURE_ENDPOINT") or emulator)
    wanted = {
        "account_name": options.get("AZURE_STORAGE_ACCOUNT_NAME"),
        "account_key": options.get("AZURE_STORAGE_ACCOUNT_KEY") or options.get("AZURE_STORAGE_ACCESS_KEY"),
        "sas_token": options.get("AZURE_STORAGE_SAS_TOKEN") or options.get("AZURE_STORAGE_SAS_KEY"),
        "tenant_id": options.get("AZURE_STORAGE_TENANT_ID") or options.get("AZURE_TENANT_ID"),
        "client_id": options.get("AZURE_STORAGE_CLIENT_ID") or options.get("AZURE_CLIENT_ID"),
        "client_secret": options.get("AZURE_STORAGE_CLIENT_SECRET") or options.get("AZURE_CLIENT_SECRET"),
        "blob_storage_authority": endpoint.netloc or None,
        "dfs_storage_authority": endpoint.netloc or None,
        "blob_storage_scheme": endpoint.scheme or None,
        "dfs_storage_scheme": endpoint.scheme or None,
    }
    return {name: value for name, value in wanted.items() if value is not None}


def _wrap_for_duckdb(filesystem: fs.FileSystem, name: str) -> Any:
    from fsspec.implementations.arrow import ArrowFSWrapper

    class LakeFilesystem(ArrowFSWrapper):
        """Arrow's file system in fsspec's clothes, which are what DuckDB takes."""

        protocol = name
        cachable = False

        @classmethod
        def _strip_protocol(cls, path: str) -> str:
            return path.removeprefix(f"{name}://")

        def glob(self, path: str, maxdepth: int | None = None, **_: Any) -> list[str]:
            """The path itself: the files are named one by one, and one request each is saved."""
            return [self._strip_protocol(path)]

        def _open(self, path: str, mode: str = "rb", *_: Any, **__: Any) -> Any:
            if mode != "rb":
                raise OSError(f"{path} is opened to be read, not in mode {mode!r}")
            return PositionedFile(filesystem.open_input_file(path))

    return LakeFilesystem(filesystem)
