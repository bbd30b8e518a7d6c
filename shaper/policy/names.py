"""Names that a match may use instead of numbers, the same on every machine: no file of the system is asked.

DSCPs: class selectors and default from RFC 2474, assured forwarding from RFC 2597, EF from RFC 3246, voice-admit
from RFC 5865, lower effort from RFC 8622. ECN: RFC 3168, section 5. Protocols, ports, ICMP types and ethertypes by
their names at IANA ("Assigned Internet Protocol Numbers", "Service Name and Transport Protocol Port Number Registry",
"ICMP Parameters", "ICMPv6 Parameters", "IEEE 802 Numbers").
"""

from __future__ import annotations

from shaper.model.match import ETHERTYPE_IPV4, ETHERTYPE_IPV6

DSCP_NAMES: dict[str, int] = {
    "df": 0,  # RFC 2474, section 4.1: the default PHB
    "be": 0,
    "le": 1,  # RFC 8622, section 10: 000001
    **{f"cs{precedence}": precedence << 3 for precedence in range(8)},  # RFC 2474, section 4.2.2: xxx000
    # RFC 2597, section 6: AFcd is class c in the upper three bits, drop precedence d in the next two
    **{f"af{cls}{drop}": cls << 3 | drop << 1 for cls in range(1, 5) for drop in range(1, 4)},
    "voice-admit": 44,  # RFC 5865, section 4: 101100
    "va": 44,
    "ef": 46,  # RFC 3246, section 2.7: 101110
}

PROTOCOL_NAMES: dict[str, int] = {
    "icmp": 1,
    "igmp": 2,
    "ipip": 4,
    "tcp": 6,
    "udp": 17,
    "dccp": 33,
    "ipv6": 41,
    "gre": 47,
    "esp": 50,
    "ah": 51,
    "icmpv6": 58,
    "eigrp": 88,
    "ospf": 89,
    "pim": 103,
    "vrrp": 112,
    "l2tp": 115,
    "sctp": 132,
    "udplite": 136,
}

FAMILY_NAMES: dict[str, int] = {"ipv4": ETHERTYPE_IPV4, "ipv6": ETHERTYPE_IPV6}

ETHERTYPE_NAMES: dict[str, int] = {
    **FAMILY_NAMES,
    "arp": 0x0806,
    "mpls": 0x8847,
    "pppoe-discovery": 0x8863,
    "pppoe": 0x8864,
    "eapol": 0x888E,
    "macsec": 0x88E5,
    "lldp": 0x88CC,
    "ptp": 0x88F7,
}
VLAN_ETHERTYPES = (0x8100, 0x88A8, 0x9100)

ECN_NAMES: dict[str, int] = {"not-ect": 0, "ect1": 1, "ect0": 2, "ce": 3}

TCP_FLAG_NAMES: dict[str, int] = {
    "fin": 0x01,
    "syn": 0x02,
    "rst": 0x04,
    "psh": 0x08,
    "ack": 0x10,
    "urg": 0x20,
    "ece": 0x40,
    "cwr": 0x80,
}

ICMP_TYPE_NAMES: dict[str, tuple[int | None, int | None]] = {  # of ICMP and of ICMPv6
    "echo-request": (8, 128),
    "echo-reply": (0, 129),
    "destination-unreachable": (3, 1),
    "packet-too-big": (None, 2),
    "time-exceeded": (11, 3),
    "parameter-problem": (12, 4),
    "redirect": (5, 137),
    "router-solicitation": (10, 133),
    "router-advertisement": (9, 134),
    "neighbor-solicitation": (None, 135),
    "neighbor-advertisement": (None, 136),
    "timestamp-request": (13, None),
    "timestamp-reply": (14, None),
}

SERVICE_PORTS: dict[str, int] = {
    "ftp-data": 20, "ftp": 21, "ssh": 22, "telnet": 23, "smtp": 25, "domain": 53, "bootps": 67, "bootpc": 68,
    "tftp": 69, "http": 80, "kerberos": 88, "pop3": 110, "sunrpc": 111, "ntp": 123, "netbios-ns": 137,
    "netbios-dgm": 138, "netbios-ssn": 139, "imap": 143, "snmp": 161, "snmptrap": 162, "bgp": 179, "ldap": 389,
    "https": 443, "microsoft-ds": 445, "submissions": 465, "isakmp": 500, "syslog": 514, "rtsp": 554,
    "submission": 587, "ipp": 631, "ldaps": 636, "domain-s": 853, "rsync": 873, "ftps-data": 989, "ftps": 990,
    "imaps": 993, "pop3s": 995, "socks": 1080, "openvpn": 1194, "ms-sql-s": 1433, "l2tp": 1701, "pptp": 1723,
    "radius": 1812, "radius-acct": 1813, "mqtt": 1883, "nfs": 2049, "mysql": 3306, "ms-wbt-server": 3389,
    "stun": 3478, "ipsec-nat-t": 4500, "iax": 4569, "vxlan": 4789, "sip": 5060, "sips": 5061,
    "xmpp-client": 5222, "xmpp-server": 5269, "stuns": 5349, "postgresql": 5432, "amqps": 5671, "amqp": 5672,
    "rfb": 5900, "redis": 6379, "geneve": 6081, "http-alt": 8080, "secure-mqtt": 8883, "git": 9418,
}  # fmt: skip

TCP, UDP = PROTOCOL_NAMES["tcp"], PROTOCOL_NAMES["udp"]
WITH_PORTS = frozenset(PROTOCOL_NAMES[name] for name in ("tcp", "udp", "dccp", "sctp", "udplite"))
"""The protocols whose first four bytes are a source and a destination port."""


def dscp_text(value: int) -> str:
    """46 -> `ef`; a code point without a name stays a number."""
    return next((name for name, number in DSCP_NAMES.items() if number == value), str(value))
