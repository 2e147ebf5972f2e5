"""SASL from the client's end: tokens in, tokens out, without I/O. One module for each mechanism.

client = ScramClient("SCRAM-SHA-512", "alice", password)
token = client.start()
while token is not None:
    token = client.respond(send(token))
"""

from kveil.protocol.sasl.client.client import SaslClient, SaslError
from kveil.protocol.sasl.client.oauthbearer import OAuthBearerClient
from kveil.protocol.sasl.client.plain import PlainClient
from kveil.protocol.sasl.client.scram import ScramClient

__all__ = ["OAuthBearerClient", "PlainClient", "SaslClient", "SaslError", "ScramClient"]
