"""Webhooks: signed, tried again where that helps, given up where it does not."""

from collections.abc import Iterator

import pytest

from lineage.domain.errors import DeliveryError, UsageError
from lineage.hub.retry import Retrier
from lineage.propagate.outbox import Parcel
from lineage.propagate.webhook import Webhook, key_of, signature
from tests.neo4j_server import free_port
from tests.receiver import SECRET, Receiver

PARCEL = Parcel("msg_1", b'{"type":"lineage.exposures"}')


def webhook(url: str, timeout: float = 5.0) -> Webhook:
    return Webhook(url, SECRET, timeout=timeout, retrier=Retrier(attempts=4, sleep=lambda _: None))


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as server:
        yield server


def test_a_call_carries_id_time_and_signature(receiver: Receiver) -> None:
    webhook(receiver.url).send(PARCEL)
    (call,) = receiver.calls
    assert (call.id, call.body) == (PARCEL.id, PARCEL.body)
    assert call.headers["content-type"] == "application/json"
    assert call.signed()
    assert not call.signed("whsec_" + "A" * 24)


def test_the_signature_is_that_of_the_specification() -> None:
    # The example of the libraries at github.com/standard-webhooks.
    key = key_of("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    made = signature(key, "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, b'{"test": 2432232314}')
    assert made == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


@pytest.mark.parametrize("status", [500, 503, 429, 408])
def test_what_passes_is_tried_again_under_the_same_id(receiver: Receiver, status: int) -> None:
    receiver.script = [status, status]
    webhook(receiver.url).send(PARCEL)
    assert [call.status for call in receiver.calls] == [status, status, 204]
    assert {(call.id, call.body) for call in receiver.calls} == {(PARCEL.id, PARCEL.body)}
    assert all(call.signed() for call in receiver.calls)


def test_a_receiver_that_stays_away_is_given_up_for_now(receiver: Receiver) -> None:
    receiver.script = [500] * 9
    with pytest.raises(DeliveryError, match="answers 500") as caught:
        webhook(receiver.url).send(PARCEL)
    assert caught.value.again
    assert len(receiver.calls) == 4
    assert "hidden" not in str(caught.value)


@pytest.mark.parametrize("status", [400, 404, 410, 302])
def test_a_refusal_is_not_tried_again(receiver: Receiver, status: int) -> None:
    receiver.script = [status]
    with pytest.raises(DeliveryError, match=f"answers {status}") as caught:
        webhook(receiver.url).send(PARCEL)
    assert not caught.value.again
    assert len(receiver.calls) == 1


def test_nobody_there(receiver: Receiver) -> None:
    with pytest.raises(DeliveryError, match="cannot be reached") as caught:
        webhook(f"http://127.0.0.1:{free_port()}/hook?token=hidden").send(PARCEL)
    assert caught.value.again
    assert "hidden" not in str(caught.value)


def test_a_receiver_that_does_not_answer(receiver: Receiver) -> None:
    receiver.hang = 1.0
    with pytest.raises(DeliveryError, match="cannot be reached") as caught:
        webhook(receiver.url, timeout=0.1).send(PARCEL)
    assert caught.value.again
    assert len(receiver.calls) >= 2


@pytest.mark.parametrize("secret", ["", "short", "whsec_%%%", "whsec_AAAA"])
def test_a_weak_secret_is_refused(secret: str) -> None:
    with pytest.raises(UsageError, match="LINEAGE_WEBHOOK_SECRET"):
        key_of(secret)


@pytest.mark.parametrize("url", ["ftp://host/x", "nothing", "http://", "http://[x"])
def test_a_url_that_is_none_is_refused(url: str) -> None:
    with pytest.raises(UsageError, match="URL"):
        Webhook(url, SECRET)
