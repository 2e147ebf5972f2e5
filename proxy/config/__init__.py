"""Settings: parsed once, frozen, passed down. This package alone knows pydantic and YAML.

    settings = load(Path("kveil.yaml"), os.environ, overrides)

Three layers, each over the one before it: the file, `KVEIL_` environment variables, command line flags.
Whatever is wrong in any of them is reported in one `ConfigError`, each problem with its path.
"""

from kveil.proxy.config.audit import Audit, AuditFile
from kveil.proxy.config.choices import (
    Addressing,
    Compress,
    Direction,
    Erased,
    Fit,
    Gaps,
    KeyPer,
    KeyService,
    LogFormat,
    LogLevel,
    Mechanism,
    Mode,
    Preset,
    RecordKeys,
    SaslMechanism,
    Seal,
    StubCodec,
    Timestamps,
)
from kveil.proxy.config.errors import ConfigError, Problem
from kveil.proxy.config.identity import Identity, IdentityToken
from kveil.proxy.config.keys import Keys
from kveil.proxy.config.layers import Override
from kveil.proxy.config.listeners import Listener, ListenerSasl, ListenerTls
from kveil.proxy.config.loading import (
    load,
    load_admin,
    load_audit,
    load_key_settings,
    load_keys,
    load_listeners,
    places_to_fill_in,
)
from kveil.proxy.config.models import (
    Admin,
    BrokerPorts,
    Limits,
    Log,
    Settings,
)
from kveil.proxy.config.paths import default_key_path
from kveil.proxy.config.topic_rules import SealedAs, TopicRule
from kveil.proxy.config.tracing import Tracing
from kveil.proxy.config.upstream import Upstream, UpstreamSasl, UpstreamTls
from kveil.proxy.config.values import TOPIC_PLACE, ForwardProxy, HostPort, KeyName, PlainText, SecretRef, Skip

__all__ = [
    "TOPIC_PLACE",
    "Addressing",
    "Admin",
    "Audit",
    "AuditFile",
    "BrokerPorts",
    "Compress",
    "ConfigError",
    "Direction",
    "Erased",
    "Fit",
    "Gaps",
    "ForwardProxy",
    "HostPort",
    "Identity",
    "IdentityToken",
    "KeyName",
    "KeyPer",
    "KeyService",
    "Keys",
    "Limits",
    "Listener",
    "ListenerSasl",
    "ListenerTls",
    "Log",
    "LogFormat",
    "LogLevel",
    "Mechanism",
    "Mode",
    "Override",
    "PlainText",
    "Preset",
    "Problem",
    "RecordKeys",
    "SaslMechanism",
    "Seal",
    "SealedAs",
    "SecretRef",
    "Settings",
    "Skip",
    "StubCodec",
    "Timestamps",
    "TopicRule",
    "Tracing",
    "Upstream",
    "UpstreamSasl",
    "UpstreamTls",
    "default_key_path",
    "load",
    "load_admin",
    "load_audit",
    "load_key_settings",
    "load_keys",
    "load_listeners",
    "places_to_fill_in",
]
