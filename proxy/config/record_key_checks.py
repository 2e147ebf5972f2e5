"""What rules need that give every record key an epoch key of its own."""

from collections.abc import Iterator

from kveil.proxy.config.choices import Erased, KeyPer, KeyService, Mode, Seal
from kveil.proxy.config.errors import Problem
from kveil.proxy.config.keys import Keys
from kveil.proxy.config.topic_rules import TopicRule
from kveil.proxy.config.values import KeyName


def check_record_keys(keys: Keys, topics: tuple[TopicRule, ...]) -> Iterator[Problem]:
    """Record mode, the topic's own name, and a key-encryption key that nothing else is sealed under."""
    for place, rule in enumerate(topics):
        if rule.key_per is not KeyPer.RECORD_KEY:
            if rule.erased is not Erased.ERROR:
                yield Problem(path=f"topics[{place}].erased", text="has no meaning without key_per: record_key")
            continue
        if rule.mode is not Mode.RECORD:
            text = "record_key needs mode: record, where records are sealed one by one"
            yield Problem(path=f"topics[{place}].key_per", text=text)
        if rule.sealed_as is not None:
            text = "can't be had with key_per: record_key: a mirror has no epoch keys of its own"
            yield Problem(path=f"topics[{place}].sealed_as", text=text)
        for name in (rule.key or keys.default, *rule.accept_keys):
            if (name.provider or keys.service) is KeyService.IDENTITIES:
                text = "can't be had with keys of identities: they wrap no epoch key that could be erased"
                yield Problem(path=f"topics[{place}].key_per", text=text)
                continue
            other = next((where for where, used in _others(keys, topics) if _may_be_same(keys, name, used)), None)
            if other is not None:
                text = (
                    f"{name} is the key of {other} too: with key_per: record_key it must be a key of its own, since to "
                    "erase one record key is to destroy the key's older versions, with all else that they sealed"
                )
                yield Problem(path=f"topics[{place}].key", text=text)


def _others(keys: Keys, topics: tuple[TopicRule, ...]) -> Iterator[tuple[str, KeyName]]:
    """Every key that seals or opens where record keys have none of their own, and where."""
    for place, rule in enumerate(topics):
        if rule.key_per is KeyPer.TOPIC and rule.seal is not Seal.NONE:
            for name in (rule.key or keys.default, *rule.accept_keys):
                yield f"topics[{place}]", name
    if all(rule.match != "*" for rule in topics):
        yield "topics without a rule", keys.default


def _may_be_same(keys: Keys, one: KeyName, other: KeyName) -> bool:
    """Whether both can name one key for some topics. Says so rather too often than not."""
    if (one.provider or keys.service) is not (other.provider or keys.service):
        return False
    return one.may_be(other.name) or other.may_be(one.name)
