"""`redrive repair`: rejected dead letters are read once more, after the mapping was mended or one from another body."""

import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tasks.cli.errors import Partly
from tasks.cli.files import opened
from tasks.cli.jobs import MAX_ID
from tasks.cli.output import Column, Json, Output
from tasks.dlq.errors import NotFound, Refused
from tasks.dlq.text import format_count, format_parameters, join_names

if TYPE_CHECKING:
    from tasks.cli.session import Session
    from tasks.dlq.ledger import Ledger
    from tasks.dlq.ledger.repairs import Rejected, Selection
    from tasks.dlq.services.repair import Repair, Reread

#: Bytes of a body that is given: the most that any source takes.
_LONGEST_BODY = 16 << 20
_WORDS = {
    "repaired": "repaired",
    "rejected": "rejected again",
    "left_alone": "left alone",
    "changed": "skipped, changed meanwhile",
    "not_rejected": "skipped, it is not rejected",
    "not_found": "not found",
}


def repair(
    letter_ids: Annotated[
        list[int] | None, typer.Argument(metavar="ID", min=1, max=MAX_ID, help="Letters, as redrive rejects lists them.")
    ] = None,
    *,
    body: Annotated[
        str | None, typer.Option(metavar="FILE", help="Read the one letter from these bytes instead; - is standard input.")
    ] = None,
    source: Annotated[str | None, typer.Option(metavar="SOURCE", help="Only letters of this source.")] = None,
    reason: Annotated[str | None, typer.Option(metavar="REASON", help="Only letters that were rejected for this reason.")] = None,
    limit: Annotated[int | None, typer.Option(metavar="N", min=1, help="At most so many, oldest first.")] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", metavar="", help="Show what would become of them; change nothing.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", metavar="", help="Do not ask.")] = False,
    why: Annotated[str, typer.Option(metavar="TEXT", help="Why, for the audit log.", show_default=False)] = "",
    json: Json = False,
) -> None:
    """Read rejected dead letters once more, with the routes and mappings as they are now: what can be read is called then."""
    from tasks.cli.session import ringing
    from tasks.dlq.ledger.repairs import Selection
    from tasks.dlq.services.repair import Repair

    out = Output(json=json)
    letter_ids = list(dict.fromkeys(letter_ids or ()))
    if body is not None and len(letter_ids) != 1:
        raise Refused("--body is for one letter", hint="for example: redrive repair 12 --body mended.json")
    other = None if body is None else _read(body)
    selection = Selection(ids=letter_ids or None, source=source, reason=reason)
    with ringing(out) as session:
        runtime = session.runtime
        service = Repair(runtime.ledger, runtime.readers, runtime.settings.routes)
        chosen = _chosen(out, runtime.ledger, selection, limit)
        if chosen is None:
            return
        if not (dry_run or yes or letter_ids):
            _confirm(out, chosen.total)
        work = _Work(out=out, session=session, service=service, dry_run=dry_run, why=why, one_by_one=bool(letter_ids))
        if other is None:
            work.reread(chosen)
        else:
            work.replace(chosen, other)
    work.end()


@dataclass(frozen=True)
class _Chosen:
    """The letters that are meant, as a set that does not grow, and what became of others that were named."""

    selection: "Selection"
    total: int
    absent: Mapping[int, str]


def _chosen(out: Output, ledger: "Ledger", selection: "Selection", limit: int | None) -> _Chosen | None:
    """Count the letters that are meant, and tell it; None when there are none, and none were named."""
    from dataclasses import replace

    from tasks.dlq.ledger import repairs

    with ledger.begin(read_only=True) as tx:
        until = repairs.last(tx, selection, limit=limit) or 0
        fixed = replace(selection, until=until)
        counts = repairs.count(tx, fixed)
        absent = repairs.not_rejected(tx, selection.ids or ())
    if not counts and not absent:
        narrowed = selection.source or selection.reason
        out.note("nothing is rejected like that; see: redrive rejects" if narrowed else "nothing is rejected")
        return None
    if selection.ids is None:
        by_reason: Counter[str] = Counter()
        for (_, each), count in counts.items():
            by_reason[each] += count
        told = ", ".join(f"{count:,} {each}" for each, count in by_reason.most_common())
        out.note(f"{format_count(counts.total(), 'rejected letter')}: {told}")
    return _Chosen(fixed, counts.total(), {each: "not_rejected" if exists else "not_found" for each, exists in absent.items()})


def _confirm(out: Output, total: int) -> None:
    if out.json or not (sys.stdin and sys.stdin.isatty() and sys.stderr.isatty()):
        hint = "add --yes; --dry-run shows what would become of them"
        raise Refused(f"{format_count(total, 'letter')} would be read again, and nobody can be asked", hint=hint)
    typer.confirm(
        f"Read {format_count(total, 'letter')} again? (--dry-run shows what would become of them)", abort=True, err=True
    )


def _read(file: str) -> bytes:
    hint = "give a file with the whole body"
    try:
        with opened(file, hint=hint) as stream:
            content = stream.read(_LONGEST_BODY + 1)
    except OSError as error:
        raise Refused(f"cannot read {file!a}: {error.strerror}", hint=hint) from error
    if len(content) > _LONGEST_BODY:
        raise Refused(f"{file!a} has more than {_LONGEST_BODY:,} bytes", hint="no source takes so long a body")
    return content


@dataclass(kw_only=True)
class _Work:
    """One run, and its sums: by source, by what became of the letters, and by the route or reason."""

    out: Output
    session: "Session"
    service: "Repair"
    dry_run: bool
    why: str
    one_by_one: bool
    sums: Counter[tuple[str, str, str]] = field(default_factory=Counter)

    def reread(self, chosen: _Chosen) -> None:
        """Read all of the letters again."""
        from tasks.cli.progress import progress

        with progress("reads again", chosen.total) as reached:
            for batch in self.service.batches(chosen.selection):
                self._settle(batch)
                reached(self.sums.total())
        self._tell_absent(chosen)

    def replace(self, chosen: _Chosen, body: bytes) -> None:
        """Read the one letter from another body. Raises Refused when it would be rejected again."""
        for rejected in self._rejected(chosen):
            reread = self.service.read(rejected, body=body)
            if reread.letter is None:
                raise Refused(_unconfigured([rejected.source]), hint="nothing was changed")
            if reread.letter.rejection:
                text = f"letter {rejected.id} would be rejected again: {reread.letter.rejection.detail}"
                raise Refused(text, hint="nothing was changed")
            self._settle([reread], body=body)
        self._tell_absent(chosen)

    def _rejected(self, chosen: _Chosen) -> "list[Rejected]":
        from tasks.dlq.ledger import repairs

        with self.session.runtime.ledger.begin(read_only=True) as tx:
            return repairs.next_batch(tx, chosen.selection, after=0)

    def _settle(self, batch: "Sequence[Reread]", *, body: bytes | None = None) -> None:
        """Write a batch down, ring for the jobs that it opened, and tell what became of each letter."""
        from tasks.cli.session import actor

        results: Mapping[int, str] = {}
        if not self.dry_run:
            done = self.service.write(batch, actor=actor(), reason=self.why, body=body)
            results = done.results
            for route in sorted({name for name, _ in done.opened}):
                self.session.wake(route, [job_id for name, job_id in done.opened if name == route])
        for each in batch:
            self._tell(each, results.get(each.rejected.id))

    def _tell(self, reread: "Reread", written: str | None) -> None:
        letter = reread.letter
        rejection = letter.rejection if letter else None
        result = written or ("left_alone" if letter is None else "rejected" if rejection else "repaired")
        became = rejection.reason if rejection else letter.route if letter else "its source is not configured"
        self.sums[reread.rejected.source, result, "" if result == "changed" else became] += 1
        keys = [_parameters(key) for key in letter.keys] if letter else []
        if self.out.json:
            view = {"letter": reread.rejected.id, "source": reread.rejected.source, "result": str(result)}
            if result == "repaired" and letter:
                view |= {"route": letter.route, "parameters": keys}
            if result == "rejected" and rejection:
                view |= {"reason": rejection.reason, "detail": rejection.detail}
            self.out.record({**view, "dry_run": True} if self.dry_run else view)
        elif self.one_by_one:
            needs = f"{became} {', '.join(format_parameters(each) for each in keys)}" if keys else became
            told = {"repaired": needs, "rejected": rejection.detail if rejection else "", "left_alone": became}.get(result, "")
            self.out.line(f"letter {reread.rejected.id}: {self._worded(result)}{f': {told}' if told else ''}")

    def _worded(self, result: str) -> str:
        word = _WORDS[result]
        return f"would be {word}" if self.dry_run and result in {"repaired", "rejected", "left_alone"} else word

    def _tell_absent(self, chosen: _Chosen) -> None:
        for letter_id, result in chosen.absent.items():
            self.sums["", result, ""] += 1
            if self.out.json:
                self.out.record({"letter": letter_id, "result": result})
            else:
                self.out.line(f"letter {letter_id}: {_WORDS[result]}")

    def end(self) -> None:
        """Print the sums, and tell what is left. Raises Partly, or NotFound."""
        if not (self.out.json or self.one_by_one):
            columns = [Column("Source", fold=True), Column("Becomes", fold=True), Column("Letters", right=True)]
            self.out.table(columns, [(source, self._became(*rest), f"{count:,}") for (source, *rest), count in self._sorted()])
        by_result = {word: sum(count for (_, result, _), count in self.sums.items() if result == word) for word in _WORDS}
        by_result = {result: count for result, count in by_result.items() if count}
        if gone := sorted({source for source, result, _ in self.sums if result == "left_alone"}):
            self.out.warn(_unconfigured(gone), hint="configure it as it was, then repair again", sources=gone)
        if by_result.keys() == {"not_found"}:
            raise NotFound("there is no such letter", hint="list them with: redrive rejects")
        told = ", ".join(f"{count:,} {self._worded(result)}" for result, count in by_result.items())
        if not self.dry_run and by_result.keys() - {"repaired"}:
            raise Partly(told, hint="see why with: redrive rejects")
        if not self.one_by_one:
            self.out.note(f"{told}{'; nothing was changed' if self.dry_run else ''}")

    def _sorted(self) -> "Iterator[tuple[tuple[str, str, str], int]]":
        order = list(_WORDS)
        yield from sorted(self.sums.items(), key=lambda each: (each[0][0], order.index(each[0][1]), each[0][2]))

    def _became(self, result: str, what: str) -> str:
        return f"{_WORDS[result]}: {what}" if what else _WORDS[result]


def _unconfigured(sources: Sequence[str]) -> str:
    are = "source {} is" if len(sources) == 1 else "sources {} are"
    return f"{are.format(join_names(sources))} not in redrive.toml any more, and nothing else can read what came from there"


def _parameters(key: str) -> dict[str, Any]:
    from json import loads

    return dict(loads(key))
