"""Which URLs and addresses the guard lets through: tables, then whatever hypothesis thinks of."""

import socket
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.netguard import Policy, is_private, is_public
from service.weburl import AllowedHost, Refused, Target, parse

PUBLIC = Policy("public")
LIMIT = "http://a.example/"

REFUSED = {
    "loopback": "http://127.0.0.1/",
    "loopback_high": "http://127.255.255.254/a.png",
    "localhost": "http://localhost/",
    "localhost_upper": "http://LOCALHOST/",
    "localhost_dot": "http://localhost./",
    "single_label": "http://metadata/",
    "zero": "http://0/",
    "zeros": "http://0.0.0.0/",
    "this_network": "http://0.1.2.3/",
    "short": "http://127.1/",
    "short_three": "http://127.0.1/",
    "decimal": "http://2130706433/",
    "decimal_public": "http://134744072/",
    "hex": "http://0x7f000001/",
    "hex_upper": "http://0X7F000001/",
    "hex_parts": "http://0x7f.0x0.0x0.0x1/",
    "octal": "http://0177.0.0.1/",
    "octal_public": "http://010.8.8.8/",
    "mixed": "http://0x7f.0.0.01/",
    "five_parts": "http://1.2.3.4.5/",
    "too_big": "http://256.8.8.8/",
    "numeric_end": "http://example.123/",
    "hex_end": "http://example.0x7/",
    "full_width": "http://\uff11\uff12\uff17.0.0.1/",
    "circled": "http://①②⑦.⓪.⓪.①/",
    "ideographic_dots": "http://127。0。0。1/",
    "private_10": "http://10.0.0.1/",
    "private_172": "http://172.16.0.1/",
    "private_172_end": "http://172.31.255.255/",
    "private_192": "http://192.168.1.1/",
    "link_local": "http://169.254.0.1/",
    "metadata": "http://169.254.169.254/latest/meta-data/",
    "metadata_dot": "http://169.254.169.254./",
    "metadata_port": "http://169.254.169.254:80/",
    "metadata_encoded": "http://169%2e254%2e169%2e254/",
    "cgnat": "http://100.64.0.1/",
    "cgnat_metadata": "http://100.100.100.200/",
    "benchmark": "http://198.18.0.1/",
    "documentation": "http://192.0.2.1/",
    "documentation_2": "http://198.51.100.1/",
    "documentation_3": "http://203.0.113.1/",
    "protocol": "http://192.0.0.170/",
    "relay_6to4": "http://192.88.99.1/",
    "multicast": "http://224.0.0.1/",
    "reserved": "http://240.0.0.1/",
    "broadcast": "http://255.255.255.255/",
    "v6_loopback": "http://[::1]/",
    "v6_any": "http://[::]/",
    "v6_mapped": "http://[::ffff:127.0.0.1]/",
    "v6_mapped_hex": "http://[::ffff:7f00:1]/",
    "v6_mapped_public": "http://[::ffff:8.8.8.8]/",
    "v6_compatible": "http://[::127.0.0.1]/",
    "v6_nat64": "http://[64:ff9b::7f00:1]/",
    "v6_nat64_local": "http://[64:ff9b:1::a00:1]/",
    "v6_6to4": "http://[2002:7f00:1::]/",
    "v6_teredo": "http://[2001:0:53aa:64c:0:0:80ff:fffe]/",
    "v6_link_local": "http://[fe80::1]/",
    "v6_zone": "http://[fe80::1%25eth0]/",
    "v6_zone_of_public": "http://[2606:4700::1111%eth0]/",
    "v6_unique_local": "http://[fd00::1]/",
    "v6_site_local": "http://[fec0::1]/",
    "v6_multicast": "http://[ff02::1]/",
    "v6_documentation": "http://[2001:db8::1]/",
    "v6_documentation_2": "http://[3fff::1]/",
    "v6_segment_routing": "http://[5f00::1]/",
    "v6_broken": "http://[::1/",
    "v6_name": "http://[localhost]/",
    "v6_bare": "http://::1/",
    "user": "http://user@a.example/",
    "user_and_password": "http://user:80@a.example/",
    "user_is_a_host": "http://a.example@127.0.0.1/",
    "backslash": "http://a.example\\@127.0.0.1/",
    "backslash_scheme": "http:\\\\a.example/",
    "percent_host": "http://%61.example/",
    "null_host": "http://a.example%00.b.example/",
    "tab": "http://a.ex\tample/",
    "newline": "http://a.example/\r\nX: y",
    "space": "http://a.example /",
    "space_path": "http://a.example/a b.png",
    "leading_space": " http://a.example/",
    "no_break_space": "http://a.example/\u00a0",
    "surrogate": "http://a.example/\ud800",
    "star": "http://*.example/",
    "comma": "http://a,b.example/",
    "empty_label": "http://a..example/",
    "leading_dot": "http://.a.example/",
    "hyphen_first": "http://-a.example/",
    "long_label": f"http://{'a' * 64}.example/",
    "long_name": f"http://{'a.' * 130}example/",
    "bad_idn": "http://☃\u200d.example/",
    "port_zero": "http://a.example:0/",
    "port_22": "http://a.example:22/",
    "port_8080": "http://a.example:8080/",
    "port_of_other_scheme": "http://a.example:443/",
    "port_99999": "https://a.example:99999/",
    "port_hex": "http://a.example:0x50/",
    "port_empty": "http://a.example:/",
    "port_arabic": "http://a.example:٨٠/",
    "file": "file:///etc/passwd",
    "ftp": "ftp://a.example/",
    "gopher": "gopher://a.example/",
    "dict": "dict://a.example:2628/",
    "data": "data:image/png;base64,aaaa",
    "javascript": "javascript:alert(1)",
    "jar": "jar:http://a.example!/",
    "long_s": "http\u017f://a.example/",
    "relative": "//a.example/",
    "one_slash": "http:/a.example/",
    "no_slash": "http:a.example/",
    "no_host": "http:///a.png",
    "no_host_port": "http://:80/",
    "empty": "",
    "too_long": LIMIT + "a" * (2049 - len(LIMIT)),
    "100_kb": LIMIT + "a" * 100_000,
}


@pytest.mark.parametrize("url", REFUSED.values(), ids=REFUSED.keys())
def test_the_guard_refuses(url: str) -> None:
    with pytest.raises(Refused) as refused:
        PUBLIC.target(url)
    assert "127" not in str(refused.value)


@pytest.mark.parametrize(
    ("url", "target"),
    [
        ("http://a.example", Target("http", "a.example", 80, "/")),
        ("HTTPS://A.Example./x.png", Target("https", "a.example", 443, "/x.png")),
        ("https://a.example:443/x?y=1#z", Target("https", "a.example", 443, "/x?y=1")),
        ("http://a.example#@127.0.0.1:6379/", Target("http", "a.example", 80, "/")),
        ("http://a.example?q", Target("http", "a.example", 80, "/?q")),
        ("http://bücher.example/ü", Target("http", "xn--bcher-kva.example", 80, "/%C3%BC")),
        ("http://8.8.8.8/a%20b", Target("http", "8.8.8.8", 80, "/a%20b")),
        ("http://\uff18.8.8.8/", Target("http", "8.8.8.8", 80, "/")),
        ("https://[2606:4700::0:1111]/", Target("https", "2606:4700::1111", 443, "/")),
        ("http://a_b.r3---sn.example/@:x", Target("http", "a_b.r3---sn.example", 80, "/@:x")),
        (LIMIT + "a" * (2048 - len(LIMIT)), Target("http", "a.example", 80, "/" + "a" * 2031)),
    ],
)
def test_the_guard_reads_one_way_only(url: str, target: Target) -> None:
    assert PUBLIC.target(url) == target


def test_an_ipv6_address_keeps_its_brackets_in_the_host_header() -> None:
    assert parse("https://[2606:4700::1111]/").authority == "[2606:4700::1111]"
    assert parse("http://[2606:4700::1111]:81/").authority == "[2606:4700::1111]:81"
    assert parse("http://a.example:443/").authority == "a.example:443"


ALLOWLIST = Policy.of(
    "allowlist",
    ["pictures.example", "*.cdn.example", "store.example:9000", "10.1.2.3:9000", "[fd00::7]"],
    private_addresses=True,
)


@pytest.mark.parametrize(
    "url",
    [
        "http://pictures.example/",
        "https://PICTURES.example./",
        "https://a.cdn.example/",
        "https://a.b.cdn.example/",
        "http://store.example:9000/",
        "https://store.example:9000/",
        "http://10.1.2.3:9000/",
        "https://[fd00:0::7]/",
    ],
)
def test_the_allowlist_admits(url: str) -> None:
    ALLOWLIST.target(url)


@pytest.mark.parametrize(
    "url",
    [
        "http://cdn.example/",
        "http://evilcdn.example/",
        "http://a.cdn.example.evil.example/",
        "http://pictures.example.evil.example/",
        "http://a.pictures.example/",
        "http://pictures.example:8080/",
        "http://pictures.example:443/",
        "http://store.example/",
        "http://10.1.2.3/",
        "http://10.1.2.4:9000/",
        "http://8.8.8.8/",
        "http://localhost/",
    ],
)
def test_the_allowlist_refuses(url: str) -> None:
    with pytest.raises(Refused):
        ALLOWLIST.target(url)


@pytest.mark.parametrize(
    ("addresses", "private", "allowed"),
    [
        (["93.184.216.34"], False, True),
        (["93.184.216.34", "2606:4700::1111"], False, True),
        (["93.184.216.34", "10.0.0.1"], False, False),
        (["2606:4700::1111", "::1"], False, False),
        (["10.0.0.1"], False, False),
        (["10.0.0.1"], True, True),
        (["127.0.0.1", "::1"], True, True),
        (["fd12::1"], True, True),
        (["10.0.0.1", "169.254.169.254"], True, False),
        (["fd00:ec2::254"], True, False),
        (["fe80::1%2"], True, False),
        (["::ffff:10.0.0.1"], True, False),
        (["100.100.100.200"], True, False),
        (["0.0.0.0"], True, False),
    ],
)
def test_every_address_of_a_name_must_be_allowed(
    addresses: list[str], private: bool, allowed: bool
) -> None:
    policy = Policy.of("allowlist", ["a.example"], private)
    found = map(ip_address, addresses)
    if allowed:
        policy.check(found)
    else:
        with pytest.raises(Refused):
            policy.check(found)


@pytest.mark.parametrize(
    "entry",
    [
        "",
        "*",
        "*.",
        "a b",
        "http://a.example",
        "a.example/x",
        "a.example:0",
        "u@a",
        "a*.b",
        "127.1",
    ],
)
def test_what_is_no_host_cannot_be_listed(entry: str) -> None:
    with pytest.raises(ValueError, match="host"):
        AllowedHost.parse(entry)


HOP = Target("https", "a.example", 443, "/x/y.png?z=1")


@pytest.mark.parametrize(
    ("location", "path"),
    [
        ("/b.png", "/b.png"),
        ("b.png", "/x/b.png"),
        ("?q", "/x/y.png?q"),
        ("//a.example/c", "/c"),
        ("https://b.example/d", "/d"),
    ],
)
def test_redirects_may_be_relative(location: str, path: str) -> None:
    assert PUBLIC.redirected(HOP, location).path == path


@pytest.mark.parametrize(
    "location", ["http://a.example/", "//[", "https://a.example:8443/", "//u@b.example"]
)
def test_redirects_are_judged_like_first_hops(location: str) -> None:
    with pytest.raises(Refused, match="redirects"):
        PUBLIC.redirected(HOP, location)


@pytest.mark.parametrize("url", REFUSED.values(), ids=REFUSED.keys())
def test_no_redirect_leads_where_a_first_hop_may_not(url: str) -> None:
    """A browser's cleaning of tabs and the like must not turn a refused URL into an allowed one."""
    try:
        hop = PUBLIC.redirected(Target("http", "a.example", 80, "/"), url)
    except Refused:
        return
    assert hop.host == "a.example"
    assert hop.port in (80, 443)


# What must never be dialled, written down a second time from the IANA registries.
SPECIAL = [
    *("0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12"),
    *("192.0.0.0/24", "192.0.2.0/24", "192.88.99.0/24", "192.168.0.0/16", "198.18.0.0/15"),
    *("198.51.100.0/24", "203.0.113.0/24", "224.0.0.0/4", "240.0.0.0/4", "255.255.255.255/32"),
    *("::/128", "::1/128", "::/96", "::ffff:0:0/96", "64:ff9b::/96", "64:ff9b:1::/48", "100::/64"),
    *("2001::/32", "2001:2::/48", "2001:db8::/32", "2001:10::/28", "2001:20::/28", "2002::/16"),
    *("3fff::/20", "5f00::/16", "fc00::/7", "fe80::/10", "fec0::/10", "ff00::/8"),
]
NETWORKS = [ip_network(text) for text in SPECIAL]
special_addresses = st.sampled_from(NETWORKS).flatmap(lambda n: st.ip_addresses(network=n))


@given(special_addresses)
def test_no_special_address_is_public(address: IPv4Address | IPv6Address) -> None:
    assert not is_public(address)


@given(st.ip_addresses())
def test_public_addresses_are_nobodys_special_ones(address: IPv4Address | IPv6Address) -> None:
    if is_public(address):
        assert address.is_global
        assert not address.is_multicast
        assert not any(address in network for network in NETWORKS)
        assert not is_private(address)


def spellings(address: IPv4Address) -> list[str]:
    """One IPv4 address as resolvers, browsers and people write it."""
    a, b, c, d = address.packed
    number = int(address)
    return [
        *(str(address), str(number), hex(number), f"0{number:o}", f"{a}.{number & 0xFFFFFF}"),
        *(f"{a}.{b}.{number & 0xFFFF}", f"0x{a:x}.{b}.{c}.0{d:o}", f"{a:03}.{b:03}.{c:03}.{d:03}"),
        *(f"[::ffff:{address}]", f"[::{address}]", f"[64:ff9b::{address}]", f"{address}."),
        *(f"[2002:{a:02x}{b:02x}:{c:02x}{d:02x}::]", str(address).translate(FULL_WIDTH)),
        *(str(address).replace(".", "。"), str(address).replace(".", "%2e")),
    ]


FULL_WIDTH = {ord("0") + i: chr(0xFF10 + i) for i in range(10)}
special_v4 = [network for network in NETWORKS if network.version == 4]


@given(
    st.sampled_from(special_v4)
    .flatmap(lambda n: st.ip_addresses(network=n))
    .filter(lambda address: address.version == 4),
    st.sampled_from(["http://", "https://", "HTTP://", "http://a.example@"]),
    st.sampled_from(["", "/", ":80/", ":443/x", "?q", "/#@a.example"]),
    st.data(),
)
def test_no_spelling_of_a_special_address_passes(
    address: IPv4Address, before: str, after: str, data: st.DataObject
) -> None:
    host = data.draw(st.sampled_from(spellings(address)))
    with pytest.raises(Refused):
        PUBLIC.target(f"{before}{host}{after}")


pieces = st.lists(
    st.sampled_from(
        [
            *(
                "http",
                "https",
                "://",
                ":",
                "/",
                "@",
                "#",
                "?",
                "\\",
                "%",
                ".",
                "[",
                "]",
                "*",
                "0x7f",
            ),
            *(
                "127.0.0.1",
                "localhost",
                "a.example",
                "::1",
                "80",
                "\uff18",
                "。",
                "xn--",
                "é",
                "\t",
            ),
        ]
    )
    | st.text(max_size=3),
    max_size=12,
).map("".join)


@given(st.text() | pieces | pieces.map(lambda rest: "http://" + rest))
@pytest.mark.parametrize("after_redirect", [False, True])
def test_the_guard_never_fails_and_what_it_admits_is_plain(after_redirect: bool, url: str) -> None:
    try:
        target = PUBLIC.redirected(HOP, url) if after_redirect else PUBLIC.target(url)
    except Refused:
        return
    assert target.host.isascii()
    assert target.path.isascii()
    assert target.path.isprintable()
    assert target.path[0] == "/"
    assert (target.scheme, target.port) in (("http", 80), ("https", 443))
    if target.literal is None:
        assert "." in target.host
        assert target.host.encode("idna")  # as the system's resolver is asked
        # What no resolver may take for an address, in whatever spelling.
        with pytest.raises(OSError, match="illegal IP"):
            socket.inet_aton(target.host)
    else:
        assert is_public(target.literal)
    again = parse(f"{target.scheme}://{target.authority}{target.path}")
    assert again == target
