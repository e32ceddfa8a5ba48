"""The same work wired naively: a segment is a partition, a run fits it, and MLflow's default `log_model` keeps it.

Run by the benchmark, one Dagster run a segment, each in a process of its own, as a run launcher does.
"""

import os

import dagster as dg

segments = dg.DynamicPartitionsDefinition(name="segments")


@dg.asset(partitions_def=segments)
def model(context: dg.AssetExecutionContext) -> None:
    """Fits, evaluates and logs one segment."""
    import mlflow
    import numpy as np
    from sklearn.ensemble import HistGradientBoostingClassifier

    mlflow.set_tracking_uri(os.environ["NAIVE_MLFLOW_URI"])
    mlflow.set_experiment("naive")
    with np.load(os.environ["NAIVE_ROWS"]) as found:
        rows, labels = found[f"rows{context.partition_key}"], found[f"labels{context.partition_key}"]
    with mlflow.start_run(run_name=context.partition_key):
        fitted = HistGradientBoostingClassifier(random_state=0).fit(rows, labels)
        mlflow.log_metric("score", fitted.score(rows, labels))
        mlflow.sklearn.log_model(
            fitted, name="model", serialization_format="cloudpickle", registered_model_name=f"naive_{context.partition_key}"
        )


defs = dg.Definitions(assets=[model])
