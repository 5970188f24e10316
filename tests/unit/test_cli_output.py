import csv
import io
import json
import sys
from types import SimpleNamespace
from typing import Never

import pytest

from tasks.cli.errors import ReaderGone, Unwritable
from tasks.cli.output import Column, Output, flush
from tasks.dlq.errors import Refused

COLUMNS = (Column("ID", right=True), Column("Parameters", fold=True), Column("Last answer", cut=True))
ROWS = [(1, "employeeId=1234", "HTTP 503 " + "busy " * 30), (12345, "employeeId=1", "")]


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    """Standard output is a terminal of 60 columns."""
    for name in ("NO_COLOR", "FORCE_COLOR", "CI", "TTY_COMPATIBLE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "60")
    stream = Terminal()
    monkeypatch.setattr("tasks.cli.output.sys", SimpleNamespace(stdout=stream, stderr=sys.stderr))  # pytest captures sys.stdout
    return stream


def test_machines_get_one_line_of_ascii(capsys: pytest.CaptureFixture[str]):
    Output(json=True).record({"a": "\x1b[31m\n\u2028\ud800é", "b": None})
    line = capsys.readouterr().out
    assert line == '{"a":"\\u001b[31m\\n\\u2028\\ud800\\u00e9","b":null}\n'
    assert json.loads(line)["a"].endswith("é")


def test_a_terminal_gets_a_table_that_fits(terminal: Terminal):
    Output().table(COLUMNS, ROWS)
    lines = terminal.getvalue().splitlines()
    assert len(lines) == 3, "the long answer is cut, not folded"
    assert "employeeId=1234  HTTP 503 busy" in lines[1]
    assert lines[1].endswith("…")
    assert len(lines[1]) == 60


def test_what_folds_is_whole_and_what_is_cut_stays_on_its_line(terminal: Terminal):
    Output().table(COLUMNS, [(1, "x" * 100, "y" * 100)])
    lines = terminal.getvalue().splitlines()
    assert "".join(line[4:].split()[0] for line in lines[1:]) == "x" * 100, "nothing of it is lost"
    assert lines[1].count("y") > 20
    assert "y" not in "".join(lines[2:])


def test_those_that_may_fold_share_what_is_left(terminal: Terminal):
    columns = (Column("Route", fold=True), Column("Parameters", fold=True), Column("Needs", right=True))
    Output().table(columns, [("r" * 40, "p" * 90, 1), ("short", "employeeId=1234", 22)])
    lines = terminal.getvalue().splitlines()
    assert abs(lines[1].count("r") - lines[1].count("p")) <= 1
    assert "Needs" in lines[0], "a title is whole"
    assert lines[-1].split() == ["short", "employeeId=1234", "22"]


def test_a_long_fact_is_folded_on_a_terminal(terminal: Terminal):
    facts = {"job": 1, "last answer": "HTTP 404 " + "no such employee " * 5, "group": "\x1b[2J"}
    Output().facts(facts)
    lines = terminal.getvalue().splitlines()
    assert lines[0] == "job          1"
    assert lines[-1] == "group        \\x1b[2J"
    assert max(map(len, lines)) <= 60
    assert all(line.startswith(" " * 13) for line in lines[2:-1])


def test_a_fact_is_one_line_where_there_is_no_terminal(capsys: pytest.CaptureFixture[str]):
    Output().facts({"job": 1, "due": None, "attempt's worker": "", "last answer": "no such employee " * 50})
    assert capsys.readouterr().out == f"job               1\nlast answer       {'no such employee ' * 50}\n"


def test_states_have_colours_on_a_terminal_unless_the_person_wants_none(terminal: Terminal, monkeypatch: pytest.MonkeyPatch):
    Output().table([Column("State")], [("parked",)])
    assert "\x1b[31mparked" in terminal.getvalue()
    terminal.truncate(0)
    monkeypatch.setenv("NO_COLOR", "1")
    Output().table([Column("State")], [("parked",)])
    assert "\x1b[31m" not in terminal.getvalue()


def test_without_a_terminal_each_row_is_one_plain_line(capsys: pytest.CaptureFixture[str]):
    Output().table(COLUMNS, ROWS)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "   ID  Parameters       Last answer"
    assert lines[1].startswith("    1  employeeId=1234  HTTP 503 busy busy")
    assert len(lines[1]) > 150
    assert lines[2] == "12345  employeeId=1"


def test_data_steers_neither_the_terminal_nor_the_table(terminal: Terminal):
    Output().table([Column("Detail")], [("\x1b[2J[red]x[/red]\n12  forged",)])
    assert terminal.getvalue().splitlines()[1:] == ["\\x1b[2J[red]x[/red]\\n12  forged"]


def test_messages_go_to_stderr_with_a_line_for_each_problem(capsys: pytest.CaptureFixture[str]):
    Output().fail("redrive.toml: a is 1\nredrive.toml: b is \x1b2", hint="mend them", exit_code=2)
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err == "redrive: redrive.toml: a is 1\nredrive.toml: b is \\x1b2\nmend them\n"


def test_machines_get_errors_and_warnings_as_objects_and_no_chatter(capsys: pytest.CaptureFixture[str]):
    out = Output(json=True)
    out.note("there may be more")
    out.warn("line 3: no", hint="why", line=3)
    out.fail("no job 9", hint="list them", exit_code=4)
    out.warn("line 4: no", reason="")
    captured = capsys.readouterr()
    assert captured.out == ""
    assert [json.loads(line) for line in captured.err.splitlines()] == [
        {"warning": "line 3: no", "hint": "why", "line": 3},
        {"error": "no job 9", "hint": "list them", "exit_code": 4},
        {"warning": "line 4: no"},  # what is empty is left out
    ]


@pytest.mark.parametrize(("raised", "told"), [(BrokenPipeError(32, "x"), ReaderGone), (OSError(28, "No space left"), Unwritable)])
def test_output_that_nobody_takes_is_told_apart(monkeypatch: pytest.MonkeyPatch, raised: OSError, told: type[Exception]):
    class Broken(io.StringIO):
        def write(self, _text: str) -> Never:
            raise raised

        def flush(self) -> Never:
            raise raised

    monkeypatch.setattr(sys, "stdout", Broken())
    with pytest.raises(told):
        Output().line("x")
    with pytest.raises(told):
        flush()


def sheet(capsys: pytest.CaptureFixture[str], *cells: object, delimiter: str = ",") -> list[list[str]]:
    """Return a sheet of one column as a spreadsheet reads it."""
    Output(csv=True).sheet(["detail"], [[cell] for cell in cells])
    return list(csv.reader(io.StringIO(capsys.readouterr().out, newline=""), delimiter=delimiter))


def test_a_sheet_is_what_rfc_4180_says(capsys: pytest.CaptureFixture[str]):
    Output(csv=True).sheet(["id", "detail"], [(7, 'HTTP 404: "no", says ä'), (8, None)])
    assert capsys.readouterr().out == '"id","detail"\r\n"7","HTTP 404: ""no"", says ä"\r\n"8",""\r\n'


@pytest.mark.parametrize("lead", ["", " ", "   ", '"', "'", "''", " \"' ", "\u201c", "\uff02"])
@pytest.mark.parametrize(
    "start", [*"=+-@", "\uff1d", "\uff0b", "\uff0d", "\uff20", "\ufe66", "\ufe62", "\ufe63", "\ufe6b", "\u2212"]
)
def test_no_cell_begins_a_formula(capsys: pytest.CaptureFixture[str], lead: str, start: str):
    weapon = f"{lead}{start}cmd|' /C calc'!A0"
    assert sheet(capsys, weapon)[1:] == [[f"'{weapon}"]]


@pytest.mark.parametrize("start", ["\t", "\r", "\n", "\r\n", "\x00", "\u00a0", "\u3000", "\u2028", "\x1b[2J", "\u202e", "\ufeff"])
def test_what_does_not_print_neither_hides_a_formula_nor_breaks_a_row(capsys: pytest.CaptureFixture[str], start: str):
    _, (cell,) = sheet(capsys, f"{start}=1+1\n=2")
    assert cell.startswith("\\")
    assert cell.endswith("=1+1\\n=2")
    assert cell.isprintable()


@pytest.mark.parametrize("separator", ";|")
def test_no_other_separator_makes_a_cell_of_a_formula(capsys: pytest.CaptureFixture[str], separator: str):
    """Where the comma is for decimals, a spreadsheet splits at the semicolon: our quotes hold the first cell only."""
    Output(csv=True).sheet(["id", "detail"], [(1, f'a{separator}=1{separator} "+1{separator}b=2{separator}{separator}@x')])
    _, cells = csv.reader(io.StringIO(capsys.readouterr().out, newline=""), delimiter=separator)
    assert cells == ['1,"a', "'=1", '\' ""+1', "b=2", "", "'@x\""]


@pytest.mark.parametrize(
    "value", [-5, 0, 17, 1.5, "-5", "+1.50", "employeeId=1", "a-b", "2026-01-31T00:00:00Z", "it's 1+1", True]
)
def test_plain_numbers_and_text_stay_as_they_are(capsys: pytest.CaptureFixture[str], value: object):
    assert sheet(capsys, value)[1:] == [[str(value)]]


@pytest.mark.parametrize("value", ["-5+1", "-1e5x", "+-5", "-\uff15", "--5", "-", "=5"])
def test_what_only_looks_like_a_number_is_defused(capsys: pytest.CaptureFixture[str], value: str):
    assert sheet(capsys, value)[1:] == [[f"'{value}"]]


def test_two_formats_at_once_are_refused():
    with pytest.raises(Refused, match="two formats"):
        Output(json=True, csv=True)


#: A link that shows another address (OSC 8), a title, a colour, marks that turn the reading direction, line ends, C1 controls.
STEERING = [
    "\x1b]8;;http://evil.test\x1b\\x\x1b]8;;\x1b\\",
    "\x1b]0;title\x07",
    "\x1b[31m",
    "\u202etxt.exe",
    "\u2066x",
    "a\rb",
    "a\nb",
    "\x9b2J",
    "\u2028",
]


@pytest.mark.parametrize("hostile", STEERING)
def test_nothing_that_is_printed_steers_a_terminal(terminal: Terminal, capsys: pytest.CaptureFixture[str], hostile: str):
    out = Output()
    out.line(hostile)
    out.facts({"origin": hostile})
    out.record({"detail": hostile})
    out.sheet(["detail"], [[hostile]])
    out.warn(hostile, hint=hostile.replace("\n", ""))
    out.raw(hostile.encode())
    printed = terminal.getvalue() + capsys.readouterr().err
    assert all(char.isprintable() or char in "\r\n" for char in printed)
    assert printed.count("\r") == 2, "the line ends of the sheet"
