"""Advisories as OSV records and back."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lineage.domain.advisory import Advisory, Severity, Target, TargetKind
from lineage.domain.errors import ImportFormatError
from lineage.domain.osv import from_osv, to_osv

COMMITS = st.from_regex(r"[0-9a-f]{40}", fullmatch=True)
REPOS = st.sampled_from(["org/name", "gpt2", "a.b-c/d_e"])
TARGETS = st.one_of(
    st.builds(Target, kind=st.just(TargetKind.REPO), value=REPOS),
    st.builds(
        lambda repo, commit: Target(kind=TargetKind.REVISION, value=f"{repo}@{commit}"),
        REPOS, COMMITS,
    ),
    st.builds(
        lambda d: Target(kind=TargetKind.DIGEST, value=f"sha256:{d}"),
        st.from_regex(r"[0-9a-f]{64}", fullmatch=True),
    ),
    st.builds(
        Target, kind=st.just(TargetKind.RANGE), value=REPOS,
        introduced=st.none() | COMMITS, fixed=st.none() | COMMITS,
    ),
)  # fmt: skip
TIMES = st.datetimes(datetime(2020, 1, 1), datetime(2030, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001 - bounds are naive


@given(
    targets=st.lists(TARGETS, min_size=1, max_size=4).map(tuple),
    published=TIMES,
    withdrawn=st.none() | TIMES,
    together=st.booleans(),
    severity=st.sampled_from(Severity),
    hazard=st.sampled_from(["backdoor", "something new"]),
)
def test_what_is_written_is_read_back(
    targets: tuple[Target, ...],
    published: datetime,
    withdrawn: datetime | None,
    together: bool,
    severity: Severity,
    hazard: str,
) -> None:
    advisory = Advisory(
        id="LIN-2026-0001", summary="poisoned", hazard=hazard, severity=severity, targets=targets,
        together=together, references=("https://example.org/report",), published=published,
        modified=published, withdrawn=withdrawn,
        withdrawn_reason="a mistake" if withdrawn else None,
    )  # fmt: skip
    assert from_osv(to_osv(advisory)) == advisory


RECORD = {
    "schema_version": "1.7.3",
    "id": "OSV-2026-1",
    "modified": "2026-01-02T03:04:05Z",
    "details": "steals",
    "severity": [{"type": "CVSS_V3", "score": "CVSS:3.1/AV:N"}],
    "affected": [
        {"package": {"ecosystem": "PyPI", "name": "torch"}},
        {
            "package": {"ecosystem": "Hugging Face", "name": "org/name"},
            "ranges": [
                {
                    "type": "GIT",
                    "repo": "https://huggingface.co/org/name",
                    "events": [
                        {"introduced": "0"},
                        {"fixed": "a" * 40},
                        {"introduced": "b" * 40},
                    ],
                }
            ],
        },
    ],
}


def test_a_record_of_others_gives_what_it_says_of_models() -> None:
    advisory = from_osv(RECORD)
    assert advisory.summary == "steals"
    assert [str(t) for t in advisory.targets] == [
        f"org/name@..{'a' * 40}",
        f"org/name@{'b' * 40}..",
    ]


@pytest.mark.parametrize(
    "change",
    [
        {"affected": [{"package": {"ecosystem": "PyPI", "name": "torch"}}]},
        {"affected": None},
        {"affected": [{"package": {"ecosystem": "Hugging Face", "name": "../../etc"}}]},
        {"affected": [{"package": {"ecosystem": "Hugging Face", "name": 3}}]},
        {"modified": "yesterday"},
        {"id": None},
        {"database_specific": {"severity": "dire"}},
        {
            "affected": [
                {
                    "package": {"ecosystem": "Hugging Face", "name": "o/n"},
                    "ranges": [{"events": [{"introduced": "0"}, {"last_affected": "a" * 40}]}],
                }
            ]
        },
    ],
)
def test_nonsense_is_refused_with_the_records_name(change: dict[str, object]) -> None:
    with pytest.raises(ImportFormatError, match=r"OSV-2026-1|None"):
        from_osv(RECORD | change)
