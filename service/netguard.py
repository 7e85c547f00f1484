"""From where pictures may be fetched. Pure: what the operator allows in, a decision out."""

from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Literal, Self
from urllib.parse import urljoin

from service.weburl import DEFAULT_PORTS, AllowedHost, Refused, Target, parse

Mode = Literal["off", "allowlist", "public"]
Address = IPv4Address | IPv6Address


def _networks(*texts: str) -> tuple[IPv4Network | IPv6Network, ...]:
    return tuple(map(ip_network, texts))


# Written out: what `is_global` means differs between Python versions, and it admits tunnels.
V4_NOT_PUBLIC = _networks(
    *("0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16"),
    *("172.16.0.0/12", "192.0.0.0/24", "192.0.2.0/24", "192.88.99.0/24", "192.168.0.0/16"),
    *("198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24", "224.0.0.0/3"),
)
# Nothing outside is handed out: there lie ::, ::1, mapped IPv4, NAT64, link-local, multicast.
V6_PUBLIC = ip_network("2000::/3")
# Teredo and other protocols' own, documentation twice, 6to4.
V6_NOT_PUBLIC = _networks("2001::/23", "2001:db8::/32", "3fff::/20", "2002::/16")
PRIVATE = _networks(
    *("127.0.0.0/8", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "::1/128", "fc00::/7")
)
# Clouds hand out credentials here; the IPv4 ones lie in link-local and shared space.
METADATA = (ip_address("fd00:ec2::254"), ip_address("fd20:ce::254"))


def is_public(address: Address) -> bool:
    """Whether it is anybody's on the internet: nothing private, special or tunnelled."""
    if isinstance(address, IPv4Address):
        return not any(address in network for network in V4_NOT_PUBLIC)
    return address in V6_PUBLIC and not any(address in network for network in V6_NOT_PUBLIC)


def is_private(address: Address) -> bool:
    """Loopback and private networks, without the places where clouds keep credentials."""
    return address not in METADATA and any(address in network for network in PRIVATE)


@dataclass(frozen=True, slots=True)
class Policy:
    """What the operator allows; every hop of every fetch is judged by it."""

    mode: Mode
    hosts: tuple[AllowedHost, ...] = ()
    private_addresses: bool = False

    @classmethod
    def of(cls, mode: Mode, hosts: Iterable[str], private_addresses: bool) -> Self:
        """Raises ValueError where the settings contradict each other."""
        policy = cls(mode, tuple(map(AllowedHost.parse, hosts)), private_addresses)
        if mode == "allowlist" and not policy.hosts:
            raise ValueError("media_urls is allowlist, but media_allowed_hosts names no host")
        if mode != "allowlist" and (policy.hosts or private_addresses):
            raise ValueError(
                "media_allowed_hosts and media_private_addresses are for media_urls=allowlist; "
                f"it is {mode}"
            )
        return policy

    def target(self, url: str) -> Target:
        """Where `url` leads; raises Refused when nothing may be fetched from there."""
        target = parse(url)
        if not self._admits(target):
            raise _not_from_there()
        if target.literal is not None:
            self.check([target.literal])
        return target

    def check(self, addresses: Iterable[Address]) -> None:
        """One forbidden address among a name's addresses is enough to refuse the name."""
        if not all(map(self._may_dial, addresses)):
            raise _not_from_there()

    def redirected(self, target: Target, location: str) -> Target:
        """The next hop, judged like a first one; a secure one never leads to an open one."""
        try:
            url = urljoin(f"{target.scheme}://{target.authority}{target.path}", location)
            hop = self.target(url)
        except (Refused, ValueError):  # the second is urljoin's
            raise _not_that_way() from None
        if (target.scheme, hop.scheme) == ("https", "http"):
            raise _not_that_way()
        return hop

    def _admits(self, target: Target) -> bool:
        if self.mode == "public":
            # A name without a dot is somebody's own network.
            whole = "." in target.host or ":" in target.host
            return whole and target.port == DEFAULT_PORTS[target.scheme]
        return any(host.admits(target) for host in self.hosts)

    def _may_dial(self, address: Address) -> bool:
        return is_public(address) or (self.private_addresses and is_private(address))


def _not_from_there() -> Refused:
    return Refused("this server may not fetch from the URL's host and port")


def _not_that_way() -> Refused:
    return Refused("the URL redirects to where this server may not fetch from")
