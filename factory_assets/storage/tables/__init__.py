"""The owners of the factory's own tables, one module each: keys, schema, and what is replaced."""
