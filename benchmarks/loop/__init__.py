"""The factory loop against a bare script of the same libraries: what the factory's record, gates and checks cost."""
