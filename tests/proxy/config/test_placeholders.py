"""A configuration that isn't filled in yet is refused at each place, and the rest of it is judged as ever."""

from pathlib import Path

import pytest

from kveil.proxy.config import ConfigError, Override, load, load_key_settings, load_keys, load_listeners
from kveil.proxy.config.placeholders import unfilled

BLANK = '"<fill in: something, as in this>"'


@pytest.fixture
def write(tmp_path: Path):
    def write_text(text: str) -> Path:
        path = tmp_path / "kveil.yaml"
        path.write_text(text)
        return path

    return write_text


def problems(path: Path, environ: dict[str, str] | None = None, *overrides: Override) -> dict[str, str]:
    with pytest.raises(ConfigError) as caught:
        load(path, environ or {}, overrides)
    found = {problem.path: problem.text for problem in caught.value.problems}
    assert len(found) == len(caught.value.problems), "one path is reported twice"
    return found


@pytest.mark.parametrize(
    ("text", "place"),
    [
        (f"upstream: {{bootstrap: [a:1, {BLANK}]}}", "upstream.bootstrap[1]"),
        (f"upstream: {{bootstrap: {BLANK}}}", "upstream.bootstrap"),
        (f"upstream: {{bootstrap: [a:1], tls: {{ca: {BLANK}}}}}", "upstream.tls.ca"),
        (f"upstream: {{bootstrap: [a:1], tls: {BLANK}}}", "upstream.tls"),
        (f"upstream: {{bootstrap: [a:1]}}\nrealm: {BLANK}", "realm"),
        # What could pass for a value is no value either.
        (f"upstream: {{bootstrap: [a:1]}}\nkeys: {{path: {BLANK}}}", "keys.path"),
        (f"upstream: {{bootstrap: [a:1]}}\ntopics: [{{match: t, producers: [{BLANK}]}}]", "topics[0].producers[0]"),
    ],
)
def test_a_place_is_named_once_with_the_way_out(write, text, place):
    found = problems(write(text))
    assert list(found) == [place]
    assert found[place] == 'is not filled in yet: put what belongs here in the place of "<fill in: ...>"'


def test_other_faults_of_the_same_part_are_told_too(write):
    login = f"sasl: {{mechanism: PLAIN, username: {BLANK}, password: secret}}"
    found = problems(write(f"upstream: {{bootstrap: [a], {login}}}\nworkers: 0"))
    assert set(found) == {"upstream.bootstrap[0]", "upstream.sasl.username", "upstream.sasl.password", "workers"}
    assert "file:PATH or env:NAME" in found["upstream.sasl.password"]


def test_what_stands_in_the_brackets_is_not_repeated(write):
    """It may be the password itself, in the wrong place."""
    text = "upstream: {bootstrap: [a:1], sasl: {mechanism: PLAIN, username: u, password: '<fill in: hunter2>'}}"
    assert "hunter2" not in str(problems(write(text)))


def test_a_flag_or_variable_fills_in_too(write):
    path = write(f"upstream: {{bootstrap: [{BLANK}]}}\nrealm: {BLANK}")
    settings = load(
        path, {"KVEIL_REALM": "test"}, [Override(path=("upstream", "bootstrap"), value="a:1", origin="--upstream")]
    )
    assert (settings.realm, str(settings.upstream.bootstrap[0])) == ("test", "a:1")


def test_a_variable_that_is_a_placeholder_is_named(write):
    found = problems(write("upstream: {bootstrap: [a:1]}"), {"KVEIL_REALM": BLANK.strip('"')})
    assert found["realm"].endswith("(set by KVEIL_REALM)")


def test_commands_without_a_cluster_mind_their_own_part_only(write):
    path = write(f"upstream: {{bootstrap: [{BLANK}]}}\nkeys: {{path: /k}}")
    assert str(load_keys(path, {}).path) == "/k"
    assert load_listeners(path, {})
    assert str(load_key_settings(path, {}).keys.path) == "/k"
    path = write(f"keys: {{path: {BLANK}}}\nlisteners: [{{address: '127.0.0.1:1', name: {BLANK}}}]")
    for part in (load_keys, load_listeners, load_key_settings):
        with pytest.raises(ConfigError, match="is not filled in yet"):
            part(path, {})


def test_a_part_in_itself_ends():
    """YAML's aliases can do that."""
    inside: list[object] = ["<FILL IN>"]
    inside.append(inside)
    assert unfilled({"a": inside, "b": {"c": inside}}) == ["a[0]"]


def test_other_text_in_brackets_is_a_value():
    assert unfilled({"a": "<filled>", "b": ["fill in", 7, None]}) == []
