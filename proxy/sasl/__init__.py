"""SASL from the client's end: tokens in, tokens out, without I/O. One module for each mechanism.

client = ScramClient("SCRAM-SHA-512", "alice", password)
token = client.start()
while token is not None:
    token = client.respond(send(token))
"""

from kveil.proxy.sasl.client import SaslClient, SaslError
from kveil.proxy.sasl.oauthbearer import OAuthBearerClient
from kveil.proxy.sasl.plain import PlainClient
from kveil.proxy.sasl.scram import ScramClient

__all__ = ["OAuthBearerClient", "PlainClient", "SaslClient", "SaslError", "ScramClient"]
