"""keys.vault: where it is, and exactly one way to sign in."""

import pytest

from kveil.proxy.config import ConfigError, load
from kveil.proxy.config.key_services import KUBERNETES_TOKEN

UPSTREAM = "upstream: {bootstrap: [broker:9092]}\n"
ADDRESS = "address: 'https://vault.example.net:8200'"
TOKEN = "token: env:HOME"
APPROLE = "approle: {role_id: a-role, secret_id: env:HOME}"
KUBERNETES = "kubernetes: {role: kveil}"


@pytest.fixture
def load_vault(tmp_path):
    def read(*lines: str):
        path = tmp_path / "kveil.yaml"
        path.write_text(f"{UPSTREAM}keys: {{provider: vault, vault: {{{', '.join(lines)}}}}}\n")
        return load(path, {}).keys.vault

    return read


@pytest.mark.parametrize("way", [TOKEN, APPROLE, KUBERNETES])
def test_one_way_to_sign_in_is_enough(load_vault, way):
    found = load_vault(ADDRESS, way)
    assert (found.address, found.mount, found.namespace) == ("https://vault.example.net:8200", "transit", None)


def test_what_a_way_to_sign_in_has_by_default(load_vault):
    assert load_vault(ADDRESS, APPROLE).approle.mount == "approle"
    kubernetes = load_vault(ADDRESS, KUBERNETES).kubernetes
    assert (kubernetes.mount, kubernetes.token) == ("kubernetes", KUBERNETES_TOKEN)


@pytest.mark.parametrize(
    ("lines", "path", "sentence"),
    [
        ((ADDRESS,), "keys.vault", "exactly one of token, approle, kubernetes"),
        ((ADDRESS, TOKEN, APPROLE), "keys.vault", "has token and approle: exactly one"),
        ((ADDRESS, APPROLE, KUBERNETES), "keys.vault", "has approle and kubernetes: exactly one"),
        ((TOKEN,), "keys.vault.address", "is missing"),
        (("address: 'http://vault.example.net:8200'", TOKEN), "keys.vault.address", "https://"),
        ((ADDRESS, "token: s.plain-token"), "keys.vault.token", "must be a reference"),
        ((ADDRESS, TOKEN, "mount: ''"), "keys.vault.mount", ""),
        ((ADDRESS, TOKEN, "mount: ../sys"), "keys.vault.mount", ""),
        ((ADDRESS, TOKEN, "mount: 'transit?x'"), "keys.vault.mount", ""),
        ((ADDRESS, TOKEN, "namespace: \"a\\nb\""), "keys.vault.namespace", ""),
        ((ADDRESS, TOKEN, "ca: /nowhere.pem"), "keys.vault.ca", "No such file"),
        ((ADDRESS, "approle: {role_id: a, secret_id: plain}"), "keys.vault.approle.secret_id", "must be a reference"),
        ((ADDRESS, "kubernetes: {}"), "keys.vault.kubernetes.role", "is missing"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_told_at_its_place(load_vault, lines, path, sentence):
    with pytest.raises(ConfigError) as caught:
        load_vault(*lines)
    found = {problem.path: problem.text for problem in caught.value.problems}
    assert sentence in found[path]
    assert "plain-token" not in str(caught.value)
