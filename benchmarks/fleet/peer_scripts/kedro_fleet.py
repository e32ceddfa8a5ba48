"""One fit a node in a Kedro pipeline whose models are pickled: `python kedro_fleet.py ROWS TASKS FOLDER`."""

import sys
from pathlib import Path

import numpy as np
from kedro.io import AbstractDataset, DataCatalog, MemoryDataset
from kedro.pipeline import node, pipeline
from kedro.runner import SequentialRunner


class PickledFile(AbstractDataset):
    """A model as a file."""

    def __init__(self, path):
        self._path = Path(path)

    def _load(self):
        import pickle

        return pickle.loads(self._path.read_bytes())

    def _save(self, data):
        import pickle

        self._path.write_bytes(pickle.dumps(data))

    def _describe(self):
        return {"path": str(self._path)}


def fit(data):
    """One segment."""
    from sklearn.ensemble import HistGradientBoostingClassifier

    rows, labels = data
    return HistGradientBoostingClassifier(random_state=0).fit(rows, labels)


def main(rows, tasks, folder):
    """Builds the pipeline and runs it."""
    with np.load(rows) as found:
        parts = {f"rows_{n}": (found[f"rows{n}"], found[f"labels{n}"]) for n in range(int(tasks))}
    catalog = DataCatalog({name: MemoryDataset(part) for name, part in parts.items()})
    for number in range(int(tasks)):
        catalog[f"model_{number}"] = PickledFile(Path(folder) / f"{number}.pickle")
    nodes = [node(fit, f"rows_{number}", f"model_{number}", name=f"fit_{number}") for number in range(int(tasks))]
    SequentialRunner().run(pipeline(nodes), catalog)


if __name__ == "__main__":
    main(*sys.argv[1:])
