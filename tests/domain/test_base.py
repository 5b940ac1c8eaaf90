"""Values made without a second look are what checked ones are."""

import pickle
from typing import Any

from lineage.domain.exposure import MeasuredDose


def test_a_value_of_valid_fields_is_like_a_checked_one() -> None:
    fields: dict[str, Any] = {
        "source": "a/b",
        "target": "c/d",
        "value": 0.5,
        "low": 0.25,
        "high": 0.75,
    }
    checked, made = MeasuredDose(**fields), MeasuredDose.of_valid(dict(fields))
    assert made == checked
    assert hash(made) == hash(checked)
    assert repr(made) == repr(checked)
    assert made.model_dump_json() == checked.model_dump_json()
    assert pickle.loads(pickle.dumps(made)) == checked
    assert made.model_copy(update={"value": 1.0}) == checked.model_copy(update={"value": 1.0})
    assert made.value == 0.5  # the copy was one
