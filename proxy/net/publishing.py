"""Writing a file of records to the control topic, for those who signed them elsewhere."""

from kveil.protocol.identity.checkpoint import Checkpoint
from kveil.protocol.identity.record import encode_record
from kveil.protocol.identity.view import View
from kveil.proxy.config import Settings
from kveil.proxy.identity.enrolling import NodeReader
from kveil.proxy.identity.errors import IdentityError
from kveil.proxy.identity.records_file import RecordsFile
from kveil.proxy.net.control import control_topic


async def publish_records(settings: Settings, content: RecordsFile) -> int:
    """Write them, and return how many there are.

    :raises IdentityError: the topic has newer ones; or it can't be read, or written.
    """
    checkpoints = [one for one in content.records if isinstance(one.body, Checkpoint)]
    authority = checkpoints[-1].signed.signer if checkpoints else bytes(32)
    reader = NodeReader(View(realm=content.realm, authority=authority))
    async with control_topic(settings, reader, make=bool(checkpoints)) as log:
        newest, kept = reader.view.checkpoint, reader.view.kept
        for signed, body in checkpoints:
            if not isinstance(body, Checkpoint) or newest is None or kept is None:
                continue
            if body.number < newest.number or (body.number == newest.number and signed.hash != kept.hash):
                raise IdentityError(
                    f"the topic has checkpoint {newest.number}, and the file's is {body.number}: to go back would stop "
                    "all nodes. Make the file again with --upstream or --config, so that the authority sees the topic"
                )
        await log.append([encode_record(one.signed) for one in content.records])
    return len(content.records)
