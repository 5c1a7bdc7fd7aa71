"""Tables and JSON for every command."""

from __future__ import annotations

import io
import json
import sys

from audit_logging.cli.output import print_json, table
from audit_logging.printable import printable

ROWS = [("e-1", "x" * 200), (None, "[bold]two\nlines\x1b[31m\ud800"), ("ä", 3)]


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_a_pipe_gets_one_line_a_row_and_nothing_cut(capsys):
    table(("id", "text"), ROWS)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 4
    assert lines[1].endswith("x" * 200)
    assert all(line == line.rstrip() for line in lines)


def test_columns_stand_below_each_other_however_wide_the_letters(capsys):
    table(("id", "text"), [("漢字", "x"), ("abcd", "y"), ("e\u0301", "z")])
    assert capsys.readouterr().out == "id    text\n漢字  x\nabcd  y\ne\u0301     z\n"


def test_a_narrow_terminal_gets_folded_cells_and_nothing_cut(monkeypatch):
    monkeypatch.setenv("COLUMNS", "40")
    monkeypatch.setenv("TERM", "xterm")
    terminal = Terminal()
    monkeypatch.setattr(sys, "stdout", terminal)
    table(("id", "text"), ROWS)
    assert terminal.getvalue().count("x") == 200 + 2  # and those of "text" and "\\x1b"
    assert all(len(line) <= 40 for line in terminal.getvalue().splitlines()[1:])


def test_an_events_text_is_neither_markup_nor_a_control_code(capsys):
    table(("id", "text"), ROWS)
    assert "[bold]two\\nlines\\x1b[31m\\ud800" in capsys.readouterr().out
    assert printable("plain ä 漢") == "plain ä 漢"


def test_a_table_without_rows_is_its_headers(capsys):
    table(("id", "text"), [])
    assert capsys.readouterr().out == "id  text\n"


def test_json_is_json(capsys):
    print_json({"a": ["ä", None, 1]})
    assert json.loads(capsys.readouterr().out) == {"a": ["ä", None, 1]}
