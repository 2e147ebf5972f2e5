# cython: language_level=3
"""The loops of `record_loops.py` for a compiler. Each does what its namesake there does, in the same order.

Bytes are read and written through a few functions in front only. Each checks where it is before it touches anything,
since what is read here may come from a hostile broker.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.mem cimport PyMem_Free, PyMem_Malloc, PyMem_Realloc
from libc.stdint cimport int32_t, int64_t, uint32_t, uint64_t
from libc.string cimport memcmp, memcpy

from kveil.protocol.envelope import registry
from kveil.protocol.envelope.crypto import InvalidTag
from kveil.protocol.envelope.errors import Reason, Unopenable
from kveil.protocol.envelope.header import HEADER
from kveil.protocol.envelope.origin import COMMON_LENGTH, find_envelope, find_origin
from kveil.protocol.envelope.record_loops import Opened
from kveil.protocol.envelope.sealed_batch import TOMBSTONE_HEADER
from kveil.protocol.kafka.errors import BatchTooLarge, InvalidRecord
from kveil.protocol.kafka.record_batch import MAX_RECORDS
from kveil.protocol.kafka.records import read_headers

cdef enum:
    PREFIX_SIZE = 17
    NONCE_SIZE = 12
    VARINT_MOST = 10
    NULL_LENGTH = -1

cdef Py_ssize_t COMMON = COMMON_LENGTH
cdef Py_ssize_t HEAD = HEADER.size
cdef Py_ssize_t INDEXES = MAX_RECORDS
cdef int64_t TIME_SPAN = 1 << 62
cdef int RECORD_MODE = registry.RECORD
cdef int TOMBSTONE_MODE = registry.TOMBSTONE
cdef bytes NO_HEADERS = b"\x00"
cdef str MALFORMED = "malformed record"


cdef int check(bint holds) except -1:
    """What the code around has seen to. It is looked at again because memory hangs on it."""
    if not holds:
        raise RuntimeError("a length isn't what it must be")
    return 0


# Reading ---------------------------------------------------------------------------------------------------------

cdef struct Reader:
    const unsigned char* data
    Py_ssize_t end
    Py_ssize_t pos


cdef Reader reader_of(bytes data):
    """A reader of all of `data`, which must outlive it."""
    cdef Reader reader
    reader.data = <const unsigned char*>PyBytes_AS_STRING(data)
    reader.end = PyBytes_GET_SIZE(data)
    reader.pos = 0
    return reader


cdef int64_t read_signed(Reader* reader, int most, int bits) except? -1:
    """A zigzag varint of at most so many bytes and bits. Raises InvalidRecord if it is cut short or too long."""
    cdef uint64_t raw = 0
    cdef unsigned char byte
    cdef int number
    for number in range(most):
        if reader.pos >= reader.end:
            break
        byte = reader.data[reader.pos]
        reader.pos += 1
        if number == 9 and byte > 1:
            break  # beyond 64 bits
        raw |= <uint64_t>(byte & 0x7F) << (7 * number)
        if byte < 0x80:
            if bits < 64 and raw >> bits:
                break
            return <int64_t>(raw >> 1) ^ -<int64_t>(raw & 1)
    raise InvalidRecord(MALFORMED)


cdef int64_t read_short(Reader* reader) except? -1:
    """A zigzag varint of 32 bits; most are one byte."""
    cdef unsigned char byte
    if reader.pos < reader.end:
        byte = reader.data[reader.pos]
        if byte < 0x80:
            reader.pos += 1
            return <int64_t>(byte >> 1) ^ -<int64_t>(byte & 1)
    return read_signed(reader, 5, 32)


cdef unsigned char read_byte(Reader* reader) except? 255:
    if reader.pos >= reader.end:
        raise InvalidRecord(MALFORMED)
    reader.pos += 1
    return reader.data[reader.pos - 1]


cdef Py_ssize_t skip(Reader* reader, int64_t length) except -1:
    """Go over so many bytes, which must be there, and return where they begin."""
    cdef Py_ssize_t start = reader.pos
    if length < 0 or length > reader.end - start:
        raise InvalidRecord(MALFORMED)
    reader.pos = start + <Py_ssize_t>length
    return start


cdef Py_ssize_t skip_headers(Reader* reader) except -1:
    """Go over headers with their count, and return where they begin."""
    cdef Py_ssize_t start = reader.pos
    cdef int64_t count = read_short(reader)
    cdef int64_t length
    if count < 0:
        raise InvalidRecord(MALFORMED)
    while count:
        skip(reader, read_short(reader))
        length = read_short(reader)
        if length != NULL_LENGTH:
            skip(reader, length)
        count -= 1
    return start


cdef bytes slice_of(Reader* reader, Py_ssize_t start, Py_ssize_t stop):
    """The bytes from `start` to `stop`, both of which the reader has passed."""
    check(0 <= start <= stop <= reader.end)
    return PyBytes_FromStringAndSize(<const char*>reader.data + start, stop - start)


cdef struct Record:
    int64_t timestamp_delta
    int64_t offset_delta
    bint has_key
    Py_ssize_t key
    Py_ssize_t key_end
    bint has_value
    Py_ssize_t value
    Py_ssize_t value_end
    Py_ssize_t headers
    Py_ssize_t headers_end


cdef int read_record(Reader* reader, Record* record, int64_t previous, int64_t last_offset_delta) except -1:
    """One record, as places in the section. `previous` is the offset delta before it. Raises InvalidRecord."""
    cdef int64_t length = read_short(reader)
    cdef Py_ssize_t start = reader.pos
    read_byte(reader)  # attributes
    record.timestamp_delta = read_signed(reader, VARINT_MOST, 64)
    if not -TIME_SPAN < record.timestamp_delta < TIME_SPAN:
        raise InvalidRecord("timestamp of a record")
    record.offset_delta = read_short(reader)
    if not previous < record.offset_delta <= last_offset_delta:
        raise InvalidRecord("offset of a record")
    cdef int64_t key_length = read_short(reader)
    record.has_key = key_length != NULL_LENGTH
    record.key = skip(reader, key_length) if record.has_key else reader.pos
    record.key_end = reader.pos
    cdef int64_t value_length = read_short(reader)
    record.has_value = value_length != NULL_LENGTH
    record.value = skip(reader, value_length) if record.has_value else reader.pos
    record.value_end = reader.pos
    record.headers = skip_headers(reader)
    record.headers_end = reader.pos
    if reader.pos - start != length:
        raise InvalidRecord(MALFORMED)
    return 0


cdef struct Span:
    const unsigned char* data
    Py_ssize_t length


cdef Span span_of(bytes data):
    """All of `data`, which must outlive it."""
    cdef Span span
    span.data, span.length = <const unsigned char*>PyBytes_AS_STRING(data), PyBytes_GET_SIZE(data)
    return span


cdef Span passed(Reader* reader, Py_ssize_t start, Py_ssize_t stop) except *:
    """The bytes from `start` to `stop`, both of which the reader has passed."""
    cdef Span span
    check(0 <= start <= stop <= reader.end)
    span.data, span.length = reader.data + start, stop - start
    return span


# Writing ---------------------------------------------------------------------------------------------------------

cdef class Section:
    """Bytes that grow."""

    cdef unsigned char* data
    cdef Py_ssize_t size
    cdef Py_ssize_t capacity

    def __cinit__(self, Py_ssize_t capacity):
        self.data = <unsigned char*>PyMem_Malloc(max(capacity, 64))
        if self.data == NULL:
            raise MemoryError
        self.capacity = max(capacity, 64)

    def __dealloc__(self):
        PyMem_Free(self.data)

    cdef unsigned char* room(self, Py_ssize_t length) except NULL:
        """Where the next `length` bytes go, which count as written."""
        cdef Py_ssize_t needed = self.size + length
        cdef unsigned char* grown
        if needed > self.capacity:
            grown = <unsigned char*>PyMem_Realloc(self.data, max(needed, 2 * self.capacity))
            if grown == NULL:
                raise MemoryError
            self.data, self.capacity = grown, max(needed, 2 * self.capacity)
        self.size = needed
        return self.data + needed - length

    cdef int put(self, const void* data, Py_ssize_t length) except -1:
        memcpy(self.room(length), data, length)
        return 0

    cdef int put_bytes(self, bytes data) except -1:
        return self.put(PyBytes_AS_STRING(data), PyBytes_GET_SIZE(data))

    cdef int put_signed(self, int64_t value) except -1:
        cdef unsigned char varint[VARINT_MOST]
        cdef int length = write_signed(varint, value)
        return self.put(varint, length)

    cdef Span span(self):
        cdef Span span
        span.data, span.length = self.data, self.size
        return span

    cdef bytes content(self):
        return PyBytes_FromStringAndSize(<const char*>self.data, self.size)


cdef int write_signed(unsigned char* to, int64_t value) noexcept:
    """A zigzag varint at `to`, which has room for 10 bytes; its length is returned."""
    cdef uint64_t raw = (<uint64_t>value << 1) ^ (0 if value >= 0 else <uint64_t>-1)
    cdef int length = 0
    while raw >= 0x80:
        to[length] = <unsigned char>(raw & 0x7F | 0x80)
        raw >>= 7
        length += 1
    to[length] = <unsigned char>raw
    return length + 1


cdef int signed_size(int64_t value) noexcept:
    cdef unsigned char varint[VARINT_MOST]
    return write_signed(varint, value)


cdef void write_big_endian(unsigned char* to, uint64_t value, int size) noexcept:
    cdef int at
    for at in range(size - 1, -1, -1):
        to[at] = <unsigned char>(value & 0xFF)
        value >>= 8


cdef uint64_t read_big_endian(const unsigned char* data, int size) noexcept:
    cdef uint64_t value = 0
    cdef int at
    for at in range(size):
        value = value << 8 | data[at]
    return value


cdef int put_record(
    Section section, int64_t timestamp_delta, int64_t offset_delta, bytes key, Span value, Span value_end, Span headers
) except -1:
    """One record, its value in two parts. A key of None and a negative length of the value's first part are null."""
    cdef Py_ssize_t key_length = NULL_LENGTH if key is None else PyBytes_GET_SIZE(key)
    cdef Py_ssize_t value_length = NULL_LENGTH if value.length < 0 else value.length + value_end.length
    section.put_signed(
        1 + signed_size(timestamp_delta) + signed_size(offset_delta) + signed_size(key_length) + max(key_length, 0)
        + signed_size(value_length) + max(value_length, 0) + headers.length
    )
    section.room(1)[0] = 0  # attributes
    section.put_signed(timestamp_delta)
    section.put_signed(offset_delta)
    section.put_signed(key_length)
    if key_length > 0:
        section.put_bytes(key)
    section.put_signed(value_length)
    if value_length > 0:
        section.put(value.data, value.length)
        section.put(value_end.data, value_end.length)
    return section.put(headers.data, headers.length)


# What both directions do alike -----------------------------------------------------------------------------------

cdef bytes additional_data(Span head, bytes wire_key):
    """The envelope up to its ciphertext, and the key beside it."""
    cdef Py_ssize_t key_length = 0 if wire_key is None else PyBytes_GET_SIZE(wire_key)
    cdef bytes made = PyBytes_FromStringAndSize(NULL, head.length + 1 + key_length)
    cdef unsigned char* to = <unsigned char*>PyBytes_AS_STRING(made)
    memcpy(to, head.data, head.length)
    to[head.length] = 0 if wire_key is None else 1
    if key_length:
        memcpy(to + head.length + 1, PyBytes_AS_STRING(wire_key), key_length)
    return made


cdef bytes nonce_of(bytes base, uint32_t index):
    """The base nonce XOR the index."""
    check(PyBytes_GET_SIZE(base) == NONCE_SIZE)
    cdef bytes made = PyBytes_FromStringAndSize(PyBytes_AS_STRING(base), NONCE_SIZE)
    cdef unsigned char* end = <unsigned char*>PyBytes_AS_STRING(made) + NONCE_SIZE - 4
    write_big_endian(end, read_big_endian(end, 4) ^ index, 4)
    return made


# The loops -------------------------------------------------------------------------------------------------------

def seal_each(
    bytes section, Py_ssize_t count, int64_t last_offset_delta, int64_t base_timestamp, *, bytes record_common,
    bytes tombstone_common, bytes extensions, cipher, hide, Py_ssize_t most,
):
    """See `record_loops.seal_each`, which alone seals with trailers: to sign costs a hundred times this loop."""
    check(PyBytes_GET_SIZE(record_common) == COMMON and PyBytes_GET_SIZE(tombstone_common) == COMMON)
    cdef Reader reader = reader_of(section)
    cdef Record record
    cdef Py_ssize_t head_length = HEAD + PyBytes_GET_SIZE(extensions)
    cdef Section sealed = Section(reader.end + count * (head_length + 64))
    cdef Section head = Section(head_length)  # of one record after the other
    cdef unsigned char* head_at = head.room(head_length)
    cdef bytes base_nonce = cipher.base_nonce
    encrypt = cipher.aead.encrypt
    cdef bytes wire_key, plaintext, ciphertext, own
    cdef unsigned char* to
    cdef Py_ssize_t index, key_length, headers_length, value_length, size
    cdef int64_t previous = -1, timestamp
    memcpy(head_at + HEAD, PyBytes_AS_STRING(extensions), PyBytes_GET_SIZE(extensions))
    for index in range(count):
        read_record(&reader, &record, previous, last_offset_delta)
        previous = record.offset_delta
        timestamp = <int64_t>(<uint64_t>base_timestamp + <uint64_t>record.timestamp_delta)
        if (timestamp < base_timestamp) != (record.timestamp_delta < 0):
            raise InvalidRecord("timestamp of a record")
        wire_key = slice_of(&reader, record.key, record.key_end) if record.has_key else None
        key_length = 0
        if hide is not None and wire_key is not None:
            wire_key = hide(wire_key)
            key_length = record.key_end - record.key
        headers_length = record.headers_end - record.headers
        value_length = record.value_end - record.value
        size = PREFIX_SIZE + key_length + headers_length + value_length
        if size > most:
            raise BatchTooLarge("record above the limit of one envelope")
        plaintext = PyBytes_FromStringAndSize(NULL, size)
        to = <unsigned char*>PyBytes_AS_STRING(plaintext)
        write_big_endian(to, 0, 5)  # flags, pad length
        write_big_endian(to + 5, <uint64_t>timestamp, 8)
        write_big_endian(to + 13, <uint64_t>(NULL_LENGTH if hide is None or wire_key is None else key_length), 4)
        memcpy(to + PREFIX_SIZE, reader.data + record.key, key_length)
        memcpy(to + PREFIX_SIZE + key_length, reader.data + record.headers, headers_length)
        memcpy(to + PREFIX_SIZE + key_length + headers_length, reader.data + record.value, value_length)
        memcpy(head_at, PyBytes_AS_STRING(record_common if record.has_value else tombstone_common), COMMON)
        write_big_endian(head_at + COMMON, index, 4)
        write_big_endian(head_at + COMMON + 4, size, 4)
        ciphertext = encrypt(nonce_of(base_nonce, index), plaintext, additional_data(head.span(), wire_key))
        put_sealed(sealed, &record, wire_key, head.span(), span_of(ciphertext))
    if reader.pos != reader.end:
        raise InvalidRecord("bytes behind the last record")
    return sealed.content()


cdef int put_sealed(Section sealed, Record* record, bytes wire_key, Span head, Span ciphertext) except -1:
    """A sealed record: its envelope is the value, or a header where the value is null."""
    cdef Span nothing = span_of(b""), null = nothing
    cdef Section own
    if record.has_value:
        return put_record(
            sealed, record.timestamp_delta, record.offset_delta, wire_key, head, ciphertext, span_of(NO_HEADERS)
        )
    own = Section(head.length + ciphertext.length + 32)
    own.put_signed(1)
    own.put_signed(len(TOMBSTONE_HEADER))
    own.put_bytes(TOMBSTONE_HEADER)
    own.put_signed(head.length + ciphertext.length)
    own.put(head.data, head.length)
    own.put(ciphertext.data, ciphertext.length)
    null.length = NULL_LENGTH
    return put_record(sealed, record.timestamp_delta, record.offset_delta, wire_key, null, nothing, own.span())


def find_each(bytes section, Py_ssize_t count, int64_t last_offset_delta, dict origins, Py_ssize_t most):
    """See `record_loops.find_each`."""
    cdef Reader reader = reader_of(section)
    cdef Record record
    cdef list sealed = []
    cdef list no_headers = []
    cdef list headers
    cdef bytes common = b"", extensions = b"", envelope, key
    cdef const unsigned char* at
    cdef Py_ssize_t number, overhead = 0, length
    cdef uint64_t index, size
    cdef int64_t previous = -1
    cdef int mode = 0, expected
    origin = None
    for number in range(count):
        read_record(&reader, &record, previous, last_offset_delta)
        previous = record.offset_delta
        key = slice_of(&reader, record.key, record.key_end) if record.has_key else None
        if record.has_value and record.headers_end - record.headers == 1:
            headers, expected = no_headers, RECORD_MODE
            envelope = slice_of(&reader, record.value, record.value_end)
        else:
            headers, _ = read_headers(slice_of(&reader, record.headers, record.headers_end))
            envelope, expected = find_envelope(
                slice_of(&reader, record.value, record.value_end) if record.has_value else None, headers
            )
        length = PyBytes_GET_SIZE(envelope)
        at = <const unsigned char*>PyBytes_AS_STRING(envelope)
        if (
            origin is None
            or mode != expected
            or length < HEAD + PyBytes_GET_SIZE(extensions)
            or memcmp(at, PyBytes_AS_STRING(common), COMMON)
            or memcmp(at + HEAD, PyBytes_AS_STRING(extensions), PyBytes_GET_SIZE(extensions))
        ):
            origin = find_origin(envelope, expected, origins)
            mode, extensions, overhead = expected, origin.extensions, origin.overhead
            common = envelope[:COMMON]
        check(length >= HEAD and PyBytes_GET_SIZE(common) == COMMON)
        index, size = read_big_endian(at + COMMON, 4), read_big_endian(at + COMMON + 4, 4)
        if <int64_t>size != length - overhead or not PREFIX_SIZE + 1 <= <int64_t>size <= most:
            raise Unopenable(Reason.LENGTH)
        if <int64_t>index >= INDEXES:
            raise Unopenable(Reason.INDEX)
        sealed.append((origin, index, record.offset_delta, key, envelope, headers))
    if reader.pos != reader.end:
        raise InvalidRecord("bytes behind the last record")
    return sealed


def open_each(list records, openers, add_headers):
    """See `record_loops.open_each`."""
    cdef Section opened = Section(sum([len(record[4]) for record in records]))
    cdef bytes wire_key, envelope, plaintext, key, headers, base_nonce = b""
    cdef Reader reader
    cdef Span head, value, own, nothing = span_of(b"")
    cdef int64_t offset_delta, timestamp, key_length, base = 0, lowest = 0, highest = 0
    cdef uint32_t index
    cdef Py_ssize_t pos, end, start = 0
    cdef int mode = 0
    cdef bint is_first = True
    last = decrypt = hide = None
    for origin, index, offset_delta, wire_key, envelope, wire_headers in records:
        if origin is not last:
            cipher, hide = openers[origin]
            decrypt, base_nonce = cipher.aead.decrypt, cipher.base_nonce
            mode, start, last = origin.mode, origin.ciphertext_at, origin
        reader = reader_of(envelope)
        head = passed(&reader, 0, start)
        try:
            plaintext = decrypt(
                nonce_of(base_nonce, index), slice_of(&reader, start, reader.end), additional_data(head, wire_key)
            )
        except InvalidTag:
            raise Unopenable(Reason.TAG) from None
        reader = reader_of(plaintext)
        check(reader.end >= PREFIX_SIZE)
        if reader.data[0]:
            raise Unopenable(Reason.FLAGS)
        end = reader.end - <Py_ssize_t>read_big_endian(reader.data + 1, 4)
        timestamp = <int64_t>read_big_endian(reader.data + 5, 8)
        key_length = <int32_t>read_big_endian(reader.data + 13, 4)
        if end < reader.end and (end <= PREFIX_SIZE or not is_zero(passed(&reader, end, reader.end))):
            raise Unopenable(Reason.PAD)
        if key_length < NULL_LENGTH or (hide is None and key_length != NULL_LENGTH):
            raise Unopenable(Reason.INNER_RECORD)
        reader.pos = PREFIX_SIZE
        if hide is None:
            key = wire_key
        else:
            key = None
            if key_length != NULL_LENGTH:
                # One that would go on behind the end isn't what the broker was shown either.
                pos = skip(&reader, min(key_length, reader.end - PREFIX_SIZE))
                key = slice_of(&reader, pos, reader.pos)
            if wire_key != (None if key is None else hide(key)):
                raise Unopenable(Reason.WIRE_KEY)
            if key is not None and PyBytes_GET_SIZE(key) != key_length:
                raise Unopenable(Reason.INNER_RECORD)
        try:
            pos = skip_headers(&reader)
        except InvalidRecord:
            raise Unopenable(Reason.INNER_RECORD) from None
        if reader.pos > end or (mode == TOMBSTONE_MODE and reader.pos < end):
            raise Unopenable(Reason.INNER_RECORD)
        own = passed(&reader, pos, reader.pos)
        if wire_headers and add_headers is not None:
            headers = add_headers(slice_of(&reader, pos, reader.pos), wire_headers)
            own = span_of(headers)
        value = passed(&reader, reader.pos, end)
        if mode == TOMBSTONE_MODE:
            value.length = NULL_LENGTH
        if is_first:
            base = lowest = highest = timestamp
            is_first = False
        lowest, highest = min(lowest, timestamp), max(highest, timestamp)
        put_record(
            opened, <int64_t>(<uint64_t>timestamp - <uint64_t>base), offset_delta, key, value, nothing, own
        )
    if <uint64_t>highest - <uint64_t>lowest >> 63:  # one of the differences had more than 64 bits
        raise Unopenable(Reason.INNER_RECORD)
    return Opened(opened.content(), base, highest)


cdef bint is_zero(Span span) noexcept:
    """Whether there is nothing but zeros."""
    cdef Py_ssize_t at
    for at in range(span.length):
        if span.data[at]:
            return False
    return True
