"""Which keys there are, read off the models: for checking names, proposing near ones, and documentation."""

import types
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from kveil.proxy.config.models import Settings


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfigKey:
    """One key that can be set: `path` as in `topics[].match`, `variable` its environment variable."""

    path: str
    variable: str
    required: bool
    default: object


def config_keys(model: type[BaseModel] = Settings, prefix: str = "") -> Iterator[ConfigKey]:
    """Every key, depth first. A list stands as `[]`; a part that may be null stands itself too."""
    for name, field in model.model_fields.items():
        path = f"{prefix}{name}"
        inner = model_of(field.annotation)
        many = _is_sequence(field.annotation)
        if inner is None or _may_be_null(field.annotation):
            yield ConfigKey(path=path, variable=_variable(path), required=field.is_required(), default=_default(field))
        if inner is not None:
            yield from config_keys(inner, f"{path}[]." if many else f"{path}.")


def model_at(path: tuple[str | int, ...]) -> type[BaseModel] | None:
    """The model whose keys stand below `path`, if it is a known one."""
    model: type[BaseModel] | None = Settings
    for step in path:
        if isinstance(step, int):
            continue
        field = model.model_fields.get(step) if model else None
        model = model_of(field.annotation) if field else None
    return model


def is_list(path: tuple[str | int, ...]) -> bool:
    """Whether the key at `path` holds a list."""
    *above, name = path
    model = model_at(tuple(above))
    if model is None or not isinstance(name, str) or name not in model.model_fields:
        return False
    return _is_sequence(model.model_fields[name].annotation)


def model_of(annotation: object) -> type[BaseModel] | None:
    """The model inside of an annotation such as `tuple[Listener, ...]` or `UpstreamTls | None`."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((found for arg in get_args(annotation) if (found := model_of(arg))), None)


def _is_sequence(annotation: object) -> bool:
    return get_origin(annotation) is tuple


def _may_be_null(annotation: object) -> bool:
    return get_origin(annotation) in {Union, types.UnionType} and type(None) in get_args(annotation)


def _default(field: FieldInfo) -> object:
    return None if field.is_required() else field.get_default(call_default_factory=True, validated_data={})


def _variable(path: str) -> str:
    return "KVEIL_" + path.replace("[].", ".0.").replace(".", "__").upper()
