"""What every part of the configuration has in common."""

from pydantic import BaseModel, ConfigDict


class Section(BaseModel):
    """A map of known keys."""

    # An input may be a secret that was put into the wrong place: it is never repeated in a message.
    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)
