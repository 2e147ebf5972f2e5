"""An administrator at a PKCS#11 token, in a process of its own, as an administrator is.

python -m tests.support.key_services.token_admin LIBRARY TOKEN PIN make LABEL [ID [VALUE]]   in hex
                                                                   allow LABEL wrap=no,unwrap=yes
                                                                   destroy LABEL
                                                                   pin NEW
"""

import sys

import pkcs11
from pkcs11 import Attribute, KeyType, ObjectClass, Session


def main(library: str, token: str, pin: str, what: str, *more: str) -> None:
    session = pkcs11.lib(library).get_token(token_label=token).open(rw=True, user_pin=pin)
    if what == "pin":
        session.set_pin(pin, more[0])
    elif what == "make":
        make(session, *more)
    elif what == "allow":
        allow(session, *more)
    else:
        for key in keys_of(session, more[0]):
            key.destroy()
    session.close()


def keys_of(session: Session, label: str) -> list:
    return list(session.get_objects({Attribute.CLASS: ObjectClass.SECRET_KEY, Attribute.LABEL: label}))


def make(session: Session, label: str, identifier: str = "", value: str = "") -> None:
    version = bytes.fromhex(identifier) or bytes((len(keys_of(session, label)) + 1,))
    if not value:
        hidden = {Attribute.SENSITIVE: True, Attribute.EXTRACTABLE: False}
        session.generate_key(KeyType.AES, 256, label=label, id=version, store=True, template=hidden)
        return
    session.create_object(
        {
            Attribute.CLASS: ObjectClass.SECRET_KEY,
            Attribute.KEY_TYPE: KeyType.AES,
            Attribute.VALUE: bytes.fromhex(value),
            Attribute.LABEL: label,
            Attribute.ID: version,
            Attribute.TOKEN: True,
            Attribute.WRAP: True,
            Attribute.UNWRAP: True,
        }
    )


def allow(session: Session, label: str, uses: str) -> None:
    for key in keys_of(session, label):
        for use in uses.split(","):
            name, _, answer = use.partition("=")
            key[Attribute[name.upper()]] = answer == "yes"


if __name__ == "__main__":
    main(*sys.argv[1:])
