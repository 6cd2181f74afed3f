"""The list of a study's trainings."""

from __future__ import annotations

from ...graphs.dataset import MultiomeGraphs
from .annotator_plan import plan_label_shares, plan_noise, plan_unseen_types
from .recommender_plan import plan_cell_shares, plan_cell_types
from .study import FRACTIONS, LABEL_NOISE, LEAVE_TYPE_OUT, PRETRAINING, Study, Training

_PLANS = {
    ("recommendation", FRACTIONS): plan_cell_shares,
    ("recommendation", LEAVE_TYPE_OUT): plan_cell_types,
    ("annotation", FRACTIONS): plan_label_shares,
    ("annotation", LABEL_NOISE): plan_noise,
    ("annotation", LEAVE_TYPE_OUT): plan_unseen_types,
    ("annotation", PRETRAINING): plan_label_shares,
}


def plan(study: Study) -> tuple[list[Training], list[str]]:
    """List the trainings of a study, and what a reader of its figures should know.

    Raises
    ------
    InputError
        A share of too few cells, or a type that cannot be left out.
    """
    return _PLANS[study.kind.task, study.name](study, MultiomeGraphs(study.dataset).cells)
