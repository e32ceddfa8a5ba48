"""One fit a task in a Metaflow foreach: `python metaflow_fleet.py run --rows rows.npz --tasks 20 --max-workers 2`."""

from metaflow import FlowSpec, Parameter, step


class FleetFlow(FlowSpec):
    """Fans out over segments, fits one model each, and joins."""

    rows = Parameter("rows", type=str)
    tasks = Parameter("tasks", type=int)

    @step
    def start(self):
        """The foreach."""
        self.numbers = list(range(self.tasks))
        self.next(self.fit, foreach="numbers")

    @step
    def fit(self):
        """One segment."""
        import numpy as np
        from sklearn.ensemble import HistGradientBoostingClassifier

        with np.load(self.rows) as found:
            rows, labels = found[f"rows{self.input}"], found[f"labels{self.input}"]
        self.model = HistGradientBoostingClassifier(random_state=0).fit(rows, labels)
        self.next(self.join)

    @step
    def join(self, inputs):
        """Counts the models."""
        self.fitted = sum(hasattr(task, "model") for task in inputs)
        self.next(self.end)

    @step
    def end(self):
        """Says how many."""
        assert self.fitted == self.tasks


if __name__ == "__main__":
    FleetFlow()
