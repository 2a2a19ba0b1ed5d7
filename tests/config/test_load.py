"""Loading a config file: where values come from, and what is said when it cannot be used."""

from __future__ import annotations

import dataclasses
import os
import socket
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from nodemanager.config import Config, load, parse
from nodemanager.config.option import options_of
from nodemanager.config.tree import SECTIONS
from nodemanager.errors import ConfigError

Loader = Callable[..., Config]


def problems(
    loaded: Loader, path: Path, text: str, environ: dict[str, str] | None = None
) -> list[str]:
    """Each line of the error, without the path of the file."""
    with pytest.raises(ConfigError) as caught:
        loaded(text, environ)
    return str(caught.value).replace(str(path), "FILE").splitlines()


def test_an_empty_file_means_all_defaults(loaded: Loader, path: Path) -> None:
    config = loaded("")
    assert config.is_embedded
    assert config.api.ping_timeout == 600.0
    assert config.api.max_request_size == 16 * 2**20
    assert config.dispatch.name == socket.gethostname()
    assert config.runner.command == (sys.executable, "-m", "nodemanager.runner")
    assert config.runner.tempfail_exits == (75, 111)
    assert config.daemon.state_dir == path.parent / "state"
    assert config.runner.store == path.parent / "state" / "store"
    assert config.logging.file is None
    assert config.warnings == ()
    assert config.origin("Api", "ping_timeout") == "default"


def test_a_value_knows_its_line(loaded: Loader, path: Path) -> None:
    config = loaded("[Arvados]\n# said\nTimeout = 1 min   # long\n")
    assert config.arvados.timeout == 60.0
    assert config.origin("Arvados", "timeout") == f"{path}:3"


def test_the_environment_stands_above_the_file(loaded: Loader) -> None:
    variable = "NODE_MANAGER_API_PORT"
    config = loaded("[Api]\nport = 1\n", {variable: "8443", "NODE_MANAGER_API_ADDRESS": ""})
    assert config.api.port == 8443
    assert config.origin("Api", "port") == f"environment variable {variable}"
    assert config.api.address == "127.0.0.1"


def test_free_keys_may_come_from_the_environment(loaded: Loader) -> None:
    environ = {
        "NODE_MANAGER_SCHEDULER_SBATCH_ARGUMENTS": "--qos=low",
        "NODE_MANAGER_CLOUD_CREDENTIALS_KEY": "hush",
    }
    config = loaded("", environ)
    assert config.scheduler.options == {"sbatch_arguments": "--qos=low"}
    assert config.cloud_credentials.options == {"key": "hush"}


def test_keys_nobody_declared_go_to_the_scheduler_module(loaded: Loader) -> None:
    config = loaded("[Scheduler]\npoll_time = 2\ncores = 4\nram = 8 GiB\n")
    assert config.scheduler.poll_time == 2.0
    assert config.scheduler.options == {"cores": "4", "ram": "8 GiB"}


def test_a_key_of_logging_is_the_level_of_a_logger(loaded: Loader) -> None:
    config = loaded("[Logging]\nlevel = debug\npykka = warning\n")
    assert config.logging.level == "DEBUG"
    assert config.logging.levels == {"pykka": "WARNING"}


def test_paths_start_at_the_directory_of_the_file(loaded: Loader, path: Path) -> None:
    text = (
        "[Daemon]\nstate_dir = ../state\n[Runner]\ninput_dirs = examples, /srv/data\nstore = api\n"
    )
    config = loaded(text)
    assert config.daemon.state_dir == path.parent.parent / "state"
    assert config.runner.input_dirs == (path.parent / "examples", Path("/srv/data"))
    assert config.runner.scratch == path.parent.parent / "state" / "scratch"
    assert config.runner.store is None


def test_a_relative_config_path_makes_absolute_paths(
    loaded: Loader, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded("")
    monkeypatch.chdir(path.parent)
    config = load(path.name, {})
    assert config.path == path
    assert config.daemon.state_dir == path.parent / "state"


def test_words_of_a_default_may_be_used_in_a_value(loaded: Loader, path: Path) -> None:
    config = loaded("[Runner]\nstore = <state_dir>/results\ncommand = <python> 'my runner.py'\n")
    assert config.runner.store == path.parent / "state" / "results"
    assert config.runner.command == (sys.executable, "my runner.py")


def test_a_token_may_be_in_a_file_of_its_own(loaded: Loader, path: Path) -> None:
    token = path.parent / "token"
    token.write_text("v2/zzzzz-gj3su-000000000000000/hush\n")
    token.chmod(0o400)
    config = loaded("[Arvados]\nhost = api.example.org\ntoken_file = token\n", mode=0o644)
    assert config.arvados.token == "v2/zzzzz-gj3su-000000000000000/hush"
    assert config.origin("Arvados", "token") == f"file {token}"


def test_the_token_of_the_environment_wins_over_the_token_file_of_the_file(loaded: Loader) -> None:
    text = "[Arvados]\nhost = api.example.org\ntoken_file = missing\n"
    assert loaded(text, {"NODE_MANAGER_ARVADOS_TOKEN": "hush"}).arvados.token == "hush"


def test_the_token_file_of_the_environment_wins_over_the_token_of_the_file(
    loaded: Loader, path: Path
) -> None:
    token = path.parent / "token"
    token.write_text("new")
    token.chmod(0o600)
    config = loaded("[Api]\nroot_token = old\n", {"NODE_MANAGER_API_ROOT_TOKEN_FILE": str(token)})
    assert config.api.root_token == "new"


def test_every_named_secret_can_be_in_a_file() -> None:
    for part in SECTIONS:
        names = {made.name for made in part.options()}
        secrets = {made.name for made in part.options() if made.kind.is_secret}
        assert {f"{name}_file" for name in secrets} <= names


def test_all_problems_are_told_in_the_order_of_the_file(loaded: Loader, path: Path) -> None:
    text = """\
[Arvados]
hots = api.example.org
insecure = maybe
[Api]
port = 70000
ping_timeout = 10 m
port = 80
[Dispach]
anything = 1
[Runner]
container_engine = dokcer
store =
[Logging]
levle = LOUD
nonsense
[Size small]
price = -1
"""
    assert problems(loaded, path, text, {"NODE_MANAGER_API_PROT": "1"}) == [
        "FILE:2: [Arvados] hots: unknown option; did you mean host?",
        "FILE:3: [Arvados] insecure: expected yes or no, found 'maybe'",
        "FILE:5: [Api] port: expected a whole number, at most 65535, found '70000'",
        "FILE:6: [Api] ping_timeout: expected a duration such as 15 s, 10 min or 1 h, found '10 m'",
        "FILE:7: [Api] port: the option is already there in line 5; keep one of them",
        "FILE:8: unknown section 'Dispach'; did you mean [Dispatch]?",
        (
            "FILE:11: [Runner] container_engine:"
            " expected none, docker, podman, singularity or bwrap, found 'dokcer'"
        ),
        "FILE:12: [Runner] store: expected a path, found nothing",
        (
            "FILE:14: [Logging] levle: expected DEBUG, INFO, WARNING, ERROR or CRITICAL,"
            " found 'LOUD'; did you mean level?"
        ),
        (
            "FILE:15: [Logging]: expected [Section], or option = value with a name of letters,"
            " digits, _ . - /"
        ),
        "FILE:17: [Size small] price: expected a number, at least 0, found '-1'",
        "environment variable NODE_MANAGER_API_PROT: [Api]: unknown option 'prot'; did you mean port?",
    ]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (
            "[Api]\nping_timeout = 30\n",
            (
                "FILE:2: [Api] ping_timeout: 30 s is less than 3 times [Dispatch] ping_interval;"
                " at least 45 s is needed"
            ),
        ),
        (
            "[Dispatch]\nping_interval = 10 min\n",
            (
                "FILE: [Api] ping_timeout: 10 min is less than 3 times [Dispatch] ping_interval;"
                " at least 30 min is needed"
            ),
        ),
        (
            "[Api]\nretry_backoff_max = 5\n",
            "FILE:2: [Api] retry_backoff_max: 5 s is less than retry_backoff_min (10 s)",
        ),
        (
            "[Api]\ncertificate = a.pem\n",
            "FILE: [Api] key: is missing; certificate and key come together, or neither does",
        ),
        (
            "[Scheduler]\nmax_poll_time = 1\n",
            "FILE:2: [Scheduler] max_poll_time: 1 s is less than poll_time (5 s)",
        ),
        (
            "[Daemon]\nmin_nodes = 2\n",
            "FILE: [Daemon] max_nodes: 1 is less than min_nodes (2)",
        ),
        (
            "[Cloud]\ncapacity_pause = 1 h\n",
            "FILE: [Cloud] capacity_pause_max: 30 min is less than capacity_pause (1 h)",
        ),
        (
            "[Cloud]\nboot_script = /nowhere/boot.sh\n",
            "FILE:2: [Cloud] boot_script: there is no file /nowhere/boot.sh",
        ),
        (
            "[Cloud]\ncluster_config = /\n",
            "FILE:2: [Cloud] cluster_config: there is no file /",
        ),
        (
            "[Dispatch]\nscheduler = slurm\n[Cloud]\nprovider = loopback\n",
            (
                "FILE: [Cloud Create] start: is missing: machines of the loopback cloud join slurm only if"
                " they run its daemon: slurmd -D -b -N %h"
            ),
        ),
        (
            "[Dispatch]\nscheduler = local\nschedulers = a\n[Scheduler a]\nmodule = local\n",
            "FILE:2: [Dispatch] scheduler: is given and schedulers as well; one of the two",
        ),
        (
            "[Dispatch]\nschedulers = a, a\n[Scheduler a]\nmodule = local\n",
            "FILE:2: [Dispatch] schedulers: names a twice",
        ),
        (
            "[Scheduler a]\nmodule = local\n",
            "FILE: [Dispatch] schedulers: [Scheduler a] is there, and it is not in the list",
        ),
        (
            "[Dispatch]\nschedulers = a\n[Scheduler a]\nmax_poll_time = 1 s\nmodule = local\n",
            "FILE:4: [Scheduler a] max_poll_time: 1 s is less than poll_time (5 s)",
        ),
        (
            "[Dispatch]\nschedulers = a\n[Scheduler a]\nmodule = local\naccept = core = 1\n",
            (
                "FILE:5: [Scheduler a] accept: expected one of partition, cores, ram, scratch, gpus,"
                " preemptible, property.KEY, found 'core'; did you mean cores?"
            ),
        ),
        (
            "[Dispatch]\nschedulers = a\n[Scheduler a]\nmodule = local\n[Cloud]\nscheduler = b\n",
            "FILE:6: [Cloud] scheduler: b is not in [Dispatch] schedulers",
        ),
        (
            "[Arvados]\nhost = api.example.org\n",
            (
                "FILE: [Arvados] token: is missing, and host is api.example.org; set token_file,"
                " or the variable NODE_MANAGER_ARVADOS_TOKEN"
            ),
        ),
    ],
)
def test_options_that_contradict_each_other(
    loaded: Loader, path: Path, text: str, problem: str
) -> None:
    assert problems(loaded, path, text) == [problem]


def test_sections_about_nodes_without_a_provider_are_warned_of(loaded: Loader, path: Path) -> None:
    text = """\
[Cloud Create]
image_id = ami-012345
[Cloud]
provider =
boots_per_turn = 3
[Size small]
[Size large]
cores = 8
"""
    assert loaded(text).warnings == (
        (
            f"{path}: [Cloud] provider is empty, so no nodes are booted and this has no effect:"
            " [Cloud], [Cloud Create], [Size small], [Size large]"
        ),
    )
    assert loaded(text.replace("provider =", "provider = ec2")).warnings == ()
    assert loaded("[Cloud]\nprovider =\n").warnings == ()


def test_an_old_place_and_the_new_one_contradict_each_other(loaded: Loader, path: Path) -> None:
    text = "[Daemon]\ncerts_file = a.pem\n[Arvados]\ncerts_file = b.pem\n"
    assert problems(loaded, path, text) == [
        "FILE:4: [Arvados] certs_file: means the same as FILE:2; keep one of them"
    ]


def test_a_missing_file(tmp_path: Path) -> None:
    path = tmp_path / "none.cfg"
    with pytest.raises(ConfigError) as caught:
        load(path, {})
    assert str(caught.value) == f"{path}: cannot be read: No such file or directory"


def test_a_directory_is_no_config_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read: Is a directory"):
        load(tmp_path, {})


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_an_unreadable_file(loaded: Loader) -> None:
    with pytest.raises(ConfigError, match="cannot be read: Permission denied"):
        loaded("", mode=0o000)


def test_a_file_in_another_encoding(path: Path) -> None:
    path.parent.mkdir()
    path.write_bytes("[Arvados]\nhost = f\u00fcr\n".encode("latin-1"))
    with pytest.raises(ConfigError) as caught:
        load(path, {})
    assert str(caught.value) == f"{path}:2: not UTF-8; save the file in that encoding"


def test_a_huge_file_is_not_swallowed() -> None:
    with pytest.raises(ConfigError, match="this is no config file"):
        load("/dev/zero", {})


def test_a_byte_order_mark_and_windows_line_ends_do_no_harm(path: Path) -> None:
    path.parent.mkdir()
    path.write_bytes(b"\xef\xbb\xbf[Api]\r\nport = 1\r\n")
    assert load(path, {}).api.port == 1


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o644])
def test_a_secret_that_others_can_read(loaded: Loader, path: Path, mode: int) -> None:
    with pytest.raises(ConfigError) as caught:
        loaded("[Api]\nroot_token = hush\n", mode=mode)
    expected = f"{path}:2: [Api] root_token: others may read this secret; run: chmod 600 {path}"
    assert str(caught.value) == expected


def test_a_cloud_key_counts_as_a_secret_too(loaded: Loader) -> None:
    with pytest.raises(ConfigError, match="others may read this secret"):
        loaded("[Cloud Credentials]\nkey = hush\n", mode=0o644)


def test_a_file_without_secrets_may_be_read_by_all(loaded: Loader) -> None:
    text = "[Api]\nport = 1\nroot_token =\n[Cloud Credentials]\nregion = us-east-1\n"
    assert loaded(text, mode=0o644).api.port == 1


@pytest.mark.parametrize(
    ("content", "mode", "problem"),
    [
        (b"hush", 0o644, "others may read or write TOKEN; run: chmod 600 TOKEN"),
        (b" \n", 0o600, "TOKEN is empty; it must hold the secret and nothing else"),
        (b"hush\nhush\n", 0o600, "TOKEN must hold the secret and nothing else, in one line"),
        (b"h\xffsh", 0o600, "TOKEN must hold the secret and nothing else, in one line"),
        (b"h" * 70_000, 0o600, "TOKEN must hold the secret and nothing else, in one line"),
        (None, 0o600, "cannot read TOKEN: No such file or directory"),
    ],
)
def test_what_can_be_wrong_with_a_token_file(
    loaded: Loader, path: Path, content: bytes | None, mode: int, problem: str
) -> None:
    token = path.parent / "token"
    if content is not None:
        token.write_bytes(content)
        token.chmod(mode)
    (line,) = problems(loaded, path, "[Arvados]\ntoken_file = token\n")
    said = line.replace(str(token), "TOKEN")
    assert said == f"FILE:2: [Arvados] token_file: {problem}"


def test_a_pipe_is_no_token_file(loaded: Loader, path: Path) -> None:
    os.mkfifo(path.parent / "token", 0o600)
    (line,) = problems(loaded, path, "[Arvados]\ntoken_file = token\n")
    assert line.endswith("token is not a regular file")


def test_a_token_and_a_token_file(loaded: Loader, path: Path) -> None:
    assert problems(loaded, path, "[Arvados]\ntoken = a\ntoken_file = b\n") == [
        "FILE:3: [Arvados] token_file: give either token or token_file"
    ]


@pytest.mark.parametrize("address", ["0.0.0.0", "::", "10.0.0.7", "elm.example.org"])
def test_a_management_server_that_strangers_reach_without_a_token_is_warned_of(
    loaded: Loader, path: Path, address: str
) -> None:
    text = f"[Manage]\nport = 8989\naddress = {address}\n"
    [warning] = loaded(text).warnings
    assert warning.startswith(f"{path}: [Manage] address: other machines may reach {address} ")
    assert loaded(f"{text}ManagementToken = hush\n").warnings == ()
    assert loaded(text.replace("8989", "-1")).warnings == ()


@pytest.mark.parametrize("address", ["127.0.0.1", "127.8.8.8", "::1", "localhost"])
def test_a_management_server_for_this_machine_needs_no_token(loaded: Loader, address: str) -> None:
    assert loaded(f"[Manage]\nport = 0\naddress = {address}\n").warnings == ()


def test_the_management_token_can_be_in_a_file(loaded: Loader, path: Path) -> None:
    token = path.parent / "token"
    token.write_text("hush\n")
    token.chmod(0o600)
    config = loaded("[Manage]\nManagementToken_file = token\n")
    assert config.manage.management_token == "hush"


def test_a_variable_that_names_no_section_is_warned_of(loaded: Loader) -> None:
    config = loaded("", {"NODE_MANAGER_AVRADOS_TOKEN": "x", "OTHER": "y"})
    assert config.warnings == (
        (
            "environment variable NODE_MANAGER_AVRADOS_TOKEN:"
            " names no section of the config file and is not used"
        ),
    )


def test_variables_of_a_kubernetes_service_are_not_ours(loaded: Loader) -> None:
    config = loaded(
        "",
        {
            "NODE_MANAGER_SERVICE_HOST": "10.0.0.1",
            "NODE_MANAGER_PORT": "tcp://10.0.0.1:443",
            "NODE_MANAGER_PORT_443_TCP_ADDR": "10.0.0.1",
            "NODE_MANAGER_API_SERVICE_PORT_HTTPS": "443",
            "NODE_MANAGER_API_PORT": "tcp://10.0.0.2:443",
        },
    )
    assert config.api.port == 0
    assert config.warnings == ()


def test_odd_variables_are_errors_on_one_line(loaded: Loader, path: Path) -> None:
    environ = {"NODE_MANAGER_API_A\nB": "1", "NODE_MANAGER_API_ADDRESS": "a\0b\udcff"}
    assert len(problems(loaded, path, "", environ)) == 2


def test_the_text_of_a_file_that_does_not_exist() -> None:
    config = parse("[Daemon]\nstate_dir = s\n", "/nowhere/x.cfg")
    assert config.daemon.state_dir == Path("/nowhere/s")
    with pytest.raises(ConfigError, match=r"^/nowhere/x.cfg:2: \[Api\] port: "):
        parse("[Api]\nport = x", "/nowhere/x.cfg")


def test_a_config_cannot_be_changed() -> None:
    config = parse("", "x.cfg")
    with pytest.raises(dataclasses.FrozenInstanceError):
        config.api.port = 1  # type: ignore[misc]
    with pytest.raises(TypeError):
        config.scheduler.options["a"] = "b"  # type: ignore[index]


def test_every_option_has_a_sentence_and_a_default_that_parses() -> None:
    for part in SECTIONS:
        assert part.sentence.endswith(".")
        for made in options_of(part.cls):
            assert made.sentence.endswith(".")
            assert "\n" not in made.sentence
            if not (made.optional or made.free or made.is_derived):
                made.kind.parse(made.default)
