"""One process's chain of announcements: on disk first, then on the control topic, and only then sealed under."""

import asyncio
import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Final, NamedTuple

from kveil.protocol.envelope.crypto import KEY_LENGTH, SigningKey
from kveil.protocol.envelope.key_schedule import EpochKey, new_epoch_key_secret
from kveil.protocol.identity.announcement import Ending, Epoch, announce
from kveil.protocol.identity.beacon import Beacon
from kveil.protocol.identity.credential import Role
from kveil.protocol.identity.errors import IdentityError as ProtocolError
from kveil.protocol.identity.marks import Head
from kveil.protocol.identity.members import Listed, Recipient
from kveil.protocol.identity.progress import Progress, TransactionEnd
from kveil.protocol.identity.record import encode_record, sign_body
from kveil.protocol.identity.signing import RecordType, Signed, read_signed
from kveil.protocol.identity.view import Verdict
from kveil.proxy.identity.control import Control
from kveil.proxy.identity.errors import IdentityError
from kveil.proxy.identity.node_files import ChainEnd, ChainFile
from kveil.proxy.keys.errors import KeyDenied, KeyUnavailable

# At 0.14 ms for a recipient: what would keep the event loop for longer is done beside it.
_INLINE_RECIPIENTS: Final = 20


class Demands(NamedTuple):
    """What the realm demands of batches, as a checkpoint says."""

    signatures: bool
    positions: bool


class NewEpoch(NamedTuple):
    """An epoch key that was announced, for whom, and what was demanded then."""

    key: EpochKey
    recipients: frozenset[bytes]
    sequence: int
    demands: Demands


class Announcer:
    """The chain of this process. It is taken when it is first needed: a process that only reads has none."""

    def __init__(self, control: Control, epoch_seconds: int) -> None:
        self._control = control
        self._epoch_seconds = epoch_seconds
        self._chain: ChainFile | None = None
        self._is_settled = False
        self._announcing = asyncio.Lock()
        self._number = 0  # of the last beacon
        self._first = 1  # the sequence of this process's first announcement

    async def settle(self) -> None:
        """Have a chain whose last announcement is on the topic. The topic must have been read.

        :raises IdentityError: the topic has more of it than this node remembers, or its file can't be used.
        :raises KeyUnavailable: the topic can't be written now.
        """
        async with self._announcing:
            await self._settle()

    async def _settle(self) -> ChainFile:
        if self._chain is None:
            self._chain = self._control.node.files.take_chain()
            self._first = self._chain.end.sequence + 1
        chain = self._chain
        if not self._is_settled:
            self._check(chain)
            if chain.end.sequence and self._control.view.announcement(chain.end.hash) is None:
                await self._control.append([encode_record(self._last(chain))])
            self._is_settled = True
        return chain

    def _check(self, chain: ChainFile) -> None:
        """Raises IdentityError if somebody has gone on with this chain from where this process thinks that it ends."""
        end = chain.end
        head = self._control.view.head(self._control.me, end.chain)
        if head is None or head.sequence < end.sequence or head == Head(end.sequence, end.hash):
            return
        msg = (
            f"the control topic has announcement {head.sequence} of the chain {end.chain.hex()}, and {chain.path} ends "
            f"at {end.sequence}: {self._control.node.files.directory} was rolled back, or a copy of it is in use "
            "elsewhere. Each host needs an identity of its own: enrol this one anew, in another directory, and have "
            f"the old one revoked. If you restored a backup, and know that there is no copy, remove {chain.path}"
        )
        raise IdentityError(msg)

    def _last(self, chain: ChainFile) -> Signed:
        try:
            return read_signed(RecordType.ANNOUNCEMENT, chain.end.record, self._control.view.realm)
        except ProtocolError as error:
            msg = f"{chain.path} holds no announcement of this realm ({error.reason}): remove it, and its chain ends"
            raise IdentityError(msg) from None

    @property
    def demands(self) -> Demands | None:
        """What is demanded now, None without a checkpoint."""
        newest = self._control.view.checkpoint
        return None if newest is None else Demands(newest.signatures, newest.positions)

    async def announce(self, topic: str, *, sign: bool = True, replaces: Ending | None = None) -> NewEpoch:
        """A new epoch key for a topic, which all who may read it can have from the topic.

        Batches under it are signed if the realm demands it and `sign` doesn't forgo it. `replaces` is the key before
        it, under which nothing more is sealed.

        :raises KeyDenied: this node may not produce to the topic.
        :raises KeyUnavailable: it can't be announced now.
        :raises IdentityError: as `settle`, or the chain's file can't be written.
        """
        async with self._announcing:
            chain = await self._settle()
            listed, recipients = self._may_announce(topic)
            demands = self.demands
            if demands is None:
                raise AssertionError("nothing is sealed without a checkpoint")
            secret = new_epoch_key_secret()
            signing_key = SigningKey(os.urandom(KEY_LENGTH)) if sign and demands.signatures else None
            epoch = self._next(chain.end, topic, listed, signing_key)
            epoch = replace(epoch, positions=demands.positions, replaces=replaces)
            keys = [one.keys for one in recipients]
            signer = self._control.node.identity
            try:
                if len(keys) > _INLINE_RECIPIENTS:
                    signed = await asyncio.to_thread(announce, epoch, secret, keys, signer)
                else:
                    signed = announce(epoch, secret, keys, signer)
            except ProtocolError as error:
                raise KeyUnavailable(f"an epoch key of {topic} can't be announced: {error.reason}") from None
            chain.advance(ChainEnd(chain=epoch.chain, sequence=epoch.sequence, hash=signed.hash, record=signed.cose))
            self._is_settled = False  # until it is read back
            await self._control.append([encode_record(signed)])
            self._is_settled = True
        judged = self._control.view.announcement(signed.hash)
        if judged is None or judged.verdict is not Verdict.ACCEPTED:
            reason = "it isn't there" if judged is None else judged.reason
            raise KeyUnavailable(f"the announcement of an epoch key of {topic} doesn't count: {reason}")
        announced = judged.announced
        key = announced.announcement.epoch_key(secret, announced.recipients, signing_key)
        return NewEpoch(key, frozenset(announced.recipients), epoch.sequence, demands)

    def _may_announce(self, topic: str) -> tuple[Listed, tuple[Recipient, ...]]:
        """The own credential, and who is to have the key. Raises KeyDenied or KeyUnavailable."""
        control = self._control
        if (stop := control.sealing_stop()) is not None:
            raise KeyUnavailable(f"nothing is sealed: {stop}")
        listed = control.own_credential()
        if not listed.credential.may(Role.PRODUCE, topic):
            raise KeyDenied(f"{listed.credential.name} wasn't granted to produce to {topic}")
        if not control.view.has_room(control.me):
            msg = "this identity has announced as many keys as it can: enrol this host anew, in another directory"
            raise KeyUnavailable(msg)
        recipients = control.view.recipients(topic, control.now)
        if not recipients:
            msg = f"nobody could ever read {topic}: have the authority grant it to a consumer, or to a keeper, first"
            raise KeyUnavailable(msg)
        return listed, recipients

    def _next(self, end: ChainEnd, topic: str, listed: Listed, signing_key: SigningKey | None) -> Epoch:
        kept = self._control.view.kept
        if kept is None:
            raise AssertionError("nothing is sealed without a checkpoint")
        now = self._control.now
        return Epoch(
            realm=self._control.view.realm,
            producer=self._control.me,
            credential=listed.hash,
            topic=topic,
            created=now,
            not_after=now + self._epoch_seconds,
            chain=end.chain,
            sequence=end.sequence + 1,
            previous=end.hash,
            checkpoint=kept,
            batch_key=None if signing_key is None else signing_key.verify_key.public,
            positions=False,
            first=self._first,
        )

    async def tell(
        self,
        heads: Callable[[], Sequence[Progress]],
        ended: Callable[[], Sequence[TransactionEnd]],
        *,
        last: bool = False,
    ) -> None:
        """Publish a beacon, if this process has announced anything: how far its lanes are, and how transactions ended.

        One that hasn't leaves the last word of the process before it.

        :raises KeyDenied: this node is no member any more.
        :raises KeyUnavailable: the topic can't be written now.
        """
        async with self._announcing:
            kept = self._control.view.kept
            if self._chain is None or self._chain.end.sequence < self._first or kept is None:
                return
            listed, end = self._control.own_credential(), self._chain.end
            known = self._control.view.beacon(self._control.me, end.chain)
            # No number may come twice, also where the last one of an earlier start isn't on the topic.
            numbers = (self._number, 0 if known is None else known.number, self._control.now * 1000)
            self._number = max(numbers) + 1
            beacon = Beacon(
                realm=self._control.view.realm,
                producer=self._control.me,
                credential=listed.hash,
                chain=end.chain,
                number=self._number,
                created=self._control.now,
                head=Head(end.sequence, end.hash),
                checkpoint=kept,
                heads=tuple(sorted(heads())),
                last=last,
                ended=tuple(ended()),
            )
            await self._control.append([encode_record(sign_body(beacon, self._control.node.identity))])

    def close(self) -> None:
        """Leave the chain to another process."""
        if self._chain is not None:
            self._chain.close()
            self._chain = None
            self._is_settled = False
