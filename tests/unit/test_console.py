"""The console as a person sees it: on a pipe, and on a real (pseudo) terminal."""

from __future__ import annotations

import asyncio
import io
import os
import pty
import signal
import subprocess
import sys
import termios
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from pathlib import Path

import pytest

from adapters.console import ConsoleGateway, ConsoleOutlet, files
from bot.domain import Attachment, Message, Post, ToolKind, Turn
from bot.errors import Rejected, Retryable
from tests.fakes.scripted_core import Script, ScriptedCore, echo

# --- on a pipe ---------------------------------------------------------------------------------------------------


class Pipe:
    """A session whose input and output are no terminals."""

    def __init__(
        self, downloads: Path, script: Callable[[ConsoleOutlet], Script] = echo, *, bytes_: int = 1000
    ) -> None:
        self._out = io.StringIO()
        self.outlet = ConsoleOutlet(self._out, downloads, file_bytes=bytes_)
        self._script = script(self.outlet)
        self.messages: list[Message] = []

    async def says(self, typed: str) -> str:
        async with asyncio.TaskGroup() as tasks:
            core = ScriptedCore(self.outlet, self._script, tasks)
            await ConsoleGateway(io.StringIO(typed), self.outlet).run(core)
        self.messages = core.put_messages
        return self._out.getvalue()


async def test_a_pipe_gets_the_answers_and_nothing_else(tmp_path: Path) -> None:
    assert await Pipe(tmp_path).says("hello\n\n  \nworld") == "You said: hello\nYou said: world\n"


async def test_lines_of_one_conversation_are_one_thread_and_ids_grow(tmp_path: Path) -> None:
    pipe = Pipe(tmp_path)
    await pipe.says("one\ntwo\n/new\nthree")
    one, two, three = pipe.messages
    assert one.thread == two.thread != three.thread
    assert [message.opens for message in pipe.messages] == [True, False, True]
    assert int(one.id) < int(two.id) < int(three.id)
    assert all(message.private and message.addressed for message in pipe.messages)
    assert (one.thread.platform, one.thread.workspace, one.thread.channel) == ("console", "local", "terminal")


async def test_each_line_waits_for_the_answer_before_it(tmp_path: Path) -> None:
    order: list[str] = []

    def slow(outlet: ConsoleOutlet) -> Script:
        async def script(turn: Turn) -> None:
            order.append(f"begin {turn.messages[0].text}")
            for _ in range(20):
                await asyncio.sleep(0)
            order.append(f"end {turn.messages[0].text}")

        return script

    await Pipe(tmp_path, slow).says("a\nb\n")
    assert order == ["begin a", "end a", "begin b", "end b"]


async def test_a_text_that_changed_is_printed_again_once_whole(tmp_path: Path) -> None:
    def changing(outlet: ConsoleOutlet) -> Script:
        async def script(turn: Turn) -> None:
            post = await outlet.open(turn, "One【1】", "live")
            await outlet.edit(turn, post, "One [1] and", "live")
            await outlet.edit(turn, post, "One [1] and two", "last")

        return script

    assert await Pipe(tmp_path, changing).says("x") == "One【1】\n-----\nOne [1] and two\n"


async def test_trailing_space_is_no_change(tmp_path: Path) -> None:
    def trailing(outlet: ConsoleOutlet) -> Script:
        async def script(turn: Turn) -> None:
            post = await outlet.open(turn, "One \n", "live")
            await outlet.edit(turn, post, "One\n\nTwo", "live")
            await outlet.edit(turn, post, "One\n\nTwo", "last")

        return script

    assert await Pipe(tmp_path, trailing).says("x") == "One \n\nTwo\n"


async def test_escape_sequences_do_not_reach_the_terminal(tmp_path: Path) -> None:
    def hostile(outlet: ConsoleOutlet) -> Script:
        async def script(turn: Turn) -> None:
            await outlet.open(turn, "a\x1b[2Jb\x07\x9b31m\tc\r\nd\x00\ud800", "last")

        return script

    assert await Pipe(tmp_path, hostile).says("x") == "a[2Jb31m\tc\nd\n"


async def test_an_unknown_command_is_one_sentence(tmp_path: Path) -> None:
    pipe = Pipe(tmp_path)
    assert await pipe.says("/dance\n/stop\n") == (
        "There is no command /dance: /help lists them.\nThere is nothing to stop.\n"
    )
    assert pipe.messages == []


async def test_quit_leaves_the_rest_unsaid(tmp_path: Path) -> None:
    pipe = Pipe(tmp_path)
    assert await pipe.says("/quit\nhello") == ""
    assert pipe.messages == []


async def test_a_mailroom_in_trouble_is_told_and_the_next_line_goes_on(tmp_path: Path) -> None:
    class Troubled(ScriptedCore):
        async def put(self, message: Message) -> bool:
            if message.text == "hello":
                raise Retryable("redis is away")
            return await super().put(message)

    out = io.StringIO()
    outlet = ConsoleOutlet(out, tmp_path)
    async with asyncio.TaskGroup() as tasks:
        await ConsoleGateway(io.StringIO("hello\nworld"), outlet).run(Troubled(outlet, echo(outlet), tasks))
    assert out.getvalue() == (
        "That could not be taken just now: please say it again in a moment.\nYou said: world\n"
    )


async def test_a_message_nobody_takes_is_told(tmp_path: Path) -> None:
    out = io.StringIO()
    outlet = ConsoleOutlet(out, tmp_path)
    async with asyncio.TaskGroup() as tasks:
        core = ScriptedCore(outlet, echo(outlet), tasks)
        core.takes = False
        await ConsoleGateway(io.StringIO("hello"), outlet).run(core)
    assert out.getvalue() == "Nobody here answers that: check the settings of the console.\n"


async def test_a_reader_that_left_ends_the_session(tmp_path: Path) -> None:
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write, "w") as out:
        outlet = ConsoleOutlet(out, tmp_path)
        async with asyncio.TaskGroup() as tasks:
            core = ScriptedCore(outlet, echo(outlet), tasks)
            await ConsoleGateway(io.StringIO("one\ntwo\nthree"), outlet).run(core)
        with suppress(BrokenPipeError):
            out.flush()
        os.dup2(os.open(os.devnull, os.O_WRONLY), write)
    assert len(core.put_messages) == 1


@pytest.mark.parametrize("through", ["pipe", "file"])
def test_a_real_process_answers_and_exits_0(tmp_path: Path, through: str) -> None:
    command = [sys.executable, "-m", "tests.fakes.scripted_core", str(tmp_path)]
    if through == "pipe":
        ended = subprocess.run(
            command, input=b"hello\nw\xc3\xb6rld", capture_output=True, check=True, timeout=30
        )
    else:
        (tmp_path / "in").write_bytes(b"hello\r\nw\xc3\xb6rld")
        with (tmp_path / "in").open("rb") as file:
            ended = subprocess.run(command, stdin=file, capture_output=True, check=True, timeout=30)
    assert ended.stdout.decode() == "You said: hello\nYou said: wörld\n"
    assert ended.stderr == b""


# --- files -------------------------------------------------------------------------------------------------------


async def content(outlet: ConsoleOutlet, attachment: Attachment) -> bytes:
    return b"".join([chunk async for chunk in outlet.fetch(attachment)])


async def test_an_attached_file_goes_with_the_next_message_only(tmp_path: Path) -> None:
    path = tmp_path / "a b.txt"
    path.write_bytes(b"content")
    pipe = Pipe(tmp_path)
    await pipe.says(f"/attach {path}\nlook\nagain")
    first, second = pipe.messages
    (attachment,) = first.attachments
    assert (attachment.name, attachment.media_type, attachment.size) == ("a b.txt", "text/plain", 7)
    assert second.attachments == ()
    assert await content(pipe.outlet, attachment) == b"content"


async def test_a_name_may_be_quoted_or_escaped(tmp_path: Path) -> None:
    (tmp_path / "a b.txt").write_bytes(b"x")
    for typed in (f"'{tmp_path}/a b.txt'", f"{tmp_path}/a\\ b.txt"):
        assert files.attach(typed, 10).name == "a b.txt"


async def test_what_cannot_be_attached_is_said(tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    (tmp_path / "big").write_bytes(b"x" * 1001)
    os.mkfifo(tmp_path / "fifo")
    said = await Pipe(tmp_path).says(
        f"/attach\n/attach {tmp_path}/none\n/attach {tmp_path}\n/attach {tmp_path}/fifo\n"
        f"/attach {tmp_path}/empty\n/attach {tmp_path}/big\n/attach \x00\n"
    )
    for part in (
        "Name the file",
        "There is no file",
        "not a regular file",
        "is empty",
        "at most 0.0 MB",
        "cannot be read",
    ):
        assert part in said
    assert len(said.splitlines()) == 7


async def test_a_file_that_changed_since_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(b"x")
    outlet = ConsoleOutlet(io.StringIO(), tmp_path)
    attachment = files.attach(str(path), 1000)
    path.write_bytes(b"xy")
    with pytest.raises(Rejected, match="grew"):
        await content(outlet, attachment)
    path.unlink()
    with pytest.raises(Rejected, match="attach it again"):
        await content(outlet, attachment)
    with pytest.raises(Rejected, match="not attached here"):
        await content(outlet, replace(attachment, url="https://example.org/a.txt"))


TURN = Turn("1", ConsoleGateway(io.StringIO(), ConsoleOutlet(io.StringIO(), Path()))._thread, ())


async def test_a_produced_file_is_saved_and_its_path_printed(tmp_path: Path) -> None:
    out = io.StringIO()
    outlet = ConsoleOutlet(out, tmp_path / "downloads")
    first = await outlet.upload(TURN, "chart.png", "image/png", b"1")
    second = await outlet.upload(TURN, "chart.png", "image/png", b"2")
    saved = {path.name: path.read_bytes() for path in (tmp_path / "downloads").iterdir()}
    assert saved == {"chart.png": b"1", "chart-2.png": b"2"}
    assert out.getvalue() == f"Saved {first}\nSaved {second}\n"


@pytest.mark.parametrize(
    ("hostile", "harmless"),
    [
        ("../../etc/passwd", "passwd"),
        ("/etc/passwd", "passwd"),
        ("..\\..\\boot.ini", "boot.ini"),
        ("..", "file"),
        ("", "file"),
        (".bashrc", "bashrc"),
        ("a\x1b[2J\u202egpj.exe", "a[2Jgpj.exe"),
        ("nul.txt", "file-nul.txt"),
        ("x" * 500 + ".png", "x" * 120 + ".png"),
        ("ü" * 500, "ü" * 60),
    ],
)
async def test_hostile_names_stay_in_the_folder(tmp_path: Path, hostile: str, harmless: str) -> None:
    saved = await ConsoleOutlet(io.StringIO(), tmp_path).upload(TURN, hostile, "", b"x")
    assert Path(saved) == tmp_path / harmless


async def test_a_link_in_the_folder_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "chart.png").symlink_to(tmp_path / "outside")
    saved = await ConsoleOutlet(io.StringIO(), tmp_path).upload(TURN, "chart.png", "", b"x")
    assert Path(saved).name == "chart-2.png"
    assert not (tmp_path / "outside").exists()


async def test_a_file_that_cannot_be_saved_is_refused_with_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(Rejected, match="cannot be saved"):
        await ConsoleOutlet(io.StringIO(), tmp_path / "file").upload(TURN, "a", "", b"x")
    with pytest.raises(Rejected, match="too large"):
        await ConsoleOutlet(io.StringIO(), tmp_path, file_bytes=1).upload(TURN, "a", "", b"xy")


# --- on a terminal -----------------------------------------------------------------------------------------------


class Terminal:
    """The side of a pseudo terminal where the person sits."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._arrived = asyncio.Event()
        self.shown = ""
        asyncio.get_running_loop().add_reader(descriptor, self._read)

    def _read(self) -> None:
        try:
            chunk = os.read(self._descriptor, 65536)
        except OSError:  # the other side was closed
            chunk = b""
        if not chunk:
            asyncio.get_running_loop().remove_reader(self._descriptor)
        self.shown += chunk.decode()
        self._arrived.set()

    def types(self, text: str) -> None:
        os.write(self._descriptor, text.encode())

    async def sees(self, text: str) -> str:
        """Wait until it is shown; returns and forgets all up to it."""
        async with asyncio.timeout(10):
            while text not in self.shown:
                self._arrived.clear()
                await self._arrived.wait()
        before, text, self.shown = self.shown.partition(text)
        return before + text

    def close(self) -> None:
        asyncio.get_running_loop().remove_reader(self._descriptor)


class Session:
    def __init__(
        self, terminal: Terminal, outlet: ConsoleOutlet, gateway: ConsoleGateway, core: ScriptedCore
    ) -> None:
        self.terminal = terminal
        self.outlet = outlet
        self.gateway = gateway
        self.core = core
        self.left = asyncio.Event()

    async def run(self) -> None:
        await self.gateway.run(self.core)
        self.left.set()


@asynccontextmanager
async def at_terminal(
    downloads: Path, script: Callable[[ConsoleOutlet], Script] = echo
) -> AsyncIterator[Session]:
    master, slave = pty.openpty()
    settings = termios.tcgetattr(slave)
    with os.fdopen(slave, "r") as stdin, os.fdopen(os.dup(slave), "w") as stdout:
        outlet = ConsoleOutlet(stdout, downloads)
        terminal = Terminal(master)
        try:
            async with asyncio.TaskGroup() as tasks:
                core = ScriptedCore(outlet, script(outlet), tasks)
                session = Session(terminal, outlet, ConsoleGateway(stdin, outlet), core)
                running = tasks.create_task(session.run())
                yield session
                running.cancel()
            assert termios.tcgetattr(slave) == settings
        finally:
            terminal.close()
            os.close(master)


async def test_a_terminal_is_greeted_answered_and_prompted_again(tmp_path: Path) -> None:
    async with at_terminal(tmp_path) as session:
        greeting = await session.terminal.sees("> ")
        assert "Threadbot" in greeting
        assert "/attach FILE" in greeting
        session.terminal.types("hello\n")
        await session.terminal.sees("thinking...")
        answer = await session.terminal.sees("> ")
        assert "You said: hello\r\n" in answer
        session.terminal.types("/quit\n")
        await asyncio.wait_for(session.left.wait(), 10)


async def test_what_is_pasted_is_one_message(tmp_path: Path) -> None:
    async with at_terminal(tmp_path) as session:
        await session.terminal.sees("> ")
        session.terminal.types("one\ntwo\n\nthree\n")
        await session.terminal.sees("You said: one\r\ntwo\r\n\r\nthree\r\n")
        assert [message.text for message in session.core.put_messages] == ["one\ntwo\n\nthree"]


async def test_ctrl_d_at_the_prompt_leaves(tmp_path: Path) -> None:
    async with at_terminal(tmp_path) as session:
        await session.terminal.sees("> ")
        session.terminal.types("\x04")
        await asyncio.wait_for(session.left.wait(), 10)


async def test_ctrl_c_stops_the_answer_then_leaves(tmp_path: Path) -> None:
    async with at_terminal(tmp_path) as session:
        await session.terminal.sees("> ")
        session.terminal.types("forever\n")
        await session.terminal.sees("You said:")
        session.gateway.interrupt()
        await session.terminal.sees("> ")
        assert session.core.stops == [session.core.put_messages[0].thread]
        session.gateway.interrupt()
        await asyncio.wait_for(session.left.wait(), 10)


async def test_stop_can_be_typed_while_an_answer_comes(tmp_path: Path) -> None:
    async with at_terminal(tmp_path) as session:
        await session.terminal.sees("> ")
        session.terminal.types("forever\n")
        await session.terminal.sees("You said:")
        session.terminal.types("/stop\n")
        await session.terminal.sees("> ")
        assert len(session.core.stops) == 1


async def test_a_message_stopped_before_its_turn_began_is_not_waited_for(tmp_path: Path) -> None:
    async with at_terminal(tmp_path) as session:
        session.core.hold = True
        await session.terminal.sees("> ")
        session.terminal.types("hello\n")
        await session.core.was_put.wait()
        await session.terminal.sees("hello\r\n")
        session.terminal.types("/stop\n")
        await session.terminal.sees("> ")


async def test_leaving_in_the_middle_stops_the_answer(tmp_path: Path) -> None:
    async with at_terminal(tmp_path) as session:
        await session.terminal.sees("> ")
        session.terminal.types("forever\n")
        await session.terminal.sees("You said:")
        session.terminal.types("\x04")
        await asyncio.wait_for(session.left.wait(), 10)
        assert len(session.core.stops) == 1


async def test_a_rewritten_text_replaces_the_lines_that_changed(tmp_path: Path) -> None:
    def changing(outlet: ConsoleOutlet) -> Script:
        async def script(turn: Turn) -> None:
            post = await outlet.open(turn, "One\nTwo【1】 and\nmore", "live")
            await outlet.edit(turn, post, "One\nTwo [1] and\nmore", "last")

        return script

    async with at_terminal(tmp_path, changing) as session:
        await session.terminal.sees("> ")
        session.terminal.types("x\n")
        answer = await session.terminal.sees("> ")
        assert "One\r\nTwo【1】 and\r\nmore\r\x1b[1A\x1b[JTwo [1] and\r\nmore\r\n" in answer


async def test_a_text_goes_on_after_something_was_said_between(tmp_path: Path) -> None:
    go_on = asyncio.Event()

    def waiting(outlet: ConsoleOutlet) -> Script:
        async def script(turn: Turn) -> None:
            post = await outlet.open(turn, "First part", "live")
            await go_on.wait()
            await outlet.edit(turn, post, "First part, second part", "last")

        return script

    async with at_terminal(tmp_path, waiting) as session:
        await session.terminal.sees("> ")
        session.terminal.types("x\n")
        await session.terminal.sees("First part")
        session.terminal.types("/help\n")
        await session.terminal.sees("leave (as Ctrl-D does)\r\n")
        go_on.set()
        assert (await session.terminal.sees("> ")).startswith(", second part\r\n")


async def test_the_status_says_what_is_done_and_vanishes(tmp_path: Path) -> None:
    def busy(outlet: ConsoleOutlet) -> Script:
        async def script(turn: Turn) -> None:
            await outlet.activity(turn, ToolKind.CODE, working=True)
            post = await outlet.open(turn, "Found", "live")
            await outlet.activity(turn, ToolKind.SEARCH, working=True)
            await outlet.edit(turn, post, "Found it", "last")

        return script

    async with at_terminal(tmp_path, busy) as session:
        await session.terminal.sees("> ")
        session.terminal.types("x\n")
        answer = await session.terminal.sees("> ")
        dim, plain, erase = "\x1b[2m", "\x1b[0m", "\x1b[K"
        assert (
            f"{dim}running code...{plain}\r{erase}Found{dim} searching files...{plain}\x1b[19D{erase} it"
            in answer
        )


async def test_a_post_can_be_taken_back(tmp_path: Path) -> None:
    def regretful(outlet: ConsoleOutlet) -> Script:
        async def script(turn: Turn) -> None:
            post = await outlet.open(turn, "Oh no", "live")
            await outlet.remove(post, turn.thread)
            await outlet.remove(Post("never seen"), turn.thread)
            await outlet.open(turn, "Yes", "last")

        return script

    async with at_terminal(tmp_path, regretful) as session:
        await session.terminal.sees("> ")
        session.terminal.types("x\n")
        assert "Oh no\r\x1b[JYes\r\n" in await session.terminal.sees("> ")


async def test_a_real_ctrl_c_on_a_real_terminal(tmp_path: Path) -> None:
    master, slave = pty.openpty()
    settings = termios.tcgetattr(slave)
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.fakes.scripted_core", str(tmp_path),
        stdin=slave, stdout=slave, stderr=slave, start_new_session=True,
    )  # fmt: skip
    terminal = Terminal(master)
    try:
        await terminal.sees("> ")
        terminal.types("forever\n")
        await terminal.sees("You said:")
        terminal.types("\x03")
        await terminal.sees("> ")
        terminal.types("hello\n")
        await terminal.sees("You said: hello")
        await terminal.sees("> ")
        terminal.types("\x03")
        assert await asyncio.wait_for(process.wait(), 10) == 0
        assert termios.tcgetattr(slave) == settings
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGKILL)
            await process.wait()
        terminal.close()
        os.close(master)
        os.close(slave)
