"""The shape of the way to the cluster: where it is, TLS, and who logs in."""

from typing import Annotated, Literal

from pydantic import AfterValidator, ConfigDict, Field, ValidationInfo, field_validator

from kveil.proxy.config.choices import Mechanism
from kveil.proxy.config.fields import (
    Address,
    Extensions,
    NameOrReference,
    ProxyAddress,
    ReadableFile,
    Reference,
    Region,
    TokenUrl,
    list_or_commas,
    none_if_passthrough,
)
from kveil.proxy.config.logins import check_key, check_mechanism
from kveil.proxy.config.section import Section
from kveil.proxy.config.values import ForwardProxy


class UpstreamTls(Section):
    """TLS to the cluster. Without `ca` the system's roots are trusted; the host name is always checked."""

    ca: ReadableFile | None = None
    """PEM file of the roots to trust instead of the system's."""
    cert: ReadableFile | None = None
    """PEM file of the client certificate, with its chain."""
    key: ReadableFile | None = None
    """PEM file of the certificate's private key, if it isn't in `cert`."""
    key_password: Reference | None = None
    """Reference to the private key's passphrase: `file:PATH` or `env:NAME`."""
    min_version: Literal["1.2", "1.3"] = "1.2"
    """Oldest TLS version spoken: `1.2` or `1.3`. The newest that both know is used."""

    @field_validator("key", "key_password")
    @classmethod
    def _belongs_to_a_certificate(cls, value: object, info: ValidationInfo) -> object:
        if value is not None and info.data.get("cert", "unknown") is None:
            msg = "has no use without upstream.tls.cert, the client certificate"
            raise ValueError(msg)
        return value


class UpstreamSasl(Section):
    """The proxy's own login at the cluster."""

    model_config = ConfigDict(validate_default=True)  # so that a key that the mechanism needs is missed at its place

    mechanism: Annotated[Mechanism, AfterValidator(check_mechanism)]
    """`PLAIN`, `SCRAM-SHA-256`, `SCRAM-SHA-512`, `OAUTHBEARER` (tokens of an authorization server) or `AWS_MSK_IAM`."""
    username: NameOrReference | None = None
    """For PLAIN and SCRAM: the user, or a reference to it: `file:PATH` or `env:NAME`."""
    password: Reference | None = None
    """For PLAIN and SCRAM: reference to the password."""
    token_endpoint: TokenUrl | None = None
    """For OAUTHBEARER: URL of the token endpoint, `https:`; `http:` on this host only."""
    client_id: NameOrReference | None = None
    """For OAUTHBEARER: the client's id, or a reference to it."""
    client_secret: Reference | None = None
    """For OAUTHBEARER: reference to the client's secret."""
    scope: str | None = None
    """For OAUTHBEARER: the scope to ask for."""
    ca: ReadableFile | None = None
    """For OAUTHBEARER: PEM file of the roots to trust at the token endpoint instead of the system's."""
    extensions: Extensions = Field(default_factory=dict)
    """For OAUTHBEARER: SASL extensions, such as `{logicalCluster: lkc-1, identityPoolId: pool-1}`."""
    region: Region | None = None
    """For AWS_MSK_IAM: the AWS region of the cluster."""

    @field_validator(
        "username", "password", "token_endpoint", "client_id", "client_secret", "scope", "ca", "extensions", "region"
    )
    @classmethod
    def _belongs_to_the_mechanism(cls, value: object, info: ValidationInfo) -> object:
        if "mechanism" in info.data and info.field_name:
            check_key(info.data["mechanism"], info.field_name, given=bool(value))
        return value


class Upstream(Section):
    """The real cluster. Without `sasl` the clients' own logins pass through."""

    bootstrap: Annotated[tuple[Address, ...], list_or_commas, Field(min_length=1)]
    """The cluster's bootstrap servers, `host:port` each. A list, or one text with commas."""
    tls: UpstreamTls | None = None
    """TLS to the cluster. `{}` trusts the system's roots; `null` is off. The host name is always checked."""
    sasl: Annotated[UpstreamSasl | None, none_if_passthrough] = None
    """Who logs in. `passthrough`: the client, whose login is passed on untouched. A map: the proxy itself."""
    own_sasl: UpstreamSasl | None = None
    """How the proxy itself logs in for its own topics, while its clients' logins are passed on. As `sasl`."""
    proxy: ProxyAddress | None = None
    """HTTP CONNECT or SOCKS5 proxy on the way to the cluster: `http://host:port` or `socks5://host:port`, with `user@`
    before the host where it wants a login. It resolves the brokers' names."""
    proxy_password: Reference | None = None
    """Reference to the password of that user."""

    @field_validator("own_sasl")
    @classmethod
    def _belongs_to_passthrough(cls, value: object, info: ValidationInfo) -> object:
        if value is not None and info.data.get("sasl") is not None:
            msg = "has no use where upstream.sasl says how the proxy logs in for everybody"
            raise ValueError(msg)
        return value

    @property
    def own_login(self) -> UpstreamSasl | None:
        """What the proxy logs in with where no client's login can be passed on."""
        return self.sasl or self.own_sasl

    @property
    def own_login_key(self) -> str:
        """Under which key that stands."""
        return "own_sasl" if self.sasl is None and self.own_sasl is not None else "sasl"

    @field_validator("proxy_password")
    @classmethod
    def _belongs_to_a_user(cls, value: object, info: ValidationInfo) -> object:
        proxy = info.data.get("proxy", "unknown")
        if value is not None and (proxy is None or (isinstance(proxy, ForwardProxy) and proxy.username is None)):
            msg = "has no use without a user: write upstream.proxy as http://user@host:port or socks5://user@host:port"
            raise ValueError(msg)
        return value
