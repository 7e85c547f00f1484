"""Flags over environment over file; what is wrong is refused by name."""

from pathlib import Path

import pytest

from service.settings import Settings, SettingsError, load_settings


def test_flags_win_over_environment_and_environment_over_file(tmp_path: Path) -> None:
    file = tmp_path / "server.toml"
    file.write_text("port = 1001\nmax_images = 1\nmax_responses = 2\n")
    environ = {"VLRM_CONFIG": str(file), "VLRM_PORT": "1002", "VLRM_MAX_IMAGES": "3"}
    settings = load_settings({"port": "1003"}, environ)
    assert (settings.port, settings.max_images, settings.max_responses) == (1003, 3, 2)


def test_a_json_file_is_read_too(tmp_path: Path) -> None:
    file = tmp_path / "server.json"
    file.write_text('{"port": 1001}')
    assert load_settings({"config": str(file)}, {}).port == 1001


def test_other_peoples_variables_are_none_of_our_business() -> None:
    assert load_settings({}, {"PORT": "1", "PATH": "/bin"}) == Settings()


@pytest.mark.parametrize(
    ("flags", "environ", "words"),
    [
        pytest.param({}, {"VLRM_PROT": "1"}, ["VLRM_PROT", "VLRM_PORT"], id="misspelt"),
        pytest.param({}, {"VLRM_PORT": "http"}, ["VLRM_PORT", "'http'"], id="not_a_number"),
        pytest.param({}, {"VLRM_PORT": "70000"}, ["VLRM_PORT", "65535"], id="out_of_bounds"),
        pytest.param({"dtype": "int8"}, {}, ["--dtype", "bfloat16"], id="not_a_choice"),
        pytest.param({"max_in_flight": "0"}, {}, ["--max-in-flight"], id="zero_queue"),
        pytest.param({"port": "1", "drain_s": "-1"}, {}, ["--drain-s"], id="negative_time"),
        pytest.param({"host": "0.0.0.0"}, {}, ["0.0.0.0", "allow_anonymous"], id="open_server"),
        pytest.param({"media_urls": "on"}, {}, ["--media-urls", "allowlist"], id="media_mode"),
        pytest.param(
            {}, {"VLRM_MEDIA_URLS": "allowlist"}, ["media_allowed_hosts"], id="empty_allowlist"
        ),
        pytest.param(
            {"media_urls": "allowlist", "media_allowed_hosts": " , "},
            {},
            ["media_allowed_hosts"],
            id="allowlist_of_nothing",
        ),
        pytest.param(
            {"media_urls": "allowlist"},
            {"VLRM_MEDIA_ALLOWED_HOSTS": "a.example,http://b.example"},
            ["'http://b.example'", "host:port"],
            id="not_a_host",
        ),
        pytest.param(
            {"media_urls": "public", "media_allowed_hosts": "a.example"},
            {},
            ["media_allowed_hosts", "public"],
            id="hosts_that_would_be_ignored",
        ),
        pytest.param(
            {}, {"VLRM_MEDIA_PRIVATE_ADDRESSES": "1"}, ["off"], id="private_without_allowlist"
        ),
        pytest.param({"config": "/none.toml"}, {}, ["/none.toml"], id="missing_file"),
    ],
)
def test_a_wrong_setting_is_refused_by_name(
    flags: dict[str, str], environ: dict[str, str], words: list[str]
) -> None:
    with pytest.raises(SettingsError) as refused:
        load_settings(flags, environ)
    assert all(word in str(refused.value) for word in words), refused.value


@pytest.mark.parametrize(
    ("name", "text"),
    [("a.toml", "port = "), ("a.json", "{"), ("a.json", "[1]"), ("a.toml", "nonsense = 1")],
)
def test_a_wrong_file_is_refused(tmp_path: Path, name: str, text: str) -> None:
    file = tmp_path / name
    file.write_text(text)
    with pytest.raises(SettingsError, match=name):
        load_settings({"config": str(file)}, {})


def test_allowed_hosts_are_a_list_in_a_file_and_comma_separated_elsewhere(tmp_path: Path) -> None:
    file = tmp_path / "server.toml"
    file.write_text(
        'media_urls = "allowlist"\nmedia_allowed_hosts = ["a.example", "*.b.example:81"]'
    )
    from_file = load_settings({"config": str(file)}, {})
    variables = {
        "VLRM_MEDIA_URLS": "allowlist",
        "VLRM_MEDIA_ALLOWED_HOSTS": "a.example, *.b.example:81",
    }
    assert load_settings({}, variables) == from_file
    assert from_file.media_allowed_hosts == ("a.example", "*.b.example:81")


@pytest.mark.parametrize("host", ["127.0.0.1", "127.9.9.9", "::1", "localhost"])
def test_loopback_needs_no_keys(host: str) -> None:
    assert Settings(host=host).is_loopback


@pytest.mark.parametrize("name", Settings.model_fields)
def test_every_setting_says_what_it_does(name: str) -> None:
    assert Settings.model_fields[name].description
