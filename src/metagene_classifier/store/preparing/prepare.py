"""Files of labelled reads to a store in a folder: begun, gone on with, or mended."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from metagene_classifier import __version__
from metagene_classifier.errors import DataError
from metagene_classifier.reads.files import check_named_once
from metagene_classifier.reads.labelled import check_labelled
from metagene_classifier.reads.labels import Labels, read_mapping, write_mapping
from metagene_classifier.store.facts import (
    MAPPING_FILE,
    SHARDS_FOLDER,
    STORE_FILE,
    DamagedFacts,
    InputFacts,
    ShardEntry,
    ShardFacts,
    StoreFacts,
    read_shard_facts,
    read_store_facts,
    shard_path,
    write_store_facts,
)
from metagene_classifier.store.preparing.begun import (
    REQUEST_FILE,
    Begun,
    begin,
    make_folder,
    refusal,
    remove_store,
    whole_shards,
)
from metagene_classifier.store.preparing.digests import input_facts
from metagene_classifier.store.preparing.filling import ENDS_INPUT, ShardFiller, entry_of
from metagene_classifier.store.preparing.lock import only_writer
from metagene_classifier.store.preparing.mending import damaged_shards, mend
from metagene_classifier.store.preparing.noticed import Noticed
from metagene_classifier.store.preparing.pieces import PIECE_BYTES, Piece, pieces_of, reads_of_piece
from metagene_classifier.store.preparing.pool import piece_readers
from metagene_classifier.store.preparing.progress import Pace
from metagene_classifier.store.preparing.request import (
    STDIN,
    Identity,
    PrepareRequest,
    differences,
    identity_of,
    input_differences,
)
from metagene_classifier.store.preparing.summary import summary_of
from metagene_classifier.store.preparing.work import Work
from metagene_classifier.store.tokens import TokenStore

__all__ = ["check_same", "prepare"]

UNKNOWN_IN_ALL = 10_000
SMALL_BYTES = 4 * PIECE_BYTES  # starting workers takes longer than preparing so much


def prepare(
    request: PrepareRequest,
    folder: Path,
    *,
    workers: int,
    tell: Callable[[str], None],
    overwrite: bool = False,
    wait: bool = False,
    quiet: bool = False,
) -> TokenStore:
    """Make the store that is asked for, go on with it where it broke off, or mend it.

    The content of every file is the same whatever the number of workers and however often it broke off. Memory does
    not grow with the inputs: one record must fit, and 128 MiB of text.

    Args:
        request: what the store is to hold.
        folder: of the store; is made.
        workers: processes that parse and tokenize; 1 does it in this one.
        tell: called with lines for the user.
        overwrite: remove another store that is in the folder.
        wait: for another process that writes in the folder, instead of refusing.
        quiet: a store that is whole already is not worth a line.

    Raises:
        DataError: an input cannot be used, is named twice or changed since; reads have no class; or the folder holds a
            store of another request, and then the message says how it differs.
        OutputError: the disk is full or cannot be written; the shards that are whole are kept.
        MgcError: a worker was killed.
    """
    check_named_once(request.files)
    make_folder(folder)
    with only_writer(folder, wait=wait, tell=tell):
        if overwrite:
            remove_store(folder)
        if (folder / STORE_FILE).is_file():
            try:
                return _checked(request, folder, workers, tell, quiet)
            except DamagedFacts as error:
                if not (folder / REQUEST_FILE).is_file():
                    raise
                tell(f"{error}: it is written again from the shards")
                (folder / STORE_FILE).unlink()
        begun = begin(request, folder)
        for left in (folder / SHARDS_FOLDER).glob("*.partial"):
            left.unlink(missing_ok=True)
        try:
            return _finished(request, folder, begun, workers, tell)
        except KeyboardInterrupt:
            kept = whole_shards(folder)
            what = f"{len(kept)} whole shards are kept in {folder}"
            if STDIN in map(str, request.files):
                tell(f"stopped; {what}, but standard input cannot be gone on with: run it again with --overwrite")
            else:
                tell(f"stopped; {what}: run the same command again to go on")
            raise


def check_same(store: TokenStore, request: PrepareRequest) -> None:
    """Refuse a store that does not hold what is asked for. Its inputs are compared when the request names files.

    Raises:
        DataError: with the first differences; or, for a strict request, with the reads that the store left out.
    """
    facts = store.facts
    made = Identity(facts.tokenizer, facts.labelling, facts.read_ids)
    found = differences(made, store.labels, identity_of(request), request.labels, with_files=bool(request.files))
    if request.files:
        found += input_differences(facts.inputs, request.files, request.labels_from)
    if request.read_ids and not facts.read_ids:
        found.append("the store was made without --read-ids")
    if found:
        raise DataError(
            f"{store.folder} is not a store of what this run reads: {'; '.join(found)}: prepare another with the run's "
            "own configuration (mgc prepare --config), or run with what this one was made with"
        )
    _check_labelled(request, facts)


def _checked(
    request: PrepareRequest, folder: Path, workers: int, tell: Callable[[str], None], quiet: bool
) -> TokenStore:
    """A finished store, compared with the request, its shards verified and mended."""
    facts = read_store_facts(folder)
    made = Identity(facts.tokenizer, facts.labelling, facts.read_ids)
    labels = _labels_of(folder, facts, request, tell)
    found = differences(made, labels, identity_of(request), request.labels)
    found += input_differences(facts.inputs, request.files, request.labels_from)
    if request.read_ids != facts.read_ids:
        found.append(f"the store was made {'with' if facts.read_ids else 'without'} --read-ids")
    if found:
        raise DataError(refusal(folder, found))
    bad = damaged_shards(folder, facts.shards)
    if bad:
        tell(f"{folder}: {len(bad)} damaged or missing shards are made again: {', '.join(s.name for s in bad[:10])}")
        with piece_readers(_work(request, request.files), workers) as read:
            renewed = {entry.name: mend(folder, entry, request.files, read, request.read_ids) for entry in bad}
        shards = tuple(renewed.get(shard.name, shard) for shard in facts.shards)
        if shards != facts.shards:
            tell(f"{folder}: they are not the same bytes as before (another version of a library wrote them)")
            write_store_facts(folder, facts.model_copy(update={"shards": shards}))
    elif not quiet:
        tell(f"{folder} is whole: {len(facts.shards)} shards verified")
    store = TokenStore.open(folder)
    _check_labelled(request, store.facts)
    return store


def _labels_of(folder: Path, facts: StoreFacts, request: PrepareRequest, tell: Callable[[str], None]) -> Labels:
    """The store's classes; where their table is lost, the request's if they are the same."""
    with contextlib.suppress(DataError):
        found = read_mapping(folder / MAPPING_FILE)
        if found.fingerprint() == facts.classes_sha256:
            return found
    if facts.classes_sha256 != request.labels.fingerprint():
        raise DataError(
            f"{folder / MAPPING_FILE} is missing or changed, and these classes are not the store's either: give the "
            "table of classes that it was made with, or --overwrite"
        )
    write_mapping(folder / MAPPING_FILE, request.labels)
    tell(f"{folder / MAPPING_FILE} was missing or changed and is written again")
    return request.labels


def _work(request: PrepareRequest, files: Sequence[Path]) -> Work:
    return Work(tuple(files), request.labels, request.source, request.tokenizer, request.read_ids)


def _finished(
    request: PrepareRequest, folder: Path, begun: Begun, workers: int, tell: Callable[[str], None]
) -> TokenStore:
    done = whole_shards(folder)
    entries = [entry_of(facts) for facts in done]
    first_input, first_byte, record, line = _place_to_go_on(done)
    missing = [entry for entry in entries if not _has_size(folder, entry)]
    sizes = [facts.bytes for facts in begun.inputs]
    if sum(sizes) < SMALL_BYTES and STDIN not in map(str, request.files):
        workers = 1
    before = sum(sizes[:first_input])
    if done:
        tell(f"going on in {folder}: {len(done)} shards of {sum(entry.reads for entry in entries):,} reads are there")
    with (
        piece_readers(_work(request, request.files), workers) as read,
        Pace(total_bytes=sum(sizes), done_bytes=before, tell=tell) as pace,
    ):
        for entry in missing:
            tell(f"{shard_path(folder, entry.name)} is missing or cut short and is made again")
            entries[entries.index(entry)] = mend(folder, entry, request.files, read, request.read_ids)
        filler = ShardFiller(
            folder,
            first=len(entries),
            input=first_input,
            record=record,
            line=line,
            read_ids=request.read_ids,
            written=lambda facts: entries.append(entry_of(facts)),
        )
        with contextlib.closing(filler):
            pieces = _pieces(request.files, begun.inputs, first_input, first_byte)
            for piece, reads in read(pieces):
                filler.begin(piece)
                if reads is None:
                    _raise_fault(piece, request.files[piece.input], filler.line - 1, filler.record - 1)
                    raise RuntimeError(f"a fault in {request.files[piece.input]} was not found again")
                filler.add(piece, reads)
                pace.went_on(sum(sizes[: piece.input]) + piece.read_bytes, reads.noticed.records)
            filler.finish()
    return _closed(request, folder, begun, entries)


def _place_to_go_on(done: Sequence[ShardFacts]) -> tuple[int, int | None, int, int]:
    """Input, first byte, record and line behind the last whole shard."""
    if not done:
        return 0, None, 1, 1
    last = done[-1]
    if last.noticed.get(ENDS_INPUT):
        return last.source.input + 1, None, 1, 1
    source = last.source
    return (
        source.input,
        source.first_byte + source.text_bytes,
        source.first_record + last.noticed["records"],
        source.first_line + last.noticed["lines"],
    )


def _pieces(
    files: Sequence[Path], inputs: Sequence[InputFacts], first_input: int, first_byte: int | None
) -> Iterator[Piece]:
    for number in range(first_input, len(files)):
        path = files[number]
        yield from pieces_of(path, number, first_byte=first_byte if number == first_input else None)
        if str(path) != STDIN:
            try:
                status = path.stat()
            except OSError as error:
                raise DataError(f"{path}: cannot be read: {error.strerror}") from error
            if (status.st_size, status.st_mtime_ns) != (inputs[number].bytes, inputs[number].mtime_ns) and (
                input_facts(path).sha256 != inputs[number].sha256
            ):
                raise DataError(
                    f"{path} changed while it was read: run again when nothing writes to it any more"
                    " (mgc prepare with --overwrite)"
                )


def _raise_fault(piece: Piece, path: Path, lines_before: int, records_before: int) -> None:
    name = "standard input" if str(path) == STDIN else str(path)
    for _ in reads_of_piece(piece, name, lines_before=lines_before, records_before=records_before):
        pass


def _has_size(folder: Path, entry: ShardEntry) -> bool:
    try:
        return shard_path(folder, entry.name).stat().st_size == entry.bytes
    except OSError:
        return False


def _closed(request: PrepareRequest, folder: Path, begun: Begun, entries: Sequence[ShardEntry]) -> TokenStore:
    """Add up what was noticed, refuse what is to be refused, and write ``store.json``."""
    noticed = Noticed()
    per_class: dict[int, int] = {}
    for entry in entries:
        facts = read_shard_facts(folder, entry.name)
        noticed.add(Noticed.from_json(facts.noticed), unknown_classes=UNKNOWN_IN_ALL)
        for index, reads in facts.reads_per_class.items():
            per_class[index] = per_class.get(index, 0) + reads
    check_labelled(request.files, request.source, request.strict, noticed.labelling(request.files, per_class))
    identity = begun.identity
    write_store_facts(
        folder,
        StoreFacts(
            package_version=__version__,
            tokenizer=identity.tokenizer,
            labelling=identity.labelling,
            classes_sha256=request.labels.fingerprint(),
            inputs=begun.inputs,
            ids_dtype="uint16" if request.tokenizer.ids_dtype.itemsize == 2 else "uint32",
            read_ids=identity.read_ids,
            shards=tuple(entries),
            reads_per_class=dict(sorted(per_class.items())),
            summary=summary_of(noticed, sum(entry.tokens for entry in entries), entries),
        ),
    )
    return TokenStore.open(folder)


def _check_labelled(request: PrepareRequest, facts: StoreFacts) -> None:
    """Refuse, for a strict request, a store that was made by leaving reads out."""
    if request.strict and "noticed" in facts.summary:
        inputs = [Path(made.path) for made in facts.inputs]
        noticed = Noticed.from_json(facts.summary["noticed"])
        check_labelled(inputs or [Path("the store")], request.source, True, noticed.labelling(inputs))
