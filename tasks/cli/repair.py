"""`redrive repair`: reads rejected dead letters again, after the mapping was corrected or from corrected bytes."""

from collections import Counter
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from tasks.cli.files import open_input
from tasks.cli.options import MAX_ID, Json, Reason, RejectedFor, Yes
from tasks.cli.output import Column, Output
from tasks.cli.report import Report
from tasks.dlq.errors import Refused
from tasks.dlq.ledger.repairs import Result
from tasks.dlq.text import format_count, format_parameters, join_names

if TYPE_CHECKING:
    from tasks.dlq.services.repair import Chosen, LetterResult

#: Bytes of a body: the most that any source accepts.
_LONGEST_BODY = 16 << 20
_WORDS: dict[str, str] = {
    Result.REPAIRED: "repaired",
    Result.REJECTED: "rejected again",
    Result.LEFT_ALONE: "left alone",
    Result.CHANGED: "skipped, changed meanwhile",
    Result.NOT_REJECTED: "skipped, it is not rejected",
    Result.NOT_FOUND: "not found",
}
#: What a dry run says in place of these words.
_WOULD_BE: dict[str, str] = {
    result: f"would be {_WORDS[result]}" for result in (Result.REPAIRED, Result.REJECTED, Result.LEFT_ALONE)
}


def repair(
    letter_ids: Annotated[
        list[int] | None, typer.Argument(metavar="ID", min=1, max=MAX_ID, help="Ids of dead letters; redrive rejects lists them.")
    ] = None,
    *,
    body: Annotated[
        str | None, typer.Option(metavar="FILE", help="Read the one dead letter from this file instead; - is standard input.")
    ] = None,
    source: Annotated[str | None, typer.Option(metavar="SOURCE", help="Only dead letters of this source.")] = None,
    rejected_for: RejectedFor = None,
    limit: Annotated[int | None, typer.Option(metavar="N", min=1, help="At most this many, the oldest first.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", metavar="", help="Show what would happen; change nothing.")] = False,
    reason: Reason = "",
    yes: Yes = False,
    json: Json = False,
) -> None:
    """Read rejected dead letters again, with the routes and mappings as they are now. What can be read now is called."""
    from tasks.cli.progress import progress
    from tasks.cli.session import get_actor, open_session
    from tasks.dlq.ledger.repairs import Selection
    from tasks.dlq.services.repair import Repair

    out = Output(json=json)
    ids = list(dict.fromkeys(letter_ids or ()))
    if body is not None and len(ids) != 1:
        raise Refused("--body is for one dead letter", hint="for example: redrive repair 12 --body corrected.json")
    content = None if body is None else _read_body(body)
    with open_session(out) as session:
        runtime = session.runtime
        service = Repair(runtime.ledger, runtime.readers, runtime.settings.routes, session.sender)
        chosen = service.choose(Selection(ids=ids or None, source=source, reason=rejected_for), limit=limit)
        total = chosen.reasons.total()
        if not ids:
            _note_chosen(out, chosen)
            if not total:
                return
            if not (dry_run or yes):
                _confirm(out, total)
        report = LetterReport(out, one_by_one=bool(ids), dry_run=dry_run)
        with progress("reading again", total) as reached:
            for batch in service.repair(chosen, actor=get_actor(), reason=reason, body=content, dry_run=dry_run):
                report.add_wakeups(batch.wakeups)
                for letter in batch.letters:
                    report.add_letter(letter)
                reached(report.counts.total())
    report.finish()


def _note_chosen(out: Output, chosen: "Chosen") -> None:
    if chosen.reasons:
        reasons = ", ".join(f"{count:,} {reason}" for reason, count in chosen.reasons.most_common())
        out.note(f"{format_count(chosen.reasons.total(), 'rejected dead letter')}: {reasons}")
    elif chosen.selection.source or chosen.selection.reason:
        out.note("no rejected dead letter matches; see: redrive rejects")
    else:
        out.note("no dead letter is rejected")


def _confirm(out: Output, total: int) -> None:
    letters = format_count(total, "dead letter")
    out.require_terminal(f"{letters} would be read again", hint="add --yes; --dry-run shows what would happen")
    out.confirm(f"Read {letters} again? (--dry-run shows what would happen)")


def _read_body(file: str) -> bytes:
    hint = "give a file that holds the whole body"
    try:
        with open_input(file, hint=hint) as stream:
            content = stream.read(_LONGEST_BODY + 1)
    except OSError as error:
        raise Refused(f"cannot read {file!a}: {error.strerror}", hint=hint) from error
    if len(content) > _LONGEST_BODY:
        raise Refused(f"{file!a} has more than {_LONGEST_BODY:,} bytes", hint="no source accepts such a long body")
    return content


class LetterReport(Report):
    """What a repair did to each letter; without ids a table, by source, result, and route or reason."""

    def __init__(self, out: Output, *, one_by_one: bool, dry_run: bool) -> None:
        super().__init__(out, _WORDS | _WOULD_BE if dry_run else _WORDS)
        self._one_by_one = one_by_one
        self._dry_run = dry_run
        self._table: Counter[tuple[str, Result, str]] = Counter()

    def add_letter(self, letter: "LetterResult") -> None:
        """Count a letter and print it."""
        self._table[letter.source, letter.result, letter.route or letter.reason or letter.detail] += 1
        record = {"letter": letter.letter_id, **{name: value for name, value in asdict(letter).items() if value}}
        del record["letter_id"]
        if self._dry_run:
            record["dry_run"] = True
        self.add(letter.result, record, self._format(letter) if self._one_by_one else "")

    def finish(self) -> None:
        """Print the table and the summary. Raises NotFound or Partly unless all letters are repaired."""
        if not (self.out.json or self._one_by_one):
            self._print_table()
        if missing := sorted({source for source, result, _ in self._table if result is Result.LEFT_ALONE}):
            text = f"not in redrive.toml any more: source {join_names(missing)}"
            self.out.warn(text, hint="configure it as it was, then repair again", sources=missing)
        done = list(Result) if self._dry_run else [Result.REPAIRED]
        self.end(done=done, hint="see why with: redrive rejects")
        if not self._one_by_one:
            self.out.note(f"{self.summary}{'; nothing was changed' if self._dry_run else ''}")

    def _format(self, letter: "LetterResult") -> str:
        calls = ", ".join(map(format_parameters, letter.parameters))
        detail = f"{letter.route} {calls}" if calls else letter.detail
        return f"letter {letter.letter_id}: {self.words[letter.result]}{f': {detail}' if detail else ''}"

    def _print_table(self) -> None:
        order = list(Result)
        rows = sorted(self._table.items(), key=lambda item: (item[0][0], order.index(item[0][1]), item[0][2]))
        columns = [Column("Source", fold=True), Column("Becomes", fold=True), Column("Letters", right=True)]
        cells = [
            (source, f"{_WORDS[result]}: {became}" if became else _WORDS[result], f"{count:,}")
            for (source, result, became), count in rows
        ]
        self.out.table(columns, cells)
