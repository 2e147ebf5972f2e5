"""Provider 6 at a token of SoftHSM2: which of its keys is meant, its PIN, and tokens that come and go."""

import _ssl
import logging
import subprocess
import sys
import threading
from dataclasses import dataclass
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.keywrap import aes_key_unwrap_with_padding, aes_key_wrap_with_padding
from pkcs11 import Attribute, TokenFlag
from structlog.testing import capture_logs

from kveil.protocol.envelope import registry
from kveil.protocol.envelope.header import KeyBlock
from kveil.proxy.config import KeyService
from kveil.proxy.config.key_services import Pkcs11
from kveil.proxy.config.keys import Keys
from kveil.proxy.keys.errors import KeyDenied, KeyRefused, KeySetupError, KeyUnavailable
from kveil.proxy.keys.opening import open_provider
from kveil.proxy.keys.provider import KeyContext, KeyProvider
from kveil.proxy.keys.providers.pkcs11 import Pkcs11Provider
from kveil.proxy.policy import PROVIDER_IDS
from tests.support.key_services.pkcs11 import Server

SECRET = bytes(range(1, 33))
CONTEXT = KeyContext("test", "orders", bytes(16))
KEK = bytes(range(100, 132))
OTHER_LIBRARY = Path(_ssl.__file__).read_bytes()


@pytest.fixture
def server(tmp_path):
    started = Server(tmp_path)
    yield started
    started.stop()


@pytest.fixture
async def provider(server):
    made = server.provider()
    yield made
    await made.close()


def wrap_of(name: str, version: str = "01", wrapped: bytes | None = None) -> KeyBlock:
    return KeyBlock(
        provider=registry.PKCS11,
        name=name,
        mechanism=registry.AES_KEY_WRAP_PAD,
        version=version,
        wrapped=aes_key_wrap_with_padding(KEK, SECRET) if wrapped is None else wrapped,
    )


async def failure(call) -> str:
    """The text of a call that can't be done now."""
    with pytest.raises(KeyUnavailable) as caught:
        await call
    return str(caught.value)


def test_it_is_a_provider(server):
    checked: KeyProvider = open_provider(KeyService.PKCS11, Keys.model_validate(server.keys_settings()))
    assert isinstance(checked, Pkcs11Provider)
    assert checked.id == PROVIDER_IDS["pkcs11"] == registry.PKCS11
    assert checked.place == f"token kveil of {server.library}"


# Keys ----------------------------------------------------------------------------------------------------------------


async def test_a_wrap_is_that_of_rfc_5649(server, provider):
    server.administer("make", "orders", "01", KEK.hex())
    block = await provider.wrap("orders", SECRET, CONTEXT)
    assert (block.mechanism, block.version) == (registry.AES_KEY_WRAP_PAD, "01")
    assert aes_key_unwrap_with_padding(KEK, block.wrapped) == SECRET
    assert await provider.unwrap(wrap_of("orders"), CONTEXT) == SECRET


async def test_the_primary_version_has_the_greatest_id_as_a_number(server, provider):
    for identifier in ("0100", "09", "00ff"):
        server.administer("make", "orders", identifier)
    assert (await provider.wrap("orders", SECRET, CONTEXT)).version == "0100"
    assert (await provider.describe("orders")).versions == ("09", "00ff", "0100")


async def test_two_keys_that_both_would_be_primary_seal_nothing(server, provider):
    server.administer("make", "orders", "07")
    server.administer("make", "orders", "07")
    with pytest.raises(KeyDenied, match="two keys 'orders' with CKA_ID '07'"):
        await provider.wrap("orders", SECRET, CONTEXT)


async def test_a_shorter_key_is_not_used(server, provider):
    server.administer("make", "orders", "01", KEK[:16].hex())
    with pytest.raises(KeyDenied, match="has no AES key of 256 bits labelled 'orders'"):
        await provider.wrap("orders", SECRET, CONTEXT)


async def test_a_version_may_be_left_to_open_only(server, provider):
    server.administer("make", "orders", "01")
    block = await provider.wrap("orders", SECRET, CONTEXT)
    server.administer("allow", "orders", "wrap=no")
    with pytest.raises(KeyDenied, match="CKA_WRAP is false"):
        await provider.wrap("orders", SECRET, CONTEXT)
    assert await provider.unwrap(block, CONTEXT) == SECRET
    with pytest.raises(KeyRefused, match="does not open"):
        await provider.unwrap(block._replace(wrapped=block.wrapped[::-1]), CONTEXT)


async def test_a_disabled_primary_is_not_replaced_by_an_older_version(server, provider):
    server.make_key("orders")
    server.disable("orders")
    server.rotate("orders")
    assert (await provider.wrap("orders", SECRET, CONTEXT)).version == "02"
    server.disable("orders")
    with pytest.raises(KeyDenied, match="'orders', CKA_ID '02', is disabled"):
        await provider.wrap("orders", SECRET, CONTEXT)


@pytest.mark.parametrize("version", ["0", "0g", "0A", "01 ", "\u0660\u0661", "01\n", "../01"])
async def test_a_version_that_is_no_id_is_refused_without_asking(provider, version):
    with pytest.raises(KeyRefused, match="no CKA_ID in hex"):
        await provider.unwrap(wrap_of("orders", version), CONTEXT)
    assert provider._module is None


@pytest.mark.parametrize("length", [0, 8, 39, 41, 48, 4000])
async def test_a_wrap_of_another_length_is_refused_without_asking(provider, length):
    with pytest.raises(KeyRefused, match="'orders'"):
        await provider.unwrap(wrap_of("orders", wrapped=bytes(length)), CONTEXT)
    assert provider._module is None


async def test_a_wrap_of_something_shorter_is_refused(server, provider):
    server.administer("make", "orders", "01", KEK.hex())
    wrapped = aes_key_wrap_with_padding(KEK, SECRET[:16] + bytes(10))
    assert len(wrapped) == 40
    with pytest.raises(KeyRefused, match="does not open"):
        await provider.unwrap(wrap_of("orders", wrapped=wrapped), CONTEXT)


async def test_no_epoch_key_stays_in_the_token(server, provider):
    server.make_key("orders")
    block = await provider.wrap("orders", SECRET, CONTEXT)
    await provider.unwrap(block, CONTEXT)
    with pytest.raises(KeyRefused):
        await provider.unwrap(block._replace(wrapped=block.wrapped[::-1]), CONTEXT)
    objects = await provider._do(lambda session: [one[Attribute.LABEL] for one in session.get_objects()])
    assert objects == ["orders"]


async def test_a_token_without_the_mechanism(server, provider):
    server.make_key("orders")
    with server.configuration.open("a") as file:
        file.write("slots.mechanisms = CKM_AES_CBC,CKM_AES_KEY_GEN\n")
    with pytest.raises(KeyDenied, match=r"doesn't allow what is needed of it \(MechanismInvalid\)"):
        await provider.wrap("orders", SECRET, CONTEXT)


# The PIN -------------------------------------------------------------------------------------------------------------


async def test_a_wrong_pin_is_tried_once(server, provider):
    server.make_key("orders")
    server.pin_file.write_text("wrong-pin")
    assert f"refused the PIN of keys.pkcs11.pin (file:{server.pin_file})" in await failure(provider.health())
    # It would be let in now, if it tried the same PIN again.
    server.administer("pin", "wrong-pin")
    for _ in range(3):
        assert "isn't tried again" in await failure(provider.wrap("orders", SECRET, CONTEXT))
        assert provider.refresh() is False


async def test_a_changed_pin_is_tried(server, provider):
    server.make_key("orders")
    server.pin_file.write_text("wrong-pin")
    await failure(provider.health())
    server.pin_file.unlink()
    assert provider.refresh() is False
    server.pin_file.write_text(server.pin)
    assert provider.refresh() is True
    assert provider.refresh() is False
    assert await provider.wrap("orders", SECRET, CONTEXT)


async def test_a_pin_file_that_is_gone(server, provider):
    server.pin_file.unlink()
    assert "No such file" in await failure(provider.health())


@pytest.mark.parametrize("pin", [b"", b"\n", b"\xff\xfe"])
def test_what_is_no_pin(server, pin):
    server.pin_file.write_bytes(pin)
    with pytest.raises(KeySetupError, match=r"keys\.pkcs11\.pin: file:.*holds no PIN"):
        server.provider()


@dataclass
class LockingToken:
    """What SoftHSM hasn't: it never locks."""

    flags: TokenFlag

    def open(self, **_):
        pytest.fail("tried a PIN")


@pytest.mark.parametrize(
    ("flag", "sentence"),
    [
        (TokenFlag.USER_PIN_LOCKED, "locked after too many wrong PINs: its security officer"),
        (TokenFlag.USER_PIN_FINAL_TRY, "locks at the next wrong PIN, so this one isn't tried"),
    ],
)
def test_the_last_try_is_left_to_people(provider, flag, sentence):
    with pytest.raises(KeyUnavailable, match=sentence):
        provider._login(LockingToken(TokenFlag.LOGIN_REQUIRED | flag))


# Tokens and libraries ------------------------------------------------------------------------------------------------


async def test_a_token_that_is_not_there(server):
    provider = Pkcs11Provider(server.settings(token="other"))
    assert "has no token labelled other: see pkcs11.token" in await failure(provider.health())
    server.init_token("other")
    await provider.health()
    await provider.close()


async def test_two_tokens_of_one_label(server, provider):
    server.init_token("kveil")
    assert "has 2 tokens labelled kveil: give each another label" in await failure(provider.health())


@pytest.mark.parametrize("content", [b"", b"not a library", None], ids=["empty", "text", "another library"])
async def test_a_module_that_is_none(server, tmp_path, content):
    path = tmp_path / "module.so"
    path.write_bytes(OTHER_LIBRARY if content is None else content)
    provider = Pkcs11Provider(server.settings(module=path))
    assert "pkcs11.module must name a PKCS#11 library" in await failure(provider.health())
    await provider.close()


async def test_a_token_that_is_unplugged_is_unavailable_and_works_when_it_is_back(server, provider):
    server.make_key("orders")
    block = await provider.wrap("orders", SECRET, CONTEXT)
    server.pause()
    for call in (
        provider.wrap("orders", SECRET, CONTEXT),
        provider.unwrap(block, CONTEXT),
        provider.describe("orders"),
    ):
        assert "token" in await failure(call) or "module" in await failure(provider.health())
    server.resume()
    assert await provider.unwrap(block, CONTEXT) == SECRET


async def test_a_start_while_the_token_is_away(server, provider):
    server.make_key("orders")
    server.pause()
    await failure(provider.health())
    server.resume()
    assert await provider.wrap("orders", SECRET, CONTEXT)


# The library's search ends twice when its session is lost, and the second end is shown as an unraisable error.
@pytest.mark.filterwarnings(
    "ignore:Exception ignored in. 'pkcs11._pkcs11.OperationContext:pytest.PytestUnraisableExceptionWarning"
)
async def test_a_session_that_is_lost_is_opened_anew(server, provider):
    server.make_key("orders")
    await provider.health()
    session = await provider._do(lambda session: session)
    await provider._module.run(session.close)
    assert "it is opened anew at the next call" in await failure(provider.wrap("orders", SECRET, CONTEXT))
    assert await provider.wrap("orders", SECRET, CONTEXT)


async def test_what_is_closed_leaves_nothing(server):
    server.make_key("orders")
    one, other = server.provider(), server.provider()
    block = await one.wrap("orders", SECRET, CONTEXT)
    assert await other.unwrap(block, CONTEXT) == SECRET
    thread = next(thread for thread in threading.enumerate() if thread.name.startswith("pkcs11"))
    await one.close()
    assert await other.unwrap(block, CONTEXT) == SECRET
    await other.close()
    assert not thread.is_alive()


HANGS = """
import asyncio, sys, threading
from pathlib import Path
from kveil.proxy.keys.providers import pkcs11_module

async def main():
    pkcs11_module.CLOSE_SECONDS = 0.1
    module = pkcs11_module.Module.use(Path(sys.argv[1]))
    running = asyncio.create_task(module.run(threading.Event().wait))
    waiting = asyncio.create_task(module.run(lambda: print("was not cancelled")))
    await asyncio.sleep(0)
    waiting.cancel()
    await module.leave()
    running.cancel()
    print("left")

asyncio.run(main())
"""


def test_a_library_that_hangs_does_not_keep_the_process_from_ending(server):
    done = subprocess.run(
        [sys.executable, "-c", HANGS, str(server.library)], capture_output=True, text=True, timeout=30, check=False
    )
    assert (done.returncode, done.stdout) == (0, "left\n"), done.stderr


FORKS = """
import asyncio, os, sys
from kveil.proxy.config.key_services import Pkcs11
from kveil.proxy.keys.provider import KeyContext
from kveil.proxy.keys.providers.pkcs11 import Pkcs11Provider

async def use(provider):
    context = KeyContext("test", "orders", bytes(16))
    block = await provider.wrap("orders", bytes(32), context)
    assert await provider.unwrap(block, context) == bytes(32)
    await provider.close()

module, token, pin = sys.argv[1:]
settings = Pkcs11(module=module, token=token, pin=pin)
asyncio.run(use(Pkcs11Provider(settings)))  # as a supervisor's check does
made = Pkcs11Provider(settings)
for _ in range(2):  # one after the other: SoftHSM writes to a token at each login, and who reads just then finds none
    child = os.fork()
    if not child:
        asyncio.run(use(made))
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
asyncio.run(use(made))
"""


def test_processes_that_fork_after_a_check(server):
    server.make_key("orders")
    settings = server.keys_settings()["pkcs11"]
    command = [sys.executable, "-c", FORKS, settings["module"], settings["token"], settings["pin"]]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr


# What is told --------------------------------------------------------------------------------------------------------


async def test_nothing_that_is_told_has_a_secret_in_it(server, provider, caplog):
    caplog.set_level(logging.DEBUG)
    told = []
    other = Pkcs11Provider(server.settings(token="other"))
    server.make_key("orders")
    with capture_logs() as lines:
        block = await provider.wrap("orders", SECRET, CONTEXT)
        server.administer("allow", "orders", "unwrap=no")
        server.pin_file.write_text("wrong-pin")
        for call in (
            lambda: provider.unwrap(block, CONTEXT),
            lambda: provider.unwrap(block._replace(version="77"), CONTEXT),
            lambda: provider.unwrap(block._replace(version="x"), CONTEXT),
            lambda: provider.unwrap(block._replace(wrapped=block.wrapped[1:]), CONTEXT),
            lambda: provider.wrap("other", SECRET, CONTEXT),
            other.health,
            provider.health,
        ):
            with pytest.raises((KeyRefused, KeyDenied, KeyUnavailable)) as caught:
                await call()
            told.append(f"{caught.value!r} {caught.value.__cause__!r} {caught.value.__context__!r}")
    await other.close()
    text = "\n".join([*told, repr(lines), caplog.text, repr(provider), repr(vars(provider))])
    assert "wrong-pin" not in text
    for secret in (server.pin.encode(), SECRET, block.wrapped):
        assert secret.hex() not in text
        assert repr(secret)[2:-1] not in text


def test_the_library_is_loaded_only_where_it_is_used():
    script = "import kveil.proxy.cli, kveil.proxy.keys.opening, sys; sys.exit('pkcs11' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0


def test_without_the_extra_it_says_which(server, monkeypatch):
    keys = Keys.model_validate(server.keys_settings())
    for name in [name for name in sys.modules if name.startswith("kveil.proxy.keys.providers.pkcs11")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "pkcs11", None)
    with pytest.raises(KeySetupError, match=r"pip install 'kveil\[pkcs11\]'"):
        open_provider(KeyService.PKCS11, keys)


def test_the_settings_show_no_pin(server):
    settings: Pkcs11 = server.settings()
    assert server.pin not in repr(settings) + settings.model_dump_json()
