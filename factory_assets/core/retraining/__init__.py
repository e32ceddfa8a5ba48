"""When a model is retrained: one effective retrain for each cause, none without a next step, within declared limits.

The words. A *cause* is what was found wanting (a trigger: a failed check, or something due) of which model of which
segment, on which state of the data. A *request* is one run that serves a batch of causes. The ledger keeps each step of
each cause; its newest step is all that is known of it.

    open → requested → running → promoted | kept_champion
                 ↘ failed, lost, expired: tried again → raised: a person
    superseded: its check passes again, or the model is not the serving one any more

`decide_retraining` is pure and keeps nothing: the sensor, a replay of history and a test ask it alike.
"""

from factory_assets.core.retraining.decision import decide_retraining
from factory_assets.core.retraining.ledger_book import LedgerBook
from factory_assets.core.retraining.situation import Situation

__all__ = ["LedgerBook", "Situation", "decide_retraining"]
