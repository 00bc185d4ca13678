"""Every function that reads bytes of others and nothing else, each with what must hold of what it lets through."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

import cbor2

import crdt.body
import crdt.delta
from crdt import codec
from crdt.base import Entry
from crdt.errors import Malformed as CrdtMalformed
from crdt.ids import ReplicaId, ShelfId, dot_seq
from crdt.limits import DOT_LIMIT, SEGMENT_BYTES_MAX, SEGMENTS_MAX
from crdt.ops import KIND_MASK, NO_RIGHTS, Op
from crdt.statements import is_list_untrusted
from crdt.takeover import is_record_untrusted, record_of
from crdt.types import REGISTRY, fugue, log, paths
from crdt.types import list as list_type
from mesh.control.json_values import from_json_untrusted, to_json
from mesh.control.protocol import Lines, decode_line_untrusted, encode_line
from mesh.critical.proof import NotProven, verify_untrusted
from mesh.effects import Now
from mesh.errors import ConfigError, Malformed, Refused
from mesh.swim.claims import CLAIM_BYTES_MAX, Alive, claim_from_bytes_untrusted, outranks
from mesh.swim.coordinates import coordinate_untrusted
from mesh.sync import messages
from mesh.sync.statements import is_revocation_untrusted
from mesh.trust import Authority, Directory
from mesh.trust.armour import armour
from mesh.trust.membership import presented_untrusted
from mesh.trust.statements import PURPOSE, STATEMENT_BYTES_MAX, content_untrusted, statement_from_bytes_untrusted
from mesh.trust.token import PREFIX, read_token
from mesh.wire import cbor, cose, delta, handshake
from mesh.wire.frames import Frame
from mesh.wire.packer import PLAIN_BYTES_MAX, encode_frame, frames_untrusted
from tools.fuzz import sealed
from tools.fuzz.decisions import decision_ledgers
from tools.fuzz.grammar import Grammar
from tools.fuzz.material import Material, material
from tools.fuzz.subject import Broken, Decoder, Subject, Target, mixed, same

SHELF: Final = ShelfId(b"somebody" + bytes(4))
READ_BACK_MAX: Final = 16 * 1024
"""What becomes of a datagram's worth of bytes is not larger than this (it is never larger than a few times the bytes)."""


def _decoder(
    name: str,
    about: str,
    read: Callable[[bytes], object],
    seeds: Callable[[Material], Sequence[bytes]],
    sentences: Callable[[Grammar], bytes] | None,
    *,
    refusals: tuple[type[Exception], ...] = (Malformed,),
    check: Callable[[bytes, Any], None] | None = None,
    weight: int = 4,
) -> Target:
    return Target(name, about, lambda: Decoder(read, refusals, check), mixed(seeds, sentences), weight=weight)


# ---- CBOR


class TwoReaders(Subject):
    """crdt's own CBOR and cbor2 behind mesh's door must agree on every input: what is accepted, and what it says."""

    def feed(self, data: bytes) -> bool:
        try:
            ours: object = codec.decode_untrusted(data)
        except Malformed:
            ours = Malformed
        try:
            theirs: object = codec.freeze_untrusted(cbor.decode_untrusted(data))
        except Malformed:
            theirs = Malformed
        if ours is Malformed or theirs is Malformed:
            same(ours is theirs, True, f"accepted by one reader only ({ours!r:.80} and {theirs!r:.80}), {data.hex():.400}")
            return False
        same(codec.encode(ours), data, "accepted, and encoded otherwise")
        same(codec.encode(theirs), data, "accepted, and encoded otherwise by mesh")
        return True


# ---- crdt


def _check_body(raw: bytes, body: crdt.body.Body) -> None:
    same(body.raw, raw, "a body is not what was read")
    for op in body.ops:
        if not 1 <= len(op.path) <= SEGMENTS_MAX or any(not 0 < _length(segment) <= SEGMENT_BYTES_MAX for segment in op.path):
            raise Broken(f"a path outside the limits: {op!r:.300}")
        if not 0 <= op.dot < DOT_LIMIT or len(op.origin) != 12 or not 0 <= op.type < 256:
            raise Broken(f"an op outside the limits: {op!r:.300}")


def _length(segment: str | bytes) -> int:
    return len(segment.encode() if isinstance(segment, str) else segment)


def _read_body(raw: bytes) -> crdt.body.Body:
    """The two decoders must come to one result."""
    try:
        alone: crdt.body.Body | None = crdt.body.body_from_bytes_untrusted(SHELF, 3, raw)
    except CrdtMalformed:
        alone = None
    try:
        body = delta.body_from_bytes_untrusted(SHELF, 3, raw)
    except Malformed:
        same(alone, None, "refused with cbor2, accepted with crdt's own decoder")
        raise
    if alone is None:
        raise Broken("accepted with cbor2, refused by crdt's own decoder")
    same(
        repr((alone.ops, alone.faulty)), repr((body.ops, body.faulty)), "the two decoders read different ops"
    )  # by text: NaN is not NaN
    return body


def _read_delta(raw: bytes) -> object:
    read = delta.delta_from_bytes_untrusted(raw)
    same(delta.delta_bytes(read), raw, "a delta is written otherwise than it was read")
    same(dot_seq(0) <= read.seq < 1 << 48, True, "a seq outside the limits")
    return read


def _read_header(raw: bytes) -> object:
    header = crdt.delta.header_from_bytes_untrusted(ReplicaId(b"somebody"), raw)
    head = delta.head_from_parts_untrusted(header.shelf, raw, bytes(64))
    same(head.header, header, "the two decoders read different headers")
    return head


def _read_types(raw: bytes) -> object:
    """A hostile segment and payload, at every function of the types that reads them; and every view of a cell of them."""
    parts = codec.decode_untrusted(raw)
    if not isinstance(parts, tuple) or len(parts) != 3 or not isinstance(parts[0], bytes | str) or not parts[0]:
        raise CrdtMalformed("not a segment, a payload and a kind")
    segment, payload = parts[0], parts[1]
    kind = parts[2] if type(parts[2]) is int else 0
    ops = [Op(kind & 5, code, ("a", segment), payload, (), SHELF, 256 + at, at, NO_RIGHTS) for code in REGISTRY for at in (0, 1)]
    for view in REGISTRY.values():
        mine = [op for op in ops if op.type == view.code and not op.kind & KIND_MASK]
        view.view(mine)
        same(len(view.verdicts(mine)), len(mine), f"verdicts of {view.name}")
    is_record_untrusted(payload) and record_of(payload)
    refused = 0
    for read in (paths.element_of_segment_untrusted, paths.key_of_segment_untrusted, log.position_untrusted):
        refused += _refuses(lambda read=read: read(segment))  # type: ignore[misc]  # bound now
    refused += _refuses(lambda: paths.element_of_untrusted(segment, payload))
    refused += _refuses(lambda: list_type.placed_untrusted(ops[0]))
    if isinstance(segment, bytes):
        refused += _refuses(lambda: paths.read_ordered_untrusted(segment, 0))
        refused += _refuses(lambda: fugue.read_place_untrusted(segment))
    if refused >= 7:
        raise CrdtMalformed("nobody took it")
    return parts


def _refuses(read: Callable[[], object]) -> bool:
    try:
        read()
    except CrdtMalformed:
        return True
    return False


def _type_seeds(stuff: Material) -> list[bytes]:
    ops = [op for raw in stuff.bodies for op in crdt.body.body_from_bytes_untrusted(SHELF, 1, raw).ops]
    return [codec.encode([op.path[-1], op.payload, op.kind]) for op in ops]


def _type_sentence(grammar: Grammar) -> bytes:
    return grammar.encode([grammar.segment(), grammar.payload(), grammar.rng.randrange(16)])


# ---- sync


def _round_trip(read: Callable[[bytes], Any]) -> Callable[[bytes], object]:
    def twice(raw: bytes) -> object:
        message = read(raw)
        again = message.encode()
        same(read(again), message, "a message reads back as another")
        if len(again) > READ_BACK_MAX:
            raise Broken(f"{len(raw)} bytes became {len(again)}")
        return message

    return twice


def _read_floor_note(raw: bytes) -> messages.FloorNote:
    note = messages.FloorNote.decode_untrusted(raw)
    same(messages.only_tells_untrusted(raw), note.purpose is messages.Purpose.TELL, "a floor waits that was to be answered")
    return note


def _read_listing(raw: bytes) -> messages.ListingPage:
    page = messages.ListingPage.decode_untrusted(raw)
    is_list_untrusted(page.shelf, 1 << 40, page.since, [Entry(*entry) for entry in page.entries])
    return page


_MESSAGES: Final[tuple[tuple[str, Callable[[bytes], Any], Frame, Callable[[Grammar], bytes]], ...]] = (
    ("floor-note", _read_floor_note, Frame.FLOOR, Grammar.floor_note),
    ("digest", messages.Digest.decode_untrusted, Frame.DIGEST, Grammar.digest),
    ("bucket-page", messages.BucketPage.decode_untrusted, Frame.BUCKETS, Grammar.bucket_page),
    ("want", messages.Want.decode_untrusted, Frame.WANT, Grammar.want),
    ("want-listing", messages.WantListing.decode_untrusted, Frame.WANT_LISTING, Grammar.want_listing),
    ("listing-page", _read_listing, Frame.LISTING, Grammar.listing),
    ("want-bodies", messages.WantBodies.decode_untrusted, Frame.WANT_BODIES, Grammar.want_bodies),
    ("body-note", messages.BodyNote.decode_untrusted, Frame.BODY, Grammar.body_note),
    ("trust-ids", messages.TrustIds.decode_untrusted, Frame.TRUST_IDS, Grammar.trust_ids),
)


# ---- swim


def _read_claim(raw: bytes) -> object:
    signed = claim_from_bytes_untrusted(raw)
    same(len(signed.raw) <= CLAIM_BYTES_MAX, True, "a long claim")
    same(cbor2.loads(signed.raw), [signed.body, signed.signature], "a claim is not what was signed")
    if isinstance(signed.claim, Alive):
        same(outranks(signed.claim, signed.claim), False, "a claim outranks itself")
    return signed


def _read_coordinate(raw: bytes) -> object:
    read = coordinate_untrusted(raw)
    if read is None:
        raise Malformed("no place in this world")
    same(read.distance(read) >= 0, True, "a distance below zero")
    return read


# ---- trust


def _read_statement(raw: bytes) -> object:
    statement = statement_from_bytes_untrusted(raw)
    same((statement.raw, len(raw) <= STATEMENT_BYTES_MAX), (raw, True), "a statement is not what was read")
    is_revocation_untrusted(raw)
    return statement


def _read_presentation(raw: bytes) -> object:
    statements = presented_untrusted(raw)
    return [statement_from_bytes_untrusted(each) for each in statements]


def _read_cose(raw: bytes) -> object:
    signed = cose.open1_untrusted(raw)
    same(cose.assemble(signed), raw, "COSE_Sign1 is written otherwise than it was read")
    same(cose.split1_untrusted(raw + b"more"), (*signed, len(raw)), "more bytes change what was read")
    return signed


def _read_several(raw: bytes) -> object:
    signed = cose.open_several_untrusted(raw)
    same(cose.assemble_several(signed), raw, "COSE_Sign is written otherwise than it was read")
    same(raw.startswith(cose.signed_part(raw)), True, "what names a COSE_Sign is not its beginning")
    same(cose.signed_part(cose.assemble_several(signed._replace(signatures=()))), cose.signed_part(raw), "signatures name it")
    if len(signed.signatures) > 1:
        return statement_from_bytes_untrusted(raw)
    return content_untrusted(signed.payload)


def _several_seeds(_stuff: Material) -> list[bytes]:
    """Of an authority of three keys, whole and unfinished."""
    authority = Authority.generate(threshold=2, keys=3, entropy=bytes(range(112)))
    alone = Authority(authority.identities[:1], authority.charter)
    for each in (authority, alone):
        each.certify(bytes(range(32)), name="several", may_write=["a/**"], voter=True)
        each.invite("guest", entropy=bytes(range(1, 33)))
    return [*authority.statements, *alone.proposed]


def _read_token(raw: bytes) -> object:
    return read_token(armour(PREFIX, raw))


def _read_token_text(raw: bytes) -> object:
    return read_token(raw.decode("utf-8", "surrogateescape"))


def _token_parts(stuff: Material) -> list[bytes]:
    tokens = [read_token(token) for token in stuff.tokens]
    return [
        cbor.encode(
            [
                token.charter,
                list(token.issuers),
                token.invite,
                token.invite_identity.seed,
                [list(address) for address in token.addresses],
            ]
        )
        for token in tokens
    ]


class Signed(Subject):
    """Statements of any content, signed by the authority: what a later version says must not harm this one."""

    def __init__(self) -> None:
        stuff = material()
        self._authority = stuff.authority
        self._directory = Directory(stuff.authority.charter)
        self._copy = Authority(stuff.authority.identity, stuff.authority.charter)
        self._now = 0

    def feed(self, data: bytes) -> bool:
        identity, mesh_id = self._authority.identity, self._authority.mesh_id
        try:
            raw = cose.sign1(identity.sign, data, kid=identity.replica_id, purpose=PURPOSE, mesh_id=mesh_id)
        except ValueError:
            return False  # longer than what anybody can sign
        self._now += 1
        now = Now(self._now / 100, 1_767_225_600_000_000 + self._now)
        before = self._directory.digest
        try:
            taken = self._directory.add_untrusted(raw, now)
        except (Malformed, Refused):
            same(self._directory.digest, before, "refused, and the set is another")
            return False
        public_key = statement_from_bytes_untrusted(raw).content
        self._directory.admit(getattr(public_key, "public_key", bytes(32)), raw, now)
        self._directory.take_changed()
        self._directory.take_added()
        return taken is not None

    def finish(self) -> None:
        """Whoever gets the same set in another order ends with the same set."""
        statements = self._directory.statements()
        self._copy.observe_untrusted(statements)
        same(self._copy.directory.statements(), statements, "the same statements make another set")


# ---- control, wire


def _read_line(raw: bytes) -> object:
    lines = Lines()
    lines.feed(raw + b"\n")
    line = lines.next()
    message = decode_line_untrusted(line if line is not None else b"")
    value = {name: from_json_untrusted(item) for name, item in message.items()}
    if all(not name.startswith("$") for name in value):
        again = decode_line_untrusted(encode_line(to_json(value)).rstrip(b"\n"))
        same(
            to_json({name: from_json_untrusted(item) for name, item in again.items()}),
            to_json(value),
            "JSON reads back as something else",
        )
    return message


def _line_seeds(_stuff: Material) -> list[bytes]:
    requests: list[dict[str, Any]] = [
        {"do": "get", "path": "robots/1/pose"},
        {"do": "put", "path": "a/b", "type": "register", "value": {"a": [1, 2.5, None], "b": {"$bytes": "QUJD"}}},
        {"do": "put", "value": {"$map": [[{"$bytes": "AAE="}, {"$float": "inf"}]]}},
        {"do": "watch", "prefix": "robots"},
        {"error": "NotPermitted", "message": "no", "exit": 1},
    ]
    return [encode_line(request).rstrip(b"\n") for request in requests]


def _read_handshake(raw: bytes) -> object:
    tag = handshake.mesh_tag(material().mesh_id)
    read = [handshake.init_untrusted(raw, tag), handshake.cookie_untrusted(raw), handshake.connect_untrusted(raw)]
    if isinstance(read[0], handshake.Init):
        same(
            handshake.encode_init(tag, read[0])[:58],
            raw[:58] if raw[:1] == b"\x02" else b"\x02" + raw[1:58],
            "an INIT reads otherwise",
        )
    if isinstance(read[1], handshake.Cookie):
        same(handshake.encode_cookie(read[1])[1:], raw[1:], "a COOKIE reads otherwise")
    if read[1] is None and read[2] is None and isinstance(read[0], str):
        raise Malformed("none of them")
    return read


def _read_frames(raw: bytes) -> object:
    frames = frames_untrusted(raw)
    if frames is None:
        raise Malformed("the lengths do not add up")
    same(b"".join(encode_frame(kind, payload) for kind, payload in frames), raw, "frames read otherwise")
    return frames


def _plain(stuff: Material) -> list[bytes]:
    frames = [encode_frame(kind, payload) for kind, payloads in stuff.frames.items() for payload in payloads[:8]]
    return [b"".join(frames[at : at + 3])[:PLAIN_BYTES_MAX] for at in range(0, len(frames), 3)]


_BOTH: Final = (Malformed, CrdtMalformed)

DECODERS: Final[tuple[Target, ...]] = (
    Target(
        "cbor",
        "two CBOR readers, one answer",
        TwoReaders,
        mixed(lambda m: [*m.bodies, *m.headers, *m.frames[Frame.DIGEST]], Grammar.cbor),
        weight=12,
    ),
    _decoder("cose", "COSE_Sign1", _read_cose, lambda m: m.statements, Grammar.statement),
    _decoder("several", "COSE_Sign, statements of several keys", _read_several, _several_seeds, None, weight=2),
    _decoder("header", "headers of deltas", _read_header, lambda m: m.headers, Grammar.header, refusals=_BOTH),
    _decoder("body", "bodies of deltas", _read_body, lambda m: m.bodies, Grammar.body, check=_check_body, weight=12),
    _decoder("delta", "whole deltas", _read_delta, lambda m: [*m.frames[Frame.DELTA], *m.frames[Frame.REPAIR]], None),
    _decoder(
        "types",
        "segments and payloads, and every view of them",
        _read_types,
        _type_seeds,
        _type_sentence,
        refusals=_BOTH,
        weight=6,
    ),
    *(
        _decoder(name, f"the frame {kind.name}", _round_trip(read), lambda m, kind=kind: m.frames[kind], sentence, weight=2)  # type: ignore[misc]  # bound now
        for name, read, kind, sentence in _MESSAGES
    ),
    _decoder("claim", "what members say of members", _read_claim, lambda m: m.claims(), Grammar.claim),
    _decoder("coordinate", "network coordinates", _read_coordinate, lambda _m: [bytes(12)], Grammar.coordinate, weight=1),
    _decoder(
        "statement",
        "trust statements",
        _read_statement,
        lambda m: [*m.statements, *(m.forks * len(m.statements))],
        Grammar.statement,
        weight=5,
    ),
    _decoder("presentation", "what is shown at the door", _read_presentation, lambda m: m.presentations, Grammar.presentation),
    _decoder("sealed-value", "encrypted values", sealed.read_value, lambda _m: sealed.sealed_values(), None, weight=2),
    _decoder("wrapped-key", "keys of encrypted prefixes", sealed.read_wrap, lambda _m: sealed.wraps(), None, weight=2),
    _decoder(
        "decisions", "decision ledgers", verify_untrusted, lambda _m: decision_ledgers(), None, refusals=(NotProven,), weight=2
    ),
    _decoder("token", "invites", _read_token, _token_parts, Grammar.presentation, refusals=(ConfigError,), weight=2),
    _decoder(
        "token-text",
        "invites as text",
        _read_token_text,
        lambda m: [t.encode() for t in m.tokens],
        None,
        refusals=(ConfigError,),
        weight=1,
    ),
    Target(
        "directory",
        "statements of any content that the authority signed",
        Signed,
        mixed(lambda m: [cose.open1_untrusted(raw).payload for raw in m.statements], Grammar.statement_payload),
        block=1_000,
    ),
    _decoder("line", "lines of the control socket", _read_line, _line_seeds, Grammar.line),
    _decoder("handshake", "clear datagrams", _read_handshake, lambda m: m.datagrams, None, weight=2),
    _decoder("frames", "frames of a datagram", _read_frames, _plain, None, weight=2),
)
